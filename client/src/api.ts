import * as z from 'zod/mini';

// Zod would try to compile its parsers with `new Function`, which the page's content security
// policy forbids and the browser would report.
z.config({ jitless: true });

const problemSchema = z.object({
  title: z.string(),
  detail: z.optional(z.string()),
  field: z.optional(z.string()),
  requestId: z.optional(z.string()),
});

const statusSchema = z.enum(['pending', 'done', 'failed']);

/** Digits come as `value`, or as `head` and `tail` where there are too many; a list has neither. */
export const calculationSchema = z.object({
  index: z.string(),
  status: statusSchema,
  digits: z.optional(z.number()),
  value: z.optional(z.string()),
  head: z.optional(z.string()),
  tail: z.optional(z.string()),
  attempts: z.number(),
  computeSeconds: z.optional(z.number()),
  error: z.optional(z.string()),
});

const pageSchema = z.object({
  values: z.array(calculationSchema),
  next: z.optional(z.string()),
});

const statsSchema = z.object({
  counts: z.object({ pending: z.number(), done: z.number(), failed: z.number() }),
  queueDepth: z.nullable(z.number()),
  workers: z.nullable(z.number()),
});

export type Problem = z.infer<typeof problemSchema>;
export type Calculation = z.infer<typeof calculationSchema>;

/** Every call below fails with this, whether the api or something on the way to it said no. */
export class ProblemError extends Error {
  constructor(
    readonly problem: Problem,
    options?: ErrorOptions,
  ) {
    super(problem.title, options);
  }
}

/** One screen or two of rows; more are a button away. */
const PAGE_SIZE = 20;
export const MAX_INDEXES = 50;

export const eventsUrl = '/api/events';
export const digitsUrl = (index: string) => `/api/values/${index}/digits`;

export const getStats = (signal: AbortSignal) => read('/api/stats', statsSchema, { signal });

export const getVersion = (signal: AbortSignal) =>
  read('/api/version', z.object({ version: z.string(), commit: z.string() }), { signal });

export const getIndexes = (signal: AbortSignal) =>
  read(`/api/values/all?limit=${MAX_INDEXES}`, z.array(z.object({ number: z.number() })), {
    signal,
  });

/** Newest first. The answer's `next` is the `before` of the page after it. */
export const getPage = (before: string | undefined, signal: AbortSignal) => {
  const query = new URLSearchParams({ limit: `${PAGE_SIZE}`, ...(before && { before }) });
  return read(`/api/values?${query.toString()}`, pageSchema, { signal });
};

export const getCalculation = (index: string, signal: AbortSignal) =>
  read(`/api/values/${index}`, calculationSchema, { signal });

export const getDigits = async (index: string) => (await send(digitsUrl(index))).blob();

export const askFor = (index: string) =>
  read('/api/values', z.object({ index: z.string(), status: statusSchema }), {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ index }),
  });

async function read<T>(url: string, schema: z.ZodMiniType<T>, init: RequestInit): Promise<T> {
  const response = await send(url, init);
  try {
    return schema.parse(await response.json());
  } catch (cause) {
    throw new ProblemError(
      {
        title: 'The answer makes no sense',
        detail: 'This page may be older than the api. Reload it.',
        requestId: requestId(response),
      },
      { cause },
    );
  }
}

async function send(url: string, init?: RequestInit): Promise<Response> {
  const response = await fetch(url, init).catch((cause: unknown) => {
    throw new ProblemError(
      {
        title: 'The server cannot be reached',
        detail: 'Either it is not running or the network between is down.',
      },
      { cause },
    );
  });
  if (!response.ok) throw new ProblemError(await problemIn(response));
  return response;
}

async function problemIn(response: Response): Promise<Problem> {
  const body: unknown = await response.json().catch(() => undefined);
  return (
    problemSchema.safeParse(body).data ?? {
      title: 'The server could not answer',
      detail: `It said ${response.status} ${response.statusText}`.trimEnd() + ' and no more.',
      requestId: requestId(response),
    }
  );
}

const requestId = (response: Response) => response.headers.get('X-Request-Id') ?? undefined;
