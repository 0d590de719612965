import { useQuery } from '@tanstack/react-query';
import { formatCount } from './format';
import { statsQuery } from './queries';

export function StatsLine({ live }: { live: boolean }) {
  const { data } = useQuery(statsQuery(live));
  const figures = {
    Done: data?.counts.done,
    Pending: data?.counts.pending,
    Failed: data?.counts.failed,
    Queue: data?.queueDepth,
    Workers: data?.workers,
  };
  return (
    <section aria-label="Statistics" className="stats">
      <dl>
        {Object.entries(figures).map(([name, figure]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{figure == null ? '–' : formatCount(figure)}</dd>
          </div>
        ))}
      </dl>
      <p role="status" className={live ? 'live' : 'polling'}>
        {live ? 'Live' : 'Not live, asking every few seconds'}
      </p>
      {data?.workers === 0 && <p role="status">No worker is alive: what you ask for will wait.</p>}
    </section>
  );
}
