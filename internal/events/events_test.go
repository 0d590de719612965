package events_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/internal/events"
	"github.com/fibstack/fibstack/internal/testkit"
)

// patience bounds the wait for a condition on a busy machine.
const patience = time.Minute

type bundle struct {
	*testing.T
	server *testkit.Server
	client *redis.Client
	hub    *events.Hub
	stop   context.CancelFunc
	ended  chan error
}

// setup makes a hub that does not run yet.
func setup(t *testing.T) *bundle {
	t.Helper()
	t.Parallel()
	server := testkit.Redis(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), DialerRetries: 1})
	t.Cleanup(func() { _ = client.Close() })
	return &bundle{T: t, server: server, client: client, hub: events.NewHub(client)}
}

// run runs the hub until the test is over.
func (b *bundle) run() {
	ctx, stop := context.WithCancel(b.Context())
	b.stop, b.ended = stop, make(chan error, 1)
	go func() { b.ended <- b.hub.Run(ctx) }()
	b.Cleanup(stop)
}

// live waits until the hub hears Redis. It leaves no message under way.
func (b *bundle) live() {
	b.Helper()
	probe := 0
	require.Eventually(b, func() bool {
		messages, cancel := b.hub.Subscribe()
		defer cancel()
		probe++
		if events.Publish(b.Context(), b.client, []byte(fmt.Sprint(probe))) != nil {
			return false
		}
		for {
			select {
			case data, open := <-messages:
				if !open || string(data) == fmt.Sprint(probe) {
					return open
				}
			case <-time.After(100 * time.Millisecond):
				return false
			}
		}
	}, patience, time.Millisecond)
}

func (b *bundle) listen() <-chan []byte {
	messages, _ := b.hub.Subscribe()
	return messages
}

func (b *bundle) publish(message string) {
	b.Helper()
	require.NoError(b, events.Publish(b.Context(), b.client, []byte(message)))
}

// next is the listener's next message, or that its channel is closed.
func (b *bundle) next(listener <-chan []byte) (message string, open bool) {
	b.Helper()
	select {
	case data, open := <-listener:
		return string(data), open
	case <-time.After(patience):
		require.Fail(b, "nothing came")
		return "", false
	}
}

func (b *bundle) requireNext(want string, listener <-chan []byte) {
	b.Helper()
	message, open := b.next(listener)
	require.True(b, open)
	require.Equal(b, want, message)
}

// requireClosed reads what is left and then the end.
func (b *bundle) requireClosed(listener <-chan []byte) {
	b.Helper()
	for open := true; open; {
		_, open = b.next(listener)
	}
}

func TestEveryListenerHearsEveryMessageInOrder(t *testing.T) {
	b := setup(t)
	b.run()
	b.live()
	first, second := b.listen(), b.listen()
	for _, message := range []string{"one", "two\x00\xff"} {
		b.publish(message)
	}
	for _, listener := range []<-chan []byte{first, second} {
		b.requireNext("one", listener)
		b.requireNext("two\x00\xff", listener)
	}
}

func TestAllListenersShareOneSubscription(t *testing.T) {
	b := setup(t)
	b.run()
	b.live()
	for range 3 {
		b.listen()
	}
	require.Equal(t, 3, b.hub.Listeners())
	require.Equal(t, map[string]int64{events.Channel: 1}, b.client.PubSubNumSub(t.Context(), events.Channel).Val())
}

func TestASlowListenerIsDroppedAndHoldsNobodyUp(t *testing.T) {
	b := setup(t)
	b.run()
	b.live()
	slow, quick := b.listen(), b.listen()
	var sent int
	for ; b.hub.Dropped() == 0; sent++ {
		require.Less(t, sent, 1000)
		b.publish(fmt.Sprint(sent))
		b.requireNext(fmt.Sprint(sent), quick)
	}

	require.Equal(t, 1, b.hub.Listeners())
	b.requireNext("0", slow) // what came in time can still be read
	b.requireClosed(slow)
	b.publish("more")
	b.requireNext("more", quick)
	require.Equal(t, int64(1), b.hub.Dropped())
}

func TestACancelledListenerIsGone(t *testing.T) {
	b := setup(t)
	b.run()
	b.live()
	other := b.listen()
	messages, cancel := b.hub.Subscribe()

	cancel()
	cancel()

	b.requireClosed(messages)
	require.Equal(t, 1, b.hub.Listeners())
	require.Zero(t, b.hub.Dropped())
	b.publish("more")
	b.requireNext("more", other)
}

func TestListenersAreClosedWhenRedisWasAway(t *testing.T) {
	b := setup(t)
	b.run()
	b.live()
	before := b.listen()
	b.server.Stop()
	during := b.listen()

	require.NoError(t, b.server.Start())

	b.requireClosed(before)
	b.requireClosed(during)
	b.live()
	after := b.listen()
	b.publish("more")
	b.requireNext("more", after)
	require.Zero(t, b.hub.Dropped(), "nobody was too slow")
}

func TestTheHubStartsWithoutRedis(t *testing.T) {
	b := setup(t)
	b.server.Stop()
	b.run()
	early := b.listen()

	require.NoError(t, b.server.Start())

	b.requireClosed(early)
	b.live()
}

func TestAConnectionThatIsSilentlyDeadIsReplaced(t *testing.T) {
	b := setup(t)
	b.hub.SetPatience(20 * time.Millisecond)
	b.run()
	b.live()
	listener := b.listen()
	// While it pauses Redis keeps the connection and answers nothing, and goes on as if nothing had been.
	require.NoError(t, b.client.ClientPause(t.Context(), 2*time.Second).Err())
	b.requireClosed(listener)
	b.live()
}

func TestAQuietSubscriptionIsKept(t *testing.T) {
	b := setup(t)
	b.hub.SetPatience(time.Second)
	b.run()
	b.live()
	listener := b.listen()
	pings := func() (n int) {
		_, err := fmt.Sscanf(b.client.InfoMap(t.Context(), "commandstats").Val()["Commandstats"]["cmdstat_ping"], "calls=%d", &n)
		require.NoError(t, err)
		return n
	}
	before := pings()
	require.Eventually(t, func() bool { return pings() >= before+2 }, patience, 10*time.Millisecond)

	b.publish("more")
	b.requireNext("more", listener)
}

func TestRunEndsWithItsContextAndClosesTheListeners(t *testing.T) {
	b := setup(t)
	b.run()
	b.live()
	listener := b.listen()

	b.stop()

	b.requireClosed(listener)
	require.ErrorIs(t, <-b.ended, context.Canceled)
	late, cancel := b.hub.Subscribe()
	b.requireClosed(late)
	cancel()
	require.Zero(t, b.hub.Listeners())
}
