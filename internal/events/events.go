// Package events tells every process of finished calculations, over one Redis pub/sub channel.
//
// News is a hint and may be lost. What the package promises instead is that nobody misses news without learning of it:
// a listener's channel is closed when it was too slow, and whenever the subscription is made anew, as nobody knows what
// was said in between. Who finds its channel closed subscribes again and then reads the truth where it is kept.
package events

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Channel is where finished calculations are published.
const Channel = "{fib}:events"

const (
	// buffer is how many messages a listener may be behind; it covers a burst of small values and a slow network.
	buffer = 64
	// patience is how long the subscription may be silent before it is checked, and how long the check may take. A
	// connection whose other end vanished without a word looks merely silent.
	patience = 5 * time.Second
	// pause is between attempts to subscribe.
	pause = 500 * time.Millisecond
)

// Publish sends data to all listeners of all processes that are subscribed at this moment.
func Publish(ctx context.Context, client redis.UniversalClient, data []byte) error {
	return client.Publish(ctx, Channel, data).Err()
}

// Hub hands what is published to any number of listeners from one Redis subscription. Its methods may be called
// concurrently.
type Hub struct {
	client   redis.UniversalClient
	patience time.Duration

	mu        sync.Mutex
	listeners map[chan []byte]struct{}
	dropped   int64
	ended     bool
}

// NewHub returns a hub on a client, which stays the caller's to close. It hears nothing before Run.
func NewHub(client redis.UniversalClient) *Hub {
	return &Hub{client: client, patience: patience, listeners: map[chan []byte]struct{}{}}
}

// Run subscribes, and again whenever Redis went away and came back, until ctx is done. It then closes all listeners and
// returns ctx's error; it never returns otherwise.
func (h *Hub) Run(ctx context.Context) error {
	defer h.end()
	for ctx.Err() == nil {
		h.follow(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return ctx.Err()
}

// follow hands on the messages of one subscription until that fails.
func (h *Hub) follow(ctx context.Context) {
	subscription := h.client.Subscribe(ctx, Channel)
	defer subscription.Close()
	// go-redis does not end a read when its context ends.
	defer context.AfterFunc(ctx, func() { _ = subscription.Close() })()

	for checked := false; ; {
		message, err := subscription.ReceiveTimeout(ctx, h.patience)
		if silent(err) && !checked {
			err = subscription.Ping(ctx)
			checked = true
		} else {
			checked = false
		}
		if err != nil {
			return
		}
		switch message := message.(type) {
		case *redis.Subscription:
			h.closeAll()
		case *redis.Message:
			h.send([]byte(message.Payload))
		}
	}
}

func silent(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// Subscribe adds a listener. Its channel carries what is published from now on, to be read and not changed, and is
// closed when messages may have been missed, by cancel, and when Run ends. cancel may be called more than once.
func (h *Hub) Subscribe() (messages <-chan []byte, cancel func()) {
	listener := make(chan []byte, buffer)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listeners[listener] = struct{}{}
	if h.ended {
		h.remove(listener)
	}
	return listener, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.remove(listener)
	}
}

// Listeners is how many listeners there are.
func (h *Hub) Listeners() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.listeners)
}

// Dropped is how many listeners were closed so far because they were too slow.
func (h *Hub) Dropped() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dropped
}

func (h *Hub) send(data []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for listener := range h.listeners {
		select {
		case listener <- data:
		default:
			h.remove(listener)
			h.dropped++
		}
	}
}

func (h *Hub) closeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for listener := range h.listeners {
		h.remove(listener)
	}
}

func (h *Hub) end() {
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	h.closeAll()
}

// remove closes a listener unless it is closed already; h.mu is held.
func (h *Hub) remove(listener chan []byte) {
	if _, there := h.listeners[listener]; there {
		delete(h.listeners, listener)
		close(listener)
	}
}
