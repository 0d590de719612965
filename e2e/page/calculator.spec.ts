import { readFile } from 'node:fs/promises';
import { expect } from '@playwright/test';
import {
  api,
  ask,
  askElsewhere,
  calculated,
  ends,
  fibonacci,
  freshIndex,
  indexesSeen,
  LONG,
  SHORT,
  test,
  withoutReload,
} from './stack.ts';

test('the exact digits of an index arrive without a reload', async ({ page }) => {
  const index = await freshIndex(SHORT);
  await page.goto('/');
  await withoutReload(page, async () => {
    await ask(page, index);
    await expect(calculated(page, index)).toContainText('done');
    await expect(calculated(page, index)).toContainText(fibonacci(index));
    await expect(indexesSeen(page).getByText(`${index}`, { exact: true })).toBeVisible();
  });
  await expect(page.getByLabel('Enter your index')).toHaveValue('');

  await page.reload();
  await expect(calculated(page, index)).toContainText(fibonacci(index));
});

test('a short number is read at a glance', async ({ page }) => {
  await page.goto('/');
  await ask(page, 90);
  await expect(page.getByText('2880067194370816120', { exact: true }).first()).toBeVisible();
});

test('a number that is folded can be unfolded', async ({ page }) => {
  const index = await freshIndex(SHORT);
  const digits = fibonacci(index);
  await page.goto('/');
  await ask(page, index);
  const place = calculated(page, index);
  await expect(place.getByText(digits, { exact: true })).toBeHidden();
  await place.getByText(ends(digits)).click();
  await expect(place.getByText(digits)).toBeVisible();
});

test('a long number is shown by its ends and downloaded whole', async ({ page }) => {
  const index = await freshIndex(LONG);
  const digits = fibonacci(index);
  await page.goto('/');
  await ask(page, index);
  const place = calculated(page, index);
  await expect(place).toContainText(ends(digits));
  await expect(place).toContainText(`${digits.length.toLocaleString('en')} digits`);

  const downloading = page.waitForEvent('download');
  await place.getByRole('link', { name: `Download F(${index})` }).click();
  const download = await downloading;
  expect(download.suggestedFilename()).toBe(`fibonacci-${index}.txt`);
  const file = await readFile(await download.path(), 'utf8');
  expect(file).toBe(await (await api(`/api/values/${index}/digits`)).text());
  expect(file).toBe(digits);
});

test('a long number is copied whole, however long that takes', async ({ page, context }) => {
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await page.route('**/digits', async (route) => {
    // By then the page has been painted in its state of waiting.
    await page.evaluate(() => new Promise((resolve) => requestIdleCallback(resolve)));
    await route.continue();
  });
  const index = await freshIndex(LONG);
  await page.goto('/');
  await ask(page, index);
  await calculated(page, index)
    .getByRole('button', { name: `Copy F(${index})` })
    .click();
  await expect(page.getByText(`F(${index}) is on the clipboard`)).toBeAttached();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(fibonacci(index));
  await expect(calculated(page, index).getByRole('button')).toBeFocused();
});

test('what others ask for appears by itself', async ({ page }) => {
  await page.goto('/');
  await expect(page.getByText('Live', { exact: true })).toBeVisible();
  const index = await freshIndex(LONG);
  await withoutReload(page, async () => {
    await askElsewhere(index);
    await expect(calculated(page, index)).toContainText(ends(fibonacci(index)));
    await expect(indexesSeen(page).getByText(`${index}`, { exact: true })).toBeVisible();
  });
});

test('an index that is known is shown at once', async ({ page }) => {
  const index = await freshIndex(LONG);
  await askElsewhere(index);
  await page.goto('/');
  await expect(calculated(page, index)).toContainText('done');
  await ask(page, index);
  await expect(page.getByRole('article', { name: `F(${index})`, exact: true })).toHaveCount(2);
  await expect(indexesSeen(page).getByText(`${index}`, { exact: true })).toHaveCount(1);
});

test('the keyboard is enough', async ({ page }) => {
  const index = await freshIndex(SHORT);
  const digits = fibonacci(index);
  const focused = page.locator(':focus-visible');
  const tabTo = (name: string | RegExp) =>
    expect(async () => {
      await page.keyboard.press('Tab');
      await expect(focused).toHaveAccessibleName(name, { timeout: 100 });
    }).toPass({ intervals: [0] });

  await page.goto('/');
  await tabTo('Enter your index:');
  await expect(focused).not.toHaveCSS('outline-style', 'none');
  await page.keyboard.type(`${index}`);
  await page.keyboard.press('Enter');
  await expect(calculated(page, index)).toContainText('done');
  await tabTo('Submit');
  await tabTo(new RegExp(`^${ends(digits)}`));
  await page.keyboard.press('Enter');
  await expect(page.getByText(digits).first()).toBeVisible();
  await tabTo(`Copy F(${index})`);
  await tabTo(`Download F(${index})`);
  await expect(focused).not.toHaveCSS('outline-style', 'none');
});
