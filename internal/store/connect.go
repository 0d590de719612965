package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/XSAM/otelsql"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
)

const (
	// connectTimeout is short, because a request waits for it when PostgreSQL is away.
	connectTimeout = 3 * time.Second
	// answerTimeout bounds the silence of a server in the middle of a statement. No statement here keeps the server
	// busy as long, so a longer silence means that it hangs or that the network swallowed the connection.
	answerTimeout = 10 * time.Second
	// connLifetime lets the processes move to the new server within minutes when a name's address changes.
	connLifetime = 5 * time.Minute
)

// Config says where PostgreSQL is, by the names that libpq uses. The rest of libpq's variables (PGPASSFILE,
// PGSSLCERT and so on) are read by the driver itself.
type Config struct {
	Host        string `env:"PGHOST" envDefault:"localhost" validate:"required"`
	Port        uint16 `env:"PGPORT" envDefault:"5432" validate:"min=1"`
	User        string `env:"PGUSER" envDefault:"postgres" validate:"required"`
	Password    string `env:"PGPASSWORD"`
	Database    string `env:"PGDATABASE" envDefault:"postgres" validate:"required"`
	SSLMode     string `env:"PGSSLMODE" envDefault:"prefer" validate:"oneof=disable allow prefer require verify-ca verify-full"`
	SSLRootCert string `env:"PGSSLROOTCERT"`
	MaxConns    int    `env:"POSTGRES_MAX_CONNS" envDefault:"10" validate:"min=2,max=1000"`
}

// Open prepares a Store. It does not connect: connections are made when they are needed and again after a failure.
// Statements make spans if tracing is not nil.
func Open(cfg Config, application string, tracing trace.TracerProvider) (*Store, error) {
	settings, err := pq.NewConfig("")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL settings: %w", err)
	}
	settings.Host, settings.Port = cfg.Host, cfg.Port
	settings.User, settings.Password, settings.Database = cfg.User, cfg.Password, cfg.Database
	settings.SSLMode, settings.SSLRootCert = pq.SSLMode(cfg.SSLMode), cfg.SSLRootCert
	settings.ConnectTimeout = connectTimeout
	settings.ApplicationName, settings.TZ = application, "UTC"
	connector, err := pq.NewConnectorConfig(settings)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL settings: %w", err)
	}
	connector.Dialer(dialer{})
	pool := sql.OpenDB
	if tracing != nil {
		pool = func(c driver.Connector) *sql.DB {
			return otelsql.OpenDB(c, otelsql.WithTracerProvider(tracing), otelsql.WithAttributes(semconv.DBSystemNamePostgreSQL),
				otelsql.WithSpanOptions(otelsql.SpanOptions{OmitConnResetSession: true, OmitRows: true, DisableErrSkip: true}))
		}
	}
	db := sqlx.NewDb(pool(connector), "postgres")
	db.SetMaxOpenConns(cfg.MaxConns)
	db.SetMaxIdleConns(cfg.MaxConns)
	db.SetConnMaxLifetime(connLifetime)
	return &Store{db: db}, nil
}

// dialer makes connections on which a read fails after answerTimeout. The driver's own way to give up, a context,
// asks the server to cancel and then waits for its answer, for ever if the server hangs.
type dialer struct{ net.Dialer }

func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.Dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return answeringConn{conn}, nil
}

type answeringConn struct{ net.Conn }

func (c answeringConn) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(answerTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// known gives an error of the driver its meaning: ErrNotFound, ErrUnavailable, or itself.
func known(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	if isUnavailable(err) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

func isUnavailable(err error) bool {
	if refusal, ok := errors.AsType[*pq.Error](err); ok {
		switch refusal.Code.Class() {
		case pqerror.ClassConnectionException, pqerror.ClassInsufficientResources, pqerror.ClassOperatorIntervention,
			pqerror.ClassSystemError, pqerror.ClassInvalidAuthorizationSpecification, pqerror.ClassInvalidCatalogName:
			return true
		}
		switch refusal.Code {
		case pqerror.UndefinedTable, // not migrated yet
			pqerror.ReadOnlySQLTransaction: // a fail-over: still connected to what is a standby now
			return true
		}
		return false
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, driver.ErrBadConn)
}
