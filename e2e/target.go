// Package e2e tests the whole stack from outside, through its front door, whatever it runs on:
//
//	BASE_URL=http://localhost:3050 go test -count=1 ./e2e
//
// Without BASE_URL the tests start a private native stack and end it again. They don't mind that a stack has been used
// before, is being used, or has another MAX_INDEX; they only need it to be at least 100,000.
//
// The package itself is what these tests share with those of ./e2e/disturbance, which take the parts of a private
// stack away and give them back, and therefore never run against BASE_URL.
package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"
)

const (
	// Patience is how long a test waits for what must happen. It is for machines that are busy with other things.
	Patience = 2 * time.Minute
	// glance is the pause between two looks at what is waited for.
	glance = 20 * time.Millisecond
	// longestAnswer is how long any one answer may take: some more than the limits of api and front, which answer
	// with a problem when these are reached.
	longestAnswer = 45 * time.Second
)

// Target is a running stack.
type Target struct {
	// URL is where its front door is, without a slash at the end.
	URL string
	// Contract is the description that the stack serves of itself.
	Contract *openapi3.T
	// MaxIndex is the largest index that may be asked for.
	MaxIndex int64

	client *http.Client
	routes routers.Router
	given  sync.Map
}

// Answer is an HTTP answer that has been read to its end.
type Answer struct {
	*http.Response
	Body string
}

// Problem is the body of an answer that says no.
type Problem struct {
	Type, Title, Detail, Field, RequestID string
	Status                                int
}

// Calculation is what the stack tells about one index.
type Calculation struct {
	Index, Status, Value, Head, Tail, Error string
	Digits                                  int
	Attempts                                int
	RequestedAt, CompletedAt                time.Time
	ComputeSeconds                          float64
}

// Open learns what there is to know about the stack at a URL.
func Open(ctx context.Context, baseURL string) (*Target, error) {
	t := &Target{
		URL: strings.TrimRight(baseURL, "/"),
		client: &http.Client{
			Timeout: longestAnswer,
			// What is sent and what comes is what a test says and sees: no compression behind its back.
			Transport:     &http.Transport{DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	description, err := t.Do(ctx, http.MethodGet, "/api/openapi.yaml", "")
	if err != nil {
		return nil, err
	}
	if t.Contract, err = openapi3.NewLoader().LoadFromData([]byte(description.Body)); err != nil {
		return nil, fmt.Errorf("%s/api/openapi.yaml: %w", t.URL, err)
	}
	if err := t.Contract.Validate(ctx); err != nil {
		return nil, fmt.Errorf("%s/api/openapi.yaml: %w", t.URL, err)
	}
	if t.routes, err = gorillamux.NewRouter(t.Contract); err != nil {
		return nil, err
	}

	// No stack goes as high as this, and it says how high it goes.
	refusal, err := t.Do(ctx, http.MethodPost, "/api/values", `{"index":"999999999999999999999"}`, "Content-Type", "application/json")
	if err != nil {
		return nil, err
	}
	limit := regexp.MustCompile(`at most (\d+)`).FindStringSubmatch(refusal.Body)
	if limit == nil {
		return nil, fmt.Errorf("%s does not say how large an index may be: %s", t.URL, refusal.Body)
	}
	if t.MaxIndex, err = strconv.ParseInt(limit[1], 10, 64); err != nil {
		return nil, err
	}
	const needed = 100_000
	if t.MaxIndex < needed {
		return nil, fmt.Errorf("%s has MAX_INDEX=%d; these tests need at least %d", t.URL, t.MaxIndex, needed)
	}
	return t, nil
}

// Do sends a request and returns whatever is answered. The path is sent as it is given, escaped or not. Headers are
// names and values in turn.
func (t *Target) Do(ctx context.Context, method, path, body string, headers ...string) (Answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, t.URL, strings.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	request.URL.Opaque = path
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	// Go sends the field, not the header.
	request.Host = request.Header.Get("Host")
	response, err := t.client.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return Answer{response, string(content)}, err
}

// Send is Do for a request that must be answered as the contract says, and not with a fault of the stack.
func (t *Target) Send(tb testing.TB, method, path, body string, headers ...string) Answer {
	tb.Helper()
	answer, err := t.Do(tb.Context(), method, path, body, headers...)
	require.NoError(tb, err)
	require.Less(tb, answer.StatusCode, http.StatusInternalServerError, answer)
	t.RequireContract(tb, answer)
	return answer
}

// Get sends a GET.
func (t *Target) Get(tb testing.TB, path string, headers ...string) Answer {
	tb.Helper()
	return t.Send(tb, http.MethodGet, path, "", headers...)
}

// Post sends JSON to /api/values.
func (t *Target) Post(tb testing.TB, body string, headers ...string) Answer {
	tb.Helper()
	return t.Send(tb, http.MethodPost, "/api/values", body, append([]string{"Content-Type", "application/json"}, headers...)...)
}

// Ask asks for an index, which must be granted, and returns the status that is answered.
func (t *Target) Ask(tb testing.TB, index int64) (status string) {
	tb.Helper()
	answer := t.Post(tb, fmt.Sprintf(`{"index":"%d"}`, index))
	var submission struct {
		Working       bool
		Index, Status string
	}
	answer.JSON(tb, &submission)
	require.True(tb, submission.Working)
	require.Equal(tb, strconv.FormatInt(index, 10), submission.Index)
	if submission.Status == "done" {
		require.Equal(tb, http.StatusOK, answer.StatusCode)
	} else {
		require.Equal(tb, http.StatusAccepted, answer.StatusCode)
		require.Equal(tb, "pending", submission.Status)
	}
	return submission.Status
}

// Look returns what the stack says about an index that was asked for.
func (t *Target) Look(tb testing.TB, index int64) Calculation {
	tb.Helper()
	var c Calculation
	t.Get(tb, fmt.Sprintf("/api/values/%d", index)).JSON(tb, &c)
	return c
}

// AwaitDone waits until an index that was asked for is calculated.
func (t *Target) AwaitDone(tb testing.TB, index int64) Calculation {
	tb.Helper()
	var c Calculation
	Await(tb, fmt.Sprintf("F(%d) to be done", index), func() bool {
		c = t.Look(tb, index)
		require.NotEqual(tb, "failed", c.Status, c.Error)
		return c.Status == "done"
	})
	return c
}

// Calculated asks for an index and returns it when it is done.
func (t *Target) Calculated(tb testing.TB, index int64) Calculation {
	tb.Helper()
	t.Ask(tb, index)
	return t.AwaitDone(tb, index)
}

// Digits returns all digits of an index that is done.
func (t *Target) Digits(tb testing.TB, index int64) string {
	tb.Helper()
	answer := t.Get(tb, fmt.Sprintf("/api/values/%d/digits", index))
	require.Equal(tb, http.StatusOK, answer.StatusCode, answer)
	return answer.Body
}

// FreshIndex returns an index that nobody has asked for yet, of the given bounds.
func (t *Target) FreshIndex(tb testing.TB, low, high int64) int64 {
	tb.Helper()
	for range 1000 {
		index := low + rand.Int64N(high-low+1)
		if _, taken := t.given.LoadOrStore(index, true); taken {
			continue
		}
		if t.Get(tb, fmt.Sprintf("/api/values/%d", index)).StatusCode == http.StatusNotFound {
			return index
		}
	}
	require.FailNow(tb, "every index seems to be taken", "from %d to %d", low, high)
	return 0
}

// leaks is what only a program's own errors look like.
var leaks = regexp.MustCompile(`pq: |sql: |redis: |json: |strconv|dial tcp|goroutine |panic|\.go:\d`)

// RequireContract requires of an answer of the api that it is one the contract describes.
func (t *Target) RequireContract(tb testing.TB, answer Answer) {
	tb.Helper()
	path := answer.Request.URL.Opaque
	if !strings.HasPrefix(path, "/api/") {
		return
	}
	require.NotEmpty(tb, answer.Header.Get("X-Request-Id"), answer)
	head := answer.Request.Method == http.MethodHead
	if answer.StatusCode >= http.StatusBadRequest && !head {
		answer.Problem(tb)
	}

	if answer.StatusCode == http.StatusMethodNotAllowed {
		return // has no operation to be described by
	}
	// The router wants a path without the host, which may be any.
	relative := &http.Request{Method: answer.Request.Method}
	if head {
		relative.Method = http.MethodGet
	}
	var err error
	if relative.URL, err = url.Parse(path); err != nil {
		require.GreaterOrEqual(tb, answer.StatusCode, http.StatusBadRequest, answer)
		return
	}
	route, parameters, err := t.routes.FindRoute(relative)
	if errors.Is(err, routers.ErrPathNotFound) {
		require.GreaterOrEqual(tb, answer.StatusCode, http.StatusMultipleChoices, answer)
		return
	}
	require.NoError(tb, err, answer)
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: relative, PathParams: parameters, Route: route},
		Status:                 answer.StatusCode,
		Header:                 answer.Header,
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true,
			ExcludeResponseBody:   head || answer.Header.Get("Content-Type") == "application/yaml",
		},
	}
	require.NoError(tb, openapi3filter.ValidateResponse(tb.Context(), input.SetBodyBytes([]byte(answer.Body))), answer)
}

// String is the answer as far as a person who looks for a fault cares to read.
func (a Answer) String() string {
	return fmt.Sprintf("%s %.200q: %s\n%.1000s", a.Request.Method, a.Request.URL.Opaque, a.Status, a.Body)
}

// JSON decodes the body of an answer that says yes.
func (a Answer) JSON(tb testing.TB, into any) {
	tb.Helper()
	require.Less(tb, a.StatusCode, http.StatusMultipleChoices, a)
	require.NoError(tb, json.Unmarshal([]byte(a.Body), into), a)
}

// Problem decodes the body of an answer that says no, and requires that it says so in the proper way.
func (a Answer) Problem(tb testing.TB) Problem {
	tb.Helper()
	var p Problem
	require.Equal(tb, "application/problem+json", a.Header.Get("Content-Type"), a)
	require.NoError(tb, json.Unmarshal([]byte(a.Body), &p), a)
	require.Equal(tb, a.StatusCode, p.Status)
	require.Equal(tb, a.Header.Get("X-Request-Id"), p.RequestID)
	require.NotEmpty(tb, p.Title)
	require.NotRegexp(tb, leaks, a.Body)
	return p
}

// Await looks until it sees what it waits for.
func Await(tb testing.TB, what string, seen func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(Patience); !seen(); time.Sleep(glance) {
		require.True(tb, time.Now().Before(deadline), "waited too long for %s", what)
	}
}
