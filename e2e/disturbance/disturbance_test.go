// Package disturbance_test takes parts of a running stack away and gives them back, and requires that no work is lost
// by it, nothing is done twice, and nobody has to lend a hand. Every test has a private native stack of its own.
package disturbance_test

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/lib/pq" // the driver of the tests' own look into PostgreSQL
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/e2e"
	"github.com/fibstack/fibstack/internal/queue"
)

func TestMain(m *testing.M) {
	e2e.Uncached()
	if err := e2e.BuildStack(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// bundle is a stack, and what is to be seen of it from inside.
type bundle struct {
	*e2e.Target
	stack    *e2e.Stack
	redis    *redis.Client
	postgres *sql.DB
}

func setup(t *testing.T, settings ...string) *bundle {
	t.Helper()
	// Whoever has vanished or lost something shall be missed soon.
	quick := []string{"CLAIM_IDLE=2s", "SWEEP_INTERVAL=1s", "MAX_INDEX=100000000"}
	stack, err := e2e.StartStack(append(quick, settings...)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(stack.Log())
		}
		require.NoError(t, stack.Close())
	})
	b := &bundle{stack: stack}
	b.Target, err = e2e.Open(t.Context(), stack.URL)
	require.NoError(t, err)
	b.redis = redis.NewClient(&redis.Options{Addr: net.JoinHostPort(stack.Env("REDIS_HOST"), stack.Env("REDIS_PORT"))})
	t.Cleanup(func() { _ = b.redis.Close() })
	b.postgres, err = sql.Open("postgres", fmt.Sprintf("host=%s port=%s user=%s dbname=%s sslmode=disable",
		stack.Env("PGHOST"), stack.Env("PGPORT"), stack.Env("PGUSER"), stack.Env("PGDATABASE")))
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.postgres.Close() })
	return b
}

// query returns the one number that an SQL query finds.
func (b *bundle) query(t *testing.T, query string, args ...any) (n int64) {
	t.Helper()
	require.NoError(t, b.postgres.QueryRowContext(t.Context(), query, args...).Scan(&n))
	return n
}

// interrupt asks for a number that takes long and sends the worker a signal in the middle of it. It returns the index
// when the worker has ended with the job unfinished. A worker that was quicker gets a larger one.
func (b *bundle) interrupt(t *testing.T, signal syscall.Signal) int64 {
	t.Helper()
	for _, index := range []int64{5_000_000, 20_000_000, 50_000_000, 99_999_999} {
		worker := b.stack.PIDs(t, "worker")
		require.Len(t, worker, 1)
		b.Ask(t, index)
		e2e.Await(t, "the job to begin", func() bool {
			return b.query(t, `SELECT attempts FROM calculations WHERE index = $1`, index) == 1
		})
		require.NoError(t, syscall.Kill(worker[0], signal))
		e2e.Await(t, "the worker to end, and PostgreSQL with whatever it had begun for it", func() bool {
			return len(b.stack.PIDs(t, "worker")) == 0 &&
				b.query(t, `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fibstack-worker'`) == 0
		})
		if b.query(t, `SELECT count(*) FROM calculations WHERE index = $1 AND status = 'pending'`, index) == 1 {
			return index
		}
		b.stack.Start(t, "worker")
		e2e.Await(t, "the new worker", func() bool { return len(b.stack.PIDs(t, "worker")) == 1 })
	}
	require.FailNow(t, "the worker is too quick for this test")
	return 0
}

// requireNothingLeft requires that the queue is as if there had never been a job.
func (b *bundle) requireNothingLeft(t *testing.T) {
	t.Helper()
	e2e.Await(t, "the last job to be acknowledged", func() bool {
		var stats struct{ QueueDepth *int64 }
		b.Get(t, "/api/stats").JSON(t, &stats)
		return stats.QueueDepth != nil && *stats.QueueDepth == 0
	})
	ctx := t.Context()
	pending, err := b.redis.XPending(ctx, queue.Stream, queue.Group).Result()
	require.NoError(t, err)
	require.Zero(t, pending.Count)
	require.Zero(t, b.redis.HLen(ctx, queue.Queued).Val())
	require.Zero(t, b.redis.XLen(ctx, queue.Dead).Val())
	require.Zero(t, b.query(t, `SELECT count(*) FROM calculations WHERE status <> 'done'`))
}

// requireDoneOnce requires that a finished index has one result, and that its end was told once to who has listened
// since before it was asked for.
func (b *bundle) requireDoneOnce(t *testing.T, index int64, stream *e2e.Stream) {
	t.Helper()
	b.requireNothingLeft(t)
	require.EqualValues(t, 1, b.query(t, `SELECT count(*) FROM calculations WHERE index = $1`, index))
	require.EqualValues(t, 1, b.query(t, `SELECT count(*) FROM numbers WHERE index = $1`, index))
	e2e.RequireFibonacci(t, index, b.Digits(t, index))

	last := b.FreshIndex(t, 1, 1000)
	b.Ask(t, last)
	told := 0
	for _, c := range stream.Until(t, last) {
		if c.Index == strconv.FormatInt(index, 10) {
			told++
		}
	}
	require.Equal(t, 1, told)
}

func TestAJobWhoseWorkerIsKilledIsFinishedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stream := b.Listen(t)
	index := b.interrupt(t, syscall.SIGKILL)
	pending, err := b.redis.XPending(t.Context(), queue.Stream, queue.Group).Result()
	require.NoError(t, err)
	require.EqualValues(t, 1, pending.Count, "the dead worker has still its claim")

	b.stack.Start(t, "worker")
	require.Equal(t, 2, b.AwaitDone(t, index).Attempts)
	b.requireDoneOnce(t, index, stream)
}

func TestAJobWhoseWorkerIsStoppedIsGivenBackUncounted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stream := b.Listen(t)
	index := b.interrupt(t, syscall.SIGTERM)
	groups, err := b.redis.XInfoGroups(t.Context(), queue.Stream).Result()
	require.NoError(t, err)
	require.Zero(t, groups[0].Pending, "no claim is left")
	require.EqualValues(t, 1, groups[0].Lag, "the job waits for whoever comes next")

	b.stack.Start(t, "worker")
	require.Equal(t, 1, b.AwaitDone(t, index).Attempts)
	b.requireDoneOnce(t, index, stream)
}

// waiting is how many jobs a test has waiting.
const waiting = 100

func (b *bundle) askForMany(t *testing.T, low, high int64) []int64 {
	t.Helper()
	var asked []int64
	for range waiting {
		index := b.FreshIndex(t, low, high)
		require.Equal(t, "pending", b.Ask(t, index))
		asked = append(asked, index)
	}
	return asked
}

func (b *bundle) requireAllDone(t *testing.T, asked []int64) {
	t.Helper()
	for _, index := range asked {
		b.AwaitDone(t, index)
		e2e.RequireFibonacci(t, index, b.Digits(t, index))
	}
	b.requireNothingLeft(t)
}

func TestJobsThatWaitSurviveAFlushedRedis(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.stack.Stop(t, "worker")
	asked := b.askForMany(t, 1, 10_000)
	requireWaiting(t, b, asked)

	require.NoError(t, b.redis.FlushAll(t.Context()).Err())
	var stats struct{ QueueDepth *int64 }
	b.Get(t, "/api/stats").JSON(t, &stats)
	require.EqualValues(t, 0, *stats.QueueDepth, "the queue knows of no job")

	b.stack.Start(t, "worker")
	b.requireAllDone(t, asked)
}

// requireWaiting requires that every list says of all that they wait.
func requireWaiting(t *testing.T, b *bundle, asked []int64) {
	t.Helper()
	var stats struct {
		Counts     map[string]int
		QueueDepth *int
	}
	b.Get(t, "/api/stats").JSON(t, &stats)
	require.Equal(t, len(asked), stats.Counts["pending"])
	require.Equal(t, len(asked), *stats.QueueDepth)

	var list struct{ Values []e2e.Calculation }
	b.Get(t, "/api/values?status=pending").JSON(t, &list)
	var current map[string]string
	b.Get(t, "/api/values/current").JSON(t, &current)
	slices.Reverse(list.Values)
	require.Len(t, list.Values, len(asked))
	for i, index := range asked {
		require.Equal(t, strconv.FormatInt(index, 10), list.Values[i].Index)
		require.Equal(t, "Nothing yet!", current[list.Values[i].Index])
	}

	answer := b.Get(t, fmt.Sprintf("/api/values/%d/digits", asked[0]))
	require.Equal(t, http.StatusConflict, answer.StatusCode, answer)
}

func TestJobsUnderWaySurviveAFlushedRedis(t *testing.T) {
	t.Parallel()
	b := setup(t, "WORKER_CONCURRENCY=1")
	stream := b.Listen(t)
	asked := b.askForMany(t, 500_000, 600_000) // milliseconds of work each
	stream.Await(t, asked[0])
	require.NoError(t, b.redis.FlushAll(t.Context()).Err())
	require.NotZero(t, b.query(t, `SELECT count(*) FROM calculations WHERE status = 'pending'`), "the worker was too quick")
	b.requireAllDone(t, asked)
}

func TestPostgresAwayForAWhileIsAnsweredWith503AndNothingIsLost(t *testing.T) {
	t.Parallel()
	const away = 20 * time.Second
	b := setup(t)
	stream := b.Listen(t)
	known := b.FreshIndex(t, 10_000, 20_000) // too long a number for the cache
	b.Calculated(t, known)
	programs := []string{"nginx", "api", "worker", "redis-server"}
	var before [][]int
	for _, program := range programs {
		before = append(before, b.stack.PIDs(t, program))
	}

	requests := startRequests(t, b, known)
	requests.awaitMore(t, http.StatusAccepted)
	b.stack.Stop(t, "postgres")
	stopped := time.Now()
	requests.awaitMore(t, http.StatusServiceUnavailable)
	for time.Since(stopped) < away {
		requests.awaitMore(t, http.StatusServiceUnavailable)
	}
	b.stack.Start(t, "postgres")
	requests.awaitMore(t, http.StatusAccepted)
	requests.stop()

	for _, index := range requests.accepted {
		require.Equal(t, 1, b.AwaitDone(t, index).Attempts)
		e2e.RequireFibonacci(t, index, b.Digits(t, index))
	}
	for i, program := range programs {
		require.Equal(t, before[i], b.stack.PIDs(t, program), "%s was restarted", program)
	}
	last := b.FreshIndex(t, 1, 1000)
	b.Ask(t, last)
	stream.Await(t, last) // the stream from before is still open
	b.requireNothingLeft(t)
}

// requests are sent all the time, one after the other, and each is looked at.
type requests struct {
	stop func()
	// accepted are the indexes whose request was answered with 202.
	accepted []int64

	mu       sync.Mutex
	statuses map[int]int
}

func startRequests(t *testing.T, b *bundle, known int64) *requests {
	t.Helper()
	const pause = 20 * time.Millisecond // so that they don't take the machine for themselves
	r := &requests{statuses: map[int]int{}}
	ctx, cancel := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	r.stop = func() {
		cancel()
		sending.Wait()
	}
	t.Cleanup(r.stop)
	reads := []string{
		"/api/values", "/api/values/all", "/api/values/current", "/api/stats",
		fmt.Sprintf("/api/values/%d", known), fmt.Sprintf("/api/values/%d/digits", known),
	}
	sending.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			r.send(t, b, http.MethodGet, reads[i%len(reads)], "")
			time.Sleep(pause)
		}
	})
	sending.Go(func() {
		for index := int64(20_001); ctx.Err() == nil; index++ {
			if r.send(t, b, http.MethodPost, "/api/values", fmt.Sprintf(`{"index":"%d"}`, index)) == http.StatusAccepted {
				r.accepted = append(r.accepted, index)
			}
			time.Sleep(pause)
		}
	})
	return r
}

// send sends one request, to its end, and requires an answer as it has to be when PostgreSQL may be away.
func (r *requests) send(t *testing.T, b *bundle, method, path, body string) (status int) {
	t.Helper()
	answer, err := b.Do(t.Context(), method, path, body, "Content-Type", "application/json")
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
		return 0
	}
	switch {
	case answer.StatusCode == http.StatusServiceUnavailable && answer.Header.Get("Retry-After") == "",
		answer.StatusCode >= http.StatusBadRequest && answer.StatusCode != http.StatusServiceUnavailable:
		t.Error(answer)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.statuses[answer.StatusCode]++
	return answer.StatusCode
}

// awaitMore waits for one more answer with a status.
func (r *requests) awaitMore(t *testing.T, status int) {
	t.Helper()
	count := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.statuses[status]
	}
	before := count()
	e2e.Await(t, fmt.Sprintf("one more %d", status), func() bool { return count() > before })
}

func TestRedisAwayForAWhileDelaysJobsOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	known := b.FreshIndex(t, 1, 1000)
	b.Calculated(t, known)
	api, worker := b.stack.PIDs(t, "api"), b.stack.PIDs(t, "worker")

	b.stack.Stop(t, "redis")
	var asked []int64
	for range 20 {
		index := b.FreshIndex(t, 1, 20_000)
		require.Equal(t, "pending", b.Ask(t, index))
		asked = append(asked, index)
	}
	e2e.RequireFibonacci(t, known, b.Look(t, known).Value)
	e2e.RequireFibonacci(t, known, b.Digits(t, known))
	require.Contains(t, b.Get(t, "/api/values/current").Body, "Nothing yet!")
	var stats struct {
		Counts              map[string]int
		QueueDepth, Workers *int
	}
	b.Get(t, "/api/stats").JSON(t, &stats)
	require.Equal(t, len(asked), stats.Counts["pending"])
	require.Nil(t, stats.QueueDepth)
	require.Nil(t, stats.Workers)

	b.stack.Start(t, "redis")
	b.requireAllDone(t, asked)
	require.Equal(t, api, b.stack.PIDs(t, "api"))
	require.Equal(t, worker, b.stack.PIDs(t, "worker"))

	stream := b.Listen(t)
	last := b.FreshIndex(t, 20_001, 21_000)
	b.Ask(t, last)
	stream.Await(t, last)
}

func TestTheFrontOutlivesTheApi(t *testing.T) {
	t.Parallel()
	b := setup(t)
	front := b.stack.PIDs(t, "nginx")
	stream := b.Listen(t)
	index := b.FreshIndex(t, 1, 1000)
	b.Calculated(t, index)

	b.stack.Stop(t, "api")
	stream.AwaitEnd(t)
	for _, path := range []string{"/api/version", fmt.Sprintf("/api/values/%d", index), "/api/events"} {
		answer, err := b.Do(t.Context(), http.MethodGet, path, "")
		require.NoError(t, err)
		require.Equal(t, http.StatusBadGateway, answer.StatusCode)
		require.NotEmpty(t, answer.Problem(t).Detail)
	}
	require.Contains(t, b.Get(t, "/").Body, "<html")

	b.stack.Start(t, "api")
	e2e.Await(t, "the api", func() bool {
		answer, err := b.Do(t.Context(), http.MethodGet, "/api/version", "")
		require.NoError(t, err)
		return answer.StatusCode == http.StatusOK
	})
	e2e.RequireFibonacci(t, index, b.Look(t, index).Value)
	stream = b.Listen(t)
	last := b.FreshIndex(t, 1001, 2000)
	b.Ask(t, last)
	stream.Await(t, last)
	require.Equal(t, front, b.stack.PIDs(t, "nginx"))
}
