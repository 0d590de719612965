package testkit

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Span is what tests look at of a span. Scope is the package that made it. Ids are hexadecimal; a span without a parent
// has an empty Parent.
type Span struct{ Service, Scope, Name, Trace, ID, Parent string }

// Collector takes spans by OTLP over HTTP.
type Collector struct {
	URL string

	mu    sync.Mutex
	spans []Span
}

// NewCollector starts a collector of the test's own.
func NewCollector(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &request) != nil {
			http.Error(w, "not spans by OTLP", http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, process := range request.GetResourceSpans() {
			service := ""
			for _, attribute := range process.GetResource().GetAttributes() {
				if attribute.GetKey() == "service.name" {
					service = attribute.GetValue().GetStringValue()
				}
			}
			for _, scope := range process.GetScopeSpans() {
				for _, s := range scope.GetSpans() {
					c.spans = append(c.spans, Span{
						service, scope.GetScope().GetName(), s.GetName(), hex.EncodeToString(s.GetTraceId()), hex.EncodeToString(s.GetSpanId()),
						hex.EncodeToString(s.GetParentSpanId()),
					})
				}
			}
		}
	}))
	t.Cleanup(server.Close)
	c.URL = server.URL
	return c
}

// Spans returns what has arrived so far.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Span{}, c.spans...)
}

// Only returns the one span of a name.
func (c *Collector) Only(t testing.TB, name string) Span {
	t.Helper()
	found := []Span{}
	for _, span := range c.Spans() {
		if span.Name == name {
			found = append(found, span)
		}
	}
	require.Len(t, found, 1, "spans named %s of %v", name, c.Spans())
	return found[0]
}

// Below returns the names of the children of a span.
func (c *Collector) Below(parent Span) []string {
	var names []string
	for _, span := range c.Spans() {
		if span.Parent == parent.ID {
			names = append(names, span.Name)
		}
	}
	return names
}
