package main

import (
	"context"
	"net/http"

	"github.com/fibstack/fibstack/internal/store"
)

// stats answers with what the page shows at its top. What Redis knows is null while Redis is away.
func (s *server) stats(w http.ResponseWriter, r *http.Request) {
	counts, err := s.store.Counts(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	answer := struct {
		Counts     map[store.Status]int64 `json:"counts"`
		QueueDepth *int64                 `json:"queueDepth"`
		Workers    *int                   `json:"workers"`
	}{Counts: counts}
	ctx, cancel := context.WithTimeout(r.Context(), queueTimeout)
	defer cancel()
	if queued, err := s.queue.Stats(ctx); err == nil {
		answer.QueueDepth, answer.Workers = &queued.Depth, &queued.Workers
	}
	writeJSON(w, http.StatusOK, answer)
}
