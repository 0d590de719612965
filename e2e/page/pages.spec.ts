import { AxeBuilder } from '@axe-core/playwright';
import { expect, type Page } from '@playwright/test';
import {
  ask,
  calculated,
  ends,
  fibonacci,
  freshIndex,
  LONG,
  SHORT,
  test,
  withoutReload,
} from './stack.ts';

test('the other page is reached by link, by address and by going back', async ({ page }) => {
  await page.goto('/');
  const heading = page.getByRole('heading', { level: 1 });
  await expect(heading).toHaveText('Fib Calculator');
  await withoutReload(page, async () => {
    await page.getByRole('link', { name: 'Other page' }).click();
    await expect(heading).toHaveText('Other page');
    await expect(page).toHaveURL('/otherpage');
    await expect(page).toHaveTitle(/Other page/);
  });

  await page.reload();
  await expect(heading).toHaveText('Other page');
  await expect(page.getByText(/The api is version \S+/)).toBeVisible();

  await withoutReload(page, async () => {
    await page.getByRole('link', { name: 'Go back to the calculator' }).click();
    await expect(heading).toHaveText('Fib Calculator');
    await page.goBack();
    await expect(heading).toHaveText('Other page');
  });
});

test('an address without a page says so', async ({ page }) => {
  await page.goto('/no/such/page');
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('There is no such page');
});

/** How to make each page show all that it can show at once. */
const pages: Record<string, (page: Page) => Promise<void>> = {
  'the calculator': async (page) => {
    const [short, long] = [await freshIndex(SHORT), await freshIndex(LONG)];
    await page.goto('/');
    for (const index of [short, long]) {
      await ask(page, index);
      await expect(calculated(page, index)).toContainText('done');
    }
    const digits = fibonacci(short);
    await calculated(page, short).getByText(ends(digits)).click();
    await expect(calculated(page, short).getByText(digits)).toBeVisible();
    await ask(page, '9'.repeat(200));
    await expect(page.getByRole('alert')).toBeVisible();
  },
  'the other page': async (page) => {
    await page.goto('/otherpage');
    await expect(page.getByText('The api is version')).toBeVisible();
  },
  'a page that is not there': async (page) => {
    await page.goto('/no/such/page');
    await expect(page.getByRole('heading')).toBeVisible();
  },
};

test.describe('for everybody:', () => {
  test.use({ forgiven: /status of 422/ });

  for (const [name, show] of Object.entries(pages)) {
    for (const colorScheme of ['light', 'dark'] as const) {
      test(`${name} in ${colorScheme} colours, narrow and wide`, async ({ page }) => {
        await page.emulateMedia({ colorScheme });
        await show(page);
        for (const width of [320, 1280]) {
          await page.setViewportSize({ width, height: 800 });
          const { violations } = await new AxeBuilder({ page }).analyze();
          expect(violations).toEqual([]);
          const overhang = await page.evaluate(() => {
            const { scrollWidth, clientWidth } = document.documentElement;
            return scrollWidth - clientWidth;
          });
          expect(overhang, `at a width of ${width}`).toBe(0);
        }
      });
    }
  }
});
