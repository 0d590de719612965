package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/fibstack/fibstack/internal/store"
	"github.com/fibstack/fibstack/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// noLimit is a backlog that no test reaches.
const noLimit = 1_000_000

func config(server *testkit.Server, database string) store.Config {
	return store.Config{
		Host: server.Host, Port: uint16(server.Port), User: "postgres", Database: database, SSLMode: "disable", MaxConns: 10,
	}
}

func open(t *testing.T, cfg store.Config) *store.Store {
	t.Helper()
	s, err := store.Open(cfg, "test", nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func setup(t *testing.T) *store.Store {
	t.Helper()
	s := open(t, config(testkit.Database(t)))
	require.NoError(t, s.Migrate(t.Context()))
	return s
}

func request(t *testing.T, s *store.Store, indexes ...int64) {
	t.Helper()
	for _, index := range indexes {
		_, _, err := s.Request(t.Context(), index, noLimit)
		require.NoError(t, err)
	}
}

func TestMigrateByManyAtOnceHappensOnce(t *testing.T) {
	t.Parallel()
	cfg := config(testkit.Database(t))
	require.ErrorIs(t, open(t, cfg).Ready(t.Context()), store.ErrUnavailable)

	var group errgroup.Group
	for range 4 {
		s := open(t, cfg)
		group.Go(func() error { return s.Migrate(t.Context()) })
	}
	require.NoError(t, group.Wait())
	require.NoError(t, open(t, cfg).Ready(t.Context()))
}

func TestAskingTwiceIsAskingOnce(t *testing.T) {
	t.Parallel()
	s := setup(t)
	first, recorded, err := s.Request(t.Context(), 7, noLimit)
	require.NoError(t, err)
	require.Equal(t, store.Pending, first.Status)
	require.True(t, recorded)
	require.Zero(t, first.Attempts)
	require.WithinDuration(t, time.Now(), first.RequestedAt, time.Minute)

	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			again, recorded, err := s.Request(t.Context(), 7, noLimit)
			if err == nil && (again.Seq != first.Seq || recorded) {
				t.Errorf("asked as %d and again as %d, recorded %v", first.Seq, again.Seq, recorded)
			}
			return err
		})
	}
	require.NoError(t, group.Wait())
	all, err := s.List(t.Context(), store.Page{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, []store.Calculation{first}, all)
}

func TestAFullBacklogTakesOnlyWhatIsKnown(t *testing.T) {
	t.Parallel()
	s := setup(t)
	request(t, s, 1, 2, 3)

	_, _, err := s.Request(t.Context(), 4, 3)
	require.ErrorIs(t, err, store.ErrBacklog)
	_, err = s.Get(t.Context(), 4)
	require.ErrorIs(t, err, store.ErrNotFound)

	_, _, err = s.Request(t.Context(), 2, 3)
	require.NoError(t, err, "an index that waits already")

	_, err = s.Complete(t.Context(), 1, []byte("1"), time.Second)
	require.NoError(t, err)
	_, _, err = s.Request(t.Context(), 4, 3)
	require.NoError(t, err, "there is room again")
}

func TestAFailedIndexCanBeAskedForAgain(t *testing.T) {
	t.Parallel()
	s := setup(t)
	request(t, s, 7)
	_, err := s.Begin(t.Context(), 7, 5)
	require.NoError(t, err)
	failed, err := s.Fail(t.Context(), 7, "the reason")
	require.NoError(t, err)
	require.Equal(t, store.Failed, failed.Status)
	require.Equal(t, "the reason", *failed.Error)
	require.Equal(t, 5, failed.Attempts)
	require.NotNil(t, failed.CompletedAt)

	again, recorded, err := s.Request(t.Context(), 7, noLimit)
	require.NoError(t, err)
	require.Equal(t, store.Pending, again.Status)
	require.Zero(t, again.Attempts)
	require.Nil(t, again.Error)
	require.Nil(t, again.CompletedAt)
	require.Equal(t, failed.Seq, again.Seq)
	require.True(t, recorded)
	require.True(t, again.RequestedAt.After(failed.RequestedAt), "it waits since it was asked for again")
}

func TestAShortNumberStandsInItsCalculation(t *testing.T) {
	t.Parallel()
	s := setup(t)
	request(t, s, 7)
	c, err := s.Complete(t.Context(), 7, []byte("13"), 1500*time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, store.Done, c.Status)
	require.Equal(t, "13", *c.Value)
	require.EqualValues(t, 2, *c.Digits)
	require.InDelta(t, 1.5, *c.ComputeSeconds, 1e-9)
	require.Nil(t, c.Head)

	digits, err := io.ReadAll(s.Digits(t.Context(), c))
	require.NoError(t, err)
	require.Equal(t, "13", string(digits))
}

func TestALongNumberIsReadBySlices(t *testing.T) {
	t.Parallel()
	s := setup(t)
	request(t, s, 20_000_000)
	// More than two of the slices that the reader takes, and no multiple of one.
	number := bytes.Repeat([]byte("1234567890"), 250_001)
	c, err := s.Complete(t.Context(), 20_000_000, number, time.Second)
	require.NoError(t, err)
	require.Nil(t, c.Value)
	require.Equal(t, "12345678901234567890", *c.Head)
	require.Equal(t, "12345678901234567890", *c.Tail)
	require.EqualValues(t, len(number), *c.Digits)
	require.NoError(t, iotest.TestReader(s.Digits(t.Context(), c), number))
}

func TestListsDoNotCarryNumbers(t *testing.T) {
	t.Parallel()
	s := setup(t)
	request(t, s, 7, 9000)
	_, err := s.Complete(t.Context(), 7, []byte("13"), time.Second)
	require.NoError(t, err)
	_, err = s.Complete(t.Context(), 9000, []byte(strings.Repeat("9", 1001)), time.Second)
	require.NoError(t, err)

	summaries, err := s.List(t.Context(), store.Page{Limit: 10})
	require.NoError(t, err)
	for _, c := range summaries {
		require.Nil(t, c.Value)
		require.Nil(t, c.Head)
		require.Nil(t, c.Tail)
	}
	values, err := s.ListValues(t.Context(), store.Page{Limit: 10})
	require.NoError(t, err)
	require.Len(t, *values[0].Head, 20)
	require.Equal(t, "13", *values[1].Value)
}

func TestADoneCalculationStaysAsItIs(t *testing.T) {
	t.Parallel()
	s := setup(t)
	request(t, s, 7)
	done, err := s.Complete(t.Context(), 7, []byte("13"), time.Second)
	require.NoError(t, err)

	for name, change := range map[string]func() (store.Calculation, error){
		"begin":    func() (store.Calculation, error) { return s.Begin(t.Context(), 7, 2) },
		"complete": func() (store.Calculation, error) { return s.Complete(t.Context(), 7, []byte("14"), time.Minute) },
		"fail":     func() (store.Calculation, error) { return s.Fail(t.Context(), 7, "late") },
	} {
		after, err := change()
		require.NoError(t, err, name)
		require.Equal(t, done, after, name)
	}
}

func TestWhatNobodyAskedForIsNotFound(t *testing.T) {
	t.Parallel()
	s := setup(t)
	_, err := s.Get(t.Context(), 7)
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = s.Begin(t.Context(), 7, 1)
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = s.Complete(t.Context(), 7, []byte("13"), time.Second)
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = s.Fail(t.Context(), 7, "reason")
	require.ErrorIs(t, err, store.ErrNotFound)
}

func TestPagesJoinWithoutGapOrOverlap(t *testing.T) {
	t.Parallel()
	s := setup(t)
	var want []int64
	for i := range int64(25) {
		index := (i * 7) % 25 // not in order of size
		request(t, s, index)
		if i%2 == 0 {
			_, err := s.Complete(t.Context(), index, []byte("1"), time.Second)
			require.NoError(t, err)
			want = append([]int64{index}, want...)
		}
	}
	var got []int64
	page := store.Page{Status: store.Done, Limit: 4}
	for {
		found, err := s.List(t.Context(), page)
		require.NoError(t, err)
		if len(found) == 0 {
			break
		}
		for _, c := range found {
			require.Equal(t, store.Done, c.Status)
			got = append(got, c.Index)
		}
		page.Before = found[len(found)-1].Seq
	}
	require.Equal(t, want, got)
}

func TestCountsNameEveryStatus(t *testing.T) {
	t.Parallel()
	s := setup(t)
	request(t, s, 1, 2, 3)
	_, err := s.Complete(t.Context(), 2, []byte("1"), time.Second)
	require.NoError(t, err)
	counts, err := s.Counts(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[store.Status]int64{store.Pending: 2, store.Done: 1, store.Failed: 0}, counts)
}

func TestWaitingWalksThroughWhatIsPending(t *testing.T) {
	t.Parallel()
	s := setup(t)
	request(t, s, 30, 10, 20)
	_, err := s.Complete(t.Context(), 10, []byte("55"), time.Second)
	require.NoError(t, err)

	first, err := s.Waiting(t.Context(), 0, 0, 1)
	require.NoError(t, err)
	require.Len(t, first, 1)
	require.EqualValues(t, 30, first[0].Index)
	rest, err := s.Waiting(t.Context(), first[0].Seq, 0, 10)
	require.NoError(t, err)
	require.Len(t, rest, 1)
	require.EqualValues(t, 20, rest[0].Index)

	young, err := s.Waiting(t.Context(), 0, time.Hour, 10)
	require.NoError(t, err)
	require.Empty(t, young)
}

func TestOnlyOneHoldsTheLock(t *testing.T) {
	t.Parallel()
	cfg := config(testkit.Database(t))
	one, two := open(t, cfg), open(t, cfg)
	called := func(s *store.Store, f func(context.Context) error) bool {
		held, err := s.Exclusive(t.Context(), store.SweeperLock, f)
		require.NoError(t, err)
		return held
	}
	nothing := func(context.Context) error { return nil }
	require.True(t, called(one, func(context.Context) error {
		require.False(t, called(two, nothing))
		return nil
	}))
	require.True(t, called(two, nothing), "the lock is free again")

	_, err := two.Exclusive(t.Context(), store.SweeperLock, func(context.Context) error { return io.ErrNoProgress })
	require.ErrorIs(t, err, io.ErrNoProgress)
	require.True(t, called(one, nothing), "also after an error")
}

func TestAStoppedServerIsUnavailableAndComesBack(t *testing.T) {
	t.Parallel()
	server := testkit.Postgres(t)
	s := open(t, config(server, "postgres"))
	require.NoError(t, s.Migrate(t.Context()))
	request(t, s, 7)

	server.Stop()
	_, _, err := s.Request(t.Context(), 8, noLimit)
	require.ErrorIs(t, err, store.ErrUnavailable)
	_, err = s.Get(t.Context(), 7)
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.ErrorIs(t, s.Ready(t.Context()), store.ErrUnavailable)
	require.ErrorIs(t, s.Migrate(t.Context()), store.ErrUnavailable)

	require.NoError(t, server.Start())
	require.Eventually(t, func() bool {
		_, err := s.Get(t.Context(), 7)
		return err == nil
	}, time.Minute, 10*time.Millisecond)
}

// A server behind a dead network path neither answers nor hangs up.
func TestASilentServerIsUnavailable(t *testing.T) {
	t.Parallel()
	server, database := testkit.Database(t)
	silent := newSilentProxy(t, server.Addr())
	host, port, err := net.SplitHostPort(silent.addr)
	require.NoError(t, err)
	cfg := config(server, database)
	number, err := strconv.ParseUint(port, 10, 16)
	require.NoError(t, err)
	cfg.Host, cfg.Port = host, uint16(number)
	s := open(t, cfg)
	require.NoError(t, s.Migrate(t.Context()))

	close(silent.hold)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = s.Get(ctx, 7)
	require.ErrorIs(t, err, store.ErrUnavailable)
}

func TestJSONHasTheContractsNames(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	body, err := json.Marshal(store.Calculation{
		Index: 7, Status: store.Done, Digits: new(int64(2)), Value: new("13"), Attempts: 1,
		RequestedAt: at, CompletedAt: &at, ComputeSeconds: new(0.5),
	})
	require.NoError(t, err)
	require.JSONEq(t, `{"index":"7","status":"done","digits":2,"value":"13","attempts":1,
		"requestedAt":"2026-01-02T03:04:05Z","completedAt":"2026-01-02T03:04:05Z","computeSeconds":0.5}`, string(body))
}

// silentProxy forwards connections until hold is closed; from then on it swallows what comes.
type silentProxy struct {
	addr string
	hold chan struct{}
}

func newSilentProxy(t *testing.T, target string) *silentProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	p := &silentProxy{addr: listener.Addr().String(), hold: make(chan struct{})}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			go func() { _, _ = io.Copy(server, p.listening(client)) }()
			go func() { _, _ = io.Copy(client, p.listening(server)) }()
		}
	}()
	return p
}

func (p *silentProxy) listening(conn net.Conn) io.Reader {
	return readerFunc(func(b []byte) (int, error) {
		for {
			n, err := conn.Read(b)
			select {
			case <-p.hold:
				if err != nil {
					return 0, err
				}
			default:
				return n, err
			}
		}
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
