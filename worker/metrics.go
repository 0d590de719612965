package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fibstack/fibstack/internal/service"
)

// Outcomes of a job, as the metrics and the log name them.
const (
	done     = "done"     // calculated and stored
	skipped  = "skipped"  // finished before, or unknown to the database
	retried  = "retried"  // went wrong and is tried again
	failed   = "failed"   // went wrong for the last time
	returned = "returned" // given back because the worker stops
	lost     = "lost"     // taken over by another worker meanwhile
)

// Stages of a job that the worker measures, and the names of their spans.
const (
	waiting     = "wait"
	calculating = "calculate"
	storing     = "store"
	announcing  = "announce"
)

// sizes are the classes of indexes: the largest of each class, and the class's name.
var sizes = []struct {
	max  int64
	name string
}{{1e3, "1e3"}, {1e4, "1e4"}, {1e5, "1e5"}, {1e6, "1e6"}, {1e7, "1e7"}, {1e8, "1e8"}}

// sizeOf is the class of an index.
func sizeOf(index int64) string {
	for _, size := range sizes {
		if index <= size.max {
			return size.name
		}
	}
	return sizes[len(sizes)-1].name // the api takes none above
}

// metrics are all that the worker measures itself.
type metrics struct {
	jobs         *prometheus.CounterVec
	running      prometheus.Gauge
	stages       *prometheus.HistogramVec
	calculations *prometheus.HistogramVec
	durations    *prometheus.HistogramVec
	swept        prometheus.Counter
	sweeps       *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fibstack_jobs_total",
			Help: "Jobs that this worker has let go of, by outcome.",
		}, []string{"outcome"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fibstack_jobs_running",
			Help: "Jobs that this worker works on.",
		}),
		stages: service.NewStageDurations(waiting, calculating, storing, announcing),
		calculations: service.NewDurations("fibstack_calculation_duration_seconds",
			"Time of a calculation that succeeded, by the power of ten that its index does not exceed.",
			prometheus.ExponentialBuckets(0.00001, 4, 12), "size"),
		durations: service.NewDurations("fibstack_job_duration_seconds",
			"Time from recording a request to having its result stored and announced, by the power of ten that its "+
				"index does not exceed.",
			[]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600}, "size"),
		swept: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fibstack_swept_jobs_total",
			Help: "Pending indexes that the sweeper found missing from the queue and put there.",
		}),
		sweeps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fibstack_sweeps_total",
			Help: "Sweeps made by this worker, by result.",
		}, []string{"result"}),
	}
	for _, outcome := range []string{done, skipped, retried, failed, returned, lost} {
		m.jobs.WithLabelValues(outcome)
	}
	for _, result := range []string{"ok", "error"} {
		m.sweeps.WithLabelValues(result)
	}
	for _, size := range sizes {
		m.calculations.WithLabelValues(size.name)
		m.durations.WithLabelValues(size.name)
	}
	registry.MustRegister(m.jobs, m.running, m.stages, m.calculations, m.durations, m.swept, m.sweeps)
	return m
}

// passed measures a stage that a job has passed.
func (m *metrics) passed(ctx context.Context, stage string, took time.Duration) {
	service.Observe(ctx, m.stages.WithLabelValues(stage), took.Seconds())
}
