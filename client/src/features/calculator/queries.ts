import {
  infiniteQueryOptions,
  queryOptions,
  useMutation,
  useQueryClient,
  type QueryClient,
} from '@tanstack/react-query';
import * as api from '../../api';

/** How often the page asks while the stream of events is away. */
export const POLL_MS = 3_000;

/** How often it asks beside an open stream, in case an event got lost. */
const SAFETY_MS = 15_000;

const interval = (live: boolean) => (live ? SAFETY_MS : POLL_MS);

export const statsQuery = (live: boolean) =>
  queryOptions({
    queryKey: ['stats'],
    queryFn: ({ signal }) => api.getStats(signal),
    // Workers come and go without an event.
    refetchInterval: interval(live),
  });

export const indexesQuery = (live: boolean) =>
  queryOptions({
    queryKey: ['indexes'],
    queryFn: ({ signal }) => api.getIndexes(signal),
    select: (indexes) => indexes.map(({ number }) => number).reverse(),
    refetchInterval: !live && POLL_MS,
  });

export const calculationsQuery = (live: boolean) =>
  infiniteQueryOptions({
    queryKey: ['calculations'],
    queryFn: ({ pageParam, signal }) => api.getPage(pageParam, signal),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.next,
    select: ({ pages }) => pages.flatMap((page) => page.values),
    refetchInterval: ({ state }) => {
      const pending = state.data?.pages.some((page) =>
        page.values.some(({ status }) => status === 'pending'),
      );
      return live && !pending ? false : interval(live);
    },
  });

/** One calculation with its digits, or with the first and last of them. */
export const calculationQuery = (index: string, live: boolean) =>
  queryOptions({
    queryKey: ['calculation', index],
    queryFn: ({ signal }) => api.getCalculation(index, signal),
    staleTime: ({ state }) => (state.data?.status === 'done' ? Infinity : 0),
    refetchInterval: ({ state }) => state.data?.status === 'pending' && interval(live),
  });

/** Fetches again whatever is on the page and not final. */
export const refetchUnsettled = (client: QueryClient) =>
  client.refetchQueries({ type: 'active', stale: true });

export function useAsk() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: api.askFor,
    onSuccess: () => {
      void refetchUnsettled(client);
    },
  });
}
