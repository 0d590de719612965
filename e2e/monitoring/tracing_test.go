package monitoring_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/e2e"
	"github.com/fibstack/fibstack/internal/testkit"
)

// startTraced starts a private stack that sends its spans to a collector.
func startTraced(t *testing.T, collector string, settings ...string) *e2e.Private {
	t.Helper()
	if !private() {
		t.Skip("needs a stack that sends its spans to the test")
	}
	return e2e.StartPrivate(t, append(settings, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector)...)
}

func TestOneCalculationIsOneTrace(t *testing.T) {
	t.Parallel()
	collector := testkit.NewCollector(t)
	b := startTraced(t, collector.URL, "OTEL_BSP_SCHEDULE_DELAY=100") // milliseconds
	const trace, caller, request = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "find-me"
	index := b.FreshIndex(t, 1, 1000)
	b.Post(t, fmt.Sprintf(`{"index":"%d"}`, index), "X-Request-Id", request, "Traceparent", "00-"+trace+"-"+caller+"-01")

	// As docs/tracing.md shows it. What the drivers name is named by its store.
	want := []string{
		"fibstack-api POST /values",
		"fibstack-api POST /values > PostgreSQL",
		"fibstack-api POST /values > fibstack-api enqueue",
		"fibstack-api POST /values > fibstack-api enqueue > Redis",
		"fibstack-api POST /values > fibstack-api enqueue > fibstack-worker job",
		"fibstack-api POST /values > fibstack-api enqueue > fibstack-worker job > PostgreSQL",
		"fibstack-api POST /values > fibstack-api enqueue > fibstack-worker job > Redis",
		"fibstack-api POST /values > fibstack-api enqueue > fibstack-worker job > fibstack-worker announce",
		"fibstack-api POST /values > fibstack-api enqueue > fibstack-worker job > fibstack-worker announce > Redis",
		"fibstack-api POST /values > fibstack-api enqueue > fibstack-worker job > fibstack-worker calculate",
		"fibstack-api POST /values > fibstack-api enqueue > fibstack-worker job > fibstack-worker store",
		"fibstack-api POST /values > fibstack-api enqueue > fibstack-worker job > fibstack-worker store > PostgreSQL",
	}
	var got []string
	e2e.Await(t, "the trace", func() bool {
		got = paths(collector.Spans(), trace, caller, "")
		slices.Sort(got)
		got = slices.Compact(got)
		return len(got) >= len(want)
	})
	require.Equal(t, want, got)
	// Nothing of the trace is anywhere else.
	all := slices.DeleteFunc(collector.Spans(), func(s testkit.Span) bool { return s.Trace != trace })
	require.Len(t, paths(all, trace, caller, ""), len(all))

	for _, message := range []string{"request", "job"} {
		var line map[string]any
		e2e.Await(t, "the log line of the "+message, func() bool {
			line = logged(b.Stack, message, request)
			return line != nil
		})
		require.Equal(t, trace, line["trace_id"], message)
	}
}

// paths are the names of all spans below a parent, each with those above it.
func paths(spans []testkit.Span, trace, parent, above string) (found []string) {
	for _, s := range spans {
		if s.Trace != trace || s.Parent != parent {
			continue
		}
		name := s.Service + " " + s.Name
		switch {
		case strings.HasSuffix(s.Scope, "/otelsql"):
			name = "PostgreSQL"
		case strings.HasSuffix(s.Scope, "/redisotel"):
			name = "Redis"
		}
		found = append(found, above+name)
		found = append(found, paths(spans, trace, s.ID, above+name+" > ")...)
	}
	return found
}

// logged returns the line that api or worker has logged about a request, or about its job.
func logged(stack *e2e.Stack, message, request string) map[string]any {
	for line := range strings.Lines(stack.Log()) {
		_, object, _ := strings.Cut(line, "{")
		var record map[string]any
		if json.Unmarshal([]byte("{"+object), &record) == nil && record["service"] != nil &&
			record["msg"] == message && record["requestId"] == request {
			return record
		}
	}
	return nil
}

func TestADeadCollectorHarmsNobody(t *testing.T) {
	t.Parallel()
	asked, release := make(chan struct{}, 1000), make(chan struct{})
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	}))
	t.Cleanup(collector.Close)
	// An export lasts longer than any patience, and there is no room for the spans that come meanwhile.
	b := startTraced(t, collector.URL, "OTEL_EXPORTER_OTLP_TIMEOUT=3600000", "OTEL_BSP_SCHEDULE_DELAY=1",
		"OTEL_BSP_MAX_QUEUE_SIZE=10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=1", "GRACE_PERIOD=2s")
	calculate := func() {
		for range 10 {
			b.Calculated(t, b.FreshIndex(t, 1, 10_000))
		}
	}
	<-asked
	calculate()
	require.NotEmpty(t, asked, "the worker's spans hang too")
	for _, process := range []string{"worker", "api"} {
		b.Stack.Stop(t, process)
		require.Contains(t, b.Stack.Log(), `"msg":"the last spans are lost","service":"fibstack-`+process)
	}

	close(release)
	collector.Close()
	b.Stack.Start(t, "api")
	b.Stack.Start(t, "worker")
	e2e.Await(t, "the api", func() bool {
		answer, err := b.Do(t.Context(), http.MethodGet, "/api/version", "")
		return err == nil && answer.StatusCode == http.StatusOK
	})
	calculate()
}
