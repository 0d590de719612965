package main

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/felixge/httpsnoop"
	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fibstack/fibstack/internal/events"
	"github.com/fibstack/fibstack/internal/queue"
	"github.com/fibstack/fibstack/internal/service"
)

// scrapeTimeout bounds the question to Redis that a scrape asks, well below Prometheus's own limit of 10 s.
const scrapeTimeout = 2 * time.Second

// Outcomes of a request for a calculation.
const (
	submittedNew     = "new"
	submittedWaiting = "waiting"
	submittedDone    = "done"
)

// queueing is the stage of a job that the api measures.
const queueing = "queue"

// eventsRoute is the route of requests that last as long as their clients like.
const eventsRoute = "/events"

// metrics are all that the api measures itself.
type metrics struct {
	requests        *prometheus.CounterVec
	durations       *prometheus.HistogramVec
	inFlight        prometheus.Gauge
	submissions     *prometheus.CounterVec
	stages          *prometheus.HistogramVec
	enqueueFailures prometheus.Counter
	cacheLookups    *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer, router *mux.Router, jobs *queue.Queue, news *events.Hub) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fibstack_http_requests_total",
			Help: "Requests answered, by method, route template and status code.",
		}, []string{"method", "route", "code"}),
		durations: service.NewDurations("fibstack_http_request_duration_seconds",
			"Time from a request's headers to the end of its answer, without event streams.",
			[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}, "method", "route"),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fibstack_http_requests_in_flight",
			Help: "Requests being answered, event streams included.",
		}),
		submissions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fibstack_submissions_total",
			Help: "Requests for a calculation that were accepted. new: recorded, or recorded again after a failure; " +
				"waiting: was waiting already; done: was finished already.",
		}, []string{"outcome"}),
		stages: service.NewStageDurations(queueing),
		enqueueFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fibstack_enqueue_failures_total",
			Help: "Requests recorded while Redis did not take the job; the sweeper queues them.",
		}),
		cacheLookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fibstack_cache_lookups_total",
			Help: "Look-ups of finished calculations in Redis, by result.",
		}, []string{"result"}),
	}
	for _, outcome := range []string{submittedNew, submittedWaiting, submittedDone} {
		m.submissions.WithLabelValues(outcome)
	}
	for _, result := range []string{"hit", "miss", "error"} {
		m.cacheLookups.WithLabelValues(result)
	}
	_ = router.Walk(func(route *mux.Route, _ *mux.Router, _ []*mux.Route) error {
		methods, err := route.GetMethods()
		for _, method := range methods {
			code := http.StatusOK
			if method == http.MethodPost {
				code = http.StatusAccepted
			}
			template := routeTemplate(route)
			m.requests.WithLabelValues(method, template, strconv.Itoa(code))
			if template != eventsRoute {
				m.durations.WithLabelValues(method, template)
			}
		}
		return err
	})
	registry.MustRegister(m.requests, m.durations, m.inFlight, m.submissions, m.stages, m.enqueueFailures, m.cacheLookups,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "fibstack_event_streams",
			Help: "Event streams that are open.",
		}, func() float64 { return float64(news.Listeners()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "fibstack_event_streams_dropped_total",
			Help: "Event streams closed because their clients did not keep up.",
		}, func() float64 { return float64(news.Dropped()) }),
		queueCollector{jobs})
	return m
}

func (m *metrics) observe(r *http.Request, route string, got httpsnoop.Metrics) {
	method := r.Method
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		method = "other" // a client may invent any number of methods
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(got.Code)).Inc()
	if route != eventsRoute {
		service.Observe(r.Context(), m.durations.WithLabelValues(method, route), got.Duration.Seconds())
	}
}

// queueCollector asks Redis for the queue's figures when it is scraped. Every api process reports the same queue, so
// that they are known even while no worker runs: take the maximum over the processes, not the sum.
type queueCollector struct{ jobs *queue.Queue }

var (
	queueUp = prometheus.NewDesc("fibstack_queue_up",
		"Whether the queue's figures could be had from Redis.", nil, nil)
	queueDepth = prometheus.NewDesc("fibstack_queue_depth",
		"Jobs not finished: those that no worker has taken yet, and those taken.", nil, nil)
	queueLag = prometheus.NewDesc("fibstack_queue_lag",
		"Jobs that no worker has taken yet.", nil, nil)
	queuePending = prometheus.NewDesc("fibstack_queue_pending",
		"Jobs that a worker has taken and not finished.", nil, nil)
	queueDead = prometheus.NewDesc("fibstack_queue_dead_letters",
		"Entries of the dead-letter stream.", nil, nil)
	queueOldest = prometheus.NewDesc("fibstack_queue_oldest_age_seconds",
		"Age of the oldest job not finished; 0 without one.", nil, nil)
	queueWorkers = prometheus.NewDesc("fibstack_queue_workers",
		"Worker processes that asked for jobs lately.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c queueCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		queueUp, queueDepth, queueLag, queuePending, queueDead, queueOldest, queueWorkers,
	} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector.
func (c queueCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	gauge := func(desc *prometheus.Desc, value float64) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	stats, err := c.jobs.Stats(ctx)
	if err != nil {
		gauge(queueUp, 0)
		return
	}
	gauge(queueUp, 1)
	gauge(queueDepth, float64(stats.Depth))
	gauge(queueLag, float64(stats.Lag))
	gauge(queuePending, float64(stats.Pending))
	gauge(queueDead, float64(stats.Dead))
	gauge(queueOldest, stats.OldestAge.Seconds())
	gauge(queueWorkers, float64(stats.Workers))
}
