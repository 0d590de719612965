package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/e2e"
)

func TestAFinishedCalculationIsHeardWithoutAsking(t *testing.T) {
	t.Parallel()
	one, other := target.Listen(t), target.Listen(t)
	index := fresh(t, short)
	require.Equal(t, "pending", target.Ask(t, index))

	for _, stream := range []*e2e.Stream{one, other} {
		c := stream.Await(t, index)
		require.Equal(t, "done", c.Status)
		e2e.RequireFibonacci(t, index, c.Value)
	}
	require.Equal(t, "done", target.Look(t, index).Status, "who has heard of it can read it")
}

func TestALongNumberIsHeardOfByItsEnds(t *testing.T) {
	t.Parallel()
	stream := target.Listen(t)
	index := fresh(t, long)
	target.Ask(t, index)
	require.Equal(t, target.AwaitDone(t, index), stream.Await(t, index))
}

func TestAStreamIsOneThatProxiesLeaveAlone(t *testing.T) {
	t.Parallel()
	header := target.Listen(t).Header // it has said something at once, so nothing holds it back
	require.Equal(t, "text/event-stream", header.Get("Content-Type"))
	require.Contains(t, header.Get("Cache-Control"), "no-store")
	require.Empty(t, header.Get("Content-Encoding"))
	require.NotEmpty(t, header.Get("X-Request-Id"))
}

func TestManyMayListen(t *testing.T) {
	t.Parallel()
	var streams []*e2e.Stream
	for range 50 {
		streams = append(streams, target.Listen(t))
	}
	index := fresh(t, long)
	target.Ask(t, index)
	for _, stream := range streams {
		require.Equal(t, "done", stream.Await(t, index).Status)
	}
}
