// Package disturbance_test takes parts of a running stack away and gives them back, and requires that no work is lost
// by it, nothing is done twice, and nobody has to lend a hand. Every test has a private native stack of its own.
package disturbance_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/e2e"
	"github.com/fibstack/fibstack/internal/queue"
)

func TestMain(m *testing.M) {
	if err := e2e.BuildStack(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// bundle is a stack of the test's own.
type bundle struct{ *e2e.Private }

func setup(t *testing.T, settings ...string) *bundle {
	t.Helper()
	// Whoever has vanished or lost something shall be missed soon.
	quick := []string{"CLAIM_IDLE=5s", "SWEEP_INTERVAL=1s", "MAX_INDEX=100000000"}
	return &bundle{e2e.StartPrivate(t, append(quick, settings...)...)}
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
	pending, err := b.Redis.XPending(ctx, queue.Stream, queue.Group).Result()
	require.NoError(t, err)
	require.Zero(t, pending.Count)
	require.Zero(t, b.Redis.HLen(ctx, queue.Queued).Val())
	require.Zero(t, b.Redis.XLen(ctx, queue.Dead).Val())
	require.Zero(t, b.Query(t, `SELECT count(*) FROM calculations WHERE status <> 'done'`))
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
