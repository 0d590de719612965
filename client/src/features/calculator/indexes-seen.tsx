import { useQuery } from '@tanstack/react-query';
import { MAX_INDEXES } from '../../api';
import { Panel } from '../../components/panel';
import { ProblemMessage } from '../../components/problem-message';
import { indexesQuery } from './queries';

export function IndexesSeen({ live }: { live: boolean }) {
  const { data, failureReason } = useQuery(indexesQuery(live));
  return (
    <Panel title="Indexes I have seen">
      {failureReason && <ProblemMessage error={failureReason} />}
      {!data && !failureReason && <p role="status">Loading…</p>}
      {data?.length === 0 && <p>None yet.</p>}
      {data && data.length > 0 && (
        <ul className="indexes">
          {data.map((index) => (
            <li key={index}>{index}</li>
          ))}
        </ul>
      )}
      {data?.length === MAX_INDEXES && <p>The newest {MAX_INDEXES} are shown.</p>}
    </Panel>
  );
}
