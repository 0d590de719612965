import { act, screen, waitFor } from '@testing-library/react';
import { focusManager } from '@tanstack/react-query';
import userEvent from '@testing-library/user-event';
import { http, HttpResponse } from 'msw';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { backend, done, failed, finish, pending, server } from '../../testing/backend';
import { FakeEventSource, stream } from '../../testing/fake-event-source';
import { findRow, region, renderApp } from '../../testing/render-app';

beforeEach(() => {
  vi.useFakeTimers({ shouldAdvanceTime: true });
});

afterEach(() => {
  focusManager.setFocused(undefined);
  vi.useRealTimers();
});

const advance = (milliseconds: number) => act(() => vi.advanceTimersByTimeAsync(milliseconds));

function countRequests() {
  const counter = { lists: 0 };
  server.use(
    http.get('/api/values', () => {
      counter.lists += 1;
    }),
  );
  return counter;
}

test('an event shows the value in its row, though the list still has it pending', async () => {
  backend.calculations = [pending('7')];
  renderApp();
  expect(await findRow('7')).toHaveTextContent('pending');

  stream.open();
  stream.send(done('7', '13'));

  await waitFor(async () => {
    expect(await findRow('7')).toHaveTextContent('13');
  });
});

test('an answer that was on its way when the event came does not undo it', async () => {
  let release: (() => void) | undefined;
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const asked = vi.fn();
  server.use(
    http.get('/api/values/7', async () => {
      asked();
      await released;
      return HttpResponse.json(pending('7'));
    }),
  );
  renderApp();
  stream.open();
  await userEvent.type(screen.getByLabelText('Enter your index:'), '7{Enter}');
  await waitFor(() => {
    expect(asked).toHaveBeenCalled();
  });

  stream.send(done('7', '13'));
  await screen.findAllByText('13');
  release?.();
  await advance(5_000);

  expect(screen.getAllByText('13')).toHaveLength(2);
});

test('an event about an index from elsewhere brings it onto the page', async () => {
  renderApp();
  stream.open();
  await region('Calculated values').findByText(/Nothing yet/);

  backend.calculations = [done('9', '34')];
  stream.send(done('9', '34'));
  await advance(1_000);

  expect(await findRow('9')).toBeVisible();
  expect(await region('Indexes I have seen').findByText('9')).toBeVisible();
});

test('an event about a failure shows its reason', async () => {
  backend.calculations = [pending('7')];
  renderApp();
  await findRow('7');
  stream.open();

  finish(failed('7', 'out of memory'));
  stream.send(failed('7', 'out of memory'));

  await waitFor(async () => {
    expect(await findRow('7')).toHaveTextContent('out of memory');
  });
});

test('the page polls until the stream is open, and not after', async () => {
  const requests = countRequests();
  backend.calculations = [done('6', '8')];
  renderApp();
  await findRow('6');

  backend.calculations = [done('7', '13'), ...backend.calculations];
  await advance(5_000);
  expect(await findRow('7')).toBeVisible();

  stream.open();
  expect(await screen.findByText('Live')).toBeVisible();
  await advance(2_000);
  const settled = requests.lists;
  await advance(60_000);
  expect(requests.lists).toBe(settled);
});

test('a broken stream is told, stood in for by polling, and caught up with when it is back', async () => {
  backend.calculations = [pending('7')];
  renderApp();
  stream.open();
  await screen.findByText('Live');
  await findRow('7');

  stream.fail();
  expect(screen.getByText(/Not live/)).toBeVisible();
  finish(done('7', '13'));
  await advance(5_000);
  expect(await findRow('7')).toHaveTextContent('13');

  backend.calculations = [done('8', '21'), ...backend.calculations];
  stream.open();
  expect(await findRow('8')).toBeVisible();
  expect(screen.getByText('Live')).toBeVisible();
});

test('a stream that the browser gave up is opened anew', async () => {
  renderApp();
  stream.fail({ forGood: true });
  await advance(5_000);

  expect(FakeEventSource.opened).toHaveLength(2);
  stream.open();
  expect(screen.getByText('Live')).toBeVisible();
});

test('an open stream that lost an event is noticed while something is pending', async () => {
  backend.calculations = [pending('7')];
  renderApp();
  stream.open();
  await findRow('7');

  finish(done('7', '13'));
  await advance(20_000);

  expect(await findRow('7')).toHaveTextContent('13');
});

test('a hidden page holds no stream', () => {
  renderApp();
  const first = stream.current;
  act(() => {
    focusManager.setFocused(false);
  });
  expect(first.readyState).toBe(FakeEventSource.CLOSED);

  act(() => {
    focusManager.setFocused(true);
  });
  expect(stream.current).not.toBe(first);
});
