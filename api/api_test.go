package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/fibstack/fibstack/internal/cache"
	"github.com/fibstack/fibstack/internal/events"
	"github.com/fibstack/fibstack/internal/queue"
	"github.com/fibstack/fibstack/internal/service"
	"github.com/fibstack/fibstack/internal/store"
	"github.com/fibstack/fibstack/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// bundle is an api on real stores, and what a test needs of its insides.
type bundle struct {
	t        *testing.T
	url      string
	client   *http.Client
	store    *store.Store
	queue    *queue.Queue
	cache    *cache.Cache
	redis    *redis.Client
	news     *events.Hub
	registry *prometheus.Registry
	log      *syncBuffer
	// redisServer is the test's own, to be stopped at will.
	redisServer *testkit.Server
}

// syncBuffer is a buffer that may be read while a server logs to it.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// line returns the log line of a request, nil if there is none yet.
func (b *syncBuffer) line(t *testing.T, request string) map[string]any {
	t.Helper()
	for line := range strings.Lines(b.String()) {
		var record map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &record))
		if record["requestId"] == request && record["msg"] == "request" {
			return record
		}
	}
	return nil
}

func setup(t *testing.T, change ...func(*Config)) *bundle {
	t.Helper()
	server, database := testkit.Database(t)
	return setupOn(t, server, database, change...)
}

func setupOn(t *testing.T, postgres *testkit.Server, database string, change ...func(*Config)) *bundle {
	t.Helper()
	b := &bundle{t: t, redisServer: testkit.Redis(t), registry: prometheus.NewRegistry(), log: &syncBuffer{}}
	var err error
	b.store, err = store.Open(store.Config{
		Host: postgres.Host, Port: uint16(postgres.Port), User: "postgres", Database: database, SSLMode: "disable", MaxConns: 5,
	}, "test", nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.store.Close() })
	require.NoError(t, b.store.Migrate(t.Context()))
	b.redis = redis.NewClient(&redis.Options{Addr: b.redisServer.Addr(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = b.redis.Close() })
	b.queue, b.cache, b.news = queue.New(b.redis, queue.Config{}), cache.New(b.redis), events.NewHub(b.redis)
	go func() { _ = b.news.Run(t.Context()) }()

	cfg := Config{MaxIndex: 1_000_000, MaxBacklog: 1000, MaxStreams: 10}
	for _, c := range change {
		c(&cfg)
	}
	log := service.NewLogger(b.log, service.Config{})
	api := newServer(cfg, log, b.registry, nil, b.store, b.queue, b.cache, b.news)
	web := httptest.NewServer(api.handler)
	t.Cleanup(web.Close)
	b.url = web.URL
	b.client = &http.Client{Transport: newContract(t)}
	return b
}

// contract is a transport that checks every answer against openapi.yaml.
type contract struct {
	t      *testing.T
	router routers.Router
}

func newContract(t *testing.T) contract {
	t.Helper()
	openapi3filter.RegisterBodyDecoder("application/yaml", openapi3filter.FileBodyDecoder)
	document, err := openapi3.NewLoader().LoadFromData(openapi)
	require.NoError(t, err)
	require.NoError(t, document.Validate(t.Context()))
	document.Servers = openapi3.Servers{{URL: "/api"}, {URL: "/"}}
	router, err := gorillamux.NewRouter(document)
	require.NoError(t, err)
	return contract{t, router}
}

func (c contract) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || strings.HasSuffix(r.URL.Path, "/events") {
		return response, err
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))

	require.NotEmpty(c.t, response.Header.Get("X-Request-Id"))
	require.NotEqual(c.t, http.StatusInternalServerError, response.StatusCode, "%s", body)
	if response.StatusCode >= http.StatusBadRequest && r.Method != http.MethodHead {
		var p problem
		require.Equal(c.t, "application/problem+json", response.Header.Get("Content-Type"))
		require.NoError(c.t, json.Unmarshal(body, &p))
		require.Equal(c.t, response.StatusCode, p.Status)
		require.Equal(c.t, response.Header.Get("X-Request-Id"), p.RequestID)
	}
	relative := r.Clone(r.Context())
	relative.URL.Scheme, relative.URL.Host, relative.Host = "", "", ""
	route, params, err := c.router.FindRoute(relative)
	if err != nil {
		return response, nil //nolint:nilerr // an answer to what the contract does not know
	}
	err = openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
		Status:                 response.StatusCode,
		Header:                 response.Header,
		Body:                   io.NopCloser(bytes.NewReader(body)),
		Options:                &openapi3filter.Options{IncludeResponseStatus: true},
	})
	require.NoError(c.t, err, "%s %s", r.Method, r.URL.Path)
	return response, nil
}

// answer is a response with its body read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) problem(t *testing.T) problem {
	t.Helper()
	var p problem
	require.NoError(t, json.Unmarshal([]byte(a.body), &p), a.body)
	return p
}

func (b *bundle) do(method, path, body string, header ...string) answer {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, strings.NewReader(body))
	require.NoError(b.t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := b.client.Do(r)
	require.NoError(b.t, err)
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	require.NoError(b.t, err)
	return answer{response.StatusCode, response.Header, string(got)}
}

func (b *bundle) get(path string, header ...string) answer {
	b.t.Helper()
	return b.do(http.MethodGet, path, "", header...)
}

func (b *bundle) post(body string) answer {
	b.t.Helper()
	return b.do(http.MethodPost, "/values", body, "Content-Type", "application/json")
}

func (b *bundle) ask(indexes ...int64) {
	b.t.Helper()
	for _, index := range indexes {
		require.Equal(b.t, http.StatusAccepted, b.post(fmt.Sprintf(`{"index": %d}`, index)).status)
	}
}

func (b *bundle) complete(index int64, digits string) store.Calculation {
	b.t.Helper()
	c, err := b.store.Complete(b.t.Context(), index, []byte(digits), time.Second)
	require.NoError(b.t, err)
	return c
}

func TestARequestIsRecordedAndQueued(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, body := range []string{`{"index": "7"}`, `{"index": 7}`, ` {"index":"007"} `} {
		got := b.post(body)
		require.Equal(t, http.StatusAccepted, got.status)
		require.JSONEq(t, `{"working": true, "index": "7", "status": "pending"}`, got.body)
	}
	stats, err := b.queue.Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, stats.Depth)
	c, err := b.store.Get(t.Context(), 7)
	require.NoError(t, err)
	require.Equal(t, store.Pending, c.Status)
}

func TestAKnownNumberIsNotQueuedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ask(7)
	b.complete(7, "13")
	require.NoError(t, b.redis.FlushAll(t.Context()).Err())
	got := b.post(`{"index": "7"}`)
	require.Equal(t, http.StatusOK, got.status)
	require.JSONEq(t, `{"working": true, "index": "7", "status": "done"}`, got.body)
	stats, err := b.queue.Stats(t.Context())
	require.NoError(t, err)
	require.Zero(t, stats.Depth)
}

func TestBadSubmissionsAreToldWhatIsWrong(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, c := range []struct {
		name, body string
		status     int
		title      string
		field      string
	}{
		{"text", `{"index": "seven"}`, 400, "Invalid index", "index"},
		{"text behind", `{"index": "7abc"}`, 400, "Invalid index", "index"},
		{"blank", `{"index": " 7"}`, 400, "Invalid index", "index"},
		{"empty", `{"index": ""}`, 400, "Invalid index", "index"},
		{"plus", `{"index": "+7"}`, 400, "Invalid index", "index"},
		{"fraction", `{"index": 7.5}`, 400, "Invalid index", "index"},
		{"exponent", `{"index": 1e3}`, 400, "Invalid index", "index"},
		{"hexadecimal", `{"index": "0x7"}`, 400, "Invalid index", "index"},
		{"other digits", `{"index": "٧"}`, 400, "Invalid index", "index"},
		{"negative", `{"index": -1}`, 400, "Invalid index", "index"},
		{"negative text", `{"index": "-1"}`, 400, "Invalid index", "index"},
		{"list", `{"index": [7]}`, 400, "Invalid index", "index"},
		{"object", `{"index": {"n": 7}}`, 400, "Invalid index", "index"},
		{"truth", `{"index": true}`, 400, "Invalid index", "index"},
		{"null", `{"index": null}`, 400, "Missing index", "index"},
		{"missing", `{}`, 400, "Missing index", "index"},
		{"unknown field", `{"index": 7, "colour": "red"}`, 400, "Unknown field", "colour"},
		{"other letters", `{"Index": 7}`, 400, "Unknown field", "Index"},
		{"null alone", `null`, 400, "Malformed body", ""},
		{"no JSON", `index=7`, 400, "Malformed body", ""},
		{"half JSON", `{"index": `, 400, "Malformed body", ""},
		{"no body", ``, 400, "Malformed body", ""},
		{"number alone", `7`, 400, "Malformed body", ""},
		{"more behind", `{"index": 7} {"index": 8}`, 400, "Malformed body", ""},
		{"garbage behind", `{"index": 7}}`, 400, "Malformed body", ""},
		{"not UTF-8", "{\"index\": \"\xff\"}", 400, "Invalid index", "index"},
		{"too large", `{"index": "` + strings.Repeat("0", maxBodyBytes) + `7"}`, 413, "Body too large", ""},
		{"too large behind", `{"index": 7}` + strings.Repeat(" ", maxBodyBytes), 413, "Body too large", ""},
		{"too high", `{"index": 1000001}`, 422, "Index too high", "index"},
		{"much too high", `{"index": "99999999999999999999999"}`, 422, "Index too high", "index"},
	} {
		got := b.post(c.body)
		p := got.problem(t)
		require.Equal(t, c.status, got.status, c.name)
		require.Equal(t, c.title, p.Title, c.name)
		require.Equal(t, c.field, p.Field, c.name)
	}
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/json-patch+json"} {
		got := b.do(http.MethodPost, "/values", `{"index": 7}`, "Content-Type", kind)
		require.Equal(t, http.StatusUnsupportedMediaType, got.status, kind)
	}
	got := b.do(http.MethodPost, "/values", `{"index": 7}`, "Content-Type", "application/json; charset=utf-8")
	require.Equal(t, http.StatusAccepted, got.status)
	counts, err := b.store.Counts(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, counts[store.Pending], "nothing wrong was recorded")
}

func TestAFullBacklogIsSaid(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.MaxBacklog = 2 })
	b.ask(1, 2)
	got := b.post(`{"index": 3}`)
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.NotEmpty(t, got.header.Get("Retry-After"))
	require.Equal(t, "Too much work waiting", got.problem(t).Title)
	require.Equal(t, http.StatusAccepted, b.post(`{"index": 2}`).status, "what waits already is no more work")
}

func TestTheRateOfRequestsCanBeLimited(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.RateLimit = 1 })
	b.ask(1)
	require.Eventually(t, func() bool {
		got := b.post(`{"index": 1}`)
		return got.status == http.StatusTooManyRequests && got.header.Get("Retry-After") != ""
	}, time.Minute, time.Microsecond)
	require.Equal(t, http.StatusOK, b.get("/values/1").status, "reading is not limited")
}

func TestACalculationIsShownInEveryState(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, http.StatusNotFound, b.get("/values/7").status)
	require.Equal(t, http.StatusBadRequest, b.get("/values/seven").status)
	require.Equal(t, http.StatusNotFound, b.get("/values/99999999999999999999999").status)

	b.ask(7, 5000, 8)
	var c store.Calculation
	require.NoError(t, json.Unmarshal([]byte(b.get("/values/7").body), &c))
	require.Equal(t, store.Pending, c.Status)
	require.Nil(t, c.Digits)

	b.complete(7, "13")
	require.NoError(t, json.Unmarshal([]byte(b.get("/values/7").body), &c))
	require.Equal(t, "13", *c.Value)

	b.complete(5000, strings.Repeat("12345", 209))
	got := b.get("/values/5000")
	c = store.Calculation{}
	require.NoError(t, json.Unmarshal([]byte(got.body), &c))
	require.Nil(t, c.Value)
	require.Equal(t, "12345123451234512345", *c.Head)
	require.EqualValues(t, 1045, *c.Digits)

	_, err := b.store.Fail(t.Context(), 8, "the reason")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal([]byte(b.get("/values/8").body), &c))
	require.Equal(t, "the reason", *c.Error)
}

func TestACachedCalculationNeedsNoDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ask(7)
	data, err := json.Marshal(b.complete(7, "13"))
	require.NoError(t, err)
	require.NoError(t, b.cache.Put(t.Context(), 7, data))
	require.NoError(t, b.store.Close())
	got := b.get("/values/7")
	require.Equal(t, http.StatusOK, got.status)
	require.JSONEq(t, string(data), got.body)
}

func TestDigitsAreServedWholeAndInRanges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ask(7_000)
	require.Equal(t, http.StatusConflict, b.get("/values/7000/digits").status)
	number := strings.Repeat("1234567890", 300_000)
	b.complete(7_000, number)

	got := b.get("/values/7000/digits")
	require.Equal(t, http.StatusOK, got.status)
	require.Equal(t, number, got.body)
	require.Equal(t, "public, max-age=31536000, immutable", got.header.Get("Cache-Control"))
	require.Equal(t, "3000000", got.header.Get("Content-Length"))
	tag := got.header.Get("ETag")
	require.NotEmpty(t, tag)

	require.Equal(t, http.StatusNotModified, b.get("/values/7000/digits", "If-None-Match", tag).status)
	part := b.get("/values/7000/digits", "Range", "bytes=1999995-2000004")
	require.Equal(t, http.StatusPartialContent, part.status)
	require.Equal(t, "6789012345", part.body)
	require.Equal(t, "bytes 1999995-2000004/3000000", part.header.Get("Content-Range"))
	require.Equal(t, "890", b.get("/values/7000/digits", "Range", "bytes=-3").body)

	beyond := b.get("/values/7000/digits", "Range", "bytes=3000000-")
	require.Equal(t, http.StatusRequestedRangeNotSatisfiable, beyond.status)
	require.Equal(t, "bytes */3000000", beyond.header.Get("Content-Range"))
	require.Empty(t, beyond.header.Get("Cache-Control"))

	head := b.do(http.MethodHead, "/values/7000/digits", "")
	require.Equal(t, "3000000", head.header.Get("Content-Length"))
	require.Equal(t, http.StatusNotFound, b.get("/values/9/digits").status)
}

func TestTheClassicListsKeepTheOrderOfAsking(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.JSONEq(t, `[]`, b.get("/values/all").body)
	require.JSONEq(t, `{}`, b.get("/values/current").body)
	b.ask(30, 7, 5000, 8)
	b.complete(7, "13")
	b.complete(5000, "12345678901234567890"+strings.Repeat("0", 1000)+"09876543210987654321")
	_, err := b.store.Fail(t.Context(), 8, "the reason")
	require.NoError(t, err)

	require.JSONEq(t, `[{"number":30},{"number":7},{"number":5000},{"number":8}]`, b.get("/values/all").body)
	require.JSONEq(t, `{"30":"Nothing yet!","7":"13","5000":"12345678901234567890…09876543210987654321",
		"8":"Failed: the reason"}`, b.get("/values/current").body)
}

func TestListsArePagedByTheirLinks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var want []string
	for i := range int64(7) {
		b.ask(100 - i)
		want = append([]string{strconv.FormatInt(100-i, 10)}, want...)
	}

	var got []string
	for before := ""; ; {
		var page struct {
			Values []struct{ Index string }
			Next   string
		}
		require.NoError(t, json.Unmarshal([]byte(b.get("/values?limit=3"+before).body), &page))
		for _, v := range page.Values {
			got = append(got, v.Index)
		}
		if page.Next == "" {
			break
		}
		before = "&before=" + page.Next
	}
	require.Equal(t, want, got)

	first := b.get("/values/all?limit=3")
	require.JSONEq(t, `[{"number":96},{"number":95},{"number":94}]`, first.body)
	link, _, _ := strings.Cut(strings.TrimPrefix(first.header.Get("Link"), "<"), ">")
	second := b.get("/values/all" + link)
	require.JSONEq(t, `[{"number":99},{"number":98},{"number":97}]`, second.body)
	require.Empty(t, b.get("/values/current").header.Get("Link"))
}

func TestListsAreFilteredByStatus(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ask(1, 2, 3)
	b.complete(2, "1")
	var page struct {
		Values []struct{ Index, Status string }
	}
	require.NoError(t, json.Unmarshal([]byte(b.get("/values?status=done").body), &page))
	require.Len(t, page.Values, 1)
	require.Equal(t, "2", page.Values[0].Index)
}

func TestBadParametersAreNamed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for path, field := range map[string]string{
		"/values?limit=0":                      "limit",
		"/values?limit=10001":                  "limit",
		"/values?limit=many":                   "limit",
		"/values/all?limit=-1":                 "limit",
		"/values/current?before=x":             "before",
		"/values?before=0":                     "before",
		"/values?status=lost":                  "status",
		"/values/all?status=done":              "status",
		"/values?limit=1&limit=2":              "limit",
		"/values?order=up":                     "order",
		"/values?before=99999999999999999999":  "before",
		"/values?limit=5&%ff=%":                "",
		"/values?limit=9999999999999999999999": "limit",
	} {
		got := b.get(path)
		require.Equal(t, http.StatusBadRequest, got.status, path)
		require.Equal(t, field, got.problem(t).Field, path)
	}
}

func TestEveryRouteIsServedUnderBothPrefixes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ask(7)
	b.complete(7, "13")
	for _, path := range []string{
		"/", "/values", "/values/all", "/values/current", "/values/7", "/values/7/digits", "/stats", "/version", "/openapi.yaml",
	} {
		plain, prefixed := b.get(path), b.get("/api"+path)
		require.Equal(t, http.StatusOK, plain.status, path)
		require.Equal(t, plain.body, prefixed.body, path)
	}
	require.Equal(t, http.StatusOK, b.get("/api").status)
	require.Equal(t, http.StatusOK, b.do(http.MethodPost, "/api/values", `{"index":7}`, "Content-Type", "application/json").status)
}

func TestUnknownPathsAndMethodsAreProblems(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, path := range []string{"/nothing", "/api/nothing", "/values/", "/values/7/", "/metrics", "/readyz", "/debug/pprof/"} {
		require.Equal(t, http.StatusNotFound, b.get(path).status, path)
	}
	for path, allow := range map[string]string{
		"/values": "GET, HEAD, POST", "/api/values": "GET, HEAD, POST", "/values/7": "GET, HEAD", "/stats": "GET, HEAD", "/events": "GET",
	} {
		got := b.do(http.MethodDelete, path, "")
		require.Equal(t, http.StatusMethodNotAllowed, got.status, path)
		require.Equal(t, allow, got.header.Get("Allow"), path)
	}
}

func TestTheRequestIDIsTheClientsOwnOrANewOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, "my-id.7", b.get("/version", "X-Request-Id", "my-id.7").header.Get("X-Request-Id"))
	for _, bad := range []string{"", "a b", `"quoted"`, strings.Repeat("a", 65)} {
		got := b.get("/version", "X-Request-Id", bad).header.Get("X-Request-Id")
		require.Regexp(t, `^[A-Z2-7]{26}$`, got)
	}
}

func TestStatsCountWhatThereIs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ask(1, 2)
	b.complete(1, "1")
	require.JSONEq(t, `{"counts": {"pending": 1, "done": 1, "failed": 0}, "queueDepth": 2, "workers": 0}`, b.get("/stats").body)
}

func TestWithoutRedisRequestsAreTakenAndAnswered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ask(7)
	b.complete(7, "13")
	b.redisServer.Stop()

	b.ask(8)
	require.Equal(t, http.StatusOK, b.get("/values/7").status)
	require.Equal(t, "13", b.get("/values/7/digits").body)
	require.JSONEq(t, `[{"number":7},{"number":8}]`, b.get("/values/all").body)
	require.JSONEq(t, `{"counts": {"pending": 1, "done": 1, "failed": 0}, "queueDepth": null, "workers": null}`, b.get("/stats").body)
}

func TestWithoutPostgresTheAnswerIsToTryAgain(t *testing.T) {
	t.Parallel()
	server := testkit.Postgres(t)
	b := setupOn(t, server, "postgres")
	b.ask(7)

	server.Stop()
	for _, got := range []answer{
		b.post(`{"index": 8}`), b.get("/values/7"), b.get("/values"), b.get("/values/all"), b.get("/values/current"),
		b.get("/values/7/digits"), b.get("/stats"),
	} {
		require.Equal(t, http.StatusServiceUnavailable, got.status)
		require.NotEmpty(t, got.header.Get("Retry-After"))
		require.Equal(t, "Database unavailable", got.problem(t).Title)
	}
	require.Equal(t, http.StatusOK, b.get("/version").status)

	require.NoError(t, server.Start())
	require.Eventually(t, func() bool { return b.get("/values/7").status == http.StatusOK }, time.Minute, 10*time.Millisecond)
}

func TestFinishedCalculationsArriveOnTheStream(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stream, lines := b.stream()
	require.Equal(t, "text/event-stream", stream.Header.Get("Content-Type"))
	require.Equal(t, "no", stream.Header.Get("X-Accel-Buffering"))
	require.Equal(t, "retry: 2000", <-lines)
	require.Empty(t, <-lines)

	for range 2 {
		require.NoError(t, events.Publish(t.Context(), b.redis, []byte(`{"index":"7"}`)))
		require.Equal(t, "event: calculation", <-lines)
		require.Equal(t, `data: {"index":"7"}`, <-lines)
		require.Empty(t, <-lines)
	}
}

// stream opens an event stream when news can be heard, and returns its lines as they come.
func (b *bundle) stream() (*http.Response, <-chan string) {
	b.t.Helper()
	// A stream from before the subscription ends when that is made.
	require.Eventually(b.t, func() bool {
		return b.redis.PubSubNumSub(b.t.Context(), events.Channel).Val()[events.Channel] == 1
	}, time.Minute, time.Millisecond)
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.url+"/api/events", http.NoBody)
	require.NoError(b.t, err)
	response, err := b.client.Do(r)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = response.Body.Close() })
	lines := make(chan string)
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(response.Body)
		for scanner.Scan() {
			select {
			case lines <- scanner.Text():
			case <-b.t.Context().Done():
				return
			}
		}
	}()
	return response, lines
}

func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.MaxStreams = 1 })
	stream, lines := b.stream()
	defer stream.Body.Close()
	require.Equal(t, "retry: 2000", <-lines)
	got := b.get("/events")
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.NotEmpty(t, got.header.Get("Retry-After"))

	require.NoError(t, stream.Body.Close())
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+"/events", http.NoBody)
		require.NoError(t, err)
		response, err := b.client.Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, time.Minute, 10*time.Millisecond, "a closed stream makes room")
}

func TestMetricsCountByRouteTemplate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	metric := func(line string) {
		t.Helper()
		families, err := b.registry.Gather()
		require.NoError(t, err)
		var text bytes.Buffer
		for _, family := range families {
			_, err := expfmt.MetricFamilyToText(&text, family)
			require.NoError(t, err)
		}
		require.Contains(t, text.String(), line+"\n")
	}
	metric(`fibstack_http_requests_total{code="202",method="POST",route="/values"} 0`)
	metric(`fibstack_cache_lookups_total{result="hit"} 0`)

	b.ask(7)
	b.get("/values/7")
	b.get("/api/values/7")
	b.get("/values/8")
	b.get("/nothing")
	b.do("INVENTED", "/values", "")
	metric(`fibstack_http_requests_total{code="202",method="POST",route="/values"} 1`)
	metric(`fibstack_http_requests_total{code="200",method="GET",route="/values/{index}"} 2`)
	metric(`fibstack_http_requests_total{code="404",method="GET",route="/values/{index}"} 1`)
	metric(`fibstack_http_requests_total{code="404",method="GET",route="other"} 1`)
	metric(`fibstack_http_requests_total{code="405",method="other",route="other"} 1`)
	metric(`fibstack_http_request_duration_seconds_count{method="GET",route="/values/{index}"} 3`)
	metric(`fibstack_cache_lookups_total{result="miss"} 3`)
	metric(`fibstack_queue_up 1`)
	metric(`fibstack_queue_depth 1`)
	metric(`fibstack_queue_lag 1`)

	b.redisServer.Stop()
	b.ask(8)
	metric(`fibstack_queue_up 0`)
	metric(`fibstack_enqueue_failures_total 1`)
}

func TestSubmissionsAreCountedByWhatBecameOfThem(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ask(7, 7, 8)
	b.complete(7, "13")
	require.Equal(t, http.StatusOK, b.post(`{"index": "7"}`).status)
	_, err := b.store.Fail(t.Context(), 8, "the reason")
	require.NoError(t, err)
	b.ask(8)
	require.NoError(t, testutil.GatherAndCompare(b.registry, strings.NewReader(`
# HELP fibstack_submissions_total Requests for a calculation that were accepted. new: recorded, or recorded again after a failure; waiting: was waiting already; done: was finished already.
# TYPE fibstack_submissions_total counter
fibstack_submissions_total{outcome="done"} 1
fibstack_submissions_total{outcome="new"} 3
fibstack_submissions_total{outcome="waiting"} 1
`), "fibstack_submissions_total"))
	families, err := b.registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == "fibstack_job_stage_duration_seconds" {
			// The job of 8 was still on the stream when it was asked for again.
			require.EqualValues(t, 2, family.GetMetric()[0].GetHistogram().GetSampleCount())
		}
	}
}

func TestWhatClientsInventMakesNoMetrics(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.MaxBacklog = 100_000 })
	b.client = http.DefaultClient // the contract is not what is tested here
	visit := func(i int) {
		b.post(fmt.Sprintf(`{"index": %d}`, i))
		b.get(fmt.Sprintf("/values/%d", i))
		b.get(fmt.Sprintf("/nothing/%d?q=%d", i, i), "User-Agent", strconv.Itoa(i), "X-Request-Id", strconv.Itoa(i))
		b.do(fmt.Sprintf("INVENTED%d", i), fmt.Sprintf("/values/%d/digits", i), "")
	}
	visit(1)
	before, err := testutil.GatherAndCount(b.registry)
	require.NoError(t, err)
	const many, atOnce = 10_000, 8
	var group errgroup.Group
	for worker := range atOnce {
		group.Go(func() error {
			for i := 2 + worker; i <= many; i += atOnce {
				visit(i)
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	after, err := testutil.GatherAndCount(b.registry)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestTheLogLineOfARequestCarriesItsID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.get("/values/8", "X-Request-Id", "find-me")
	var line map[string]any
	require.Eventually(t, func() bool {
		line = b.log.line(t, "find-me")
		return line != nil
	}, time.Minute, time.Millisecond)
	require.Equal(t, "/values/{index}", line["route"])
	require.EqualValues(t, http.StatusNotFound, line["status"])
	require.NotContains(t, line, "trace_id")
}

func TestTheReadmeHasEveryVariable(t *testing.T) {
	t.Parallel()
	testkit.RequireInReadme(t, &Config{}, &store.Config{}, &service.Config{}, &service.Redis{})
}

func TestTheProgramMigratesServesAndStops(t *testing.T) {
	postgres, database := testkit.Database(t)
	redisServer := testkit.Redis(t)
	var ports [2]string
	for i := range ports {
		port, err := testkit.FreePort()
		require.NoError(t, err)
		ports[i] = "127.0.0.1:" + strconv.Itoa(port)
	}
	for name, value := range map[string]string{
		"PGHOST": postgres.Host, "PGPORT": strconv.Itoa(postgres.Port), "PGDATABASE": database, "PGSSLMODE": "disable",
		"REDIS_HOST": redisServer.Host, "REDIS_PORT": strconv.Itoa(redisServer.Port),
		"API_ADDR": ports[0], "OPS_ADDR": ports[1], "MIGRATE_ON_START": "false",
	} {
		t.Setenv(name, value)
	}
	require.ErrorIs(t, run(t.Context(), []string{"migrate", "twice"}), service.ErrUsage)
	require.Error(t, run(t.Context(), []string{"healthcheck"}), "nothing runs yet")
	require.NoError(t, run(t.Context(), []string{"migrate"}))

	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- run(ctx, nil) }()
	require.Eventually(t, func() bool { return run(t.Context(), []string{"healthcheck"}) == nil }, time.Minute, 10*time.Millisecond)
	b := &bundle{t: t, url: "http://" + ports[0], client: &http.Client{Transport: newContract(t)}}
	group := redis.NewClient(&redis.Options{Addr: redisServer.Addr()})
	defer group.Close()
	require.Eventually(t, func() bool { return group.XInfoGroups(t.Context(), queue.Stream).Err() == nil },
		time.Minute, 10*time.Millisecond, "an autoscaler finds the group")
	b.ask(7)
	testkit.RequireGoodMetrics(t, "http://"+ports[1]+"/metrics")
	stop()
	require.NoError(t, <-stopped)
}

func TestARequestContinuesTheTraceOfTheProxy(t *testing.T) {
	collector := testkit.NewCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	postgres, database := testkit.Database(t)
	redisServer := testkit.Redis(t)
	s := service.New(name, service.Config{LogLevel: slog.LevelError, GracePeriod: time.Minute})
	db, err := store.Open(store.Config{
		Host: postgres.Host, Port: uint16(postgres.Port), User: "postgres", Database: database, SSLMode: "disable", MaxConns: 5,
	}, "test", s.StoreTracing())
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.Migrate(t.Context()))
	client, err := service.Redis{Host: redisServer.Host, Port: uint16(redisServer.Port)}.Client(s.StoreTracing())
	require.NoError(t, err)
	defer client.Close()
	jobs, log := queue.New(client, queue.Config{}), &syncBuffer{}
	api := newServer(Config{MaxIndex: 100, MaxBacklog: 100, MaxStreams: 1}, service.NewLogger(log, service.Config{}), s.Registry,
		s.Tracing, db, jobs, cache.New(client), events.NewHub(client))

	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	r := httptest.NewRequest(http.MethodPost, "/api/values", strings.NewReader(`{"index": 7}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Traceparent", "00-"+trace+"-"+parent+"-01")
	r.Header.Set("X-Request-Id", "find-me")
	answered := httptest.NewRecorder()
	api.handler.ServeHTTP(answered, r)
	require.Equal(t, http.StatusAccepted, answered.Code)
	job, err := jobs.Take(t.Context())
	require.NoError(t, err)
	stats := httptest.NewRecorder()
	s.Close()

	request, enqueue := collector.Only(t, "POST /values"), collector.Only(t, "enqueue")
	require.Equal(t, parent, request.Parent)
	require.Equal(t, request.ID, enqueue.Parent)
	require.Equal(t, queue.Origin{Request: "find-me", Trace: "00-" + trace + "-" + enqueue.ID + "-01"}, job.Origin)
	line := log.line(t, "find-me")
	require.Equal(t, trace, line["trace_id"])
	require.Equal(t, request.ID, line["span_id"])
	require.Contains(t, collector.Below(request), "sql.conn.query")
	require.NotEmpty(t, collector.Below(enqueue), "Redis")
	for _, span := range collector.Spans() {
		require.Equal(t, trace, span.Trace, "neither migrations nor the wait for jobs make traces: %v", span)
	}

	scrape := httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody)
	scrape.Header.Set("Accept", "application/openmetrics-text")
	promhttp.HandlerFor(s.Registry, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(stats, scrape)
	require.Contains(t, stats.Body.String(), `# {trace_id="`+trace+`"}`)
}
