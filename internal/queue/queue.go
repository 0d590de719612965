// Package queue carries jobs from those who ask for an index to the workers, on a Redis stream read by one consumer
// group.
//
// What it promises: a job that was added is delivered at least once, to one worker at a time as long as that worker
// keeps its claim, and again to another when it does not. An index that is queued is not queued twice. What is not
// acknowledged is never trimmed, and no entry is ever deleted from the middle of the stream, because Redis then reports
// no lag and autoscalers read that as no work. Every change to a job is one atomic step.
//
// What it does not promise: exactly once, order, or that Redis keeps anything. A flushed Redis is an empty queue that
// works again at once; whoever keeps the truth elsewhere adds what is missing, which Add makes cheap to repeat. A
// command whose connection broke may be sent twice, so ErrLost can also follow a success whose answer was lost.
//
// The keys share one hash slot, so that a cluster can run the scripts, and nothing newer than Redis 7.0 is used:
//
//	{fib}:jobs    the stream: index, attempts counted so far, queued (Unix milliseconds), request and trace of its
//	              Origin, reason, and taken, which is 1 if a worker had the job before
//	{fib}:queued  hash, index → id of its entry: a mark that counts only while that entry is in the stream
//	{fib}:dead    the stream of jobs that were given up: index, attempts, queued, request, trace, reason
//
// All processes of one queue should have the same Config but for Consumer. Every Take that waits holds one connection,
// so the client's pool must be larger than the number of them.
package queue

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// The names in Redis, for autoscalers and operators.
const (
	Stream = "{fib}:jobs"
	Group  = "workers"
	Queued = "{fib}:queued"
	Dead   = "{fib}:dead"
)

const (
	// maxRound bounds one blocking read: go-redis does not end a read when its context ends, so a stopping worker
	// waits for the rest of the round.
	maxRound = time.Second
	// addBatch is how many indexes one script adds: few round trips, and other clients wait a millisecond or two.
	addBatch = 200
	// maxDead bounds the stream of given up jobs to a few megabytes.
	maxDead = 10_000
	// claimsPerIdle is how many times in one ClaimIdle a process looks for abandoned jobs and shows that it lives.
	claimsPerIdle = 10
	// forgetIdles is after how many ClaimIdle without a sign of life a consumer is deleted.
	forgetIdles = 10
)

// ErrLost means that the claim on a job is not this one any more: another worker has the job, or Redis lost it.
var ErrLost = errors.New("the claim on the job is lost")

// Config says how a process uses the queue. The zero value of each field stands for its default.
type Config struct {
	// Consumer is this process's name in the group. Default: host name, process id and a random part.
	Consumer string
	// ClaimIdle is how long a job may go without Keep before another worker takes it. Default: 30 s. Keep every third
	// of it.
	ClaimIdle time.Duration
	// MaxAttempts is how many attempts a job has before it is Exhausted. Default: 5.
	MaxAttempts int
}

// Queue is one process's access to the queue. Its methods may be called concurrently.
type Queue struct {
	client redis.UniversalClient
	cfg    Config
	// nextClaim is when this process looks for abandoned jobs again, in Unix nanoseconds.
	nextClaim atomic.Int64
}

// Origin is where a job comes from. It is empty if nobody asked just then.
type Origin struct {
	// Request is the id of the request that queued the job.
	Request string
	// Trace is the traceparent of the span that did.
	Trace string
}

// Job is one delivery of an index to be calculated.
type Job struct {
	// Origin is what Add was given.
	Origin
	Index int64
	// Attempt is 1 at the first delivery and grows with each that was not given back by Return.
	Attempt int
	// First is whether this is the first delivery of the job: neither Retry, Return nor a crash brought it back.
	First bool
	// QueuedAt is when the job was added, by Redis's clock; it outlives Return and Retry.
	QueuedAt time.Time
	// Reason is what the last Retry was given, empty if there was none: a worker that crashes leaves no reason.
	Reason string

	id string
	// deliveries tells this claim from a later one by the same consumer.
	deliveries int64
}

// Stats are the queue's figures at one moment.
type Stats struct {
	// Depth is how many entries are not acknowledged: Lag, not delivered yet, and Pending, delivered.
	Depth, Lag, Pending int64
	// Dead is how many given up jobs are kept.
	Dead int64
	// OldestAge is the age of the oldest entry not acknowledged, 0 if there is none. Return and Retry make a new entry.
	OldestAge time.Duration
	// Workers is how many consumers showed a sign of life within ClaimIdle.
	Workers int
}

// New returns the queue on a client, which stays the caller's to close.
func New(client redis.UniversalClient, cfg Config) *Queue {
	if cfg.Consumer == "" {
		host, _ := os.Hostname() // without it the random part still makes the name unique
		cfg.Consumer = fmt.Sprintf("%s-%d-%s", host, os.Getpid(), rand.Text()[:6])
	}
	cfg.ClaimIdle = max(cmp.Or(cfg.ClaimIdle, 30*time.Second), time.Millisecond)
	cfg.MaxAttempts = cmp.Or(cfg.MaxAttempts, 5)
	return &Queue{client: client, cfg: cfg}
}

// Exhausted reports whether the job was delivered more than MaxAttempts times. Such a job must not be calculated, as it
// may be what crashed its workers, but be recorded as failed and buried. A worker whose attempt fails may therefore
// Retry always, and find the job exhausted, with its Reason, at the next delivery.
func (q *Queue) Exhausted(job *Job) bool { return job.Attempt > q.cfg.MaxAttempts }

var addScript = script(`
if redis.call('EXISTS', stream) == 0 then
  redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
end
local time = redis.call('TIME')
local now = time[1] .. string.format('%03d', math.floor(time[2] / 1000))
local added = 0
for i = 5, #ARGV do
  local id = redis.call('HGET', queued, ARGV[i])
  if not id or #redis.call('XRANGE', stream, id, id) == 0 then
    add(ARGV[i], 0, now, ARGV[3], ARGV[4], '', '')
    added = added + 1
  end
end
return added`)

// Add queues the indexes that are not queued yet and returns how many those were. An index counts as queued until its
// job is done or buried. The origin is handed to whoever takes the jobs.
func (q *Queue) Add(ctx context.Context, origin Origin, indexes ...int64) (added int, err error) {
	for batch := range slices.Chunk(indexes, addBatch) {
		args := []any{origin.Request, origin.Trace}
		for _, index := range batch {
			args = append(args, index)
		}
		n, err := q.run(ctx, addScript, args...).Int()
		if err != nil {
			return added, err
		}
		added += n
	}
	return added, nil
}

// Ensure creates the stream and the group where they are missing. Add and Take do so by themselves; it is for a process
// that starts first, so that an autoscaler finds the group before there was a job.
func (q *Queue) Ensure(ctx context.Context) error {
	err := q.client.XGroupCreateMkStream(ctx, Stream, Group, "0").Err()
	if redis.HasErrorPrefix(err, "BUSYGROUP") {
		return nil
	}
	return err
}

// Take waits for a job until ctx is done, and returns a job that came at that very moment all the same. Abandoned jobs
// come first. When Redis can't be reached or used it returns the error, and the caller decides when to try again.
func (q *Queue) Take(ctx context.Context) (*Job, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		job, err := q.claim(ctx)
		if job == nil && err == nil {
			job, err = q.read(ctx)
		}
		if missing(err) {
			err = q.Ensure(ctx)
		}
		if job != nil || err != nil {
			return job, err
		}
	}
}

// A read of this consumer's own entries after the last possible id finds nothing but registers the consumer and renews
// its time, which Redis 7.0 does not do for reads and claims that find nothing.
var claimScript = script(`
redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', stream, '18446744073709551615-0')
local cursor = '0-0'
repeat
  local claimed = redis.call('XAUTOCLAIM', stream, group, consumer, ARGV[3], cursor, 'COUNT', 1)
  local entry = claimed[2][1]
  if entry then
    local pending = redis.call('XPENDING', stream, group, entry[1], entry[1], 1)[1]
    return {entry[1], pending[4], entry[2]}
  end
  cursor = claimed[1]
until cursor == '0-0'
return false`)

// claim takes over an abandoned job, if it is time to look for one and there is one.
func (q *Queue) claim(ctx context.Context) (*Job, error) {
	now, next := time.Now(), q.nextClaim.Load()
	due := now.Add(q.cfg.ClaimIdle / claimsPerIdle).UnixNano()
	if now.UnixNano() < next || !q.nextClaim.CompareAndSwap(next, due) {
		return nil, nil
	}
	claimed, err := q.run(ctx, claimScript, q.cfg.ClaimIdle.Milliseconds()).Slice()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	q.nextClaim.Store(0) // where one is abandoned there are often more
	fields := map[string]any{}
	for pair := range slices.Chunk(claimed[2].([]any), 2) {
		fields[pair[0].(string)] = pair[1]
	}
	return q.accept(ctx, claimed[0].(string), claimed[1].(int64), fields)
}

// read waits one round for a job that was not delivered yet.
func (q *Queue) read(ctx context.Context) (*Job, error) {
	// A deadline could cut off the read of a job that is delivered already, where the client heeds deadlines.
	reading, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	streams, err := q.client.XReadGroup(reading, &redis.XReadGroupArgs{
		Group: Group, Consumer: q.cfg.Consumer, Streams: []string{Stream, ">"}, Count: 1,
		Block: max(min(q.cfg.ClaimIdle/claimsPerIdle, maxRound), time.Millisecond), // 0 would block for ever
	}).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entry := streams[0].Messages[0]
	return q.accept(ctx, entry.ID, 1, entry.Values)
}

// accept makes a job of a delivered entry. One that is none, put there by something else, would come back for ever:
// it is buried, as nothing is dropped silently.
func (q *Queue) accept(ctx context.Context, id string, deliveries int64, fields map[string]any) (*Job, error) {
	text := func(name string) string { s, _ := fields[name].(string); return s }
	index, err1 := strconv.ParseInt(text("index"), 10, 64)
	attempts, err2 := strconv.Atoi(text("attempts"))
	queued, err3 := strconv.ParseInt(text("queued"), 10, 64)
	job := &Job{
		Index: index, Attempt: attempts + int(deliveries), First: deliveries == 1 && text("taken") == "",
		QueuedAt: time.UnixMilli(queued), Origin: Origin{text("request"), text("trace")}, Reason: text("reason"),
		id: id, deliveries: deliveries,
	}
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, q.Bury(ctx, job, fmt.Sprintf("not a job: %v", fields))
	}
	return job, nil
}

var keepScript = script(`
if not ours() then return 0 end
return #redis.call('XCLAIM', stream, group, consumer, 0, id, 'JUSTID')`)

// Keep says that the job is still worked on, so that nobody else takes it for another ClaimIdle.
func (q *Queue) Keep(ctx context.Context, job *Job) error {
	return q.runOwned(ctx, keepScript, job)
}

var doneScript = script(`
finish()
return 1`)

// Done ends the job. It does so even when the claim is lost: the work is done, whoever has the job now.
func (q *Queue) Done(ctx context.Context, job *Job) error {
	return q.runOwned(ctx, doneScript, job)
}

// Return gives the job back without counting the attempt, at once available to all, behind what waits already.
func (q *Queue) Return(ctx context.Context, job *Job) error {
	return q.requeue(ctx, job, job.Attempt-1, job.Reason)
}

// Retry gives the job back like Return, but counts the attempt and keeps why it failed for the next one.
func (q *Queue) Retry(ctx context.Context, job *Job, reason string) error {
	return q.requeue(ctx, job, job.Attempt, reason)
}

var requeueScript = script(`
if not ours() then return 0 end
finish()
add(index, ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10], 1)
return 1`)

func (q *Queue) requeue(ctx context.Context, job *Job, attempts int, reason string) error {
	return q.runOwned(ctx, requeueScript, job, attempts, job.QueuedAt.UnixMilli(), job.Request, job.Trace, reason)
}

var buryScript = script(`
if not ours() then return 0 end
finish()
redis.call('XADD', dead, 'MAXLEN', '~', ARGV[11], '*',
  'index', index, 'attempts', ARGV[6], 'queued', ARGV[7], 'request', ARGV[8], 'trace', ARGV[9], 'reason', ARGV[10])
return 1`)

// Bury gives the job up and keeps it, with the reason and the attempts made, among the last 10,000 or so given up jobs.
// The index can be added anew.
func (q *Queue) Bury(ctx context.Context, job *Job, reason string) error {
	attempts := min(job.Attempt, q.cfg.MaxAttempts) // the delivery that finds a job exhausted makes no attempt
	return q.runOwned(ctx, buryScript, job, attempts, job.QueuedAt.UnixMilli(), job.Request, job.Trace, reason, maxDead)
}

var statsScript = script(`
local deads = redis.call('XLEN', dead)
if redis.call('EXISTS', stream) == 0 then return {0, 0, deads, 0, 0} end

local lag, pending, last, oldest, workers = nil, 0, '0-0', nil, 0
for _, list in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local info = fields(list)
  if info.name == group then
    lag, pending, last = info.lag, info.pending, info['last-delivered-id']
    oldest = redis.call('XPENDING', stream, group)[2]
    for _, list in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
      if fields(list).idle < tonumber(ARGV[3]) then workers = workers + 1 end
    end
  end
end
if not lag then -- no group yet, or somebody deleted entries and Redis has lost count
  lag = #redis.call('XRANGE', stream, '(' .. last, '+')
end
if not oldest then
  local undelivered = redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', 1)[1]
  oldest = undelivered and undelivered[1]
end
local age = 0
if oldest then
  local time = redis.call('TIME')
  age = math.max(0, time[1] * 1000 + math.floor(time[2] / 1000) - string.match(oldest, '%d+'))
end
return {lag, pending, deads, age, workers}`)

// Stats returns the queue's figures, also when there is no stream or no group yet.
func (q *Queue) Stats(ctx context.Context) (Stats, error) {
	n, err := q.run(ctx, statsScript, q.cfg.ClaimIdle.Milliseconds()).Int64Slice()
	if err != nil {
		return Stats{}, err
	}
	return Stats{
		Depth: n[0] + n[1], Lag: n[0], Pending: n[1], Dead: n[2],
		OldestAge: time.Duration(n[3]) * time.Millisecond, Workers: int(n[4]),
	}, nil
}

// A deleted consumer takes its pending entries with it, hence the look at them in the same step.
var tidyScript = script(`
if redis.call('EXISTS', stream) == 0 then return 1 end
for _, list in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local info = fields(list)
  if info.pending == 0 and info.idle >= tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, info.name)
  end
end
local first = redis.call('XPENDING', stream, group)[2]
if not first then
  for _, list in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local info = fields(list)
    if info.name == group then
      local ms, seq = string.match(info['last-delivered-id'], '(%d+)-(%d+)')
      first = ms .. '-' .. string.format('%.0f', seq + 1)
    end
  end
end
redis.call('XTRIM', stream, 'MINID', '=', first)
return 1`)

// Tidy trims the entries before the first that is not acknowledged, and deletes consumers that have nothing pending and
// gave no sign of life for ten ClaimIdle.
func (q *Queue) Tidy(ctx context.Context) error {
	err := q.run(ctx, tidyScript, (forgetIdles * q.cfg.ClaimIdle).Milliseconds()).Err()
	if missing(err) {
		return nil
	}
	return err
}

// script compiles a body after what the scripts share. ARGV is the group, the consumer and the caller's arguments; the
// scripts on one job get its index, id and deliveries first.
func script(body string) *redis.Script {
	return redis.NewScript(`
local stream, queued, dead = KEYS[1], KEYS[2], KEYS[3]
local group, consumer, index, id, deliveries = unpack(ARGV, 1, 5)

local function fields(list)
  local map = {}
  for i = 1, #list, 2 do map[list[i]] = list[i + 1] end
  return map
end

local function add(index, attempts, since, request, trace, reason, taken)
  local id = redis.call('XADD', stream, '*', 'index', index, 'attempts', attempts, 'queued', since,
    'request', request, 'trace', trace, 'reason', reason, 'taken', taken)
  redis.call('HSET', queued, index, id)
end

local function ours()
  local pending = redis.call('XPENDING', stream, group, id, id, 1)[1]
  return pending and pending[2] == consumer and pending[4] == tonumber(deliveries)
end

local function finish()
  redis.call('XACK', stream, group, id)
  if redis.call('HGET', queued, index) == id then redis.call('HDEL', queued, index) end
end
` + body)
}

func (q *Queue) run(ctx context.Context, s *redis.Script, args ...any) *redis.Cmd {
	keys := []string{Stream, Queued, Dead}
	return s.Run(ctx, q.client, keys, append([]any{Group, q.cfg.Consumer}, args...)...)
}

// runOwned runs a script on a job that answers 1, or 0 when the claim is lost.
func (q *Queue) runOwned(ctx context.Context, s *redis.Script, job *Job, args ...any) error {
	ours, err := q.run(ctx, s, append([]any{job.Index, job.id, job.deliveries}, args...)...).Bool()
	if missing(err) || err == nil && !ours {
		return ErrLost
	}
	return err
}

// missing reports whether an error says that the stream or the group is not there, or went while a read waited.
func missing(err error) bool {
	return redis.HasErrorPrefix(err, "NOGROUP") || redis.HasErrorPrefix(err, "UNBLOCKED")
}
