package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/fibstack/fibstack/internal/cache"
	"github.com/fibstack/fibstack/internal/events"
	"github.com/fibstack/fibstack/internal/queue"
	"github.com/fibstack/fibstack/internal/service"
	"github.com/fibstack/fibstack/internal/store"
)

const (
	// readTimeout bounds the reading of a request, which is small.
	readTimeout = 10 * time.Second
	// writeTimeout bounds an answer, or one piece of it where it is streamed. It leaves time for a database that
	// hangs to be given up on.
	writeTimeout = 30 * time.Second
	// storesTimeout bounds what a request waits for the stores, a free connection to PostgreSQL included: longer than the
	// store waits for an answer, so that it is the one to say what is wrong where it can.
	storesTimeout = 15 * time.Second
	// idleTimeout is longer than nginx and common load balancers keep an idle connection, so that they close first.
	idleTimeout = 90 * time.Second
	// maxHeaderBytes is what proxies commonly take.
	maxHeaderBytes = 16 << 10
)

//go:embed openapi.yaml
var openapi []byte

// server answers HTTP. Its handlers read top to bottom: parse, one call, write.
type server struct {
	cfg     Config
	log     *slog.Logger
	tracer  trace.Tracer
	metrics *metrics
	store   *store.Store
	queue   *queue.Queue
	cache   *cache.Cache
	news    *events.Hub
	limiter *rate.Limiter
	streams chan struct{}
	handler http.Handler
}

func newServer(cfg Config, log *slog.Logger, registry prometheus.Registerer, tracing trace.TracerProvider,
	db *store.Store, jobs *queue.Queue, short *cache.Cache, news *events.Hub,
) *server {
	s := &server{
		cfg: cfg, log: log, tracer: service.Tracer(tracing), store: db, queue: jobs, cache: short, news: news,
		limiter: rate.NewLimiter(rate.Inf, 0),
		streams: make(chan struct{}, cfg.MaxStreams),
	}
	if cfg.RateLimit > 0 {
		s.limiter = rate.NewLimiter(rate.Limit(cfg.RateLimit), cfg.RateLimit)
	}
	router := s.routes()
	s.metrics = newMetrics(registry, router, jobs, news)
	observed := promhttp.InstrumentHandlerInFlight(s.metrics.inFlight,
		observe(router, s.recoverPanics(router), s.metrics.observe, s.logRequest))
	if tracing != nil {
		observed = traced(tracing, observed)
	}
	s.handler = s.withRequestID(observed)
	return s
}

func (s *server) httpServer() *http.Server {
	return &http.Server{
		Addr: s.cfg.Addr, Handler: s.handler,
		ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// prefixes are where every route is served: behind a proxy that strips /api, and behind one that can't.
var prefixes = []string{"", "/api"}

func (s *server) routes() *mux.Router {
	router := mux.NewRouter()
	for _, prefix := range prefixes {
		get := func(path string, h http.HandlerFunc) {
			router.HandleFunc(prefix+path, h).Methods(http.MethodGet, http.MethodHead)
		}
		get("/", s.hello)
		get("/values", bounded(s.list))
		get("/values/all", bounded(s.all))
		get("/values/current", bounded(s.current))
		get("/values/{index}", bounded(s.value))
		get("/values/{index}/digits", s.digits)
		get("/stats", bounded(s.stats))
		get("/version", s.version)
		get("/openapi.yaml", s.openapi)
		router.HandleFunc(prefix+eventsRoute, s.events).Methods(http.MethodGet)
		router.HandleFunc(prefix+"/values", bounded(s.submit)).Methods(http.MethodPost)
	}
	router.HandleFunc("/api", s.hello).Methods(http.MethodGet, http.MethodHead)
	router.NotFoundHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, newProblem(http.StatusNotFound, "Not found", "There is no such path. /openapi.yaml lists those there are."))
	})
	router.MethodNotAllowedHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allowed := allowedMethods(router, r)
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		s.fail(w, r, newProblem(http.StatusMethodNotAllowed, "Method not allowed",
			r.Method+" is not possible here, only "+strings.Join(allowed, ", ")+"."))
	})
	return router
}

// bounded gives a request storesTimeout. What takes its time on purpose, such as sending many digits, is not bounded so.
func bounded(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), storesTimeout)
		defer cancel()
		h(w, r.WithContext(ctx))
	}
}

// allowedMethods lists the methods that a request's path takes.
func allowedMethods(router *mux.Router, r *http.Request) []string {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		other := r.Clone(r.Context())
		other.Method = method
		var match mux.RouteMatch
		if router.Match(other, &match) && match.MatchErr == nil {
			allowed = append(allowed, method)
		}
	}
	return allowed
}

func (s *server) hello(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("Hi. This is the fibstack api; /openapi.yaml describes it.\n"))
}

func (s *server) version(w http.ResponseWriter, _ *http.Request) {
	build := service.Version()
	writeJSON(w, http.StatusOK, map[string]string{
		"name": name, "version": build.Version, "commit": build.Commit, "goVersion": build.GoVersion,
	})
}

func (s *server) openapi(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(openapi)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
