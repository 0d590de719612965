package queue_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/internal/queue"
	"github.com/fibstack/fibstack/internal/testkit"
)

const (
	// never is a ClaimIdle that no test reaches but by abandon.
	never = time.Hour
	// soon is a ClaimIdle for tests that wait for it.
	soon = 50 * time.Millisecond
	// patience bounds the wait for a condition on a busy machine.
	patience = time.Minute
)

var origin = queue.Origin{Request: "a request", Trace: "a trace"}

type bundle struct {
	*testing.T
	server *testkit.Server
	client *redis.Client
}

func setup(t *testing.T) *bundle {
	t.Helper()
	t.Parallel()
	server := testkit.Redis(t)
	client := redis.NewClient(&redis.Options{
		Addr: server.Addr(), PoolSize: 50, DialerRetries: 1,
		DisableIdentity:       true, // it is told by a command of Redis 7.2
		ContextTimeoutEnabled: true,
	})
	t.Cleanup(func() { _ = client.Close() })
	return &bundle{t, server, client}
}

func (b *bundle) consumer(name string) *queue.Queue {
	return queue.New(b.client, queue.Config{Consumer: name, ClaimIdle: never})
}

func (b *bundle) add(q *queue.Queue, indexes ...int64) {
	b.Helper()
	added, err := q.Add(b.Context(), queue.Origin{}, indexes...)
	require.NoError(b, err)
	require.Equal(b, len(indexes), added)
}

func (b *bundle) take(q *queue.Queue) *queue.Job {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	job, err := q.Take(ctx)
	require.NoError(b, err)
	return job
}

func (b *bundle) stats(q *queue.Queue) queue.Stats {
	b.Helper()
	stats, err := q.Stats(b.Context())
	require.NoError(b, err)
	return stats
}

func (b *bundle) entry(index int64) string {
	b.Helper()
	id, err := b.client.HGet(b.Context(), queue.Queued, fmt.Sprint(index)).Result()
	require.NoError(b, err)
	return id
}

// abandon makes the delivered entry of an index look as if its worker had been silent for longer than any ClaimIdle.
func (b *bundle) abandon(index int64) {
	b.Helper()
	id := b.entry(index)
	pending, err := b.client.XPendingExt(b.Context(), &redis.XPendingExtArgs{
		Stream: queue.Stream, Group: queue.Group, Start: id, End: id, Count: 1,
	}).Result()
	require.NoError(b, err)
	require.Len(b, pending, 1)
	require.NoError(b, b.client.Do(b.Context(), "XCLAIM", queue.Stream, queue.Group, pending[0].Consumer, 0, id,
		"IDLE", (2*never).Milliseconds(), "JUSTID").Err())
}

// group is what Redis itself says of the group; a lag of -1 is NULL.
func (b *bundle) group() redis.XInfoGroup {
	b.Helper()
	groups, err := b.client.XInfoGroups(b.Context(), queue.Stream).Result()
	require.NoError(b, err)
	require.Len(b, groups, 1)
	return groups[0]
}

func (b *bundle) length() int64 {
	b.Helper()
	n, err := b.client.XLen(b.Context(), queue.Stream).Result()
	require.NoError(b, err)
	return n
}

// waiting waits until as many clients as that block in a read.
func (b *bundle) waiting(clients int) {
	b.Helper()
	require.Eventually(b, func() bool {
		info := b.client.InfoMap(b.Context(), "clients").Val()
		return info["Clients"]["blocked_clients"] == fmt.Sprint(clients)
	}, patience, time.Millisecond)
}

type taken struct {
	job *queue.Job
	err error
}

func takeLater(ctx context.Context, q *queue.Queue) <-chan taken {
	result := make(chan taken, 1)
	go func() {
		job, err := q.Take(ctx)
		result <- taken{job, err}
	}()
	return result
}

func TestAJobCarriesWhatWasAdded(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	before, err := b.client.Time(t.Context()).Result()
	require.NoError(t, err)
	_, err = q.Add(t.Context(), origin, 7)
	require.NoError(t, err)

	job := b.take(q)

	require.Equal(t, int64(7), job.Index)
	require.Equal(t, 1, job.Attempt)
	require.Equal(t, origin, job.Origin)
	require.Empty(t, job.Reason)
	require.WithinRange(t, job.QueuedAt, before.Truncate(time.Millisecond), before.Add(patience))
}

func TestJobsComeInTheOrderTheyWereAdded(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	b.add(q, 3, 1, 2)
	for _, index := range []int64{3, 1, 2} {
		require.Equal(t, index, b.take(q).Index)
	}
}

func TestAddSkipsAnIndexThatIsQueued(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	b.add(q, 1, 2)

	added, err := q.Add(t.Context(), queue.Origin{}, 1, 2, 3, 3)

	require.NoError(t, err)
	require.Equal(t, 1, added)
	require.Equal(t, int64(3), b.length())
}

func TestAddSkipsAnIndexThatIsTaken(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	b.add(q, 1)
	b.take(q)

	added, err := q.Add(t.Context(), queue.Origin{}, 1)

	require.NoError(t, err)
	require.Zero(t, added)
}

func TestAddTakesManyIndexes(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	indexes := make([]int64, 1001)
	for i := range indexes {
		indexes[i] = int64(i)
	}
	b.add(q, indexes...)
	require.Equal(t, int64(len(indexes)), b.stats(q).Lag)
}

func TestManyAddersQueueAnIndexOnce(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	var added atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			n, err := q.Add(t.Context(), queue.Origin{}, 1, 2, 3)
			if err == nil {
				added.Add(int64(n))
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(3), added.Load())
	require.Equal(t, int64(3), b.length())
}

func TestAddAcceptsAnIndexThatIsDone(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	b.add(q, 1)
	require.NoError(t, q.Done(t.Context(), b.take(q)))
	b.add(q, 1)
}

func TestAddIsNotFooledByAMarkWithoutItsEntry(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	b.add(q, 1)
	require.NoError(t, b.client.Del(t.Context(), queue.Stream).Err())

	b.add(q, 1)

	require.Equal(t, int64(1), b.take(q).Index)
}

func TestAnEntryWithoutItsMarkIsDeliveredAndLeavesTheNewMarkAlone(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	b.add(q, 1)
	require.NoError(t, b.client.Del(t.Context(), queue.Queued).Err())
	b.add(q, 1)

	first, second := b.take(q), b.take(q)
	require.NoError(t, q.Done(t.Context(), first))

	added, err := q.Add(t.Context(), queue.Origin{}, 1)
	require.NoError(t, err)
	require.Zero(t, added, "the second entry is still at work")
	require.NoError(t, q.Done(t.Context(), second))
	require.Zero(t, b.client.HLen(t.Context(), queue.Queued).Val())
}

func TestDoneLeavesNothingBehind(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	b.add(q, 1)
	require.NoError(t, q.Done(t.Context(), b.take(q)))
	require.NoError(t, q.Tidy(t.Context()))

	require.Equal(t, queue.Stats{Workers: 1}, b.stats(q))
	require.Zero(t, b.length())
	require.Zero(t, b.client.HLen(t.Context(), queue.Queued).Val())
}

func TestTakeWaitsForAJob(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	later := takeLater(t.Context(), q)
	b.waiting(1)

	b.add(q, 5)

	got := <-later
	require.NoError(t, got.err)
	require.Equal(t, int64(5), got.job.Index)
}

func TestTakeEndsWithItsContext(t *testing.T) {
	b := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	later := takeLater(ctx, b.consumer("a"))
	b.waiting(1)

	cancel()

	got := <-later
	require.ErrorIs(t, got.err, context.Canceled)
	require.Nil(t, got.job)
}

// A read that is cut off may leave a job delivered to nobody.
func TestADeadlineDoesNotCutAReadOff(t *testing.T) {
	b := setup(t)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()

	_, err := b.consumer("a").Take(ctx)

	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestTakeDeliversNothingWhenItsContextIsDone(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	b.add(q, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	_, err := q.Take(ctx)

	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, int64(1), b.stats(q).Lag)
}

func TestACrashedWorkersJobGoesToAnotherAndCountsTheAttempt(t *testing.T) {
	b := setup(t)
	crashed := b.consumer("crashed")
	_, err := crashed.Add(t.Context(), origin, 1)
	require.NoError(t, err)
	lost := b.take(crashed)

	job := b.take(queue.New(b.client, queue.Config{ClaimIdle: soon}))

	require.Equal(t, int64(1), job.Index)
	require.Equal(t, 2, job.Attempt)
	require.True(t, lost.First)
	require.False(t, job.First)
	require.Equal(t, origin, job.Origin)
	require.Equal(t, lost.QueuedAt, job.QueuedAt)
}

func TestAllAbandonedJobsAreClaimedBeforeNewOnes(t *testing.T) {
	b := setup(t)
	crashed, q := b.consumer("crashed"), b.consumer("a")
	for index := range int64(30) { // more than one XAUTOCLAIM looks at
		b.add(crashed, index)
		b.take(crashed)
	}
	for _, index := range []int64{27, 28, 29} {
		b.abandon(index)
	}
	b.add(crashed, 100)
	for _, index := range []int64{27, 28, 29, 100} {
		require.Equal(t, index, b.take(q).Index)
	}
}

func TestAKeptJobIsNotClaimed(t *testing.T) {
	b := setup(t)
	worker, other := b.consumer("worker"), b.consumer("other")
	b.add(worker, 1)
	kept := b.take(worker)
	b.abandon(1)
	require.NoError(t, worker.Keep(t.Context(), kept))
	b.add(worker, 2)

	require.Equal(t, int64(2), b.take(other).Index)
	require.NoError(t, worker.Return(t.Context(), kept))
	require.Equal(t, 1, b.take(other).Attempt, "keeping is no delivery")
}

func TestALostClaimChangesNothing(t *testing.T) {
	for name, by := range map[string]string{"to another consumer": "other", "to the same consumer": "worker"} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			worker := b.consumer("worker")
			b.add(worker, 1)
			lost := b.take(worker)
			b.abandon(1)
			winner := b.consumer(by)
			won := b.take(winner)

			require.ErrorIs(t, worker.Keep(t.Context(), lost), queue.ErrLost)
			require.ErrorIs(t, worker.Return(t.Context(), lost), queue.ErrLost)
			require.ErrorIs(t, worker.Retry(t.Context(), lost, "reason"), queue.ErrLost)
			require.ErrorIs(t, worker.Bury(t.Context(), lost, "reason"), queue.ErrLost)

			stats := b.stats(winner)
			require.Equal(t, [3]int64{0, 1, 0}, [3]int64{stats.Lag, stats.Pending, stats.Dead})
			require.NoError(t, winner.Keep(t.Context(), won))
		})
	}
}

func TestDoneCountsEvenWhenTheClaimIsLost(t *testing.T) {
	b := setup(t)
	worker, other := b.consumer("worker"), b.consumer("other")
	b.add(worker, 1)
	lost := b.take(worker)
	b.abandon(1)
	won := b.take(other)

	require.NoError(t, worker.Done(t.Context(), lost))

	require.Zero(t, b.stats(other).Depth)
	require.ErrorIs(t, other.Keep(t.Context(), won), queue.ErrLost)
	require.NoError(t, other.Done(t.Context(), won))
}

func TestDoneTwiceDoesNotEndAJobAddedAnew(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	b.add(q, 1)
	job := b.take(q)
	require.NoError(t, q.Done(t.Context(), job))
	b.add(q, 1)

	require.NoError(t, q.Done(t.Context(), job))

	added, err := q.Add(t.Context(), queue.Origin{}, 1)
	require.NoError(t, err)
	require.Zero(t, added)
	require.Equal(t, int64(1), b.stats(q).Depth)
}

func TestAReturnedJobIsAtOnceAvailableAndCountsNoAttempt(t *testing.T) {
	b := setup(t)
	stopping, other := b.consumer("stopping"), b.consumer("other")
	_, err := stopping.Add(t.Context(), origin, 1)
	require.NoError(t, err)
	returned := b.take(stopping)
	later := takeLater(t.Context(), other)
	b.waiting(1)

	require.NoError(t, stopping.Return(t.Context(), returned))

	got := <-later
	require.NoError(t, got.err)
	require.Equal(t, int64(1), got.job.Index)
	require.Equal(t, 1, got.job.Attempt)
	require.True(t, returned.First)
	require.False(t, got.job.First)
	require.Equal(t, origin, got.job.Origin)
	require.Equal(t, returned.QueuedAt, got.job.QueuedAt)
	require.ErrorIs(t, stopping.Return(t.Context(), returned), queue.ErrLost)
}

func TestAReturnedJobStaysMarked(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	b.add(q, 1)
	require.NoError(t, q.Return(t.Context(), b.take(q)))
	require.NoError(t, q.Tidy(t.Context()))

	added, err := q.Add(t.Context(), queue.Origin{}, 1)

	require.NoError(t, err)
	require.Zero(t, added)
	require.NoError(t, q.Done(t.Context(), b.take(q)))
	require.Zero(t, b.client.HLen(t.Context(), queue.Queued).Val())
}

func TestAttemptsCountCrashesAndRetriesButNotReturns(t *testing.T) {
	b := setup(t)
	b.add(b.consumer("a"), 1)

	b.take(b.consumer("a"))
	b.abandon(1)
	q := b.consumer("b")
	crashed := b.take(q)
	require.Equal(t, 2, crashed.Attempt)

	require.NoError(t, q.Return(t.Context(), crashed))
	returned := b.take(q)
	require.Equal(t, 2, returned.Attempt)

	require.NoError(t, q.Retry(t.Context(), returned, "no luck"))
	retried := b.take(q)
	require.Equal(t, 3, retried.Attempt)
	require.Equal(t, "no luck", retried.Reason)
	require.Equal(t, crashed.QueuedAt, retried.QueuedAt)

	require.NoError(t, q.Return(t.Context(), retried))
	require.Equal(t, "no luck", b.take(q).Reason)
}

func TestAJobIsExhaustedAfterItsLastAttemptOnly(t *testing.T) {
	b := setup(t)
	q := queue.New(b.client, queue.Config{ClaimIdle: never, MaxAttempts: 2})
	b.add(q, 1)
	for range 2 {
		job := b.take(q)
		require.False(t, q.Exhausted(job))
		require.NoError(t, q.Retry(t.Context(), job, "no luck"))
	}
	require.True(t, q.Exhausted(b.take(q)))
}

func TestABuriedJobIsKeptWithItsReasonAndCanBeAddedAnew(t *testing.T) {
	b := setup(t)
	q := queue.New(b.client, queue.Config{ClaimIdle: never, MaxAttempts: 1})
	_, err := q.Add(t.Context(), origin, 1)
	require.NoError(t, err)
	require.NoError(t, q.Retry(t.Context(), b.take(q), "no luck"))
	job := b.take(q)

	require.NoError(t, q.Bury(t.Context(), job, job.Reason))

	dead, err := b.client.XRange(t.Context(), queue.Dead, "-", "+").Result()
	require.NoError(t, err)
	require.Len(t, dead, 1)
	require.Equal(t, map[string]any{
		"index": "1", "attempts": "1", "queued": fmt.Sprint(job.QueuedAt.UnixMilli()), "request": origin.Request, "trace": origin.Trace, "reason": "no luck",
	}, dead[0].Values)
	stats := b.stats(q)
	require.Equal(t, [2]int64{0, 1}, [2]int64{stats.Depth, stats.Dead})
	b.add(q, 1)
	require.Equal(t, 1, b.take(q).Attempt)
}

func TestTheDeadAreBounded(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	require.NoError(t, b.client.Eval(t.Context(),
		`for i = 1, 12000 do redis.call('XADD', KEYS[1], '*', 'index', i) end return 'OK'`, []string{queue.Dead}).Err())
	b.add(q, 1)

	require.NoError(t, q.Bury(t.Context(), b.take(q), "no luck"))

	require.InDelta(t, 10_000, b.stats(q).Dead, 200)
	last, err := b.client.XRevRangeN(t.Context(), queue.Dead, "+", "-", 1).Result()
	require.NoError(t, err)
	require.Equal(t, "no luck", last[0].Values["reason"])
}

func TestAnEntryThatIsNoJobIsBuriedAndHoldsNobodyUp(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	require.NoError(t, q.Ensure(t.Context()))
	require.NoError(t, b.client.XAdd(t.Context(), &redis.XAddArgs{Stream: queue.Stream, Values: []any{"index", "seven"}}).Err())
	b.add(q, 7)

	require.Equal(t, int64(7), b.take(q).Index)

	dead, err := b.client.XRange(t.Context(), queue.Dead, "-", "+").Result()
	require.NoError(t, err)
	require.Len(t, dead, 1)
	require.Contains(t, dead[0].Values["reason"], "seven")
	require.Equal(t, int64(1), b.stats(q).Depth)
}

func TestStatsOfNothing(t *testing.T) {
	b := setup(t)
	require.Zero(t, b.stats(b.consumer("a")))
}

func TestStatsCountAStreamWithoutItsGroup(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	b.add(q, 1, 2)
	require.NoError(t, b.client.XGroupDestroy(t.Context(), queue.Stream, queue.Group).Err())

	stats := b.stats(q)

	require.Equal(t, int64(2), stats.Lag)
	require.Equal(t, int64(2), stats.Depth)
}

func TestStatsTellWaitingFromTaken(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	b.add(q, 1, 2, 3)
	b.take(q)

	stats := b.stats(q)

	require.Equal(t, [3]int64{3, 2, 1}, [3]int64{stats.Depth, stats.Lag, stats.Pending})
}

func TestStatsAreRightWhenRedisReportsNoLag(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	b.add(q, 1, 2, 3, 4)
	b.take(q)
	require.NoError(t, b.client.XDel(t.Context(), queue.Stream, b.entry(3)).Err())
	require.Equal(t, int64(-1), b.group().Lag)

	stats := b.stats(q)

	require.Equal(t, [3]int64{3, 2, 1}, [3]int64{stats.Depth, stats.Lag, stats.Pending})
}

func TestOldestAgeIsThatOfTheFirstEntryNotAcknowledged(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	now, err := b.client.Time(t.Context()).Result()
	require.NoError(t, err)
	require.NoError(t, q.Ensure(t.Context()))
	for _, hours := range []int{3, 2, 1} {
		id := fmt.Sprint(now.Add(-time.Duration(hours) * time.Hour).UnixMilli())
		require.NoError(t, b.client.XAdd(t.Context(), &redis.XAddArgs{
			Stream: queue.Stream, ID: id,
			Values: []any{"index", hours, "attempts", 0, "queued", 0},
		}).Err())
	}
	hours := func() int { return int(b.stats(q).OldestAge.Hours()) }

	require.Equal(t, 3, hours())
	first, second := b.take(q), b.take(q)
	require.Equal(t, 3, hours())
	require.NoError(t, q.Done(t.Context(), first))
	require.Equal(t, 2, hours())
	require.NoError(t, q.Done(t.Context(), second))
	require.Equal(t, 1, hours())
	require.NoError(t, q.Done(t.Context(), b.take(q)))
	require.Zero(t, b.stats(q).OldestAge)
}

func TestAWorkerCountsWhileItWaitsAndNotForLongAfter(t *testing.T) {
	b := setup(t)
	q := queue.New(b.client, queue.Config{ClaimIdle: soon})
	ctx, cancel := context.WithCancel(t.Context())
	later := takeLater(ctx, q)
	workers := func(n int) func() bool {
		return func() bool { return b.stats(q).Workers == n }
	}
	require.Eventually(t, workers(1), patience, time.Millisecond)
	cancel()
	<-later
	require.Eventually(t, workers(0), patience, time.Millisecond)
}

func TestTidyTrimsWhatIsAcknowledgedAndNothingElse(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	b.add(q, 1, 2, 3, 4)
	first, _, third := b.take(q), b.take(q), b.take(q)
	require.NoError(t, q.Done(t.Context(), first))
	require.NoError(t, q.Done(t.Context(), third))

	require.NoError(t, q.Tidy(t.Context()))

	require.Equal(t, int64(3), b.length(), "the first is gone; the second is pending and keeps those behind it")
	for _, index := range []int64{2, 4} {
		entries, err := b.client.XRange(t.Context(), queue.Stream, b.entry(index), b.entry(index)).Result()
		require.NoError(t, err)
		require.Len(t, entries, 1)
	}
}

func TestTidyOfNothing(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	require.NoError(t, q.Tidy(t.Context()))
	require.NoError(t, q.Ensure(t.Context()))
	require.NoError(t, q.Tidy(t.Context()))
	require.NoError(t, b.client.XGroupDestroy(t.Context(), queue.Stream, queue.Group).Err())
	require.NoError(t, q.Tidy(t.Context()))
}

func TestTidyDeletesConsumersThatAreGoneUnlessTheyHoldJobs(t *testing.T) {
	b := setup(t)
	gone, holding := b.consumer("gone"), b.consumer("holding")
	b.add(gone, 1, 2)
	b.take(holding)
	require.NoError(t, gone.Done(t.Context(), b.take(gone))) // the later, so that both are idle when this one is deleted
	names := func() (names []string) {
		consumers, err := b.client.XInfoConsumers(t.Context(), queue.Stream, queue.Group).Result()
		require.NoError(t, err)
		for _, c := range consumers {
			names = append(names, c.Name)
		}
		return names
	}
	require.NoError(t, gone.Tidy(t.Context()))
	require.ElementsMatch(t, []string{"gone", "holding"}, names(), "both lived within ten times their ClaimIdle")

	impatient := queue.New(b.client, queue.Config{ClaimIdle: time.Millisecond})
	require.Eventually(t, func() bool {
		return impatient.Tidy(t.Context()) == nil && len(names()) == 1
	}, patience, time.Millisecond)

	require.Equal(t, []string{"holding"}, names())
	require.Equal(t, int64(1), b.stats(gone).Pending)
}

func TestAWaitingTakeSurvivesItsConsumersDeletion(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	later := takeLater(t.Context(), q)
	b.waiting(1)
	require.NoError(t, b.client.XGroupDelConsumer(t.Context(), queue.Stream, queue.Group, "a").Err())

	b.add(q, 1)

	got := <-later
	require.NoError(t, got.err)
	require.NoError(t, q.Keep(t.Context(), got.job))
}

func TestAFlushedRedisIsAnEmptyQueueThatWorks(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	b.add(q, 1, 2)
	job := b.take(q)
	require.NoError(t, b.client.FlushAll(t.Context()).Err())

	require.ErrorIs(t, q.Keep(t.Context(), job), queue.ErrLost)
	require.ErrorIs(t, q.Return(t.Context(), job), queue.ErrLost)
	require.ErrorIs(t, q.Bury(t.Context(), job, "reason"), queue.ErrLost)
	require.NoError(t, q.Done(t.Context(), job))
	require.Zero(t, b.stats(q))
	b.add(q, 1, 2)
	require.Equal(t, int64(1), b.take(q).Index)
}

func TestAWaitingTakeSurvivesAFlush(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	later := takeLater(t.Context(), q)
	b.waiting(1)

	require.NoError(t, b.client.FlushAll(t.Context()).Err())
	b.add(q, 1)

	got := <-later
	require.NoError(t, got.err)
	require.Equal(t, int64(1), got.job.Index)
}

func TestTakeBringsBackAMissingGroupWithAllThatIsInTheStream(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	b.add(q, 1, 2)
	before := b.take(q)
	require.NoError(t, b.client.XGroupDestroy(t.Context(), queue.Stream, queue.Group).Err())

	other := b.consumer("other")
	require.Equal(t, int64(1), b.take(other).Index)
	require.Equal(t, int64(2), b.take(other).Index)
	require.ErrorIs(t, q.Keep(t.Context(), before), queue.ErrLost)
}

func TestTakeReportsALostConnectionAndWorksWhenRedisIsBack(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	b.add(q, 1, 2)
	job := b.take(q)
	require.NoError(t, q.Done(t.Context(), b.take(q)))
	later := takeLater(t.Context(), q)
	b.waiting(1)

	b.server.Stop()
	require.Error(t, (<-later).err)
	_, err := q.Take(t.Context())
	require.Error(t, err)
	_, err = q.Add(t.Context(), queue.Origin{}, 3)
	require.Error(t, err)
	err = q.Keep(t.Context(), job)
	require.Error(t, err)
	require.NotErrorIs(t, err, queue.ErrLost, "nobody knows")

	require.NoError(t, b.server.Start())
	require.NoError(t, q.Keep(t.Context(), job))
	require.NoError(t, q.Done(t.Context(), job))
	b.add(q, 3)
	require.Equal(t, int64(3), b.take(q).Index)
	require.Equal(t, int64(0), b.group().Lag)
}

func TestEveryJobIsDoneWhateverHappensToItsFirstWorker(t *testing.T) {
	const jobs, consumers, goroutines = 1000, 4, 8
	b := setup(t)
	indexes := make([]int64, jobs)
	for i := range indexes {
		indexes[i] = int64(i)
	}
	b.add(b.consumer("adder"), indexes...)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var done sync.Map
	var failure atomic.Pointer[error]
	var wg sync.WaitGroup
	for range consumers {
		q := queue.New(b.client, queue.Config{ClaimIdle: soon})
		for range goroutines {
			wg.Go(func() {
				for {
					job, err := q.Take(ctx)
					if ctx.Err() != nil {
						return
					}
					if err == nil && job.Attempt == 1 {
						switch job.Index % 10 {
						case 0: // its worker crashes
							continue
						case 1:
							err = q.Retry(ctx, job, "no luck")
						case 2:
							err = q.Keep(ctx, job)
						}
					}
					if err == nil && (job.Attempt > 1 || job.Index%10 != 1) {
						done.Store(job.Index, true)
						err = q.Done(ctx, job)
					}
					// On a busy machine a claim may well be lost within so short a ClaimIdle.
					if err != nil && !errors.Is(err, queue.ErrLost) {
						failure.Store(&err)
					}
				}
			})
		}
	}
	q := b.consumer("watcher")
	require.Eventually(t, func() bool { return b.stats(q).Depth == 0 }, patience, 10*time.Millisecond)
	cancel()
	wg.Wait()

	require.Nil(t, failure.Load())
	for _, index := range indexes {
		_, ok := done.Load(index)
		require.True(t, ok, index)
	}
	require.Zero(t, b.client.HLen(t.Context(), queue.Queued).Val())
	require.NoError(t, q.Tidy(t.Context()))
	require.Zero(t, b.length())
}

// entry is what the model of the random test knows of one entry.
type entry struct {
	index    int64
	attempts int
	by       *queue.Queue
	job      *queue.Job
}

func TestRandomOperationsKeepTheQueueTrue(t *testing.T) {
	for range 3 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			b := setup(t)
			random := rand.New(rand.NewPCG(seed, 0))
			var waiting, held []*entry
			var dead int64
			queued := map[int64]bool{}
			anybody := func() *queue.Queue { return b.consumer(fmt.Sprint("consumer ", random.IntN(3))) }
			take := func(e *entry) {
				e.by = anybody()
				e.job = b.take(e.by)
				e.attempts++
				require.Equal(t, e.index, e.job.Index)
				require.Equal(t, e.attempts, e.job.Attempt)
			}
			operations := []func(){
				func() { // add
					index := random.Int64N(12)
					added, err := anybody().Add(t.Context(), queue.Origin{}, index)
					require.NoError(t, err)
					require.Equal(t, !queued[index], added == 1)
					if added == 1 {
						queued[index] = true
						waiting = append(waiting, &entry{index: index})
					}
				},
				func() {
					require.NoError(t, anybody().Tidy(t.Context()))
				},
				func() { // take what is new
					if len(waiting) > 0 {
						take(waiting[0])
						held = append(held, waiting[0])
						waiting = waiting[1:]
					}
				},
			}
			// These are done to any entry that is held, and say whether it still is.
			operationsOnHeld := []func(e *entry) bool{
				func(e *entry) bool {
					require.NoError(t, e.by.Keep(t.Context(), e.job))
					return true
				},
				func(e *entry) bool { // crash
					b.abandon(e.index)
					stale, by := e.job, e.by
					take(e)
					require.ErrorIs(t, by.Keep(t.Context(), stale), queue.ErrLost)
					return true
				},
				func(e *entry) bool {
					require.NoError(t, e.by.Done(t.Context(), e.job))
					delete(queued, e.index)
					return false
				},
				func(e *entry) bool {
					require.NoError(t, e.by.Return(t.Context(), e.job))
					waiting = append(waiting, &entry{index: e.index, attempts: e.attempts - 1})
					return false
				},
				func(e *entry) bool {
					require.NoError(t, e.by.Retry(t.Context(), e.job, "no luck"))
					waiting = append(waiting, &entry{index: e.index, attempts: e.attempts})
					return false
				},
				func(e *entry) bool {
					require.NoError(t, e.by.Bury(t.Context(), e.job, "no luck"))
					delete(queued, e.index)
					dead++
					return false
				},
			}

			q := b.consumer("watcher")
			for range 500 {
				if len(held) > 0 && random.IntN(2) == 0 {
					i := random.IntN(len(held))
					if stays := operationsOnHeld[random.IntN(len(operationsOnHeld))](held[i]); !stays {
						held = slices.Delete(held, i, i+1)
					}
				} else {
					operations[random.IntN(len(operations))]()
				}

				stats := b.stats(q)
				require.Equal(t, int64(len(waiting)+len(held)), stats.Depth)
				require.Equal(t, int64(len(waiting)), stats.Lag)
				require.Equal(t, int64(len(held)), stats.Pending)
				require.Equal(t, dead, stats.Dead)
				require.Equal(t, int64(len(queued)), b.client.HLen(t.Context(), queue.Queued).Val())
				if b.client.Exists(t.Context(), queue.Stream).Val() == 1 {
					require.Equal(t, stats.Lag, b.group().Lag, "Redis itself must know the lag")
				}
			}

			for _, e := range held {
				require.NoError(t, e.by.Done(t.Context(), e.job))
			}
			for range waiting {
				require.NoError(t, q.Done(t.Context(), b.take(q)))
			}
			require.NoError(t, q.Tidy(t.Context()))
			require.Zero(t, b.stats(q).Depth)
			require.Zero(t, b.length())
		})
	}
}

func TestAllKeysShareOneHashSlot(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	b.add(q, 1, 2)
	require.NoError(t, q.Bury(t.Context(), b.take(q), "no luck"))

	keys, err := b.client.Keys(t.Context(), "*").Result()

	require.NoError(t, err)
	require.ElementsMatch(t, []string{queue.Stream, queue.Queued, queue.Dead}, keys)
	for _, key := range keys {
		require.True(t, strings.HasPrefix(key, "{fib}:"), key)
	}
}

func TestNothingNewerThanRedis70IsUsed(t *testing.T) {
	b := setup(t)
	q := b.consumer("a")
	b.add(q, 1, 2, 3)
	require.NoError(t, q.Keep(t.Context(), b.take(q)))
	b.abandon(1)
	claimed := b.take(b.consumer("b"))
	require.NoError(t, b.consumer("b").Return(t.Context(), claimed))
	require.NoError(t, q.Retry(t.Context(), b.take(q), "no luck"))
	require.NoError(t, q.Bury(t.Context(), b.take(q), "no luck"))
	require.NoError(t, q.Done(t.Context(), b.take(q)))
	require.NoError(t, q.Tidy(t.Context()))
	b.stats(q)

	used := b.client.InfoMap(t.Context(), "commandstats").Val()["Commandstats"]
	require.Contains(t, used, "cmdstat_xautoclaim")
	for name := range used {
		name = strings.TrimPrefix(name, "cmdstat_")
		docs, err := b.client.Do(t.Context(), "COMMAND", "DOCS", name).Result()
		require.NoError(t, err)
		var major, minor int
		_, err = fmt.Sscanf(docs.(map[any]any)[name].(map[any]any)["since"].(string), "%d.%d", &major, &minor)
		require.NoError(t, err)
		require.LessOrEqual(t, 100*major+minor, 700, name)
	}
}

func BenchmarkAdd(b *testing.B) {
	client := redis.NewClient(&redis.Options{Addr: testkit.Redis(b).Addr()})
	defer client.Close()
	q := queue.New(client, queue.Config{})
	for index := int64(0); b.Loop(); index++ {
		_, err := q.Add(b.Context(), queue.Origin{}, index)
		require.NoError(b, err)
	}
}

func BenchmarkAddThousand(b *testing.B) {
	client := redis.NewClient(&redis.Options{Addr: testkit.Redis(b).Addr()})
	defer client.Close()
	q := queue.New(client, queue.Config{})
	indexes := make([]int64, 1000)
	for next := int64(0); b.Loop(); {
		for i := range indexes {
			indexes[i] = next
			next++
		}
		_, err := q.Add(b.Context(), queue.Origin{}, indexes...)
		require.NoError(b, err)
	}
}

func BenchmarkTakeAndDone(b *testing.B) {
	client := redis.NewClient(&redis.Options{Addr: testkit.Redis(b).Addr()})
	defer client.Close()
	q := queue.New(client, queue.Config{})
	indexes := make([]int64, 1000)
	for i := range indexes {
		indexes[i] = int64(i)
	}
	for taken := 0; b.Loop(); taken++ {
		if taken%len(indexes) == 0 {
			b.StopTimer()
			require.NoError(b, q.Tidy(b.Context()))
			_, err := q.Add(b.Context(), queue.Origin{}, indexes...)
			require.NoError(b, err)
			b.StartTimer()
		}
		job, err := q.Take(b.Context())
		require.NoError(b, err)
		require.NoError(b, q.Done(b.Context(), job))
	}
}
