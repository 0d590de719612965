// Command worker takes jobs from the queue, calculates them and stores the results. Any number may run.
//
//	worker               work
//	worker healthcheck   exit with 0 if the worker that runs here is ready
package main

import (
	"context"
	"runtime"
	"strings"
	"time"

	"github.com/fibstack/fibstack/internal/cache"
	"github.com/fibstack/fibstack/internal/fib"
	"github.com/fibstack/fibstack/internal/queue"
	"github.com/fibstack/fibstack/internal/service"
	"github.com/fibstack/fibstack/internal/store"
)

const name = "fibstack-worker"

// Config is what only the worker reads from the environment.
type Config struct {
	// Concurrency is how many jobs run at once; 0 is as many as there are CPUs to use.
	Concurrency int `env:"WORKER_CONCURRENCY" envDefault:"0" validate:"min=0,max=1024"`
	// MaxAttempts is how often a job may begin, stops by SIGTERM not counted, before it is failed.
	MaxAttempts int `env:"MAX_ATTEMPTS" envDefault:"5" validate:"min=1"`
	// ClaimIdle is how long nothing must be heard of a job for another worker to take it over.
	ClaimIdle time.Duration `env:"CLAIM_IDLE" envDefault:"30s" validate:"min=1s"`
	// SweepInterval is how often what is pending in PostgreSQL is compared with the queue.
	SweepInterval time.Duration `env:"SWEEP_INTERVAL" envDefault:"15s" validate:"min=1s"`
}

func main() { service.Main(run) }

func run(ctx context.Context, args []string) error {
	var base service.Config
	var redisConfig service.Redis
	var postgres store.Config
	var cfg Config
	if err := service.Load(&base, &redisConfig, &postgres, &cfg); err != nil {
		return err
	}
	switch strings.Join(args, " ") {
	case "":
	case "healthcheck":
		return service.HealthCheck(ctx, base)
	default:
		return service.Usagef("usage: worker [healthcheck]")
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = runtime.GOMAXPROCS(0)
	}

	s := service.New(name, base)
	defer s.Close()
	db, err := store.Open(postgres, name, s.StoreTracing())
	if err != nil {
		return err
	}
	defer db.Close()
	client, err := redisConfig.Client(s.StoreTracing())
	if err != nil {
		return err
	}
	defer client.Close()
	jobs := queue.New(client, queue.Config{ClaimIdle: cfg.ClaimIdle, MaxAttempts: cfg.MaxAttempts})

	p := &pool{
		cfg: cfg, log: s.Log, metrics: newMetrics(s.Registry), tracer: service.Tracer(s.Tracing),
		store: db, queue: jobs, cache: cache.New(client), redis: client, calculate: fib.Digits,
	}
	s.Require("postgres", db.Ready)
	s.Require("redis", func(ctx context.Context) error { return client.Ping(ctx).Err() })
	s.Registry.MustRegister(service.PoolCollectors(db.DB(), client)...)
	return s.Run(ctx, p.run, p.sweep)
}
