package main

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/fibstack/fibstack/internal/store"
)

// all answers with every index ever asked for, in the order first asked.
func (s *server) all(w http.ResponseWriter, r *http.Request) {
	type number struct {
		Number int64 `json:"number"`
	}
	found, ok := s.classicPage(w, r, false)
	if !ok {
		return
	}
	numbers := make([]number, len(found))
	for i, c := range found {
		numbers[i] = number{c.Index}
	}
	writeJSON(w, http.StatusOK, numbers)
}

// current answers with the digits of every index, or with what stands for them.
func (s *server) current(w http.ResponseWriter, r *http.Request) {
	found, ok := s.classicPage(w, r, true)
	if !ok {
		return
	}
	values := make(map[int64]string, len(found))
	for _, c := range found {
		switch {
		case c.Status == store.Failed:
			values[c.Index] = "Failed: " + *c.Error
		case c.Status == store.Pending:
			values[c.Index] = "Nothing yet!"
		case c.Value != nil:
			values[c.Index] = *c.Value
		default:
			values[c.Index] = *c.Head + "…" + *c.Tail
		}
	}
	writeJSON(w, http.StatusOK, values)
}

// classicPage reads a page in ascending order and sets the Link to the one before it.
func (s *server) classicPage(w http.ResponseWriter, r *http.Request, values bool) ([]store.Calculation, bool) {
	page, err := parsePage(r, "limit", "before")
	if err != nil {
		s.fail(w, r, err)
		return nil, false
	}
	read := s.store.List
	if values {
		read = s.store.ListValues
	}
	found, next, err := s.page(r, page, read)
	if err != nil {
		s.fail(w, r, err)
		return nil, false
	}
	if next != "" {
		w.Header().Set("Link", fmt.Sprintf(`<?limit=%d&before=%s>; rel="next"`, page.Limit, next))
	}
	slices.Reverse(found)
	return found, true
}
