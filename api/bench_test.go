package main

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/fibstack/fibstack/internal/cache"
	"github.com/fibstack/fibstack/internal/events"
	"github.com/fibstack/fibstack/internal/queue"
	"github.com/fibstack/fibstack/internal/service"
	"github.com/fibstack/fibstack/internal/store"
	"github.com/fibstack/fibstack/internal/testkit"
)

// BenchmarkObservation shows what metrics and traces cost, on real stores: of a read that Redis answers, and of a
// request that PostgreSQL answers; through the handler alone, and over a connection of HTTP as a client sees it.
//
//	go test -run - -bench Observation -benchtime 10s ./api
//
// The variants take turns, some requests each, so that whatever else the machine does meanwhile hits all alike. Reported
// is the median of the plain variant's requests, and how many times as long those of the others are. plain logs each
// request and measures none; the one counter that each handler has of its own is in all variants. again is plain once
// more, and shows how exact the others are. traces records and exports every request, and has metrics too.
func BenchmarkObservation(b *testing.B) {
	for _, request := range []struct{ name, method, path, body string }{
		{"cached read", http.MethodGet, "/values/7", ""},
		{"known submission", http.MethodPost, "/values", `{"index": 7}`},
	} {
		send := func(b *testing.B, handler http.Handler) {
			b.Helper()
			r := httptest.NewRequest(request.method, request.path, strings.NewReader(request.body))
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			require.Equal(b, http.StatusOK, w.Code)
		}
		b.Run(request.name+"/handler", func(b *testing.B) { compare(b, observed(b), send) })
		b.Run(request.name+"/HTTP", func(b *testing.B) {
			variants := observed(b)
			for i := range variants {
				server := httptest.NewServer(variants[i].handler)
				b.Cleanup(server.Close)
				// What is measured is the way to the server and back.
				variants[i].handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					sent := r.Clone(r.Context())
					sent.RequestURI = ""
					sent.URL.Scheme, sent.URL.Host = "http", server.Listener.Addr().String()
					response, err := server.Client().Do(sent)
					if err != nil {
						http.Error(w, err.Error(), http.StatusBadGateway)
						return
					}
					defer response.Body.Close()
					w.WriteHeader(response.StatusCode)
					_, _ = io.Copy(w, response.Body)
				})
			}
			compare(b, variants, send)
		})
	}
}

// variant is an api with more or less observation. finish does what it has put off.
type variant struct {
	name    string
	handler http.Handler
	finish  func(context.Context) error
}

// compare has the variants take turns, and reports how long each took for a request, as a multiple of the first.
func compare(b *testing.B, variants []variant, send func(*testing.B, http.Handler)) {
	b.Helper()
	const turn = 20 // requests
	took := make([][]float64, len(variants))
	for b.Loop() {
		for _, at := range rand.Perm(len(variants)) { // none is always behind the same
			v := variants[at]
			send(b, v.handler) // it finds what the one before has left of the caches
			for range turn {
				start := time.Now()
				send(b, v.handler)
				took[at] = append(took[at], time.Since(start).Seconds())
			}
			start := time.Now()
			require.NoError(b, v.finish(b.Context()))
			finishing := time.Since(start).Seconds() / turn
			for i := len(took[at]) - turn; i < len(took[at]); i++ {
				took[at][i] += finishing
			}
		}
	}
	b.ReportMetric(0, "ns/op") // of a round, which says nothing
	first := median(took[0])
	b.ReportMetric(first*1e6, variants[0].name+"-µs")
	for i := range variants[1:] {
		b.ReportMetric(median(took[i+1])/first, variants[i+1].name+"/"+variants[0].name)
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// observed are the variants, with one finished index.
func observed(b *testing.B) []variant {
	b.Helper()
	postgres, database := testkit.Database(b)
	redisServer := testkit.Redis(b)
	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(b, err)
	b.Cleanup(func() { _ = nowhere.Close() })
	api := func() (*server, *service.Service) {
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
		return newServer(Config{MaxIndex: 100, MaxBacklog: 100, MaxStreams: 1}, service.NewLogger(nowhere, service.Config{}),
			s.Registry, s.Tracing, db, queue.New(client, queue.Config{}), short, events.NewHub(client)), s
	}
	measured, _ := api()

	router := measured.routes() // on the same stores and their connections
	plain := measured.withRequestID(observe(router, measured.recoverPanics(router), measured.logRequest))

	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	b.Cleanup(collector.Close)
	b.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	traced, s := api()
	nothing := func(context.Context) error { return nil }
	return []variant{
		{"plain", plain, nothing},
		{"again", plain, nothing},
		{"metrics", measured.handler, nothing},
		{"traces", traced.handler, s.Tracing.(*sdktrace.TracerProvider).ForceFlush},
	}
}
