package service_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/internal/service"
)

func TestLoadReadsDefaults(t *testing.T) {
	var cfg service.Config
	var redis service.Redis
	require.NoError(t, service.Load(&cfg, &redis))
	require.Equal(t, 25*time.Second, cfg.GracePeriod)
	require.Equal(t, ":9090", cfg.OpsAddr)
	require.Equal(t, "localhost", redis.Host)
}

func TestLoadNamesEveryMistakeAtOnce(t *testing.T) {
	t.Setenv("LOG_LEVEL", "loud")
	t.Setenv("LOG_FORMAT", "xml")
	t.Setenv("OPS_ADDR", "9090")
	t.Setenv("GRACE_PERIOD", "10s")
	t.Setenv("DRAIN_DELAY", "10s")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	t.Setenv("REDIS_PORT", "redis")
	t.Setenv("REDIS_TLS", "maybe")
	t.Setenv("REDIS_CA_FILE", "/nowhere")
	var cfg service.Config
	var redis service.Redis
	err := service.Load(&cfg, &redis)
	require.ErrorIs(t, err, service.ErrUsage)
	require.EqualError(t, err, `The environment is wrong:
  DRAIN_DELAY="10s" must be shorter than GRACE_PERIOD
  LOG_FORMAT="xml" must be one of auto, json, text
  LOG_LEVEL="loud" must be one of debug, info, warn, error
  OPS_ADDR="9090" must be an address such as :9090 or 127.0.0.1:9090
  OTEL_EXPORTER_OTLP_PROTOCOL="grpc" must be http/protobuf, which is all that is spoken here
  REDIS_CA_FILE="/nowhere" must be a file that is there
  REDIS_PORT="redis" must be a whole number
  REDIS_TLS="maybe" must be true or false
The README lists every variable.`)
}

func TestAnEmptyVariableCountsAsNotSet(t *testing.T) {
	t.Setenv("REDIS_PORT", "")
	var redis service.Redis
	require.NoError(t, service.Load(&redis))
	require.EqualValues(t, 6379, redis.Port)
}

func TestRedisCAFileMustHoldACertificate(t *testing.T) {
	file := t.TempDir() + "/ca.pem"
	require.NoError(t, os.WriteFile(file, []byte("not a certificate"), 0o600))
	_, err := service.Redis{Host: "localhost", Port: 6379, TLS: true, CAFile: file}.Client(nil)
	require.ErrorIs(t, err, service.ErrUsage)
	require.ErrorContains(t, err, "holds no PEM certificate")
}

// TestMain lets the tests run this program as a process that does nothing but read its configuration.
func TestMain(m *testing.M) {
	if os.Getenv("BE_A_PROCESS") != "" {
		service.Main(func(context.Context, []string) error {
			var cfg service.Config
			return service.Load(&cfg)
		})
	}
	os.Exit(m.Run())
}

func TestAWronglyConfiguredProcessExitsWithTwoAndSaysWhy(t *testing.T) {
	program, err := os.Executable()
	require.NoError(t, err)
	command := exec.Command(program)
	command.Env = append(os.Environ(), "BE_A_PROCESS=yes")
	require.NoError(t, command.Run())

	command = exec.Command(program)
	command.Env = append(os.Environ(), "BE_A_PROCESS=yes", "LOG_LEVEL=loud")
	output, err := command.CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, 2, exit.ExitCode())
	require.Contains(t, string(output), `LOG_LEVEL="loud" must be one of debug, info, warn, error`)
}
