import { screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { http, HttpResponse } from 'msw';
import { expect, test, vi } from 'vitest';
import { backend, done, failed, problem, server } from '../../testing/backend';
import { findRow, region, renderApp } from '../../testing/render-app';

test('says that there is nothing yet', async () => {
  renderApp();
  expect(await region('Calculated values').findByText(/Nothing yet/)).toBeVisible();
  expect(await region('Indexes I have seen').findByText('None yet.')).toBeVisible();
});

test('a finished calculation shows its value, its size and how long it took', async () => {
  backend.calculations = [done('7', '13')];
  renderApp();
  const row = await findRow('7');
  expect(await within(row).findByText('13')).toBeVisible();
  expect(row).toHaveTextContent('2 digits');
  expect(row).toHaveTextContent('400 µs');
});

test('a value of some hundred digits is folded to its ends', async () => {
  const value = '1'.repeat(20) + '2'.repeat(100) + '3'.repeat(20);
  backend.calculations = [done('670', value)];
  renderApp();
  const row = await findRow('670');
  const ends = await within(row).findByText('1'.repeat(20) + '…' + '3'.repeat(20));
  expect(within(row).getByText(value)).not.toBeVisible();

  await userEvent.click(ends);
  expect(within(row).getByText(value)).toBeVisible();
});

test('a huge value shows its first and last digits and offers the whole as a file', async () => {
  backend.calculations = [
    {
      ...done('1000000', ''),
      digits: 208_988,
      value: undefined,
      head: '19532821287077577316',
      tail: '68996526838242546875',
    },
  ];
  renderApp();
  const row = await findRow('1000000');
  expect(await within(row).findByText('19532821287077577316…68996526838242546875')).toBeVisible();
  expect(row).toHaveTextContent('208,988 digits');
  const link = within(row).getByRole('link', { name: 'Download F(1000000)' });
  expect(link).toHaveAttribute('href', '/api/values/1000000/digits');
  expect(link).toHaveAttribute('download', 'fibonacci-1000000.txt');
});

test('copying puts every digit on the clipboard', async () => {
  const user = userEvent.setup();
  const write = allowClipboard();
  backend.calculations = [done('7', '13')];
  renderApp();
  await user.click(within(await findRow('7')).getByRole('button', { name: 'Copy F(7)' }));

  expect(await screen.findByText('F(7) is on the clipboard')).toBeInTheDocument();
  const [item] = write.mock.calls[0]?.[0] ?? [];
  expect(await (await item?.getType('text/plain'))?.text()).toBe('13');
});

test('a copy that could not be fetched says why', async () => {
  const user = userEvent.setup();
  allowClipboard();
  server.use(
    http.get('/api/values/7/digits', () =>
      problem(503, { title: 'Database is away', detail: 'Try again in a while.' }),
    ),
  );
  backend.calculations = [done('7', '13')];
  renderApp();
  await user.click(within(await findRow('7')).getByRole('button', { name: 'Copy F(7)' }));

  expect(await screen.findByRole('alert')).toHaveTextContent('Database is away');
});

test('a page without a clipboard points at the download', async () => {
  vi.stubGlobal('isSecureContext', false);
  backend.calculations = [done('7', '13')];
  renderApp();
  await userEvent.click(within(await findRow('7')).getByRole('button', { name: 'Copy F(7)' }));

  expect(await screen.findByRole('alert')).toHaveTextContent('Download the number instead');
});

test('a failed calculation shows its reason and can be asked for again', async () => {
  backend.calculations = [failed('7', 'the worker ran out of memory')];
  renderApp();
  const row = await findRow('7');
  expect(row).toHaveTextContent('Given up after 5 attempts: the worker ran out of memory');

  await userEvent.click(within(row).getByRole('button', { name: 'Ask again for F(7)' }));
  await waitFor(() => {
    expect(row).toHaveTextContent('pending');
  });
  expect(row).not.toHaveTextContent('out of memory');
});

test('older calculations are a button away, until there are no more', async () => {
  backend.pageSize = 2;
  backend.calculations = [done('3', '2'), done('2', '1'), done('1', '1')];
  renderApp();
  await findRow('3');
  expect(screen.queryByRole('article', { name: 'F(1)' })).not.toBeInTheDocument();

  await userEvent.click(screen.getByRole('button', { name: 'Older' }));
  expect(await findRow('1')).toBeVisible();
  expect(screen.queryByRole('button', { name: 'Older' })).not.toBeInTheDocument();
});

test('a list that cannot be loaded says so, and heals by itself', async () => {
  vi.useFakeTimers({ shouldAdvanceTime: true });
  server.use(http.get('/api/values', () => HttpResponse.error(), { once: true }));
  backend.calculations = [done('7', '13')];
  renderApp();
  await region('Calculated values').findByText('The server cannot be reached');

  await vi.advanceTimersByTimeAsync(5_000);
  expect(await findRow('7')).toBeVisible();
  expect(screen.queryByText('The server cannot be reached')).not.toBeInTheDocument();
  vi.useRealTimers();
});

/** user-event brings a clipboard, jsdom neither items for it nor a secure context. */
function allowClipboard() {
  vi.stubGlobal('isSecureContext', true);
  vi.stubGlobal(
    'ClipboardItem',
    class {
      constructor(readonly parts: Record<string, Promise<Blob>>) {}
      getType(type: string) {
        return this.parts[type];
      }
    },
  );
  return vi.spyOn(navigator.clipboard, 'write').mockImplementation(async ([item]) => {
    await item?.getType('text/plain');
  });
}
