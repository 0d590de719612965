package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/fibstack/fibstack/internal/cache"
	"github.com/fibstack/fibstack/internal/events"
	"github.com/fibstack/fibstack/internal/queue"
	"github.com/fibstack/fibstack/internal/service"
	"github.com/fibstack/fibstack/internal/store"
)

const (
	// longestPause bounds the wait between tries while a store is away, so that work goes on soon after it is back.
	longestPause = 5 * time.Second
	// settleTimeout bounds what is said to Redis about a job that is over. What Redis does not hear is repeated: the
	// job comes again and is found done.
	settleTimeout = 5 * time.Second
	// keepsPerClaim is how often a job is kept alive within the time after which it may be claimed.
	keepsPerClaim = 3
)

// pool works on as many jobs at once as it is configured to.
type pool struct {
	cfg       Config
	log       *slog.Logger
	metrics   *metrics
	tracer    trace.Tracer
	store     *store.Store
	queue     *queue.Queue
	cache     *cache.Cache
	redis     redis.UniversalClient
	calculate func(ctx context.Context, n uint64) ([]byte, error)
}

// run takes jobs until the context ends, and returns when each has been finished or given back.
func (p *pool) run(ctx context.Context) error {
	// Jobs are interrupted only when no more are taken, or this worker would take again what it gives back.
	jobCtx, interrupt := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer running.Wait()
	defer interrupt()
	slots := make(chan struct{}, p.cfg.Concurrency)
	pause := newPause()
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		job, err := p.queue.Take(ctx)
		if err != nil {
			<-slots
			if ctx.Err() != nil {
				return nil
			}
			wait := pause.NextBackOff()
			p.log.Warn("no job could be taken", "error", err, "retryIn", wait)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return nil
			}
			continue
		}
		pause.Reset()
		running.Go(func() {
			p.process(jobCtx, job)
			<-slots
		})
	}
}

func newPause() *backoff.ExponentialBackOff {
	pause := backoff.NewExponentialBackOff()
	pause.MaxInterval = longestPause
	return pause
}

// process sees one job to one of the outcomes, and keeps its claim meanwhile.
func (p *pool) process(ctx context.Context, job *queue.Job) {
	log := p.log.With("index", job.Index, "attempt", job.Attempt)
	ctx = service.WithRequestID(ctx, job.Request)
	// A child of the span that queued the job, not a link to it, so that a calculation is one trace: a job has one
	// sender and is received alone, for which the conventions of messaging allow it.
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": job.Trace})
	ctx, span := p.tracer.Start(ctx, "job", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		attribute.Int64("fibstack.index", job.Index), attribute.Int("fibstack.attempt", job.Attempt)))
	defer span.End()
	if job.First {
		p.metrics.passed(ctx, waiting, since(job.QueuedAt))
	}
	p.metrics.running.Inc()
	defer p.metrics.running.Dec()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var keeping sync.WaitGroup
	keeping.Go(func() { p.keep(ctx, job, cancel) })
	outcome, err := p.work(ctx, job)
	if err != nil && ctx.Err() != nil {
		// Either the worker stops, or the job has become another's.
		outcome, err = returned, context.Cause(ctx)
		if errors.Is(err, queue.ErrLost) {
			outcome = lost
		}
	}
	cancel(nil)
	keeping.Wait()

	settleCtx, cancelSettle := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancelSettle()
	var settleErr error
	switch outcome {
	case done, skipped:
		settleErr = p.queue.Done(settleCtx, job)
	case retried:
		settleErr = p.queue.Retry(settleCtx, job, err.Error())
	case failed:
		settleErr = p.queue.Bury(settleCtx, job, err.Error())
	case returned:
		settleErr = p.queue.Return(settleCtx, job)
	case lost:
	}
	if settleErr != nil {
		log.WarnContext(ctx, "the queue did not hear of the outcome; the job will come again", "error", settleErr, "outcome", outcome)
	}
	p.metrics.jobs.WithLabelValues(outcome).Inc()
	span.SetAttributes(attribute.String("fibstack.outcome", outcome))
	if outcome == retried || outcome == failed {
		span.SetStatus(codes.Error, err.Error())
	}
	if err != nil {
		log = log.With("reason", err)
	}
	log.InfoContext(ctx, "job", "outcome", outcome)
}

// keep tells the queue that the job is being worked on until the context ends, and ends it when the job is lost.
func (p *pool) keep(ctx context.Context, job *queue.Job, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(p.cfg.ClaimIdle / keepsPerClaim)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := p.queue.Keep(ctx, job); errors.Is(err, queue.ErrLost) {
			cancel(err)
			return
		} else if err != nil && ctx.Err() == nil {
			p.log.WarnContext(ctx, "the claim could not be kept alive", "index", job.Index, "error", err)
		}
	}
}

// work calculates the job's number and stores it: result first, then cache and news. Every step may be repeated. Its
// error is the reason of the outcomes retried and failed; when the context has ended, the job was interrupted.
func (p *pool) work(ctx context.Context, job *queue.Job) (outcome string, err error) {
	c, err := p.patiently(ctx, func(ctx context.Context) (store.Calculation, error) {
		return p.store.Begin(ctx, job.Index, min(job.Attempt, p.cfg.MaxAttempts))
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		// The database does not know of the request, and it is the truth: it was restored to an earlier state.
		return skipped, err
	case err != nil:
		return retried, err
	case c.Status != store.Pending:
		// Finished before, by a worker that could not say so. Nobody may have heard of it.
		p.announce(ctx, c)
		return skipped, nil
	case p.queue.Exhausted(job):
		return p.giveUp(ctx, job)
	}

	start := time.Now()
	calculateCtx, span := p.tracer.Start(ctx, calculating)
	digits, err := p.safely(calculateCtx, job.Index)
	span.End()
	if err != nil {
		return retried, err
	}
	took := time.Since(start)
	p.metrics.passed(ctx, calculating, took)
	service.Observe(ctx, p.metrics.calculations.WithLabelValues(sizeOf(job.Index)), took.Seconds())

	start = time.Now()
	storeCtx, span := p.tracer.Start(ctx, storing)
	// What is calculated is stored even if the worker is told to stop meanwhile.
	c, err = p.patiently(storeCtx, func(ctx context.Context) (store.Calculation, error) {
		return p.store.Complete(context.WithoutCancel(ctx), job.Index, digits, took)
	})
	span.End()
	if errors.Is(err, store.ErrNotFound) {
		return skipped, err
	}
	if err != nil {
		return retried, err
	}
	p.metrics.passed(ctx, storing, time.Since(start))

	start = time.Now()
	if p.announce(ctx, c) {
		p.metrics.passed(ctx, announcing, time.Since(start))
	}
	service.Observe(ctx, p.metrics.durations.WithLabelValues(sizeOf(job.Index)), since(c.RequestedAt).Seconds())
	return done, nil
}

// since is the time since a moment by another machine's clock, which may be ahead of this one's.
func since(moment time.Time) time.Duration { return max(0, time.Since(moment)) }

// safely calculates, and turns a panic into an error.
func (p *pool) safely(ctx context.Context, index int64) (digits []byte, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			p.log.ErrorContext(ctx, "panic", "index", index, "cause", cause, "stack", string(debug.Stack()))
			err = fmt.Errorf("the calculation panicked: %v", cause)
		}
	}()
	return p.calculate(ctx, uint64(index))
}

// giveUp fails the calculation, for a reason that people can read, after its last attempt.
func (p *pool) giveUp(ctx context.Context, job *queue.Job) (string, error) {
	reason := fmt.Errorf("given up after %d attempts: %s", p.cfg.MaxAttempts,
		cmp.Or(job.Reason, "the worker died or lost its connection"))
	c, err := p.patiently(ctx, func(ctx context.Context) (store.Calculation, error) {
		return p.store.Fail(ctx, job.Index, reason.Error())
	})
	if err != nil {
		return retried, err
	}
	p.announce(ctx, c)
	return failed, reason
}

// patiently repeats an operation of the store while PostgreSQL is away, until the context ends.
func (p *pool) patiently(ctx context.Context, operation func(context.Context) (store.Calculation, error)) (store.Calculation, error) {
	return backoff.Retry(ctx, func() (store.Calculation, error) {
		c, err := operation(ctx)
		if err != nil && !errors.Is(err, store.ErrUnavailable) {
			err = backoff.Permanent(err)
		}
		return c, err
	}, backoff.WithBackOff(newPause()), backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(err error, wait time.Duration) {
			p.log.WarnContext(ctx, "PostgreSQL is away", "error", err, "retryIn", wait)
		}))
}

// announce tells the cache and whoever listens, and reports whether it could. Both may miss it: the truth is in
// PostgreSQL.
func (p *pool) announce(ctx context.Context, c store.Calculation) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	ctx, span := p.tracer.Start(ctx, announcing)
	defer span.End()
	data, err := json.Marshal(c)
	if err == nil && c.Value != nil {
		err = p.cache.Put(ctx, c.Index, data)
	}
	err = errors.Join(err, events.Publish(ctx, p.redis, data))
	if err != nil {
		p.log.WarnContext(ctx, "not announced", "index", c.Index, "error", err)
	}
	return err == nil
}
