import { screen } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { expect, test } from 'vitest';
import { renderApp } from './testing/render-app';

test('the other page is a link away, and so is the way back', async () => {
  renderApp();
  await userEvent.click(screen.getByRole('link', { name: 'Other page' }));
  expect(screen.getByRole('heading', { level: 1, name: 'Other page' })).toBeVisible();
  expect(await screen.findByText(/version 1\.2\.3/)).toBeVisible();

  await userEvent.click(screen.getByRole('link', { name: 'Go back to the calculator' }));
  expect(screen.getByRole('heading', { level: 1, name: 'Fib Calculator' })).toBeVisible();
});

test('an unknown path says so', () => {
  renderApp('/nowhere');
  expect(screen.getByRole('heading', { name: 'There is no such page' })).toBeVisible();
});
