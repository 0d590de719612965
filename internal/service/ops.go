package service

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// opsTimeout bounds a readiness check and a health check's request; orchestrators rarely wait longer.
const opsTimeout = 3 * time.Second

type check struct {
	name     string
	required bool
	run      func(context.Context) error
}

// Require adds a check that must pass for the process to be ready.
func (s *Service) Require(name string, run func(context.Context) error) {
	s.checks = append(s.checks, check{name: name, required: true, run: run})
}

// Report adds a check that /readyz shows and that the process does without.
func (s *Service) Report(name string, run func(context.Context) error) {
	s.checks = append(s.checks, check{name: name, run: run})
}

// opsHandler serves what operators and machines ask of a process. It must not be reachable from outside.
func (s *Service) opsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.Registry, promhttp.HandlerOpts{
		Registry: s.Registry, EnableOpenMetrics: true, ErrorHandling: promhttp.ContinueOnError,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// readyz answers 200 when the process can serve, else 503, and in both cases the outcome of every check.
func (s *Service) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), opsTimeout)
	defer cancel()
	answer := struct {
		Ready  bool              `json:"ready"`
		Checks map[string]string `json:"checks"`
	}{Ready: true, Checks: map[string]string{}}
	if s.draining.Load() {
		answer.Ready, answer.Checks["process"] = false, "stopping"
	}
	errs := make([]error, len(s.checks))
	done := make(chan struct{})
	for i, c := range s.checks {
		go func() {
			errs[i] = c.run(ctx)
			done <- struct{}{}
		}()
	}
	for range s.checks {
		<-done
	}
	for i, c := range s.checks {
		answer.Checks[c.name] = "ok"
		if errs[i] != nil {
			answer.Checks[c.name] = errs[i].Error()
			answer.Ready = answer.Ready && !c.required
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if !answer.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// HealthCheck asks the process that runs with the same configuration whether it is ready: for container health checks
// in images that have no other program.
func HealthCheck(ctx context.Context, cfg Config) error {
	_, port, err := net.SplitHostPort(cfg.OpsAddr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, opsTimeout)
	defer cancel()
	url := "http://" + net.JoinHostPort("127.0.0.1", port) + "/readyz"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, response.Status)
	}
	return nil
}
