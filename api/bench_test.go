package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/felixge/httpsnoop"
	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/internal/cache"
	"github.com/fibstack/fibstack/internal/events"
	"github.com/fibstack/fibstack/internal/queue"
	"github.com/fibstack/fibstack/internal/service"
	"github.com/fibstack/fibstack/internal/store"
	"github.com/fibstack/fibstack/internal/testkit"
)

// BenchmarkObservation shows what metrics and traces cost, on real stores: a read that Redis answers and one that
// PostgreSQL answers. plain captures what was answered, as the log line needs that, and leaves out log and metrics. To even
// out what else the machine does, run it several times: for i in {1..10}; do go test -run - -bench Observation ./api; done
func BenchmarkObservation(b *testing.B) {
	postgres, database := testkit.Database(b)
	redisServer := testkit.Redis(b)
	api := func(b *testing.B) *server {
		b.Helper()
		s := service.New(name, service.Config{LogLevel: slog.LevelError, GracePeriod: time.Minute})
		b.Cleanup(s.Close)
		db, err := store.Open(store.Config{
			Host: postgres.Host, Port: uint16(postgres.Port), User: "postgres", Database: database, SSLMode: "disable", MaxConns: 5,
		}, "test", s.StoreTracing())
		require.NoError(b, err)
		b.Cleanup(func() { _ = db.Close() })
		client, err := service.Redis{Host: redisServer.Host, Port: uint16(redisServer.Port)}.Client(s.StoreTracing())
		require.NoError(b, err)
		b.Cleanup(func() { _ = client.Close() })
		require.NoError(b, db.Migrate(b.Context()))
		_, _, err = db.Request(b.Context(), 7, 1)
		require.NoError(b, err)
		_, err = db.Complete(b.Context(), 7, []byte("13"), time.Second)
		require.NoError(b, err)
		short := cache.New(client)
		require.NoError(b, short.Put(b.Context(), 7, []byte(`{"index":"7"}`)))
		return newServer(Config{MaxIndex: 100, MaxBacklog: 100, MaxStreams: 1}, s.Log, s.Registry, s.Tracing,
			db, queue.New(client, queue.Config{}), short, events.NewHub(client))
	}
	variants := []struct {
		name    string
		handler func(b *testing.B) http.Handler
	}{
		{"plain", func(b *testing.B) http.Handler {
			s := api(b)
			next := s.recoverPanics(s.routes())
			return s.withRequestID(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				httpsnoop.CaptureMetrics(next, w, r)
			}))
		}},
		{"metrics", func(b *testing.B) http.Handler { return api(b).handler }},
		{"metrics+traces", func(b *testing.B) http.Handler {
			b.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", testkit.NewCollector(b).URL)
			return api(b).handler
		}},
	}
	for _, request := range []struct{ method, path, body string }{
		{http.MethodGet, "/values/7", ""},
		{http.MethodPost, "/values", `{"index": 7}`},
	} {
		for _, variant := range variants {
			b.Run(fmt.Sprintf("%s/%s", request.method, variant.name), func(b *testing.B) {
				handler := variant.handler(b)
				b.ReportAllocs()
				for b.Loop() {
					r := httptest.NewRequest(request.method, request.path, strings.NewReader(request.body))
					r.Header.Set("Content-Type", "application/json")
					w := httptest.NewRecorder()
					handler.ServeHTTP(w, r)
					if w.Code != http.StatusOK {
						b.Fatal(w.Code, w.Body)
					}
				}
			})
		}
	}
}
