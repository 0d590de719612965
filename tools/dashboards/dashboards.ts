// Writes the dashboards, which every target uses, into the chart or the folder that is given: make charts
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { board, graph, of, ofInstance, quantile, stat, type Steps } from './panels.js';

const down: Record<string, { text: string; color: string }> = {
  0: { text: 'down', color: 'red' },
  1: { text: 'up', color: 'green' },
};
const goodBelow = (warn: number, bad: number): Steps => [['green', null], ['orange', warn], ['red', bad]];
const goodAbove = (bad: number, good: number): Steps => [['red', null], ['orange', bad], ['green', good]];
const rate = (series: string) => `rate(${series}[$__rate_interval])`;
const sum = (by: string, expr: string) => (by ? `sum by (${by}) (${expr})` : `sum(${expr})`);
const codes = { '^5': 'red', '^4': 'orange', '^[23]': 'green' };

const slo = (metric: string, name: string) => of(metric, `slo="${name}"`);
const share = (name: string) =>
  `1 - sum(${slo('fibstack:slo_bad:rate5m', name)}) / sum(${slo('fibstack:slo_total:rate5m', name)})`;
const budgetLeft = (name: string) => `1 - max(${slo('fibstack:slo_burn:rate30d', name)})`;

const requests = of('fibstack_http_requests_total');
const latency = of('fibstack_http_request_duration_seconds_bucket', 'route!~".*/digits"');
const stages = of('fibstack_job_stage_duration_seconds_bucket');
const calculations = of('fibstack_calculation_duration_seconds_bucket');
const jobDurations = of('fibstack_job_duration_seconds_bucket');

const overview = board('fibstack-overview', 'fibstack / Overview', 'Whether users are served, and what stands in the way.', [
  ['Are users served?', [
    stat('Requests answered', 'Share of the requests of the last five minutes that no error of the server answered. Promised: 99.9 % over 30 days.', 'percentunit', share('api-availability'), goodAbove(0.99, 0.999)),
    stat('Answered within 250 ms', 'Share of the requests of the last five minutes, without event streams and digits. Promised: 99 %.', 'percentunit', share('api-latency'), goodAbove(0.95, 0.99)),
    stat('Small results within 5 s', 'Share of the results up to F(100000) of the last five minutes. Promised: 99 %.', 'percentunit', share('job-latency'), goodAbove(0.95, 0.99)),
    stat('Oldest job', 'How long the job that has waited longest is not finished.', 's', `max(${of('fibstack_queue_oldest_age_seconds')})`, goodBelow(60, 600)),
    stat('Workers', 'Worker processes that asked for jobs lately.', 'short', `max(${of('fibstack_queue_workers')})`, [['red', null], ['green', 1]]),
    stat('Alerts firing', 'Alerts of the stack. Their runbooks say what to do.', 'short', `count(${of('ALERTS', 'alertname=~"Fibstack.*"', 'alertstate="firing"')}) or vector(0)`, goodBelow(1, 1)),
  ]],
  ['Error budget of 30 days', [
    stat('Availability left', 'What is left of the 0.1 % of requests that may fail; below 0 the promise is broken.', 'percentunit', budgetLeft('api-availability'), goodAbove(0, 0.25)),
    stat('Latency left', 'What is left of the 1 % of requests that may be slow.', 'percentunit', budgetLeft('api-latency'), goodAbove(0, 0.25)),
    stat('Time to result left', 'What is left of the 1 % of small results that may be late.', 'percentunit', budgetLeft('job-latency'), goodAbove(0, 0.25)),
    graph('Burn rate over an hour', 'How many times as fast as 30 days allow the budgets are used up. A page is sent above 14.4.', 'short', [[`max by (slo) (${of('fibstack:slo_burn:rate1h')})`, '{{slo}}']], { span: 12, steps: [['transparent', null], ['red', 14.4]] }),
  ]],
  ['Requests and jobs', [
    graph('Requests', 'Answers of the api by their class of code: red are errors of the server.', 'reqps', [[sum('code', rate(requests)), '{{code}}']], { stacked: true, colors: codes }),
    graph('Latency', 'Time to answer, without event streams and digits. Half and 99 % of the requests are faster.', 's', [[quantile(0.5, '', latency), 'half'], [quantile(0.99, '', latency), '99 %']]),
    graph('Queue', 'Jobs that no worker has taken yet, and jobs that one works on.', 'short', [[`max(${of('fibstack_queue_lag')})`, 'waiting'], [`max(${of('fibstack_queue_pending')})`, 'worked on']], { stacked: true }),
  ]],
]);

const jobs = board('fibstack-jobs', 'fibstack / Jobs', 'Calculations on their way from the request to the result.', [
  ['Now', [
    stat('Not finished', 'Jobs that wait or are worked on.', 'short', `max(${of('fibstack_queue_depth')})`),
    stat('Worked on', 'Jobs in the hands of all workers.', 'short', sum('', of('fibstack_jobs_running'))),
    stat('Oldest job', 'How long the job that has waited longest is not finished.', 's', `max(${of('fibstack_queue_oldest_age_seconds')})`, goodBelow(60, 600)),
    stat('Workers', 'Worker processes that asked for jobs lately.', 'short', `max(${of('fibstack_queue_workers')})`, [['red', null], ['green', 1]]),
    stat('Dead letters', 'Jobs given up after their last attempt.', 'short', `max(${of('fibstack_queue_dead_letters')})`, goodBelow(1, 100)),
    stat('Swept in the last hour', 'Jobs that were recorded and not queued, and that the sweeper found.', 'short', sum('', `increase(${of('fibstack_swept_jobs_total')}[1h])`), goodBelow(1, 100)),
  ]],
  ['Flow', [
    graph('Submissions', 'Accepted requests for a calculation: new, waiting already, or done already.', 'reqps', [[sum('outcome', rate(of('fibstack_submissions_total'))), '{{outcome}}']], { stacked: true }),
    graph('Stages passed', 'Jobs that passed each stage. In a steady state the lines lie on each other.', 'ops', [[sum('stage', rate(of('fibstack_job_stage_duration_seconds_count'))), '{{stage}}']]),
    graph('Outcomes', 'Jobs that the workers let go of. retried and failed went wrong; lost and returned are done by another worker.', 'ops', [[sum('outcome', rate(of('fibstack_jobs_total'))), '{{outcome}}']], { stacked: true, colors: { done: 'green', failed: 'red', retried: 'orange' } }),
  ]],
  ['Time', [
    graph('Time in each stage, 99 %', '99 % of the jobs are faster. queue: recorded to queued; wait: to taken; then calculate, store, announce.', 's', [[quantile(0.99, 'stage', stages), '{{stage}}']]),
    graph('Time to result by size, 99 %', 'From the request to its result. 1e5 is an index above 10,000 and up to 100,000.', 's', [[quantile(0.99, 'size', jobDurations), '{{size}}']]),
    graph('Calculation by size, 99 %', 'The calculation alone.', 's', [[quantile(0.99, 'size', calculations), '{{size}}']]),
  ]],
  ['The sweeper', [
    graph('Sweeps', 'Comparisons of PostgreSQL and the queue, by result.', 'ops', [[sum('result', rate(of('fibstack_sweeps_total'))), '{{result}}']], { span: 12, colors: { error: 'red', ok: 'green' } }),
    graph('Found', 'Jobs found missing from the queue, and requests that were recorded while Redis did not take the job.', 'ops', [[sum('', rate(of('fibstack_swept_jobs_total'))), 'found'], [sum('', rate(of('fibstack_enqueue_failures_total'))), 'not queued by the api']], { span: 12 }),
  ]],
]);

const myRequests = ofInstance('fibstack_http_requests_total');
const myLatency = ofInstance('fibstack_http_request_duration_seconds_bucket');
const api = board('fibstack-api', 'fibstack / API', 'Requests by route, event streams and the cache.', [
  ['Now', [
    stat('Requests', 'Answers per second.', 'reqps', sum('', rate(myRequests))),
    stat('Errors', 'Share of the answers that are errors of the server.', 'percentunit', `(${sum('', rate(ofInstance('fibstack_http_requests_total', 'code=~"5.."')))} or vector(0)) / ${sum('', rate(myRequests))}`, goodBelow(0.001, 0.01)),
    stat('In flight', 'Requests being answered, event streams included.', 'short', sum('', ofInstance('fibstack_http_requests_in_flight'))),
    stat('Event streams', 'Pages that listen for results.', 'short', sum('', ofInstance('fibstack_event_streams'))),
    stat('Streams dropped in an hour', 'Event streams closed because their clients did not keep up.', 'short', sum('', `increase(${ofInstance('fibstack_event_streams_dropped_total')}[1h])`), goodBelow(1, 100)),
    stat('Cache hits', 'Share of the look-ups of finished values that Redis answered.', 'percentunit', `${sum('', rate(ofInstance('fibstack_cache_lookups_total', 'result="hit"')))} / ${sum('', rate(ofInstance('fibstack_cache_lookups_total')))}`),
  ]],
  ['Routes', [
    graph('Requests by route', 'Answers per second.', 'reqps', [[sum('method, route', rate(myRequests)), '{{method}} {{route}}']], { span: 12 }),
    graph('Latency by route, 99 %', '99 % of the requests are faster. Digits last as long as the line of the reader needs.', 's', [[quantile(0.99, 'method, route', myLatency), '{{method}} {{route}}']], { span: 12 }),
    graph('Codes', 'Answers per second by status code.', 'reqps', [[sum('code', rate(myRequests)), '{{code}}']], { span: 12, stacked: true, colors: codes }),
    graph('Cache', 'Look-ups of finished values in Redis, by result. After an error PostgreSQL is asked.', 'ops', [[sum('result', rate(ofInstance('fibstack_cache_lookups_total'))), '{{result}}']], { span: 12, stacked: true, colors: { hit: 'green', miss: 'blue', error: 'red' } }),
  ]],
], 'fibstack_http_requests_in_flight');

const pg = (metric: string) => of(metric, 'datname!~"template.*"');
const stores = board('fibstack-stores', 'fibstack / Stores', 'PostgreSQL and Redis, and the connections to them.', [
  ['Now', [
    stat('PostgreSQL', 'Whether its exporter reaches it.', 'short', `min(${of('pg_up')})`, goodAbove(1, 1), down),
    stat('Redis', 'Whether the api reaches it.', 'short', `max(${of('fibstack_queue_up')})`, goodAbove(1, 1), down),
    stat('Database size', 'All databases of the server.', 'bytes', sum('', of('pg_database_size_bytes'))),
    stat('PostgreSQL connections', 'Share of those that the server allows.', 'percentunit', `sum(${of('pg_stat_database_numbackends')}) / max(${of('pg_settings_max_connections')})`, goodBelow(0.7, 0.9)),
    stat('Redis memory', 'What its data takes.', 'bytes', `max(${of('redis_memory_used_bytes')})`),
    stat('Evicted in an hour', 'Keys that Redis threw away for lack of memory. There must be none: the queue is among them.', 'short', sum('', `increase(${of('redis_evicted_keys_total')}[1h])`), goodBelow(1, 1)),
  ]],
  ['Servers', [
    graph('Transactions', 'Transactions of PostgreSQL by their end.', 'ops', [[sum('', rate(pg('pg_stat_database_xact_commit'))), 'committed'], [sum('', rate(pg('pg_stat_database_xact_rollback'))), 'rolled back']], { colors: { committed: 'green', 'rolled back': 'orange' } }),
    graph('Blocks found in memory', 'Share of the blocks that PostgreSQL did not have to read.', 'percentunit', [[`${sum('', rate(pg('pg_stat_database_blks_hit')))} / (${sum('', rate(pg('pg_stat_database_blks_hit')))} + ${sum('', rate(pg('pg_stat_database_blks_read')))})`, 'found']], { max: 1 }),
    graph('Redis commands', 'Commands per second.', 'ops', [[sum('', rate(of('redis_commands_processed_total'))), 'commands']]),
  ]],
  ['Pools of the processes', [
    graph('PostgreSQL connections', 'Open connections of each job, those in use, and how many it may have.', 'short', [[sum('job', of('go_sql_open_connections')), '{{job}} open'], [sum('job', of('go_sql_in_use_connections')), '{{job}} in use'], [sum('job', of('go_sql_max_open_connections')), '{{job}} at most']]),
    graph('Waiting for a connection', 'Seconds that requests have waited for a free connection to PostgreSQL, per second.', 's', [[sum('job', rate(of('go_sql_wait_duration_seconds_total'))), '{{job}}']]),
    graph('Redis connections', 'Connections of each job, and time-outs of waiting for one.', 'short', [[sum('job', of('fibstack_redis_pool_conn_total_current')), '{{job}} open'], [sum('job', rate(of('fibstack_redis_pool_timeout_total'))), '{{job}} time-outs per second']]),
  ]],
]);

const mine = (metric: string) => ofInstance(metric, 'job=~"api|worker"');
const cadvisor = (metric: string) => of(metric, 'container!=""', 'container!="POD"', 'pod=~".*(api|worker|client|postgresql|redis).*"');
const containers = board('fibstack-containers', 'fibstack / Containers', 'What the processes use, on any target, and on Kubernetes what their containers may use.', [
  ['Processes', [
    graph('CPU', 'Cores in use by each process.', 'short', [[sum('job, instance', rate(mine('process_cpu_seconds_total'))), '{{job}} {{instance}}']]),
    graph('Memory', 'Resident memory of each process.', 'bytes', [[sum('job, instance', mine('process_resident_memory_bytes')), '{{job}} {{instance}}']]),
    graph('Goroutines', 'A line that only rises is a leak.', 'short', [[sum('job, instance', mine('go_goroutines')), '{{job}} {{instance}}']]),
    graph('File descriptors', 'Share of those that a process may open.', 'percentunit', [[`${mine('process_open_fds')} / ${mine('process_max_fds')}`, '{{job}} {{instance}}']], { max: 1 }),
    graph('Garbage collection', 'Seconds of pause per second.', 's', [[sum('job, instance', rate(mine('go_gc_duration_seconds_sum'))), '{{job}} {{instance}}']]),
    graph('Age', 'Time since the start of each process: it falls with a restart.', 's', [[`time() - ${mine('process_start_time_seconds')}`, '{{job}} {{instance}}']]),
  ]],
  ['Containers (Kubernetes)', [
    graph('CPU', 'Cores in use by each container.', 'short', [[sum('pod, container', rate(cadvisor('container_cpu_usage_seconds_total'))), '{{pod}} {{container}}']]),
    graph('Memory', 'What counts for the limit of each container.', 'bytes', [[sum('pod, container', cadvisor('container_memory_working_set_bytes')), '{{pod}} {{container}}']]),
    graph('Throttled', 'Share of the periods in which a container had used up its CPU limit.', 'percentunit', [[`${sum('pod, container', rate(cadvisor('container_cpu_cfs_throttled_periods_total')))} / ${sum('pod, container', rate(cadvisor('container_cpu_cfs_periods_total')))}`, '{{pod}} {{container}}']], { max: 1 }),
  ]],
], 'fibstack_build_info');

const folder = process.argv[2] ?? '../../charts/fibstack/dashboards';
for (const [name, content] of Object.entries({ overview, jobs, api, stores, containers })) {
  writeFileSync(join(folder, `${name}.json`), JSON.stringify(content, null, 2) + '\n');
}
