import { QueryClient } from '@tanstack/react-query';
import { POLL_MS } from './features/calculator/queries';

export function createQueryClient() {
  return new QueryClient({
    defaultOptions: {
      queries: {
        // An outage ends some time, so nobody should have to press a button then. Meanwhile the
        // page shows each query's failureReason.
        retry: true,
        retryDelay: POLL_MS,
        // The browser's idea of being offline is about the internet: the stack may well be local.
        networkMode: 'always',
      },
      mutations: { networkMode: 'always' },
    },
  });
}
