import { expect } from '@playwright/test';
import {
  ask,
  askElsewhere,
  calculated,
  ends,
  fibonacci,
  freshIndex,
  LONG,
  test,
  testOnALine,
  withoutReload,
} from './stack.ts';

test.describe('a problem', () => {
  test.use({ forgiven: /responded with a status of (400|422)|ERR_FAILED/ });

  test('of the api is told in its words', async ({ page }) => {
    await page.goto('/');
    await ask(page, '999999999999');
    const problem = page.getByRole('alert');
    await expect(problem).toContainText('Index too high');
    await expect(problem).toContainText('The index may be at most');
    await expect(problem).toContainText(/Request id \S+/);
    const input = page.getByLabel('Enter your index');
    await expect(input).toHaveAttribute('aria-invalid', 'true');
    await expect(input).toHaveAccessibleDescription(/Index too high/);
    await expect(input).toHaveValue('999999999999');

    await ask(page, 'seven');
    await expect(problem).toContainText('Invalid index');

    await ask(page, 7);
    await expect(problem).toBeHidden();
    await expect(page.getByRole('article', { name: 'F(7)', exact: true }).first()).toContainText(
      '13',
    );
  });

  test('of the network is told too', async ({ page }) => {
    await page.goto('/');
    await page.route('**/api/values', (route) => route.abort());
    await ask(page, 7);
    await expect(page.getByRole('alert')).toContainText('The server cannot be reached');
    await page.unroute('**/api/values');
    await ask(page, 7);
    await expect(page.getByRole('alert')).toBeHidden();
  });
});

test.describe('without its stream of events', () => {
  test.use({ forgiven: /net::ERR_|status of 502/ });

  for (const [kind, fulfil] of [
    ['cannot be opened', undefined],
    ['is answered by a proxy', { status: 502, body: 'Bad gateway' }],
  ] as const) {
    test(`that ${kind}, the page asks by itself`, async ({ page }) => {
      await page.route('**/api/events', (route) =>
        fulfil ? route.fulfill(fulfil) : route.abort(),
      );
      await page.goto('/');
      await expect(page.getByText('Not live')).toBeVisible();
      const [own, others] = [await freshIndex(LONG), await freshIndex(LONG)];
      await withoutReload(page, async () => {
        await ask(page, own);
        await expect(calculated(page, own)).toContainText(ends(fibonacci(own)));
        await askElsewhere(others);
        await expect(calculated(page, others)).toContainText(ends(fibonacci(others)));

        await page.unroute('**/api/events');
        await expect(page.getByText('Live', { exact: true })).toBeVisible();
      });
    });
  }

  testOnALine('that was cut, the page opens another and misses nothing', async ({ page, line }) => {
    await page.goto('/');
    await expect(page.getByText('Live', { exact: true })).toBeVisible();
    const index = await freshIndex(LONG);
    await withoutReload(page, async () => {
      line.cut();
      await expect(page.getByText('Not live')).toBeVisible();
      await askElsewhere(index);
      line.mend();
      await expect(page.getByText('Live', { exact: true })).toBeVisible();
      await expect(calculated(page, index)).toContainText(ends(fibonacci(index)));
    });
  });
});
