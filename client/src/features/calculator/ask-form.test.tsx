import { screen, waitFor } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { http, HttpResponse } from 'msw';
import { expect, test } from 'vitest';
import { backend, done, problem, server } from '../../testing/backend';
import { region, renderApp } from '../../testing/render-app';

async function submit(index: string) {
  const user = userEvent.setup();
  await user.type(screen.getByLabelText('Enter your index:'), index);
  await user.click(screen.getByRole('button', { name: 'Submit' }));
}

test('an index that is asked for is listed as pending, and the form is ready for another', async () => {
  renderApp();
  await submit(' 7 ');

  const row = await region('Calculated values').findByRole('article', { name: 'F(7)' });
  expect(row).toHaveTextContent('pending');
  expect(await region('Indexes I have seen').findByText('7')).toBeVisible();
  expect(await region('Statistics').findByText('Pending')).toBeVisible();
  expect(screen.getByLabelText('Enter your index:')).toHaveValue('');
});

test('an index that is known is answered at once, however far down the list it is', async () => {
  backend.pageSize = 1;
  backend.calculations = [done('8', '21'), done('7', '13')];
  renderApp();
  await submit('7');

  expect(await region('Answer').findByText('13')).toBeVisible();
});

test('a problem is shown in words, beside the field that it is about', async () => {
  server.use(
    http.post('/api/values', () =>
      problem(422, {
        title: 'Index too high',
        detail: 'The largest index is 1000000.',
        field: 'index',
        requestId: 'req-42',
      }),
    ),
  );
  renderApp();
  await submit('1000001');

  const alert = await screen.findByRole('alert');
  expect(alert).toHaveTextContent('Index too high');
  expect(alert).toHaveTextContent('The largest index is 1000000.');
  expect(alert).toHaveTextContent('req-42');
  const input = screen.getByLabelText('Enter your index:');
  expect(input).toBeInvalid();
  expect(input).toHaveAccessibleDescription(/Index too high/);
  expect(input).toHaveValue('1000001');
});

test('an answer that is no problem document is shown by its status and request id', async () => {
  server.use(
    http.post('/api/values', () =>
      HttpResponse.html('<h1>Bad Gateway</h1>', {
        status: 502,
        headers: { 'X-Request-Id': 'req-43' },
      }),
    ),
  );
  renderApp();
  await submit('7');

  const alert = await screen.findByRole('alert');
  expect(alert).toHaveTextContent('502');
  expect(alert).toHaveTextContent('req-43');
});

test('a network failure is shown in words, and gone after the next success', async () => {
  server.use(http.post('/api/values', () => HttpResponse.error(), { once: true }));
  renderApp();
  await submit('7');
  expect(await screen.findByRole('alert')).toHaveTextContent('The server cannot be reached');

  await userEvent.click(screen.getByRole('button', { name: 'Submit' }));
  await waitFor(() => {
    expect(screen.queryByRole('alert')).not.toBeInTheDocument();
  });
});
