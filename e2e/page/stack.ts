import { createServer, connect, type AddressInfo, type Socket } from 'node:net';
import { pipeline } from 'node:stream';
import { test as base, expect, type Page } from '@playwright/test';
import { baseURL } from './playwright.config.ts';

interface Options {
  /** What the browser may complain about, because the test provokes it. */
  forgiven: RegExp | undefined;
}

/** The browser's line to the stack, which can be cut. */
class Line {
  readonly #ends = new Set<Socket>();
  #whole = true;
  readonly #relay = createServer((browser) => {
    if (!this.#whole) {
      browser.destroy();
      return;
    }
    const { hostname, port } = new URL(baseURL);
    this.#ends.add(browser);
    pipeline(browser, connect(Number(port) || 80, hostname), browser, () => {
      this.#ends.delete(browser);
    });
  });

  /** Returns the address to be used as the browser's proxy. */
  async open(): Promise<string> {
    await new Promise<void>((resolve) => this.#relay.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#relay.address() as AddressInfo).port}`;
  }

  cut() {
    this.#whole = false;
    for (const end of this.#ends) end.destroy();
  }

  mend() {
    this.#whole = true;
  }

  close() {
    this.cut();
    this.#relay.close();
  }
}

/** A test whose page may not make the browser complain: no errors, no violated policies. */
export const test = base.extend<Options & { complaints: undefined }>({
  forgiven: [undefined, { option: true }],
  complaints: [
    async ({ page, forgiven }, use) => {
      const complaints: string[] = [];
      page.on('console', (message) => {
        if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
      });
      page.on('pageerror', (error) => complaints.push(error.message));
      await use(undefined);
      expect(complaints.filter((text) => !forgiven?.test(text))).toEqual([]);
    },
    { auto: true },
  ],
});

/** A test that can cut the line between the browser and the stack. */
export const testOnALine = test.extend<{ line: Line }>({
  // Playwright reads from the pattern which fixtures are needed: none.
  line: async ({}, use) => {
    const line = new Line();
    await use(line);
    line.close();
  },
  proxy: async ({ line }, use) => {
    await use({ server: await line.open() });
  },
});

/** Bounds of indexes whose numbers are folded, and of those known to the page by their ends only. */
export const SHORT = [1_000, 4_700] as const;
export const LONG = [5_000, 99_999] as const;

/** Asks the api as others would: not in the browser, nor on its line. */
export const api = (path: string, init?: RequestInit) => fetch(new URL(path, baseURL), init);

/** An index of the bounds that nobody has asked the stack for yet. */
export async function freshIndex([low, high]: readonly [number, number]): Promise<number> {
  for (;;) {
    const index = low + Math.floor(Math.random() * (high - low + 1));
    if ((await api(`/api/values/${index}`)).status === 404) return index;
  }
}

export async function askElsewhere(index: number) {
  const answer = await api('/api/values', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ index: `${index}` }),
  });
  expect(answer.ok).toBe(true);
}

export async function ask(page: Page, index: number | string) {
  await page.getByLabel('Enter your index').fill(`${index}`);
  await page.getByRole('button', { name: 'Submit' }).click();
}

export const indexesSeen = (page: Page) =>
  page.getByRole('region', { name: 'Indexes I have seen' });

/** The place of one index among the calculated values. */
export const calculated = (page: Page, index: number) =>
  page
    .getByRole('region', { name: 'Calculated values' })
    .getByRole('article', { name: `F(${index})`, exact: true });

/** All digits of F(n). */
export function fibonacci(n: number): string {
  let [a, b] = [0n, 1n];
  for (let i = 0; i < n; i++) [a, b] = [b, a + b];
  return a.toString();
}

/** What stands for a number of many digits. */
export const ends = (digits: string) => `${digits.slice(0, 20)}…${digits.slice(-20)}`;

/** Runs some steps and requires that the page was not loaded anew meanwhile. */
export async function withoutReload(page: Page, steps: () => Promise<void>) {
  const loaded = () => page.evaluate(() => performance.timeOrigin);
  const before = await loaded();
  await steps();
  expect(await loaded()).toBe(before);
}
