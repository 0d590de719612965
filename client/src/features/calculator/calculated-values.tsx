import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import type { Calculation } from '../../api';
import { BusyButton } from '../../components/busy-button';
import { Panel } from '../../components/panel';
import { ProblemMessage } from '../../components/problem-message';
import { CalculationView } from './calculation-view';
import { calculationQuery, calculationsQuery } from './queries';

export function CalculatedValues({ live }: { live: boolean }) {
  const { data, failureReason, hasNextPage, isFetchingNextPage, fetchNextPage } = useInfiniteQuery(
    calculationsQuery(live),
  );
  return (
    <Panel title="Calculated values">
      {failureReason && <ProblemMessage error={failureReason} />}
      {!data && !failureReason && <p role="status">Loading…</p>}
      {data?.length === 0 && <p>Nothing yet. Enter an index above to see its number here.</p>}
      {data && data.length > 0 && (
        <ul className="values">
          {data.map((summary) => (
            <Row key={summary.index} summary={summary} live={live} />
          ))}
        </ul>
      )}
      {hasNextPage && (
        <BusyButton busy={isFetchingNextPage} onPress={() => void fetchNextPage()}>
          {isFetchingNextPage ? 'Loading…' : 'Older'}
        </BusyButton>
      )}
    </Panel>
  );
}

function Row({ summary, live }: { summary: Calculation; live: boolean }) {
  const { data, failureReason } = useQuery({
    ...calculationQuery(summary.index, live),
    enabled: summary.status === 'done',
  });
  // An event may have told of the end before the list is fetched again. Only "done" is final.
  const calculation = data?.status === 'done' ? data : summary;
  return (
    <li>
      <CalculationView calculation={calculation} />
      {failureReason && <ProblemMessage error={failureReason} />}
    </li>
  );
}
