package service

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/redis/go-redis/extra/redisotel/v9"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.opentelemetry.io/otel/trace"
)

// A request waits for Redis when that is away, so these are short. Blocking reads add their own time.
const (
	redisDialTimeout = 2 * time.Second
	redisIOTimeout   = 2 * time.Second
)

// Redis says where Redis or Valkey is.
type Redis struct {
	Host     string `env:"REDIS_HOST" envDefault:"localhost" validate:"required"`
	Port     uint16 `env:"REDIS_PORT" envDefault:"6379" validate:"min=1"`
	Username string `env:"REDIS_USERNAME"`
	Password string `env:"REDIS_PASSWORD"`
	DB       int    `env:"REDIS_DB" envDefault:"0" validate:"min=0"`
	TLS      bool   `env:"REDIS_TLS" envDefault:"false"`
	// CAFile is a PEM file of the authorities to trust instead of the system's.
	CAFile string `env:"REDIS_CA_FILE" validate:"omitempty,file"`
}

// Client prepares a client. It does not connect: connections are made when they are needed and again after a failure.
// Its commands make spans if tracing is not nil.
func (r Redis) Client(tracing trace.TracerProvider) (*redis.Client, error) {
	options := &redis.Options{
		Addr:         net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port))),
		Username:     r.Username,
		Password:     r.Password,
		DB:           r.DB,
		DialTimeout:  redisDialTimeout,
		ReadTimeout:  redisIOTimeout,
		WriteTimeout: redisIOTimeout,
		// The callers decide how often to try: a request not at all, a worker until it succeeds.
		DialerRetries: 1,
		// Both are commands that Redis 7.0 does not know.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		// So that a caller's deadline ends a command that Redis does not answer.
		ContextTimeoutEnabled: true,
	}
	if r.TLS {
		options.TLSConfig = &tls.Config{ServerName: r.Host, MinVersion: tls.VersionTLS12}
		if r.CAFile != "" {
			pem, err := os.ReadFile(r.CAFile)
			if err != nil {
				return nil, Usagef("REDIS_CA_FILE: %v", err)
			}
			options.TLSConfig.RootCAs = x509.NewCertPool()
			if !options.TLSConfig.RootCAs.AppendCertsFromPEM(pem) {
				return nil, Usagef("REDIS_CA_FILE: %s holds no PEM certificate", r.CAFile)
			}
		}
	}
	client := redis.NewClient(options)
	if tracing == nil {
		return client, nil
	}
	// Commands without their arguments, which hold whole results.
	return client, redisotel.InstrumentTracing(client, redisotel.WithTracerProvider(tracing),
		redisotel.WithDBStatement(false), redisotel.WithCallerEnabled(false), redisotel.WithDialFilter(true))
}
