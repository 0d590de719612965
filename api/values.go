package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/felixge/httpsnoop"
	"github.com/gorilla/mux"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/fibstack/fibstack/internal/queue"
	"github.com/fibstack/fibstack/internal/service"
	"github.com/fibstack/fibstack/internal/store"
)

const (
	// maxBodyBytes is ample for {"index":"…"}.
	maxBodyBytes = 4 << 10
	// defaultLimit and maxLimit bound a page of a list.
	defaultLimit = 1000
	maxLimit     = 10_000
	// queueTimeout bounds the wait for Redis after the request is on disk. What is not queued then, the sweeper queues.
	queueTimeout = time.Second
)

// submit records an index and hands it to the workers.
func (s *server) submit(w http.ResponseWriter, r *http.Request) {
	if !s.limiter.Allow() {
		s.fail(w, r, newProblem(http.StatusTooManyRequests, "Too many requests", "Try again in a moment."))
		return
	}
	index, err := s.parseSubmission(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	c, recorded, err := s.store.Request(r.Context(), index, s.cfg.MaxBacklog)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	status, outcome := http.StatusOK, submittedDone
	switch {
	case recorded:
		status, outcome = http.StatusAccepted, submittedNew
		s.enqueue(r, index, time.Now())
	case c.Status == store.Pending:
		status, outcome = http.StatusAccepted, submittedWaiting
		s.enqueue(r, index, c.RequestedAt)
	}
	s.metrics.submissions.WithLabelValues(outcome).Inc()
	writeJSON(w, status, map[string]any{"working": true, "index": strconv.FormatInt(index, 10), "status": c.Status})
}

// parseSubmission reads {"index": "7"} or {"index": 7}.
func (s *server) parseSubmission(w http.ResponseWriter, r *http.Request) (int64, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return 0, newProblem(http.StatusUnsupportedMediaType, "Unsupported media type",
			`Send JSON with the header "Content-Type: application/json".`)
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return 0, err
	}
	// Not a struct, which would take a field in other letters too.
	var body map[string]json.RawMessage
	if err != nil || json.Unmarshal(data, &body) != nil || body == nil {
		return 0, newProblem(http.StatusBadRequest, "Malformed body", `The body must be JSON such as {"index": "7"}.`)
	}
	for field := range body {
		if field != "index" {
			p := newProblem(http.StatusBadRequest, "Unknown field", `The body has one field, "index", and no other.`)
			p.Field = field
			return 0, p
		}
	}
	text := string(body["index"])
	if text == "" || text == "null" {
		return 0, errIndex(http.StatusBadRequest, "Missing index", `The body must have an index, such as {"index": "7"}.`)
	}
	var quoted string
	if json.Unmarshal(body["index"], &quoted) == nil {
		text = quoted
	}
	index, err := parseIndex(text)
	if err != nil {
		return 0, err
	}
	if index > s.cfg.MaxIndex {
		return 0, errIndex(http.StatusUnprocessableEntity, "Index too high",
			fmt.Sprintf("The index may be at most %d.", s.cfg.MaxIndex))
	}
	return index, nil
}

// parseIndex reads an index of decimal digits. One that is too large for the type comes back as the largest there is.
func parseIndex(text string) (int64, error) {
	if digits, negative := strings.CutPrefix(text, "-"); negative && isDigits(digits) {
		return 0, errIndex(http.StatusBadRequest, "Invalid index", "The index must not be negative.")
	}
	if !isDigits(text) {
		return 0, errIndex(http.StatusBadRequest, "Invalid index", "The index must be a whole number in decimal digits, such as 7.")
	}
	index, _ := strconv.ParseInt(text, 10, 64) // out of range gives the largest int64
	return index, nil
}

func isDigits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// enqueue hands an index to the workers, unless it is queued already. Without Redis the request stands all the same: it
// is on disk since it was committed.
func (s *server) enqueue(r *http.Request, index int64, committed time.Time) {
	ctx, cancel := context.WithTimeout(r.Context(), queueTimeout)
	defer cancel()
	ctx, span := s.tracer.Start(ctx, "enqueue", trace.WithSpanKind(trace.SpanKindProducer))
	defer span.End()
	// The job's span will be a child of this one.
	headers := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, headers)
	origin := queue.Origin{Request: service.RequestID(ctx), Trace: headers["traceparent"]}
	added, err := s.queue.Add(ctx, origin, index)
	if err != nil {
		s.metrics.enqueueFailures.Inc()
		s.log.WarnContext(r.Context(), "not queued; the sweeper will", "index", index, "error", err)
	}
	if added > 0 {
		service.Observe(ctx, s.metrics.stages.WithLabelValues(queueing), max(0, time.Since(committed).Seconds()))
	}
}

// value answers with one calculation.
func (s *server) value(w http.ResponseWriter, r *http.Request) {
	index, err := parseIndex(mux.Vars(r)["index"])
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if cached := s.cached(r, index); cached != nil {
		writeJSON(w, http.StatusOK, json.RawMessage(cached))
		return
	}
	c, err := s.store.Get(r.Context(), index)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, c)
}

// cached returns a finished calculation as it was stored in Redis, or nil.
func (s *server) cached(r *http.Request, index int64) []byte {
	ctx, cancel := context.WithTimeout(r.Context(), queueTimeout)
	defer cancel()
	data, found, err := s.cache.Get(ctx, index)
	switch {
	case err != nil:
		s.metrics.cacheLookups.WithLabelValues("error").Inc()
	case found:
		s.metrics.cacheLookups.WithLabelValues("hit").Inc()
		return data
	default:
		s.metrics.cacheLookups.WithLabelValues("miss").Inc()
	}
	return nil
}

// digits answers with all digits of a number. F(n) never changes, so the answer may be cached for ever.
func (s *server) digits(w http.ResponseWriter, r *http.Request) {
	index, err := parseIndex(mux.Vars(r)["index"])
	if err != nil {
		s.fail(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), storesTimeout)
	defer cancel()
	c, err := s.store.Get(ctx, index)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if c.Status != store.Done {
		s.fail(w, r, newProblem(http.StatusConflict, "Not calculated",
			fmt.Sprintf("The calculation is %s, so there are no digits yet.", c.Status)))
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("Cache-Control", "public, max-age=31536000, immutable")
	header.Set("ETag", fmt.Sprintf(`"F%d"`, index))
	number := patientReader{s.store.Digits(r.Context(), c), http.NewResponseController(w)}
	http.ServeContent(s.problemForBadRange(w, r), r, "", time.Time{}, number)
}

// patientReader gives the client time anew for every piece that is read for it, so that a slow one gets a long number
// whole and one that has stopped reading is let go.
type patientReader struct {
	io.ReadSeeker
	response *http.ResponseController
}

func (p patientReader) Read(b []byte) (int, error) {
	if err := p.response.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return p.ReadSeeker.Read(b)
}

// problemForBadRange answers with a problem where http.ServeContent answers 416 with plain text.
func (s *server) problemForBadRange(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	answered := false
	return httpsnoop.Wrap(w, httpsnoop.Hooks{
		WriteHeader: func(next httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
			return func(status int) {
				if status != http.StatusRequestedRangeNotSatisfiable {
					next(status)
					return
				}
				answered = true
				s.fail(w, r, newProblem(status, "Range not satisfiable", "The number has no digits in this range."))
			}
		},
		Write: func(next httpsnoop.WriteFunc) httpsnoop.WriteFunc {
			return func(b []byte) (int, error) {
				if answered {
					return len(b), nil
				}
				return next(b)
			}
		},
	})
}

// list answers with a page of summaries, the newest first.
func (s *server) list(w http.ResponseWriter, r *http.Request) {
	page, err := parsePage(r, "status", "limit", "before")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	found, next, err := s.page(r, page, s.store.List)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Values []store.Calculation `json:"values"`
		Next   string              `json:"next,omitempty"`
	}{found, next})
}

// page reads a page, and the cursor of the next one where there is more.
func (s *server) page(r *http.Request, page store.Page,
	read func(context.Context, store.Page) ([]store.Calculation, error),
) (found []store.Calculation, next string, err error) {
	page.Limit++
	found, err = read(r.Context(), page)
	if err != nil || len(found) < page.Limit {
		return found, "", err
	}
	found = found[:page.Limit-1]
	return found, strconv.FormatInt(found[len(found)-1].Seq, 10), nil
}

// parsePage reads a list's parameters and refuses any but the known ones.
func parsePage(r *http.Request, known ...string) (store.Page, error) {
	page := store.Page{Limit: defaultLimit}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return page, newProblem(http.StatusBadRequest, "Invalid parameter", "The part after the ? is not properly encoded.")
	}
	for name, values := range query {
		invalid := func(detail string) (store.Page, error) {
			p := newProblem(http.StatusBadRequest, "Invalid parameter", detail)
			p.Field = name
			return page, p
		}
		value := values[0]
		number, err := strconv.ParseInt(value, 10, 64)
		switch {
		case !slices.Contains(known, name):
			return invalid("There is no such parameter. There are: " + strings.Join(known, ", ") + ".")
		case len(values) > 1:
			return invalid("Give it once.")
		case name == "limit":
			if err != nil || number < 1 || number > maxLimit {
				return invalid(fmt.Sprintf("It must be a whole number from 1 to %d.", maxLimit))
			}
			page.Limit = int(number)
		case name == "before":
			if err != nil || number < 1 {
				return invalid("It must be a cursor that an earlier page gave.")
			}
			page.Before = number
		case name == "status":
			page.Status = store.Status(value)
			if !slices.Contains(store.Statuses, page.Status) {
				return invalid("It must be pending, done or failed.")
			}
		}
	}
	return page, nil
}
