package e2e

import (
	"database/sql"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"

	_ "github.com/lib/pq" // the driver of the tests' own look into PostgreSQL
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// Private is a native stack of a test's own, from outside and from inside.
type Private struct {
	*Target
	Stack    *Stack
	Redis    *redis.Client
	Postgres *sql.DB
}

// StartPrivate starts a stack that ends with the test. A test that fails shows its log.
func StartPrivate(t *testing.T, settings ...string) *Private {
	t.Helper()
	stack, err := StartStack(settings...)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(stack.Log())
		}
		require.NoError(t, stack.Close())
	})
	p := &Private{Stack: stack}
	p.Target, err = Open(t.Context(), stack.URL)
	require.NoError(t, err)
	p.Redis = redis.NewClient(&redis.Options{Addr: net.JoinHostPort(stack.Env("REDIS_HOST"), stack.Env("REDIS_PORT"))})
	t.Cleanup(func() { _ = p.Redis.Close() })
	p.Postgres, err = sql.Open("postgres", fmt.Sprintf("host=%s port=%s user=%s dbname=%s sslmode=disable",
		stack.Env("PGHOST"), stack.Env("PGPORT"), stack.Env("PGUSER"), stack.Env("PGDATABASE")))
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Postgres.Close() })
	return p
}

// Query returns the one number that an SQL query finds.
func (p *Private) Query(tb testing.TB, query string, args ...any) (n int64) {
	tb.Helper()
	require.NoError(tb, p.Postgres.QueryRowContext(tb.Context(), query, args...).Scan(&n))
	return n
}

// Freeze has all processes of a program do nothing, without a word to who talks to them, until thaw is called.
func (p *Private) Freeze(tb testing.TB, program string) (thaw func()) {
	tb.Helper()
	pids := p.Stack.PIDs(tb, program)
	require.NotEmpty(tb, pids)
	thaw = sync.OnceFunc(func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	})
	tb.Cleanup(thaw)
	for _, pid := range pids {
		require.NoError(tb, syscall.Kill(pid, syscall.SIGSTOP))
	}
	return thaw
}

// Interrupt asks for a number that takes long and sends the worker a signal in the middle of it. It returns the index
// when the worker has ended with the job unfinished. A worker that was quicker gets a larger one. The stack needs
// MAX_INDEX=100000000.
func (p *Private) Interrupt(tb testing.TB, signal syscall.Signal) int64 {
	tb.Helper()
	for _, index := range []int64{5_000_000, 20_000_000, 50_000_000, 99_999_999} {
		worker := p.Stack.PIDs(tb, "worker")
		require.Len(tb, worker, 1)
		p.Ask(tb, index)
		Await(tb, "the job to begin", func() bool {
			return p.Query(tb, `SELECT attempts FROM calculations WHERE index = $1`, index) == 1
		})
		require.NoError(tb, syscall.Kill(worker[0], signal))
		Await(tb, "the worker to end, and PostgreSQL with whatever it had begun for it", func() bool {
			return len(p.Stack.PIDs(tb, "worker")) == 0 &&
				p.Query(tb, `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fibstack-worker'`) == 0
		})
		if p.Query(tb, `SELECT count(*) FROM calculations WHERE index = $1 AND status = 'pending'`, index) == 1 {
			return index
		}
		p.Stack.Start(tb, "worker")
		Await(tb, "the new worker", func() bool { return len(p.Stack.PIDs(tb, "worker")) == 1 })
	}
	require.FailNow(tb, "the worker is too quick for this test")
	return 0
}
