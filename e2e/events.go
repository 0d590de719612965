package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Stream is an open stream of the target's events.
type Stream struct {
	Header http.Header

	target *Target
	// events closes when the stream ends.
	events chan event
}

type event struct{ name, data string }

// roomForEvents is how many events may wait for a test to look at them.
const roomForEvents = 10_000

// Listen opens a stream that ends with the test. It returns when the stream has said its first words, so that no event
// from then on is missed.
func (t *Target) Listen(tb testing.TB) *Stream {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, t.URL+"/api/events", http.NoBody)
	require.NoError(tb, err)
	request.Header.Set("Accept", "text/event-stream")
	response, err := (&http.Client{Transport: t.client.Transport}).Do(request)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = response.Body.Close() })
	require.Equal(tb, http.StatusOK, response.StatusCode)

	s := &Stream{Header: response.Header, target: t, events: make(chan event, roomForEvents)}
	opened := make(chan struct{})
	go func() {
		defer close(s.events)
		var e event
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			field, value, _ := strings.Cut(lines.Text(), ":")
			value = strings.TrimPrefix(value, " ")
			switch field {
			case "retry":
				close(opened)
			case "event":
				e.name = value
			case "data":
				e.data = value
			case "":
				if lines.Text() == "" && e != (event{}) {
					s.events <- e
					e = event{}
				}
			}
		}
	}()
	select {
	case <-opened:
	case <-time.After(Patience):
		require.FailNow(tb, "the stream says nothing")
	}
	return s
}

// Await returns the next event about an index.
func (s *Stream) Await(tb testing.TB, index int64) Calculation {
	tb.Helper()
	for {
		c := s.next(tb, fmt.Sprintf("an event about F(%d)", index))
		if c.Index == strconv.FormatInt(index, 10) {
			return c
		}
	}
}

// Until returns all events up to the next one about an index.
func (s *Stream) Until(tb testing.TB, index int64) []Calculation {
	tb.Helper()
	var all []Calculation
	for {
		c := s.next(tb, fmt.Sprintf("an event about F(%d)", index))
		all = append(all, c)
		if c.Index == strconv.FormatInt(index, 10) {
			return all
		}
	}
}

// AwaitEnd waits until the target ends the stream.
func (s *Stream) AwaitEnd(tb testing.TB) {
	tb.Helper()
	for deadline := time.After(Patience); ; {
		select {
		case _, open := <-s.events:
			if !open {
				return
			}
		case <-deadline:
			require.FailNow(tb, "the stream goes on")
		}
	}
}

// next returns the next event, which must be as the contract says.
func (s *Stream) next(tb testing.TB, what string) Calculation {
	tb.Helper()
	var c Calculation
	select {
	case e, open := <-s.events:
		require.True(tb, open, "the stream ended before %s", what)
		require.Equal(tb, "calculation", e.name)
		var value any
		require.NoError(tb, json.Unmarshal([]byte(e.data), &value), e.data)
		require.NoError(tb, s.target.Contract.Components.Schemas["Calculation"].Value.VisitJSON(value), e.data)
		require.NoError(tb, json.Unmarshal([]byte(e.data), &c), e.data)
	case <-time.After(Patience):
		require.FailNow(tb, "waited too long for "+what)
	}
	return c
}
