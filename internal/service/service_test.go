package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/internal/service"
	"github.com/fibstack/fibstack/internal/testkit"
)

// config is that of a process of the test's own.
func config(t *testing.T) service.Config {
	t.Helper()
	port, err := testkit.FreePort()
	require.NoError(t, err)
	return service.Config{OpsAddr: fmt.Sprintf("127.0.0.1:%d", port), GracePeriod: time.Minute}
}

// get returns the status and body of a path on the ops port, or 0 while nobody answers.
func get(cfg service.Config, path string) (int, string) {
	response, err := http.Get("http://" + cfg.OpsAddr + path)
	if err != nil {
		return 0, ""
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(body)
}

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, time.Minute, 5*time.Millisecond, what)
}

// untilStopped is work that does nothing.
func untilStopped(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func TestStopIsFirstNotReadyThenDrainedThenDone(t *testing.T) {
	cfg := config(t)
	cfg.DrainDelay = 300 * time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	s := service.New("test", cfg)

	working, finish := make(chan struct{}), make(chan struct{})
	result := make(chan error, 1)
	go func() {
		result <- s.Run(ctx, func(ctx context.Context) error {
			<-ctx.Done()
			close(working)
			<-finish
			return nil
		})
	}()
	waitFor(t, "ready", func() bool { status, _ := get(cfg, "/readyz"); return status == http.StatusOK })

	stop()
	waitFor(t, "not ready", func() bool { status, _ := get(cfg, "/readyz"); return status == http.StatusServiceUnavailable })
	<-working
	status, _ := get(cfg, "/healthz")
	require.Equal(t, http.StatusOK, status, "the ops port stays until the work is over")
	require.Empty(t, result, "the work is still finishing")

	close(finish)
	require.NoError(t, <-result)
	status, _ = get(cfg, "/healthz")
	require.Zero(t, status)
}

func TestWorkThatEndsWithItsContextsErrorHasNotFailed(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	err := service.New("test", config(t)).Run(ctx, func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	require.NoError(t, err)
}

func TestWorkThatFailsStopsTheRest(t *testing.T) {
	s := service.New("test", config(t))
	broken := errors.New("broken")
	err := s.Run(t.Context(), untilStopped, func(context.Context) error { return broken })
	require.ErrorIs(t, err, broken)
}

func TestWorkThatDoesNotEndIsLeftAfterTheGracePeriod(t *testing.T) {
	cfg := config(t)
	cfg.GracePeriod = time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	stop()
	s := service.New("test", cfg)
	err := s.Run(ctx, func(context.Context) error { select {} })
	require.ErrorContains(t, err, "GRACE_PERIOD")
}

func TestRequestsUnderWayAreAnsweredBeforeTheStop(t *testing.T) {
	cfg := config(t)
	port, err := testkit.FreePort()
	require.NoError(t, err)
	arrived, release := make(chan struct{}), make(chan struct{})
	server := &http.Server{
		Addr: fmt.Sprintf("127.0.0.1:%d", port),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				close(arrived)
				<-release
			}
			_, _ = w.Write([]byte("answer"))
		}),
	}
	ctx, stop := context.WithCancel(t.Context())
	result := make(chan error, 1)
	s := service.New("test", cfg)
	go func() { result <- s.Run(ctx, service.Serve(server)) }()
	url := "http://" + server.Addr
	waitFor(t, "listening", func() bool {
		response, err := http.Get(url)
		return err == nil && response.Body.Close() == nil
	})

	answer := make(chan string, 1)
	go func() {
		response, err := http.Get(url + "/slow")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answer <- string(body)
	}()
	<-arrived
	stop()
	waitFor(t, "refusing new connections", func() bool {
		response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(url)
		if err == nil {
			_ = response.Body.Close()
		}
		return err != nil
	})
	require.Empty(t, result)
	close(release)
	require.Equal(t, "answer", <-answer)
	require.NoError(t, <-result)
}

func TestReadyzTellsEveryCheck(t *testing.T) {
	cfg := config(t)
	s := service.New("test", cfg)
	away := make(chan bool, 1)
	away <- true
	s.Require("needed", func(context.Context) error {
		isAway := <-away
		away <- isAway
		if isAway {
			return errors.New("not there")
		}
		return nil
	})
	s.Report("wanted", func(context.Context) error { return errors.New("slow today") })
	go func() { _ = s.Run(t.Context(), untilStopped) }()

	var answer struct {
		Ready  bool
		Checks map[string]string
	}
	waitFor(t, "an answer", func() bool {
		status, body := get(cfg, "/readyz")
		return status == http.StatusServiceUnavailable && json.Unmarshal([]byte(body), &answer) == nil
	})
	require.False(t, answer.Ready)
	require.Equal(t, map[string]string{"needed": "not there", "wanted": "slow today"}, answer.Checks)
	require.ErrorContains(t, service.HealthCheck(t.Context(), cfg), "503")

	<-away
	away <- false
	status, _ := get(cfg, "/readyz")
	require.Equal(t, http.StatusOK, status, "what is only reported does not count")
	require.NoError(t, service.HealthCheck(t.Context(), cfg))
}

func TestOpsPortServesMetricsAndProfiles(t *testing.T) {
	cfg := config(t)
	s := service.New("fibstack-test", cfg)
	go func() { _ = s.Run(t.Context(), untilStopped) }()
	waitFor(t, "an answer", func() bool { status, _ := get(cfg, "/healthz"); return status == http.StatusOK })

	status, metrics := get(cfg, "/metrics")
	require.Equal(t, http.StatusOK, status)
	require.Regexp(t, `fibstack_build_info\{.*service="fibstack-test".*\} 1`, metrics)
	require.Contains(t, metrics, "go_goroutines ")
	require.Contains(t, metrics, "process_resident_memory_bytes ")
	status, _ = get(cfg, "/debug/pprof/goroutine")
	require.Equal(t, http.StatusOK, status)
}

func TestATakenOpsPortIsAnError(t *testing.T) {
	cfg := config(t)
	first := service.New("test", cfg)
	ctx, stop := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- first.Run(ctx, untilStopped) }()
	waitFor(t, "an answer", func() bool { status, _ := get(cfg, "/healthz"); return status == http.StatusOK })

	err := service.New("test", cfg).Run(t.Context(), untilStopped)
	require.ErrorContains(t, err, "ops port")
	stop()
	require.NoError(t, <-result)
}
