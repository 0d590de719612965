import { http, HttpResponse } from 'msw';
import { setupServer } from 'msw/node';
import type { Calculation } from '../api';

/** Newest first, as the api lists them. A test changes it to what the api should know. */
export const backend = { calculations: [] as Calculation[], pageSize: 20 };

export const pending = (index: string): Calculation => ({ index, status: 'pending', attempts: 0 });

export const done = (index: string, value: string): Calculation => ({
  index,
  status: 'done',
  digits: value.length,
  value,
  attempts: 1,
  computeSeconds: 0.0004,
});

export const failed = (index: string, error: string): Calculation => ({
  index,
  status: 'failed',
  attempts: 5,
  error,
});

export const problem = (status: number, body: object) =>
  HttpResponse.json(
    { type: 'about:blank', status, ...body },
    { status, headers: { 'Content-Type': 'application/problem+json' } },
  );

const known = (index: unknown) => backend.calculations.find((one) => one.index === index);
const notFound = () => problem(404, { title: 'Not found' });
const count = (status: Calculation['status']) =>
  backend.calculations.filter((one) => one.status === status).length;

export const server = setupServer(
  http.get('/api/stats', () =>
    HttpResponse.json({
      counts: { pending: count('pending'), done: count('done'), failed: count('failed') },
      queueDepth: count('pending'),
      workers: 1,
    }),
  ),
  http.get('/api/version', () => HttpResponse.json({ version: '1.2.3', commit: 'abc1234' })),
  http.get('/api/values/all', () =>
    HttpResponse.json(
      backend.calculations.map(({ index }) => ({ number: Number(index) })).reverse(),
    ),
  ),
  http.get('/api/values', ({ request }) => {
    const start = Number(new URL(request.url).searchParams.get('before'));
    const end = start + backend.pageSize;
    return HttpResponse.json({
      values: backend.calculations
        .slice(start, end)
        .map((one) => ({ ...one, value: undefined, head: undefined, tail: undefined })),
      next: end < backend.calculations.length ? `${end}` : undefined,
    });
  }),
  http.post<never, { index: string }>('/api/values', async ({ request }) => {
    const { index } = await request.json();
    const asked = known(index);
    if (asked?.status === 'done') {
      return HttpResponse.json({ working: true, index, status: 'done' });
    }
    backend.calculations = [pending(index), ...backend.calculations.filter((one) => one !== asked)];
    return HttpResponse.json({ working: true, index, status: 'pending' }, { status: 202 });
  }),
  http.get('/api/values/:index', ({ params }) => {
    const one = known(params.index);
    return one ? HttpResponse.json(one) : notFound();
  }),
  http.get('/api/values/:index/digits', ({ params }) => {
    const one = known(params.index);
    return one ? HttpResponse.text(one.value) : notFound();
  }),
);

/** The worker's part: what is known of an index is now this. */
export function finish(calculation: Calculation) {
  backend.calculations = backend.calculations.map((one) =>
    one.index === calculation.index ? calculation : one,
  );
}
