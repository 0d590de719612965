package disturbance_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/e2e"
)

func TestJobsThatWaitSurviveAFlushedRedis(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Stack.Stop(t, "worker")
	asked := b.askForMany(t, 1, 10_000)
	b.requireWaiting(t, asked)

	require.NoError(t, b.Redis.FlushAll(t.Context()).Err())
	var stats struct{ QueueDepth *int64 }
	b.Get(t, "/api/stats").JSON(t, &stats)
	require.EqualValues(t, 0, *stats.QueueDepth, "the queue knows of no job")

	b.Stack.Start(t, "worker")
	b.requireAllDone(t, asked)
}

// requireWaiting requires that every list says of all that they wait.
func (b *bundle) requireWaiting(t *testing.T, asked []int64) {
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
	b.Stack.Stop(t, "worker")
	asked := b.askForMany(t, 500_000, 600_000) // some milliseconds of work each
	stream := b.Listen(t)
	b.Stack.Start(t, "worker")
	stream.Await(t, asked[0])
	require.NoError(t, b.Redis.FlushAll(t.Context()).Err())
	require.NotZero(t, b.Query(t, `SELECT count(*) FROM calculations WHERE status = 'pending'`), "the worker was too quick")
	b.requireAllDone(t, asked)
}

func TestRedisAwayForAWhileDelaysJobsOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	known := b.FreshIndex(t, 1, 1000)
	b.Calculated(t, known)
	api, worker := b.Stack.PIDs(t, "api"), b.Stack.PIDs(t, "worker")

	b.Stack.Stop(t, "redis")
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

	b.Stack.Start(t, "redis")
	b.requireAllDone(t, asked)
	require.Equal(t, api, b.Stack.PIDs(t, "api"))
	require.Equal(t, worker, b.Stack.PIDs(t, "worker"))

	stream := b.Listen(t)
	last := b.FreshIndex(t, 20_001, 21_000)
	b.Ask(t, last)
	stream.Await(t, last)
}

func TestRedisThatHangsHangsNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	known := b.FreshIndex(t, 1, 1000)
	b.Calculated(t, known)

	thaw := b.Freeze(t, "redis-server")
	index := b.FreshIndex(t, 1001, 2000)
	require.Equal(t, "pending", b.Ask(t, index))
	e2e.RequireFibonacci(t, known, b.Look(t, known).Value)
	thaw()
	b.requireAllDone(t, []int64{index})
}
