// Package service is what every process of the stack has around its work: configuration from the environment, a
// logger, an ops port with metrics and health, and the order in which it stops.
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"
)

// Exit codes of a process, beside 0.
const (
	exitFailure = 1
	exitUsage   = 2
)

// Config is the part of the environment that every process reads.
type Config struct {
	LogLevel  slog.Level `env:"LOG_LEVEL" envDefault:"info"`
	LogFormat string     `env:"LOG_FORMAT" envDefault:"auto" validate:"oneof=auto json text"`
	OpsAddr   string     `env:"OPS_ADDR" envDefault:":9090" validate:"hostname_port"`
	// GracePeriod bounds the whole stop, DrainDelay included.
	GracePeriod time.Duration `env:"GRACE_PERIOD" envDefault:"25s" validate:"min=1s"`
	// DrainDelay is how long a stopping process says that it is not ready, and works on, so that proxies notice.
	DrainDelay time.Duration `env:"DRAIN_DELAY" envDefault:"0s" validate:"min=0s,ltfield=GracePeriod"`
	// OTLPProtocol and OTLPTracesProtocol are OpenTelemetry's, here so that a protocol that is not spoken is refused.
	OTLPProtocol       string `env:"OTEL_EXPORTER_OTLP_PROTOCOL" envDefault:"http/protobuf" validate:"eq=http/protobuf"`
	OTLPTracesProtocol string `env:"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL" envDefault:"http/protobuf" validate:"eq=http/protobuf"`
}

// Main runs a program with the process's arguments and exits: with 0 when run returns nil, with 2 when it was called
// or configured wrongly, else with 1. The context ends at the first SIGTERM or SIGINT; a second one kills.
func Main(run func(ctx context.Context, args []string) error) {
	ctx, release := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, release)
	err := run(ctx, os.Args[1:])
	switch {
	case err == nil:
		os.Exit(0)
	case errors.Is(err, ErrUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitUsage)
	default:
		slog.Error("stopped by an error", "error", err)
		os.Exit(exitFailure)
	}
}

// Service is the frame of one process. Register readiness checks, then Run.
type Service struct {
	Name     string
	Log      *slog.Logger
	Registry *prometheus.Registry
	// Tracing is nil while tracing is off.
	Tracing trace.TracerProvider

	flush    func(context.Context) error
	stopBy   time.Time
	cfg      Config
	checks   []check
	draining atomic.Bool
}

// New makes the frame of the named process. Its logger becomes slog's default and go-redis's too, for what libraries log.
func New(name string, cfg Config) *Service {
	log := NewLogger(os.Stderr, cfg).With("service", name)
	slog.SetDefault(log)
	redis.SetLogger(redisLogger{log})
	s := &Service{Name: name, Log: log, Registry: newRegistry(name), cfg: cfg, stopBy: time.Now().Add(cfg.GracePeriod)}
	if tracing := newTracing(name, log); tracing != nil {
		s.Tracing, s.flush = tracing, tracing.Shutdown
	}
	return s
}

// Run serves the ops port and runs the work until the context ends or a part of the work fails, then stops in this
// order: not ready, DrainDelay, the context of the work ends and the work returns (finishing or giving back what it
// has), the ops port closes. It returns the first error of the work, or one that says that the grace period was too
// short. Stores are closed by the caller afterwards, and then the Service.
func (s *Service) Run(ctx context.Context, work ...func(context.Context) error) error {
	ops, err := net.Listen("tcp", s.cfg.OpsAddr)
	if err != nil {
		return fmt.Errorf("ops port: %w", err)
	}
	server := &http.Server{Handler: s.opsHandler(), ReadHeaderTimeout: opsTimeout}
	defer server.Close()
	go func() { _ = server.Serve(ops) }()

	workCtx, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	group, groupCtx := errgroup.WithContext(workCtx)
	for _, w := range work {
		group.Go(func() error { return w(groupCtx) })
	}
	finished := make(chan error, 1)
	go func() { finished <- group.Wait() }()
	version := Version()
	s.Log.Info("started", "version", version.Version, "commit", version.Commit, "ops", ops.Addr().String())

	select {
	case <-ctx.Done():
	case <-groupCtx.Done():
	}
	grace := time.After(s.cfg.GracePeriod)
	s.stopBy = time.Now().Add(s.cfg.GracePeriod)
	s.draining.Store(true)
	s.Log.Info("stopping")
	select {
	case <-time.After(s.cfg.DrainDelay):
	case <-groupCtx.Done():
	}
	stopWork()
	select {
	case err := <-finished:
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = nil // the work says that it ended because it was told to
		}
		s.Log.Info("stopped")
		return err
	case <-grace:
		return fmt.Errorf("not finished within GRACE_PERIOD (%v)", s.cfg.GracePeriod)
	}
}

// Serve returns work for Run that serves HTTP on an address: it refuses new connections when it is to stop, and
// returns when the requests under way have been answered. The server's BaseContext is the caller's to set.
func Serve(server *http.Server) func(context.Context) error {
	return func(ctx context.Context) error {
		failed := make(chan error, 1)
		go func() { failed <- server.ListenAndServe() }()
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			// Run bounds the wait.
			return server.Shutdown(context.WithoutCancel(ctx))
		}
	}
}
