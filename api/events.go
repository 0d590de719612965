package main

import (
	"fmt"
	"net/http"
	"time"
)

const (
	// heartbeat is how often a quiet stream says something, so that no proxy takes it for dead.
	heartbeat = 15 * time.Second
	// reconnectMillis is how long a browser waits before it opens a lost stream again.
	reconnectMillis = 2000
)

// events streams every finished calculation to the client as server-sent events. The stream ends when the client goes,
// when it can't keep up, when news may have been missed and when the api stops: the client then opens another and
// reads what it missed.
func (s *server) events(w http.ResponseWriter, r *http.Request) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		s.fail(w, r, newProblem(http.StatusServiceUnavailable, "Too many streams",
			"As many event streams are open as may be. Try again in a moment."))
		return
	}
	news, unsubscribe := s.news.Subscribe()
	defer unsubscribe()

	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no")
	response := http.NewResponseController(w)
	send := func(format string, args ...any) bool {
		if response.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
			return false
		}
		_, err := fmt.Fprintf(w, format, args...)
		return err == nil && response.Flush() == nil
	}
	if !send("retry: %d\n\n", reconnectMillis) {
		return
	}
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case data, open := <-news:
			if !open || !send("event: calculation\ndata: %s\n\n", data) {
				return
			}
		case <-tick.C:
			if !send(": still here\n\n") {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}
