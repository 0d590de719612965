package disturbance_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/fibstack/fibstack/e2e"
)

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
		before = append(before, b.Stack.PIDs(t, program))
	}

	requests := startRequests(t, b, known)
	requests.awaitMore(t, http.StatusAccepted)
	b.Stack.Stop(t, "postgres")
	stopped := time.Now()
	requests.awaitMore(t, http.StatusServiceUnavailable)
	for time.Since(stopped) < away {
		requests.awaitMore(t, http.StatusServiceUnavailable)
	}
	b.Stack.Start(t, "postgres")
	requests.awaitMore(t, http.StatusAccepted)
	requests.stop()

	for _, index := range requests.accepted {
		require.Equal(t, 1, b.AwaitDone(t, index).Attempts)
		e2e.RequireFibonacci(t, index, b.Digits(t, index))
	}
	for i, program := range programs {
		require.Equal(t, before[i], b.Stack.PIDs(t, program), "%s was restarted", program)
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

func TestPostgresThatHangsIsAnsweredWith503(t *testing.T) {
	t.Parallel()
	b := setup(t)
	known := b.FreshIndex(t, 10_000, 20_000) // too long a number for the cache
	b.Calculated(t, known)
	index := b.FreshIndex(t, 1, 1000)
	ask := func(method, path, body string) e2e.Answer {
		answer, err := b.Do(t.Context(), method, path, body, "Content-Type", "application/json")
		require.NoError(t, err)
		b.RequireContract(t, answer)
		return answer
	}

	thaw := b.Freeze(t, "postgres")
	for _, path := range []string{"/api/values", fmt.Sprintf("/api/values/%d", known), fmt.Sprintf("/api/values/%d/digits", known)} {
		require.Equal(t, http.StatusServiceUnavailable, ask(http.MethodGet, path, "").StatusCode, path)
	}
	body := fmt.Sprintf(`{"index":"%d"}`, index)
	require.Equal(t, http.StatusServiceUnavailable, ask(http.MethodPost, "/api/values", body).StatusCode)
	// Many more than the api has connections: those that wait for one are answered too.
	const clients = 50
	var asking errgroup.Group
	for range clients {
		asking.Go(func() error {
			answer, err := b.Do(t.Context(), http.MethodGet, "/api/values", "")
			if err == nil && answer.StatusCode != http.StatusServiceUnavailable {
				err = errors.New(answer.String())
			}
			return err
		})
	}
	require.NoError(t, asking.Wait())
	require.Equal(t, http.StatusOK, ask(http.MethodGet, "/api/version", "").StatusCode)

	thaw()
	e2e.Await(t, "PostgreSQL to be used again", func() bool {
		return ask(http.MethodPost, "/api/values", body).StatusCode != http.StatusServiceUnavailable
	})
	b.requireAllDone(t, []int64{index})
}
