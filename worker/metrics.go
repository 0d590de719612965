package main

import "github.com/prometheus/client_golang/prometheus"

// Outcomes of a job, as the metrics and the log name them.
const (
	done     = "done"     // calculated and stored
	skipped  = "skipped"  // finished before, or unknown to the database
	retried  = "retried"  // went wrong and is tried again
	failed   = "failed"   // went wrong for the last time
	returned = "returned" // given back because the worker stops
	lost     = "lost"     // taken over by another worker meanwhile
)

// metrics are all that the worker measures itself.
type metrics struct {
	jobs    *prometheus.CounterVec
	running prometheus.Gauge
	wait    prometheus.Histogram
	compute prometheus.Histogram
	swept   prometheus.Counter
	sweeps  *prometheus.CounterVec
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
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "fibstack_job_wait_seconds",
			Help:    "Time from queueing a job to its first being taken.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600},
		}),
		compute: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "fibstack_job_compute_seconds",
			Help:    "Time of a calculation that succeeded.",
			Buckets: prometheus.ExponentialBuckets(0.00001, 4, 12),
		}),
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
	registry.MustRegister(m.jobs, m.running, m.wait, m.compute, m.swept, m.sweeps)
	return m
}
