package disturbance_test

import (
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/e2e"
	"github.com/fibstack/fibstack/internal/queue"
)

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
