package main

import (
	"context"
	"time"

	"github.com/fibstack/fibstack/internal/queue"
	"github.com/fibstack/fibstack/internal/store"
)

const (
	// sweepBatch is how many indexes are compared with the queue in one round trip.
	sweepBatch = 1000
	// sweepAge leaves the api the time to queue by itself what it has just recorded.
	sweepAge = 5 * time.Second
)

// sweep puts on the queue, now and then, what is pending in PostgreSQL and not queued in Redis, and tidies the queue.
// That mends a lost write, a flushed Redis and a restored backup alike. Of all workers one does it at a time.
func (p *pool) sweep(ctx context.Context) error {
	tick := time.NewTicker(p.cfg.SweepInterval)
	defer tick.Stop()
	for {
		if _, err := p.store.Exclusive(ctx, store.SweeperLock, p.sweepOnce); err != nil && ctx.Err() == nil {
			p.metrics.sweeps.WithLabelValues("error").Inc()
			p.log.Warn("the sweep failed and will be repeated", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *pool) sweepOnce(ctx context.Context) error {
	found := 0
	for after := int64(0); ; {
		waiting, err := p.store.Waiting(ctx, after, sweepAge, sweepBatch)
		if err != nil {
			return err
		}
		if len(waiting) == 0 {
			break
		}
		indexes := make([]int64, len(waiting))
		for i, w := range waiting {
			indexes[i] = w.Index
		}
		added, err := p.queue.Add(ctx, queue.Origin{}, indexes...)
		p.metrics.swept.Add(float64(added))
		found += added
		if err != nil {
			return err
		}
		after = waiting[len(waiting)-1].Seq
	}
	if found > 0 {
		p.log.Info("queued what was not", "jobs", found)
	}
	if err := p.queue.Tidy(ctx); err != nil {
		return err
	}
	p.metrics.sweeps.WithLabelValues("ok").Inc()
	return nil
}
