import { useQuery } from '@tanstack/react-query';
import { Link } from 'react-router';
import { getVersion } from '../../api';

export function OtherPage() {
  const { data } = useQuery({
    queryKey: ['version'],
    queryFn: ({ signal }) => getVersion(signal),
    staleTime: Infinity,
  });
  return (
    <>
      <title>Other page – Fib Calculator</title>
      <h1>Other page</h1>
      <p>
        The calculator asks an api for a Fibonacci number. The api writes the request down in
        Postgres and queues it in Redis; a worker calculates it; the page hears of it by a stream of
        events.
      </p>
      {data && (
        <p>
          The api is version {data.version} (<code>{data.commit}</code>).{' '}
          <a href="/api/openapi.yaml">Its contract</a> is there to read.
        </p>
      )}
      <p>
        <Link to="/">Go back to the calculator</Link>
      </p>
    </>
  );
}
