// Command api serves the HTTP contract: it records what is asked for in PostgreSQL, hands the work to the queue and
// answers from what is stored.
//
//	api               serve
//	api migrate       bring the database's schema up to date and exit
//	api healthcheck   exit with 0 if the api that runs here is ready
package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/fibstack/fibstack/internal/cache"
	"github.com/fibstack/fibstack/internal/events"
	"github.com/fibstack/fibstack/internal/queue"
	"github.com/fibstack/fibstack/internal/service"
	"github.com/fibstack/fibstack/internal/store"
)

const name = "fibstack-api"

// Config is what only the api reads from the environment.
type Config struct {
	Addr string `env:"API_ADDR" envDefault:":5000" validate:"hostname_port"`
	// MaxIndex is the largest index that may be asked for.
	MaxIndex int64 `env:"MAX_INDEX" envDefault:"1000000" validate:"min=0,max=100000000"`
	// MaxBacklog is how many indexes may wait at once.
	MaxBacklog int `env:"MAX_BACKLOG" envDefault:"10000" validate:"min=1,max=10000000"`
	// RateLimit is how many new requests for a calculation this process takes in a second; 0 is any number.
	RateLimit int `env:"RATE_LIMIT" envDefault:"0" validate:"min=0"`
	// MaxStreams is how many event streams this process keeps open at once.
	MaxStreams int `env:"MAX_STREAMS" envDefault:"1000" validate:"min=1"`
	// MigrateOnStart brings the schema up to date before the first request.
	MigrateOnStart bool `env:"MIGRATE_ON_START" envDefault:"true"`
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
	command := strings.Join(args, " ")
	switch command {
	case "", "migrate":
	case "healthcheck":
		return service.HealthCheck(ctx, base)
	default:
		return service.Usagef("usage: api [migrate|healthcheck]")
	}

	s := service.New(name, base)
	defer s.Close()
	db, err := store.Open(postgres, name, s.StoreTracing())
	if err != nil {
		return err
	}
	defer db.Close()
	if command == "migrate" {
		return migrate(ctx, db)
	}
	client, err := redisConfig.Client(s.StoreTracing())
	if err != nil {
		return err
	}
	defer client.Close()
	jobs, news := queue.New(client, queue.Config{}), events.NewHub(client)

	api := newServer(cfg, s.Log, s.Registry, s.Tracing, db, jobs, cache.New(client), news)
	s.Require("postgres", db.Ready)
	s.Report("redis", func(ctx context.Context) error { return client.Ping(ctx).Err() })
	s.Registry.MustRegister(service.PoolCollectors(db.DB(), client)...)
	work := []func(context.Context) error{service.Serve(api.httpServer()), news.Run, func(ctx context.Context) error {
		// So that an autoscaler finds the group, and can start workers, before there was a job.
		return untilDone(ctx, "making the queue's group", jobs.Ensure)
	}}
	if cfg.MigrateOnStart {
		work = append(work, func(ctx context.Context) error { return migrate(ctx, db) })
	}
	return s.Run(ctx, work...)
}

// migrate tries until the database is there and migrated, or the context ends.
func migrate(ctx context.Context, db *store.Store) error {
	return untilDone(ctx, "migration", db.Migrate)
}

// untilDone tries until a step succeeds or the context ends, and logs what fails.
func untilDone(ctx context.Context, what string, step func(context.Context) error) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, step(ctx) },
		backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, wait time.Duration) {
			slog.Warn("failed and will be repeated", "step", what, "error", err, "retryIn", wait)
		}))
	return err
}
