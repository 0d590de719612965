package main

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/fibstack/fibstack/internal/service"
	"github.com/fibstack/fibstack/internal/store"
)

// retryAfterSeconds is what a client that meets a passing obstacle is asked to wait.
const retryAfterSeconds = 5

// problem is an answer that tells a client what is wrong and what to do: application/problem+json of RFC 9457.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Field     string `json:"field,omitempty"`
	RequestID string `json:"requestId"`
}

func (p problem) Error() string { return p.Title + ": " + p.Detail }

// newProblem is a problem without a page of its own, as the RFC wants it for type about:blank.
func newProblem(status int, title, detail string) problem {
	return problem{Type: "about:blank", Title: title, Status: status, Detail: detail}
}

// errIndex is a problem of the field index.
func errIndex(status int, title, detail string) problem {
	p := newProblem(status, title, detail)
	p.Field = "index"
	return p
}

// asProblem is the one table from errors to answers. What it does not know is a fault of ours and stays unexplained.
func asProblem(err error) problem {
	if p, ok := errors.AsType[problem](err); ok {
		return p
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return newProblem(http.StatusRequestEntityTooLarge, "Body too large",
			"The body may have at most "+strconv.FormatInt(tooLarge.Limit, 10)+" bytes.")
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return newProblem(http.StatusNotFound, "Not found", "Nobody asked for this index yet. POST it to /values first.")
	case errors.Is(err, store.ErrBacklog):
		return newProblem(http.StatusServiceUnavailable, "Too much work waiting",
			"As many indexes wait to be calculated as may wait. Try again in a moment.")
	case errors.Is(err, store.ErrUnavailable):
		return newProblem(http.StatusServiceUnavailable, "Database unavailable",
			"The database can't be reached at the moment. Nothing was recorded. Try again in a moment.")
	}
	return newProblem(http.StatusInternalServerError, "Internal error",
		"Something went wrong here. The request id helps to find out what.")
}

// fail answers with a problem and logs the error where it is ours.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil && !errors.Is(err, store.ErrUnavailable) {
		return // the client is gone
	}
	p := asProblem(err)
	p.RequestID = service.RequestID(r.Context())
	if p.Status >= http.StatusInternalServerError {
		s.log.LogAttrs(r.Context(), slog.LevelError, "request failed", slog.Int("status", p.Status),
			slog.String("path", r.URL.Path), slog.Any("error", err))
	}
	header := w.Header()
	if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
		header.Set("Retry-After", strconv.Itoa(retryAfterSeconds))
	}
	for _, name := range []string{"ETag", "Cache-Control", "Content-Length"} {
		header.Del(name)
	}
	header.Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}
