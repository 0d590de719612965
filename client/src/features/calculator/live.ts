import { focusManager, useQueryClient } from '@tanstack/react-query';
import { throttle } from 'es-toolkit';
import { useEffect, useState, useSyncExternalStore } from 'react';
import { calculationSchema, eventsUrl } from '../../api';
import { calculationQuery, refetchUnsettled } from './queries';

/** A burst of events refreshes the lists this often at most. */
const REFRESH_MS = 1_000;

/** Pause before a stream that the browser gave up is opened anew. */
const REOPEN_MS = 3_000;

const subscribeToVisibility = (onChange: () => void) => focusManager.subscribe(onChange);
const isVisible = () => focusManager.isFocused();

/**
 * Keeps the query cache in step with the api's stream of events, and says whether that stream is
 * open. A hidden page has none: browsers allow six connections to a host, and tabs share them.
 */
export function useLive(): boolean {
  const client = useQueryClient();
  const visible = useSyncExternalStore(subscribeToVisibility, isVisible);
  const [live, setLive] = useState(false);

  useEffect(() => {
    if (!visible) return;
    let source: EventSource;
    let reopening: number | undefined;
    const refresh = throttle(() => void refetchUnsettled(client), REFRESH_MS);

    const receive = async (data: string) => {
      const calculation = calculationSchema.parse(JSON.parse(data));
      const { queryKey } = calculationQuery(calculation.index, true);
      // Only what is on the page: a busy stack announces more than a tab should keep.
      if (client.getQueryState(queryKey)) {
        // An answer that is under way may be older than this event, and must not overwrite it.
        await client.cancelQueries({ queryKey });
        client.setQueryData(queryKey, calculation);
      }
      refresh();
    };

    const open = () => {
      source = new EventSource(eventsUrl);
      source.addEventListener(
        'calculation',
        (event: MessageEvent<string>) => void receive(event.data),
      );
      source.onopen = () => {
        setLive(true);
        // For the events that were missed until now.
        refresh();
      };
      source.onerror = () => {
        setLive(false);
        // The browser repairs a broken connection by itself, but gives up for good on an answer
        // that is no stream, such as a proxy's 502.
        if (source.readyState === EventSource.CLOSED) {
          reopening = window.setTimeout(open, REOPEN_MS);
        }
      };
    };

    open();
    return () => {
      window.clearTimeout(reopening);
      refresh.cancel();
      source.close();
      setLive(false);
    };
  }, [client, visible]);

  return live;
}
