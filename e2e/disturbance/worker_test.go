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
	index := b.Interrupt(t, syscall.SIGKILL)
	pending, err := b.Redis.XPending(t.Context(), queue.Stream, queue.Group).Result()
	require.NoError(t, err)
	require.EqualValues(t, 1, pending.Count, "the dead worker has still its claim")

	b.Stack.Start(t, "worker")
	require.Equal(t, 2, b.AwaitDone(t, index).Attempts)
	b.requireDoneOnce(t, index, stream)
}

func TestAJobWhoseWorkerIsStoppedIsGivenBackUncounted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stream := b.Listen(t)
	index := b.Interrupt(t, syscall.SIGTERM)
	groups, err := b.Redis.XInfoGroups(t.Context(), queue.Stream).Result()
	require.NoError(t, err)
	require.Zero(t, groups[0].Pending, "no claim is left")
	require.EqualValues(t, 1, groups[0].Lag, "the job waits for whoever comes next")

	b.Stack.Start(t, "worker")
	require.Equal(t, 1, b.AwaitDone(t, index).Attempts)
	b.requireDoneOnce(t, index, stream)
}

// requireDoneOnce requires that a finished index has one result, and that its end was told once to who has listened
// since before it was asked for.
func (b *bundle) requireDoneOnce(t *testing.T, index int64, stream *e2e.Stream) {
	t.Helper()
	b.requireNothingLeft(t)
	require.EqualValues(t, 1, b.Query(t, `SELECT count(*) FROM calculations WHERE index = $1`, index))
	require.EqualValues(t, 1, b.Query(t, `SELECT count(*) FROM numbers WHERE index = $1`, index))
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
