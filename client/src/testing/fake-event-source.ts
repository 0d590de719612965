import { act } from '@testing-library/react';
import type { Calculation } from '../api';

/** jsdom has no EventSource. This one opens, speaks and fails when a test says so. */
export class FakeEventSource extends EventTarget {
  static readonly CLOSED = 2;
  static opened: FakeEventSource[] = [];

  readyState = 0;
  onopen?: () => void;
  onerror?: () => void;

  constructor(readonly url: string) {
    super();
    FakeEventSource.opened.push(this);
  }

  close() {
    this.readyState = FakeEventSource.CLOSED;
  }
}

/** The stream that the page opened last. */
export const stream = {
  get current() {
    const source = FakeEventSource.opened.at(-1);
    if (!source) throw new Error('the page has opened no stream');
    return source;
  },
  open() {
    act(() => {
      this.current.readyState = 1;
      this.current.onopen?.();
    });
  },
  /** Breaks; unless it is `forGood`, a browser would now reconnect by itself. */
  fail({ forGood = false } = {}) {
    act(() => {
      this.current.readyState = forGood ? FakeEventSource.CLOSED : 0;
      this.current.onerror?.();
    });
  },
  send(calculation: Calculation) {
    const event = new MessageEvent('calculation', { data: JSON.stringify(calculation) });
    act(() => {
      this.current.dispatchEvent(event);
    });
  },
};
