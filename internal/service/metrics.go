package service

import (
	"database/sql"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/redis/go-redis/extra/redisprometheus/v9"
	"github.com/redis/go-redis/v9"
)

const (
	// nativeFactor is how much wider each bucket of a native histogram is than the one before: an error of at most 5 %.
	nativeFactor = 1.1
	// nativeBuckets bounds the memory of a series; from 1 ms to 1 h there are some 160 buckets of that factor.
	nativeBuckets = 160
)

// NewDurations makes a histogram of seconds as all of the stack are: with the given classic buckets, and with those of
// a native histogram for a Prometheus that asks for them.
func NewDurations(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: nativeFactor, NativeHistogramMaxBucketNumber: nativeBuckets,
	}, labels)
}

// NewStageDurations makes the histogram of the stages of a job. The api and the worker measure the stages that they
// see, under the same name.
func NewStageDurations(stages ...string) *prometheus.HistogramVec {
	durations := NewDurations("fibstack_job_stage_duration_seconds",
		"Time that a job spent in a stage. queue: committed to on the stream, by the api; wait: on the stream to first "+
			"taken; calculate; store: calculated to committed; announce: committed to cached and published.",
		[]float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600}, "stage")
	for _, stage := range stages {
		durations.WithLabelValues(stage)
	}
	return durations
}

// PoolCollectors measure the pools of connections to PostgreSQL and Redis.
func PoolCollectors(db *sql.DB, client *redis.Client) []prometheus.Collector {
	return []prometheus.Collector{
		collectors.NewDBStatsCollector(db, "fibstack"),
		redisprometheus.NewCollector("fibstack", "redis", client),
	}
}

// newRegistry holds what every process measures: itself, the Go runtime and its build.
func newRegistry(name string) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	version := Version()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "fibstack_build_info",
		Help: "The build that runs, by its labels; always 1.",
		ConstLabels: prometheus.Labels{
			"service": name, "version": version.Version, "commit": version.Commit, "goversion": version.GoVersion,
		},
	})
	build.Set(1)
	registry.MustRegister(build, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}
