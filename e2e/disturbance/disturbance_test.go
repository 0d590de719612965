// Package disturbance_test takes parts of a running stack away and gives them back, and requires that no work is lost
// by it, nothing is done twice, and nobody has to lend a hand. Every test has a private native stack of its own.
package disturbance_test

import (
	"database/sql"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"

	_ "github.com/lib/pq" // the driver of the tests' own look into PostgreSQL
	"github.com/redis/go-redis/v9"
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

// bundle is a stack, and what is to be seen of it from inside.
type bundle struct {
	*e2e.Target
	stack    *e2e.Stack
	redis    *redis.Client
	postgres *sql.DB
}

func setup(t *testing.T, settings ...string) *bundle {
	t.Helper()
	// Whoever has vanished or lost something shall be missed soon.
	quick := []string{"CLAIM_IDLE=5s", "SWEEP_INTERVAL=1s", "MAX_INDEX=100000000"}
	stack, err := e2e.StartStack(append(quick, settings...)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(stack.Log())
		}
		require.NoError(t, stack.Close())
	})
	b := &bundle{stack: stack}
	b.Target, err = e2e.Open(t.Context(), stack.URL)
	require.NoError(t, err)
	b.redis = redis.NewClient(&redis.Options{Addr: net.JoinHostPort(stack.Env("REDIS_HOST"), stack.Env("REDIS_PORT"))})
	t.Cleanup(func() { _ = b.redis.Close() })
	b.postgres, err = sql.Open("postgres", fmt.Sprintf("host=%s port=%s user=%s dbname=%s sslmode=disable",
		stack.Env("PGHOST"), stack.Env("PGPORT"), stack.Env("PGUSER"), stack.Env("PGDATABASE")))
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.postgres.Close() })
	return b
}

// query returns the one number that an SQL query finds.
func (b *bundle) query(t *testing.T, query string, args ...any) (n int64) {
	t.Helper()
	require.NoError(t, b.postgres.QueryRowContext(t.Context(), query, args...).Scan(&n))
	return n
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
	pending, err := b.redis.XPending(ctx, queue.Stream, queue.Group).Result()
	require.NoError(t, err)
	require.Zero(t, pending.Count)
	require.Zero(t, b.redis.HLen(ctx, queue.Queued).Val())
	require.Zero(t, b.redis.XLen(ctx, queue.Dead).Val())
	require.Zero(t, b.query(t, `SELECT count(*) FROM calculations WHERE status <> 'done'`))
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

// freeze has all processes of a program do nothing, without a word to who talks to them, until thaw is called.
func (b *bundle) freeze(t *testing.T, program string) (thaw func()) {
	t.Helper()
	pids := b.stack.PIDs(t, program)
	require.NotEmpty(t, pids)
	thaw = sync.OnceFunc(func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	})
	t.Cleanup(thaw)
	for _, pid := range pids {
		require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	}
	return thaw
}
