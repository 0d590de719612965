package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/fibstack/fibstack/internal/cache"
	"github.com/fibstack/fibstack/internal/events"
	"github.com/fibstack/fibstack/internal/fib"
	"github.com/fibstack/fibstack/internal/queue"
	"github.com/fibstack/fibstack/internal/service"
	"github.com/fibstack/fibstack/internal/store"
	"github.com/fibstack/fibstack/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// bundle is real stores, and the workers that a test starts on them.
type bundle struct {
	t           *testing.T
	store       *store.Store
	redis       *redis.Client
	redisServer *testkit.Server
	cfg         Config
}

func setup(t *testing.T) *bundle {
	t.Helper()
	server, database := testkit.Database(t)
	return setupOn(t, server, database)
}

func setupOn(t *testing.T, postgres *testkit.Server, database string) *bundle {
	t.Helper()
	db, err := store.Open(store.Config{
		Host: postgres.Host, Port: uint16(postgres.Port), User: "postgres", Database: database, SSLMode: "disable", MaxConns: 5,
	}, "test", nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	require.NoError(t, db.Migrate(t.Context()))
	server := testkit.Redis(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	return &bundle{t: t, store: db, redis: client, redisServer: server, cfg: Config{
		Concurrency: 2, MaxAttempts: 3, ClaimIdle: 300 * time.Millisecond, SweepInterval: 50 * time.Millisecond,
	}}
}

// worker is a pool that runs until it is stopped.
type worker struct {
	*pool
	stop func()
}

// start runs a worker that calculates in the given way.
func (b *bundle) start(calculate func(context.Context, uint64) ([]byte, error)) *worker {
	b.t.Helper()
	p := b.pool(calculate)
	ctx, cancel := context.WithCancel(b.t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := p.run(ctx); err != nil {
			b.t.Errorf("run: %v", err)
		}
	}()
	w := &worker{p, func() { cancel(); <-stopped }}
	b.t.Cleanup(w.stop)
	return w
}

func (b *bundle) pool(calculate func(context.Context, uint64) ([]byte, error)) *pool {
	return &pool{
		cfg: b.cfg, log: slog.New(slog.DiscardHandler), metrics: newMetrics(prometheus.NewRegistry()), tracer: service.Tracer(nil),
		store: b.store, cache: cache.New(b.redis), redis: b.redis, calculate: calculate,
		queue: b.queue(),
	}
}

func (b *bundle) queue() *queue.Queue {
	return queue.New(b.redis, queue.Config{ClaimIdle: b.cfg.ClaimIdle, MaxAttempts: b.cfg.MaxAttempts})
}

// ask does what the api does.
func (b *bundle) ask(indexes ...int64) {
	b.t.Helper()
	b.record(indexes...)
	_, err := b.queue().Add(b.t.Context(), queue.Origin{}, indexes...)
	require.NoError(b.t, err)
}

func (b *bundle) record(indexes ...int64) {
	b.t.Helper()
	for _, index := range indexes {
		_, _, err := b.store.Request(b.t.Context(), index, 1_000_000)
		require.NoError(b.t, err)
	}
}

func (b *bundle) waitFor(index int64, status store.Status) store.Calculation {
	b.t.Helper()
	var c store.Calculation
	b.eventually(func() bool {
		var err error
		c, err = b.store.Get(b.t.Context(), index)
		return err == nil && c.Status == status
	}, "F(%d) %s", index, status)
	return c
}

// listen hears what is announced from now on.
func (b *bundle) listen() *redis.PubSub {
	b.t.Helper()
	subscription := b.redis.Subscribe(b.t.Context(), events.Channel)
	b.t.Cleanup(func() { _ = subscription.Close() })
	_, err := subscription.Receive(b.t.Context())
	require.NoError(b.t, err)
	return subscription
}

// waitForEmptyQueue waits until nothing is queued or taken.
func (b *bundle) waitForEmptyQueue() {
	b.t.Helper()
	b.eventually(func() bool {
		stats, err := b.queue().Stats(b.t.Context())
		return err == nil && stats.Depth == 0
	}, "an empty queue")
}

func (b *bundle) eventually(condition func() bool, what string, args ...any) {
	b.t.Helper()
	require.Eventually(b.t, condition, 2*time.Minute, 5*time.Millisecond, append([]any{what}, args...)...)
}

func (w *worker) outcomes(outcome string) int {
	return int(testutil.ToFloat64(w.metrics.jobs.WithLabelValues(outcome)))
}

// hang calculates until it is told to stop, and tells that it began.
func hang(began chan<- struct{}) func(context.Context, uint64) ([]byte, error) {
	return func(ctx context.Context, _ uint64) ([]byte, error) {
		began <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
}

func TestAJobIsCalculatedStoredCachedAndAnnounced(t *testing.T) {
	t.Parallel()
	b := setup(t)
	subscription := b.listen()

	w := b.start(fib.Digits)
	b.ask(100)
	c := b.waitFor(100, store.Done)
	require.Equal(t, "354224848179261915075", *c.Value)
	require.Equal(t, 1, c.Attempts)
	require.Positive(t, *c.ComputeSeconds)

	want, err := json.Marshal(c)
	require.NoError(t, err)
	message, err := subscription.ReceiveMessage(t.Context())
	require.NoError(t, err)
	require.JSONEq(t, string(want), message.Payload)
	cached, found, err := w.cache.Get(t.Context(), 100)
	require.NoError(t, err)
	require.True(t, found)
	require.JSONEq(t, string(want), string(cached))
	b.waitForEmptyQueue()
	b.eventually(func() bool { return w.outcomes(done) == 1 }, "the metric")
	for _, stage := range []string{waiting, calculating, storing, announcing} {
		require.EqualValues(t, 1, count(t, w.metrics.stages.WithLabelValues(stage)), stage)
	}
	require.EqualValues(t, 1, count(t, w.metrics.calculations.WithLabelValues("1e3")))
	require.EqualValues(t, 1, count(t, w.metrics.durations.WithLabelValues("1e3")))
}

// count is the number of observations of a histogram.
func count(t *testing.T, histogram prometheus.Observer) uint64 {
	t.Helper()
	var metric dto.Metric
	require.NoError(t, histogram.(prometheus.Metric).Write(&metric))
	return metric.GetHistogram().GetSampleCount()
}

func TestTheSizeOfAnIndexIsThePowerOfTenThatItDoesNotExceed(t *testing.T) {
	t.Parallel()
	for index, size := range map[int64]string{
		0: "1e3", 1000: "1e3", 1001: "1e4", 100_000: "1e5", 100_001: "1e6", 100_000_000: "1e8", 100_000_001: "1e8",
	} {
		require.Equal(t, size, sizeOf(index), index)
	}
}

func TestALongNumberIsNotCached(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(fib.Digits)
	b.ask(5000)
	require.Equal(t, int64(1045), *b.waitFor(5000, store.Done).Digits)
	b.waitForEmptyQueue()
	_, found, err := w.cache.Get(t.Context(), 5000)
	require.NoError(t, err)
	require.False(t, found)
}

func TestNoMoreJobsRunAtOnceThanConfigured(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var running, tooMany atomic.Int64
	b.start(func(context.Context, uint64) ([]byte, error) {
		defer running.Add(-1)
		if running.Add(1) > int64(b.cfg.Concurrency) {
			tooMany.Add(1)
		}
		return []byte("1"), nil
	})
	indexes := make([]int64, 100)
	for i := range indexes {
		indexes[i] = int64(i)
	}
	b.ask(indexes...)
	for _, index := range indexes {
		b.waitFor(index, store.Done)
	}
	require.Zero(t, tooMany.Load())
}

func TestAStoppedWorkerGivesItsJobBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	began := make(chan struct{})
	w := b.start(hang(began))
	b.ask(7)
	<-began
	w.stop()
	require.Equal(t, 1, w.outcomes(returned))
	stats, err := b.queue().Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, stats.Lag, "at once for others to take")

	next := b.start(fib.Digits)
	require.Equal(t, 1, b.waitFor(7, store.Done).Attempts, "being stopped is no attempt")
	require.EqualValues(t, 1, count(t, w.metrics.stages.WithLabelValues(waiting)))
	require.Zero(t, count(t, w.metrics.stages.WithLabelValues(calculating)))
	require.Zero(t, count(t, next.metrics.stages.WithLabelValues(waiting)), "it waited for its first worker only once")
}

func TestAResultIsStoredThoughTheWorkerStops(t *testing.T) {
	t.Parallel()
	b := setup(t)
	began, finish := make(chan struct{}), make(chan struct{})
	w := b.start(func(context.Context, uint64) ([]byte, error) {
		close(began)
		<-finish
		return []byte("13"), nil
	})
	b.ask(7)
	<-began
	go close(finish)
	w.stop()
	c, err := b.store.Get(t.Context(), 7)
	require.NoError(t, err)
	require.Equal(t, store.Done, c.Status)
	b.waitForEmptyQueue()
}

func TestAFailingCalculationIsTriedAgainAndThenFailed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	subscription := b.listen()
	var tries atomic.Int64
	w := b.start(func(context.Context, uint64) ([]byte, error) {
		if tries.Add(1) == 2 {
			panic("out of paper")
		}
		return nil, errors.New("out of ink")
	})
	b.ask(7)
	c := b.waitFor(7, store.Failed)
	require.Equal(t, "given up after 3 attempts: out of ink", *c.Error)
	require.Equal(t, 3, c.Attempts)
	require.EqualValues(t, 3, tries.Load())
	message, err := subscription.ReceiveMessage(t.Context())
	require.NoError(t, err)
	require.Contains(t, message.Payload, `"status":"failed"`)

	b.waitForEmptyQueue()
	b.eventually(func() bool { return w.outcomes(retried) == 3 && w.outcomes(failed) == 1 }, "the metrics")
	require.EqualValues(t, 1, count(t, w.metrics.stages.WithLabelValues(waiting)))
	for _, stage := range []string{calculating, storing, announcing} {
		require.Zero(t, count(t, w.metrics.stages.WithLabelValues(stage)), stage)
	}
	dead, err := b.redis.XRange(t.Context(), queue.Dead, "-", "+").Result()
	require.NoError(t, err)
	require.Len(t, dead, 1)
	require.Equal(t, "7", dead[0].Values["index"])
	require.Contains(t, dead[0].Values["reason"], "out of ink")
}

func TestALostWorkersJobIsDoneByAnother(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ask(7)
	// A worker that dies right after it has taken the job.
	_, err := b.queue().Take(t.Context())
	require.NoError(t, err)

	b.start(fib.Digits)
	require.Equal(t, 2, b.waitFor(7, store.Done).Attempts)
	b.waitForEmptyQueue()
}

func TestAJobThatKillsEveryWorkerFails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ask(7)
	for range b.cfg.MaxAttempts {
		_, err := b.queue().Take(t.Context())
		require.NoError(t, err)
	}
	b.start(func(context.Context, uint64) ([]byte, error) {
		t.Error("calculated once more")
		return []byte("13"), nil
	})
	c := b.waitFor(7, store.Failed)
	require.Equal(t, "given up after 3 attempts: the worker died or lost its connection", *c.Error)
	require.Equal(t, 3, c.Attempts)
}

func TestALongCalculationKeepsItsClaim(t *testing.T) {
	t.Parallel()
	b := setup(t)
	began := make(chan struct{})
	first := b.start(hang(began))
	b.ask(7)
	<-began
	other := b.start(fib.Digits)
	// The other worker looks for abandoned jobs several times in the meantime.
	var kept int
	b.eventually(func() bool {
		pending, err := b.redis.XPendingExt(t.Context(), &redis.XPendingExtArgs{
			Stream: queue.Stream, Group: queue.Group, Start: "-", End: "+", Count: 1,
		}).Result()
		require.NoError(t, err)
		require.Len(t, pending, 1)
		if pending[0].Idle < b.cfg.ClaimIdle/keepsPerClaim {
			kept++
		}
		return kept > 300
	}, "the claim stays young")
	require.Zero(t, other.outcomes(done))
	first.stop()
	require.Equal(t, 1, b.waitFor(7, store.Done).Attempts)
}

func TestWorkOnALostJobStops(t *testing.T) {
	t.Parallel()
	b := setup(t)
	began := make(chan struct{})
	w := b.start(hang(began))
	b.ask(7)
	<-began
	require.NoError(t, b.redis.FlushAll(t.Context()).Err())
	b.eventually(func() bool { return w.outcomes(lost) == 1 }, "the worker lets go")
}

func TestAJobDoneBeforeIsAnnouncedAgainAndSkipped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ask(7)
	_, err := b.store.Complete(t.Context(), 7, []byte("13"), time.Second)
	require.NoError(t, err)
	w := b.start(func(context.Context, uint64) ([]byte, error) {
		t.Error("calculated again")
		return nil, nil
	})
	b.waitForEmptyQueue()
	b.eventually(func() bool { return w.outcomes(skipped) == 1 }, "skipped")
	_, found, err := w.cache.Get(t.Context(), 7)
	require.NoError(t, err)
	require.True(t, found)
}

func TestAJobThatTheDatabaseDoesNotKnowIsDropped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.queue().Add(t.Context(), queue.Origin{}, 7)
	require.NoError(t, err)
	b.start(fib.Digits)
	b.waitForEmptyQueue()
	_, err = b.store.Get(t.Context(), 7)
	require.ErrorIs(t, err, store.ErrNotFound)
}

func TestTheSweeperQueuesWhatRedisLost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.record(1, 2, 3)
	b.ask(4)
	_, err := b.store.Complete(t.Context(), 3, []byte("2"), time.Second)
	require.NoError(t, err)
	p := b.pool(fib.Digits)
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- p.sweep(ctx) }()

	stats := func() queue.Stats {
		stats, err := p.queue.Stats(t.Context())
		require.NoError(t, err)
		return stats
	}
	b.eventually(func() bool { return stats().Depth == 3 }, "1, 2 and 4 queued")
	require.NoError(t, b.redis.FlushAll(t.Context()).Err())
	b.eventually(func() bool { return stats().Depth == 3 }, "queued again after the flush")
	stop()
	require.NoError(t, <-stopped)
	require.Equal(t, 5, int(testutil.ToFloat64(p.metrics.swept)))
	require.Positive(t, testutil.ToFloat64(p.metrics.sweeps.WithLabelValues("ok")))
}

func TestOnlyOneSweepsAtATime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.record(1)
	p := b.pool(fib.Digits)
	held, err := b.store.Exclusive(t.Context(), store.SweeperLock, func(ctx context.Context) error {
		var tries sync.WaitGroup
		for range 3 {
			tries.Go(func() {
				held, err := b.store.Exclusive(ctx, store.SweeperLock, p.sweepOnce)
				if held || err != nil {
					t.Errorf("swept: %v, %v", held, err)
				}
			})
		}
		tries.Wait()
		return nil
	})
	require.NoError(t, err)
	require.True(t, held)
}

func TestWorkWaitsForPostgresAndGoesOn(t *testing.T) {
	t.Parallel()
	server := testkit.Postgres(t)
	b := setupOn(t, server, "postgres")
	began, finish := make(chan struct{}), make(chan struct{})
	w := b.start(func(_ context.Context, n uint64) ([]byte, error) {
		if n == 7 {
			close(began)
			<-finish
		}
		return []byte("13"), nil
	})
	b.ask(7, 8)
	<-began
	b.waitFor(8, store.Done)
	server.Stop()
	close(finish)
	b.eventually(func() bool { return b.store.Ready(t.Context()) != nil }, "PostgreSQL is away")
	require.NoError(t, server.Start())
	require.Equal(t, 1, b.waitFor(7, store.Done).Attempts, "the calculation was not repeated")
	b.waitForEmptyQueue()
	b.eventually(func() bool { return w.outcomes(done) == 2 }, "both done")
}

func TestWorkGoesOnWhenRedisIsBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.start(fib.Digits)
	b.ask(7)
	b.waitFor(7, store.Done)
	b.redisServer.Stop()
	b.record(8)
	require.NoError(t, b.redisServer.Start())
	_, err := b.queue().Add(t.Context(), queue.Origin{}, 8)
	require.NoError(t, err)
	b.waitFor(8, store.Done)
}

func TestTheReadmeHasEveryVariable(t *testing.T) {
	t.Parallel()
	testkit.RequireInReadme(t, &Config{}, &store.Config{}, &service.Config{}, &service.Redis{})
}

// program sets the environment of the whole program on real stores.
func program(t *testing.T) *bundle {
	t.Helper()
	postgres, database := testkit.Database(t)
	b := setupOn(t, postgres, database)
	port, err := testkit.FreePort()
	require.NoError(t, err)
	for name, value := range map[string]string{
		"PGHOST": postgres.Host, "PGPORT": strconv.Itoa(postgres.Port), "PGDATABASE": database, "PGSSLMODE": "disable",
		"REDIS_HOST": b.redisServer.Host, "REDIS_PORT": strconv.Itoa(b.redisServer.Port),
		"OPS_ADDR": "127.0.0.1:" + strconv.Itoa(port),
	} {
		t.Setenv(name, value)
	}
	return b
}

// run runs the program until stop, which returns how it ended.
func (b *bundle) run() (stop func() error) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- run(ctx, nil) }()
	b.eventually(func() bool { return run(b.t.Context(), []string{"healthcheck"}) == nil }, "ready")
	return func() error { cancel(); return <-stopped }
}

func TestTheProgramWorksAndStops(t *testing.T) {
	b := program(t)
	require.ErrorIs(t, run(t.Context(), []string{"harder"}), service.ErrUsage)
	stop := b.run()
	b.ask(7)
	require.Equal(t, "13", *b.waitFor(7, store.Done).Value)
	require.NoError(t, stop())
}

func TestMetricsFollowTheConventionsAndManyIndexesMakeNoMore(t *testing.T) {
	t.Setenv("LOG_LEVEL", "warn")
	b := program(t)
	stop := b.run()
	url := "http://" + os.Getenv("OPS_ADDR") + "/metrics"
	b.ask(1)
	b.waitFor(1, store.Done)
	before := testkit.RequireGoodMetrics(t, url)
	const many, atOnce = 10_000, 8
	var group errgroup.Group
	for asker := range int64(atOnce) {
		group.Go(func() error {
			for index := 2 + asker; index <= many; index += atOnce {
				if _, _, err := b.store.Request(t.Context(), index, many); err != nil {
					return err
				}
				if _, err := b.queue().Add(t.Context(), queue.Origin{}, index); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	b.eventually(func() bool {
		counts, err := b.store.Counts(t.Context())
		return err == nil && counts[store.Done] == many
	}, "all done")
	require.Equal(t, before, testkit.RequireGoodMetrics(t, url))
	require.NoError(t, stop())
}

func TestAJobContinuesTheTraceOfItsRequest(t *testing.T) {
	collector := testkit.NewCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	b := program(t)
	stop := b.run()
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	b.record(7)
	_, err := b.queue().Add(t.Context(), queue.Origin{Request: "find-me", Trace: "00-" + trace + "-" + parent + "-01"}, 7)
	require.NoError(t, err)
	b.waitFor(7, store.Done)
	b.waitForEmptyQueue()
	require.NoError(t, stop(), "the spans are sent at the stop")

	job := collector.Only(t, "job")
	require.Equal(t, trace, job.Trace)
	require.Equal(t, parent, job.Parent)
	require.Subset(t, collector.Below(job), []string{calculating, storing, announcing})
	require.NotEmpty(t, collector.Below(collector.Only(t, storing)), "PostgreSQL")
	require.NotEmpty(t, collector.Below(collector.Only(t, announcing)), "Redis")
	for _, span := range collector.Spans() {
		require.Equal(t, trace, span.Trace, "neither checks, sweeps nor the wait for jobs make traces: %v", span)
	}
}

func TestTheLogLineOfAJobCarriesTheIDsOfItsRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	origin := queue.Origin{Request: "find-me", Trace: "00-" + trace + "-00f067aa0ba902b7-01"}
	b.record(7)
	_, err := b.queue().Add(t.Context(), origin, 7)
	require.NoError(t, err)
	p := b.pool(fib.Digits)
	job, err := p.queue.Take(t.Context())
	require.NoError(t, err)
	var log bytes.Buffer
	p.log = service.NewLogger(&log, service.Config{})
	p.process(t.Context(), job)
	var line map[string]any
	require.NoError(t, json.Unmarshal(log.Bytes(), &line))
	require.Equal(t, done, line["outcome"])
	require.Equal(t, "find-me", line["requestId"])
	require.Equal(t, trace, line["trace_id"])
}

func TestAJobWithoutATraceIsDoneWithoutTheCollector(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1") // nothing listens there
	t.Setenv("GRACE_PERIOD", "2s")
	b := program(t)
	stop := b.run()
	b.ask(7)
	b.waitFor(7, store.Done)
	require.NoError(t, stop())
}
