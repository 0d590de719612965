// Package store keeps every calculation that was ever asked for in PostgreSQL, one row an index. It is the truth:
// what a method reports as done is committed, and Redis can be filled again from here.
//
// Methods may be called concurrently. They fail with ErrUnavailable while the server can't be reached or used, and
// work again by themselves when it can.
package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

var (
	// ErrNotFound means that nobody asked for the index.
	ErrNotFound = errors.New("never asked for")
	// ErrUnavailable means that PostgreSQL is away, not migrated yet, or refuses work for now. Try again later.
	ErrUnavailable = errors.New("PostgreSQL is unavailable")
	// ErrBacklog means that as many indexes wait as may wait.
	ErrBacklog = errors.New("too many indexes are waiting")
)

// Status is the state of a calculation.
type Status string

// A calculation is pending from the request until it is either done or, after its last attempt, failed.
const (
	Pending Status = "pending"
	Done    Status = "done"
	Failed  Status = "failed"
)

// Statuses are all there are.
var Statuses = []Status{Pending, Done, Failed}

const (
	// longestValue is the number of digits up to which a number stands in its calculation in full.
	longestValue = 1000
	// endDigits is how many digits of each end stand for a longer number.
	endDigits = 20
)

// Calculation is one index and what is known about it. Its JSON form is the one that the HTTP contract gives.
type Calculation struct {
	Index int64 `db:"index" json:"index,string"`
	// Seq orders calculations by when they were first asked for; lists page by it.
	Seq    int64  `db:"seq" json:"-"`
	Status Status `db:"status" json:"status"`
	// Digits is how many decimal digits the number has.
	Digits *int64 `db:"digits" json:"digits,omitempty"`
	// Value is the whole number up to 1,000 digits; of a longer one there are Head and Tail, 20 digits each.
	Value *string `db:"value" json:"value,omitempty"`
	Head  *string `db:"head" json:"head,omitempty"`
	Tail  *string `db:"tail" json:"tail,omitempty"`
	// Attempts counts the attempts begun, without those that a stopping worker gave back.
	Attempts int `db:"attempts" json:"attempts"`
	// RequestedAt is when the index was first asked for, or asked for again after it had failed.
	RequestedAt    time.Time  `db:"requested_at" json:"requestedAt"`
	CompletedAt    *time.Time `db:"completed_at" json:"completedAt,omitempty"`
	ComputeSeconds *float64   `db:"compute_seconds" json:"computeSeconds,omitempty"`
	// Error is why the last attempt failed.
	Error *string `db:"error" json:"error,omitempty"`
}

const (
	summaryColumns = `index, seq, status, digits, attempts, requested_at, completed_at, compute_seconds, error`
	columns        = summaryColumns + `, value, head, tail`
)

// Store is a PostgreSQL database. The zero value is not usable; see Open.
type Store struct{ db *sqlx.DB }

// DB is the pool of connections, for its statistics.
func (s *Store) DB() *sql.DB { return s.db.DB }

// Close closes all connections.
func (s *Store) Close() error { return s.db.Close() }

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate brings the schema up to date. Of several processes that call it at once one does the work, under an
// advisory lock, while the others wait for at most a minute.
func (s *Store) Migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	const everySecond, forAMinute = 1, 60
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(everySecond, forAMinute))
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, s.db.DB, files,
		goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return known(err)
}

// Ready returns nil when the server answers and the schema is there.
func (s *Store) Ready(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, `SELECT FROM calculations LIMIT 0`)
	return known(err)
}

// Request records that an index is asked for and returns its calculation. recorded tells a new one, or a failed one
// put back to pending, from one that was pending or done already, of which nothing changes. It fails with ErrBacklog,
// and records nothing, when maxBacklog indexes are pending and this would be one more; requests at the same moment may
// exceed that slightly.
func (s *Store) Request(ctx context.Context, index int64, maxBacklog int) (c Calculation, recorded bool, err error) {
	c, err = s.Get(ctx, index)
	if err == nil && c.Status != Failed || err != nil && !errors.Is(err, ErrNotFound) {
		return c, false, err
	}
	// The count stops at the limit and reads calculations_status_seq alone.
	err = s.db.GetContext(ctx, &c, `
		INSERT INTO calculations AS c (index)
		SELECT $1
		WHERE (SELECT count(*) FROM (SELECT FROM calculations WHERE status = 'pending' LIMIT $2) pending) < $2
		ON CONFLICT (index) DO UPDATE
		SET status = 'pending', attempts = 0, requested_at = now(), completed_at = NULL, error = NULL
		WHERE c.status = 'failed'
		RETURNING `+columns, index, maxBacklog)
	if !errors.Is(err, sql.ErrNoRows) {
		return c, err == nil, known(err)
	}
	// Either somebody else was quicker, or the backlog is full.
	c, err = s.Get(ctx, index)
	if errors.Is(err, ErrNotFound) || err == nil && c.Status == Failed {
		return Calculation{}, false, ErrBacklog
	}
	return c, false, err
}

// Get returns the calculation of an index, or ErrNotFound.
func (s *Store) Get(ctx context.Context, index int64) (Calculation, error) {
	var c Calculation
	err := s.db.GetContext(ctx, &c, `SELECT `+columns+` FROM calculations WHERE index = $1`, index)
	return c, known(err)
}

// Page selects a part of the calculations.
type Page struct {
	// Status keeps the calculations of one status; empty keeps all.
	Status Status
	// Before is the Seq that all must be below; 0 starts at the newest.
	Before int64
	// Limit is the most to return.
	Limit int
}

// List returns summaries (no Value, Head or Tail), the newest asked for first.
func (s *Store) List(ctx context.Context, page Page) ([]Calculation, error) {
	return s.list(ctx, summaryColumns, page)
}

// ListValues is List with Value, or Head and Tail.
func (s *Store) ListValues(ctx context.Context, page Page) ([]Calculation, error) {
	return s.list(ctx, columns, page)
}

// list walks down the unique index of seq or, with a status, calculations_status_seq.
func (s *Store) list(ctx context.Context, columns string, page Page) ([]Calculation, error) {
	var where []string
	var args []any
	if page.Status != "" {
		where, args = append(where, `status = ?`), append(args, page.Status)
	}
	if page.Before > 0 {
		where, args = append(where, `seq < ?`), append(args, page.Before)
	}
	query := `SELECT ` + columns + ` FROM calculations`
	if len(where) > 0 {
		query += ` WHERE ` + strings.Join(where, ` AND `)
	}
	query += ` ORDER BY seq DESC LIMIT ?`
	found := []Calculation{}
	err := s.db.SelectContext(ctx, &found, s.db.Rebind(query), append(args, page.Limit)...)
	return found, known(err)
}

// Counts returns the number of calculations of every status.
func (s *Store) Counts(ctx context.Context) (map[Status]int64, error) {
	var rows []struct {
		Status Status `db:"status"`
		Count  int64  `db:"count"`
	}
	err := s.db.SelectContext(ctx, &rows, `SELECT status, count(*) FROM calculations GROUP BY status`)
	if err != nil {
		return nil, known(err)
	}
	counts := map[Status]int64{}
	for _, status := range Statuses {
		counts[status] = 0
	}
	for _, row := range rows {
		counts[row.Status] = row.Count
	}
	return counts, nil
}

// Begin records the number of the attempt that begins and returns the calculation. Where it is not pending any more,
// nothing changes and the caller has nothing to do.
func (s *Store) Begin(ctx context.Context, index int64, attempt int) (Calculation, error) {
	return s.change(ctx, index, `
		UPDATE calculations SET attempts = $2
		WHERE index = $1 AND status = 'pending'
		RETURNING `+columns, index, attempt)
}

// Complete stores the digits of F(index), which took so long to calculate, and returns the calculation as it stands
// then. Completing it again changes nothing.
func (s *Store) Complete(ctx context.Context, index int64, digits []byte, took time.Duration) (Calculation, error) {
	tx, err := s.db.BeginTxx(ctx, nil)
	if err != nil {
		return Calculation{}, known(err)
	}
	defer func() { _ = tx.Rollback() }()

	var value, head, tail *string
	if len(digits) <= longestValue {
		value = new(string(digits))
	} else {
		head, tail = new(string(digits[:endDigits])), new(string(digits[len(digits)-endDigits:]))
	}
	var c Calculation
	err = tx.GetContext(ctx, &c, `
		UPDATE calculations
		SET status = 'done', completed_at = now(), compute_seconds = $2, digits = $3, value = $4, head = $5, tail = $6,
			error = NULL
		WHERE index = $1 AND status <> 'done'
		RETURNING `+columns, index, took.Seconds(), len(digits), value, head, tail)
	if errors.Is(err, sql.ErrNoRows) {
		return s.Get(ctx, index)
	}
	if err != nil {
		return Calculation{}, known(err)
	}
	if value == nil {
		_, err = tx.ExecContext(ctx, `INSERT INTO numbers (index, digits) VALUES ($1, $2)`, index, digits)
		if err != nil {
			return Calculation{}, known(err)
		}
	}
	return c, known(tx.Commit())
}

// Fail records that an index was given up and why, and returns the calculation. A done one stays done.
func (s *Store) Fail(ctx context.Context, index int64, reason string) (Calculation, error) {
	return s.change(ctx, index, `
		UPDATE calculations SET status = 'failed', completed_at = now(), error = $2
		WHERE index = $1 AND status = 'pending'
		RETURNING `+columns, index, reason)
}

// change runs an UPDATE of one calculation, and returns it as it is where the UPDATE does not apply to it.
func (s *Store) change(ctx context.Context, index int64, query string, args ...any) (Calculation, error) {
	var c Calculation
	err := s.db.GetContext(ctx, &c, query, args...)
	if errors.Is(err, sql.ErrNoRows) {
		return s.Get(ctx, index)
	}
	return c, known(err)
}

// Waiting is a pending index.
type Waiting struct {
	Index int64 `db:"index"`
	Seq   int64 `db:"seq"`
}

// Waiting returns up to limit pending indexes in the order asked for, from behind the given Seq, leaving out those
// asked for less than minAge ago. It reads calculations_status_seq.
func (s *Store) Waiting(ctx context.Context, after int64, minAge time.Duration, limit int) ([]Waiting, error) {
	var found []Waiting
	err := s.db.SelectContext(ctx, &found, `
		SELECT index, seq FROM calculations
		WHERE status = 'pending' AND seq > $1 AND requested_at <= now() - make_interval(secs => $2)
		ORDER BY seq LIMIT $3`, after, minAge.Seconds(), limit)
	return found, known(err)
}

// Lock numbers an advisory lock. They are told apart by these numbers in the whole database.
type Lock int64

// SweeperLock is held by the one process that sweeps.
const SweeperLock Lock = 0x66696201

// Exclusive calls f while this process is the only one that holds the lock, and reports whether it called it. It does
// not wait for the lock. If the connection breaks, another process may get the lock while f still runs.
func (s *Store) Exclusive(ctx context.Context, number Lock, f func(context.Context) error) (bool, error) {
	conn, err := s.db.Connx(ctx)
	if err != nil {
		return false, known(err)
	}
	defer conn.Close()
	var held bool
	if err := conn.GetContext(ctx, &held, `SELECT pg_try_advisory_lock($1)`, number); err != nil || !held {
		return false, known(err)
	}
	err = f(ctx)
	// A connection that keeps the lock must not go back to the pool, so a failure to unlock closes it.
	_, unlockErr := conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, number)
	if unlockErr != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
	return true, errors.Join(err, known(unlockErr))
}
