// Package nginx_test drives the real nginx, started by the script that the image and the native run
// start it with, between clients and upstreams of its own.
package nginx_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// patience bounds every wait for a condition; it is spent only by a test that fails.
const patience = 30 * time.Second

// proxy is a running nginx.
type proxy struct {
	url       string
	statusURL string
	dir       string
	cmd       *exec.Cmd
	stdout    *output
	stderr    *output
}

type settings map[string]string

// start runs nginx until the test ends, with the template given or the front door's own.
func start(t *testing.T, env settings, template ...string) *proxy {
	t.Helper()
	for _, file := range []string{"run", "nginx.conf.template", "default.conf.template"} {
		// Go's test cache knows the files that the test itself has looked at, not those of its children.
		_, err := os.Stat(file)
		require.NoError(t, err)
	}

	address, statusAddress := freeAddress(t), freeAddress(t)
	p := &proxy{
		url:       "http://" + address,
		statusURL: "http://" + statusAddress,
		dir:       t.TempDir(),
		stdout:    &output{},
		stderr:    &output{},
	}
	p.cmd = exec.Command("./run", append([]string{p.dir}, template...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.cmd.Env = append(os.Environ(), "PORT="+address, "STATUS_PORT="+statusAddress, "RESOLVE_INTERVAL=0.1")
	for name, value := range env {
		p.cmd.Env = append(p.cmd.Env, name+"="+value)
	}
	require.NoError(t, p.cmd.Start())
	var exit error
	exited := make(chan struct{})
	go func() {
		// This ends when nginx has exited and nobody has its output open any more: its loop is gone too.
		exit = p.cmd.Wait()
		close(exited)
	}()

	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
			assert.NoError(t, exit)
		case <-time.After(patience):
			_ = p.cmd.Process.Kill()
			assert.Fail(t, "nginx did not stop")
		}
		assert.NotRegexp(t, `\[(alert|emerg)\]`, p.stderr)
		if t.Failed() {
			t.Logf("nginx's error log:\n%s", p.stderr)
		}
	})

	require.Eventually(t, func() bool {
		select {
		case <-exited:
			return true
		default:
		}
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, patience, 10*time.Millisecond, "nginx does not listen")
	select {
	case <-exited:
		require.Fail(t, "nginx did not start")
	default:
	}
	return p
}

// output collects what a process writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// freeAddress is one where nothing listens, at least until somebody else looks for one.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

// serve is an upstream at an address; without one, at any.
func serve(t *testing.T, handler http.HandlerFunc, address ...string) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	if len(address) > 0 {
		require.NoError(t, server.Listener.Close())
		var err error
		server.Listener, err = net.Listen("tcp", address[0])
		require.NoError(t, err)
	}
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.Listener.Addr().String()
}

func say(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

// sayWhoAndWhere answers with a name and the path as the upstream saw it.
func sayWhoAndWhere(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, name+" "+r.RequestURI) }
}

type answer struct {
	*http.Response
	body string
}

func send(t *testing.T, method, url string, body io.Reader, headers ...string) answer {
	t.Helper()
	request, err := http.NewRequest(method, url, body)
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			request.Host = headers[i+1]
		}
	}
	// Every request by a connection of its own: after a reload, an old worker may answer on an old one.
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return answer{response, string(content)}
}

func get(t *testing.T, url string, headers ...string) answer {
	t.Helper()
	return send(t, http.MethodGet, url, nil, headers...)
}

func requireProblem(t *testing.T, a answer, status int) {
	t.Helper()
	require.Equal(t, status, a.StatusCode, a.body)
	require.Equal(t, "application/problem+json", a.Header.Get("Content-Type"))
	var problem struct {
		Type, Title, Detail, RequestID string
		Status                         int
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &problem), a.body)
	require.Equal(t, "about:blank", problem.Type)
	require.Equal(t, status, problem.Status)
	require.NotEmpty(t, problem.Title)
	require.NotEmpty(t, problem.Detail)
	require.NotEmpty(t, problem.RequestID)
	require.Equal(t, a.Header.Get("X-Request-Id"), problem.RequestID)
}

// requireSoon waits until the proxy answers the path with the text.
func requireSoon(t *testing.T, p *proxy, path, text string) {
	t.Helper()
	var last answer
	require.Eventually(t, func() bool {
		last = get(t, p.url+path)
		return last.StatusCode == http.StatusOK && last.body == text
	}, patience, 20*time.Millisecond, "no %q from %s: %s", text, path, p.stderr)
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	p := start(t, settings{
		"API_UPSTREAM":    serve(t, sayWhoAndWhere("api")),
		"CLIENT_UPSTREAM": serve(t, sayWhoAndWhere("client")),
	})
	for path, want := range map[string]string{
		"/":                             "client /",
		"/otherpage":                    "client /otherpage",
		"/assets/index-1a2b.js?v=1":     "client /assets/index-1a2b.js?v=1",
		"/apiary":                       "client /apiary",
		"/values/all":                   "client /values/all",
		"/metrics":                      "client /metrics",
		"/api":                          "api /",
		"/api?limit=3":                  "api /?limit=3",
		"/api/":                         "api /",
		"/api/values":                   "api /values",
		"/api/values/7/digits":          "api /values/7/digits",
		"/api/values?limit=3&before=%2": "api /values?limit=3&before=%2",
		"/api/events":                   "api /events",
		"/api/api/values":               "api /api/values",
	} {
		assert.Equal(t, want, get(t, p.url+path).body, path)
	}
}

func TestOpsEndpointsAreNotReachable(t *testing.T) {
	t.Parallel()
	var reached atomic.Bool
	ops := serve(t, func(http.ResponseWriter, *http.Request) { reached.Store(true) })
	p := start(t, settings{
		"API_UPSTREAM":    serve(t, say("api")),
		"CLIENT_UPSTREAM": serve(t, say("client")),
	})
	front := strings.TrimPrefix(p.url, "http://")
	for _, line := range []string{
		"GET /metrics", "GET /api/metrics", "GET /api/../metrics", "GET /readyz", "GET /stub_status",
		"GET http://" + ops + "/metrics", "GET /api//" + ops + "/metrics", "GET /api/@" + ops + "/metrics",
		"GET /_problem",
	} {
		for _, host := range []string{front, ops} {
			conn, err := net.Dial("tcp", front)
			require.NoError(t, err)
			fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", line, host)
			content, err := io.ReadAll(conn)
			require.NoError(t, err)
			conn.Close()
			assert.Regexp(t, `(?s)\r\n\r\n(api|client)$|^HTTP/1.1 404 `, string(content), line)
			assert.NotContains(t, string(content), "Active connections", line)
		}
	}
	assert.False(t, reached.Load())
}

func TestRedirectsOfTheAPIGetTheirPrefixBack(t *testing.T) {
	t.Parallel()
	p := start(t, settings{"API_UPSTREAM": serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/values/7", http.StatusSeeOther)
	})})
	assert.Equal(t, p.url+"/api/values/7", get(t, p.url+"/api/seven").Header.Get("Location"))
}

func TestUpstreamsLearnHowTheyWereCalled(t *testing.T) {
	t.Parallel()
	echo := func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Host", r.Host)
		_ = json.NewEncoder(w).Encode(r.Header)
	}
	p := start(t, settings{"API_UPSTREAM": serve(t, echo), "CLIENT_UPSTREAM": serve(t, echo)})
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, path := range []string{"/", "/api/values", "/api/events"} {
		var seen http.Header
		a := get(t, p.url+path, "Host", "fib.example:3050")
		require.NoError(t, json.Unmarshal([]byte(a.body), &seen))
		assert.Equal(t, "fib.example:3050", seen.Get("Host"), path)
		assert.Equal(t, "127.0.0.1", seen.Get("X-Forwarded-For"), path)
		assert.Equal(t, "http", seen.Get("X-Forwarded-Proto"), path)

		a = get(t, p.url+path, "X-Forwarded-For", "192.0.2.7", "X-Forwarded-Proto", "https", "Upgrade", "h2c",
			"Traceparent", trace, "Tracestate", "vendor=1")
		seen = nil
		require.NoError(t, json.Unmarshal([]byte(a.body), &seen))
		assert.Equal(t, "192.0.2.7, 127.0.0.1", seen.Get("X-Forwarded-For"), path)
		assert.Equal(t, "https", seen.Get("X-Forwarded-Proto"), path)
		assert.Empty(t, seen.Get("Upgrade"), path)
		assert.Equal(t, trace, seen.Get("Traceparent"), path)
		assert.Equal(t, "vendor=1", seen.Get("Tracestate"), path)
	}
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	var seen string
	upstream := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Get("X-Request-Id")
		w.Header().Set("X-Request-Id", seen)
	})
	p := start(t, settings{"API_UPSTREAM": upstream, "CLIENT_UPSTREAM": upstream})

	for _, path := range []string{"/", "/api/values", "/api/events"} {
		for _, good := range []string{"a", "0af7651916cd43dd8448eb211c80319c", "Job_7.step-2", strings.Repeat("x", 64)} {
			a := get(t, p.url+path, "X-Request-Id", good)
			assert.Equal(t, good, seen, path)
			assert.Equal(t, []string{good}, a.Header.Values("X-Request-Id"), path)
		}
		for _, bad := range []string{"", "two words", `"}`, "é", strings.Repeat("x", 65)} {
			a := get(t, p.url+path, "X-Request-Id", bad)
			assert.Regexp(t, "^[0-9a-f]{32}$", seen, "%s with %q", path, bad)
			assert.Equal(t, []string{seen}, a.Header.Values("X-Request-Id"), path)
		}
	}
}

func TestEventsArriveOneByOne(t *testing.T) {
	t.Parallel()
	next := make(chan string)
	defer close(next)
	p := start(t, settings{"API_UPSTREAM": serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for data := range next {
			fmt.Fprintf(w, "data: %s\n\n", data)
			w.(http.Flusher).Flush()
		}
	})})

	request, err := http.NewRequest(http.MethodGet, p.url+"/api/events", nil)
	require.NoError(t, err)
	request.Header.Set("Accept-Encoding", "gzip")
	response, err := http.DefaultTransport.RoundTrip(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Empty(t, response.Header.Get("Content-Encoding"))
	events := bufio.NewReader(response.Body)
	for i := range 3 {
		next <- strconv.Itoa(i)
		for _, want := range []string{fmt.Sprintf("data: %d\n", i), "\n"} {
			line, err := events.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, want, line)
		}
	}
}

func TestWebSocketsOfTheClient(t *testing.T) {
	t.Parallel()
	p := start(t, settings{"CLIENT_UPSTREAM": serve(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "websocket", r.Header.Get("Upgrade"))
		assert.Equal(t, "upgrade", r.Header.Get("Connection"))
		assert.Equal(t, "vite-hmr", r.Header.Get("Sec-Websocket-Protocol"))
		conn, stream, err := http.NewResponseController(w).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		_, _ = io.Copy(conn, stream)
	})})

	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprint(conn, "GET /?token=x HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n"+
		"Upgrade: websocket\r\nSec-WebSocket-Protocol: vite-hmr\r\n\r\n")
	stream := bufio.NewReader(conn)
	response, err := http.ReadResponse(stream, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
	for _, message := range []string{"ping\n", "pong\n"} {
		_, err := io.WriteString(conn, message)
		require.NoError(t, err)
		echo, err := stream.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, message, echo)
	}
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	const limit = 16 << 10
	p := start(t, settings{"API_UPSTREAM": serve(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})})
	fits := send(t, http.MethodPost, p.url+"/api/values", strings.NewReader(strings.Repeat("7", limit)))
	assert.Equal(t, strconv.Itoa(limit), fits.body)

	tooLong := strings.Repeat("7", limit+1)
	requireProblem(t, send(t, http.MethodPost, p.url+"/api/values", strings.NewReader(tooLong)), http.StatusRequestEntityTooLarge)
	chunked := io.MultiReader(strings.NewReader(tooLong))
	requireProblem(t, send(t, http.MethodPost, p.url+"/api/values", chunked), http.StatusRequestEntityTooLarge)
}

func TestProblemForAnAPIThatIsAway(t *testing.T) {
	t.Parallel()
	p := start(t, settings{"API_UPSTREAM": freeAddress(t), "CLIENT_UPSTREAM": freeAddress(t)})
	for _, path := range []string{"/api", "/api/values", "/api/events"} {
		requireProblem(t, get(t, p.url+path), http.StatusBadGateway)
	}
	page := get(t, p.url+"/")
	assert.Equal(t, http.StatusBadGateway, page.StatusCode)
	assert.Equal(t, "text/html", page.Header.Get("Content-Type"))
	assert.NotEmpty(t, page.Header.Get("X-Request-Id"))
}

func TestProblemForAnAPIThatIsSilent(t *testing.T) {
	t.Parallel()
	p := start(t, settings{"READ_TIMEOUT": "1s", "API_UPSTREAM": serve(t, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	})})
	requireProblem(t, get(t, p.url+"/api/values"), http.StatusGatewayTimeout)
}

func TestProblemsOfTheAPIPassAsTheyAre(t *testing.T) {
	t.Parallel()
	p := start(t, settings{"API_UPSTREAM": serve(t, func(w http.ResponseWriter, r *http.Request) {
		status, err := strconv.Atoi(r.FormValue("status"))
		assert.NoError(t, err)
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", "3")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"title":"Its own"}`)
	})})
	for _, status := range []int{400, 404, 405, 413, 422, 429, 500, 502, 503, 504} {
		a := get(t, fmt.Sprintf("%s/api/values?status=%d", p.url, status))
		assert.Equal(t, status, a.StatusCode)
		assert.Equal(t, `{"title":"Its own"}`, a.body)
		assert.Equal(t, "3", a.Header.Get("Retry-After"))
		assert.Equal(t, "application/problem+json", a.Header.Get("Content-Type"))
	}
}

func TestProblemsForWhatNginxItselfRefuses(t *testing.T) {
	t.Parallel()
	p := start(t, settings{"API_UPSTREAM": serve(t, say("api"))})
	requireProblem(t, get(t, p.url+"/api/values/"+strings.Repeat("7", 10_000)), http.StatusRequestURITooLong)
	requireProblem(t, get(t, p.url+"/api/values", "X-Long", strings.Repeat("7", 10_000)), http.StatusRequestHeaderFieldsTooLarge)
	requireProblem(t, get(t, p.url+"/api/values", "Host", "a b"), http.StatusBadRequest)
	requireProblem(t, send(t, http.MethodTrace, p.url+"/api/values", nil), http.StatusMethodNotAllowed)
}

func TestDigitsPassWholeAndInRanges(t *testing.T) {
	t.Parallel()
	digits := bytes.Repeat([]byte("1234567890"), 2_090_000)
	p := start(t, settings{"API_UPSTREAM": serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("ETag", `"100000000"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(digits))
	})})
	url := p.url + "/api/values/100000000/digits"

	whole := get(t, url, "Accept-Encoding", "gzip")
	assert.Equal(t, http.StatusOK, whole.StatusCode)
	assert.Equal(t, "bytes", whole.Header.Get("Accept-Ranges"))
	assert.Equal(t, `"100000000"`, whole.Header.Get("ETag"))
	assert.True(t, whole.body == string(digits), "the digits are not the same")

	part := get(t, url, "Accept-Encoding", "gzip", "Range", "bytes=20000000-20000009", "If-Range", `"100000000"`)
	assert.Equal(t, http.StatusPartialContent, part.StatusCode)
	assert.Equal(t, "bytes 20000000-20000009/20900000", part.Header.Get("Content-Range"))
	assert.Equal(t, "1234567890", part.body)

	assert.NotContains(t, p.stderr.String(), "temporary file")
}

func TestJSONIsCompressed(t *testing.T) {
	t.Parallel()
	list := `["` + strings.Repeat("7", 5000) + `"]`
	p := start(t, settings{"API_UPSTREAM": serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, list)
	})})
	a := get(t, p.url+"/api/values/all", "Accept-Encoding", "gzip")
	require.Equal(t, "gzip", a.Header.Get("Content-Encoding"))
	require.Equal(t, "Accept-Encoding", a.Header.Get("Vary"))
	plain, err := gzip.NewReader(strings.NewReader(a.body))
	require.NoError(t, err)
	content, err := io.ReadAll(plain)
	require.NoError(t, err)
	require.Equal(t, list, string(content))
}

func TestHealthAndStatusNeedNoUpstreams(t *testing.T) {
	t.Parallel()
	p := start(t, settings{"API_UPSTREAM": freeAddress(t), "CLIENT_UPSTREAM": freeAddress(t)})
	health := get(t, p.url+"/healthz")
	assert.Equal(t, http.StatusOK, health.StatusCode)
	assert.Equal(t, "ok\n", health.body)
	assert.Equal(t, "nginx", health.Header.Get("Server"), "no version")

	assert.Contains(t, get(t, p.statusURL+"/stub_status").body, "Active connections: ")
	assert.Equal(t, http.StatusNotFound, get(t, p.statusURL+"/").StatusCode)
}

func TestAccessLogIsJSON(t *testing.T) {
	t.Parallel()
	api := serve(t, say("hello"))
	p := start(t, settings{"API_UPSTREAM": api, "CLIENT_UPSTREAM": freeAddress(t)})
	get(t, p.url+"/api/values?limit=3", "X-Request-Id", "one", "User-Agent", `"quoted" \ agent`)
	get(t, p.url+"/", "X-Request-Id", "two")
	get(t, p.url+"/healthz", "X-Request-Id", "health")
	get(t, p.url+"/api", "X-Request-Id", "three")
	require.Eventually(t, func() bool { return strings.Count(p.stdout.String(), "\n") >= 3 }, patience, 10*time.Millisecond)

	lines := map[any]map[string]any{}
	for text := range strings.Lines(p.stdout.String()) {
		var line map[string]any
		require.NoError(t, json.Unmarshal([]byte(text), &line), text)
		lines[line["requestId"]] = line
	}
	require.Len(t, lines, 3, "a health check is no news")

	one := lines["one"]
	assert.Equal(t, "GET", one["method"])
	assert.Equal(t, "/api/values?limit=3", one["uri"])
	assert.EqualValues(t, 200, one["status"])
	assert.EqualValues(t, len("hello"), one["bytes"])
	assert.IsType(t, 0.0, one["seconds"])
	assert.Equal(t, api, one["upstream"])
	assert.Equal(t, "200", one["upstreamStatus"])
	assert.NotEmpty(t, one["upstreamSeconds"])
	assert.Equal(t, `"quoted" \ agent`, one["userAgent"])
	_, err := time.Parse(time.RFC3339, one["time"].(string))
	require.NoError(t, err)

	assert.EqualValues(t, 502, lines["two"]["status"])
	assert.Equal(t, "/api", lines["three"]["uri"])
}

func TestARequestThatIsNeverAnsweredIsLoggedInJSONToo(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	p := start(t, settings{"GRACE_PERIOD": "1s", "API_UPSTREAM": serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	})})
	go func() {
		if response, err := http.Get(p.url + "/api/values"); err == nil {
			response.Body.Close()
		}
	}()
	<-asked
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool { return strings.Contains(p.stdout.String(), "\n") }, patience, 10*time.Millisecond)
	var line struct{ Status int }
	require.NoError(t, json.Unmarshal([]byte(p.stdout.String()), &line))
	require.Zero(t, line.Status)
}

func TestStartsWithoutUpstreamsAndFindsThem(t *testing.T) {
	t.Parallel()
	eachNameService(t, func(t *testing.T, names nameService) {
		api, client := uniqueName(t, "api"), uniqueName(t, "client")
		port := freePort(t)
		p := start(t, settings{"API_UPSTREAM": api + ":" + port, "CLIENT_UPSTREAM": client + ":" + port})
		requireProblem(t, get(t, p.url+"/api/values"), http.StatusBadGateway)
		require.Equal(t, http.StatusOK, get(t, p.url+"/healthz").StatusCode)

		serve(t, say("api"), "127.0.0.2:"+port)
		serve(t, say("client"), "127.0.0.3:"+port)
		names.set(t, api, "127.0.0.2")
		requireSoon(t, p, "/api/values", "api")
		names.set(t, client, "127.0.0.3")
		requireSoon(t, p, "/", "client")
	})
}

func TestFollowsAnUpstreamToItsNewAddress(t *testing.T) {
	t.Parallel()
	eachNameService(t, func(t *testing.T, names nameService) {
		api, port := uniqueName(t, "api"), freePort(t)
		serve(t, say("old"), "127.0.0.2:"+port)
		serve(t, say("new"), "127.0.0.3:"+port)
		names.set(t, api, "127.0.0.2")
		p := start(t, settings{"API_UPSTREAM": api + ":" + port})
		require.Equal(t, "old", get(t, p.url+"/api/").body)

		names.set(t, api, "127.0.0.3")
		requireSoon(t, p, "/api/", "new")
	})
}

func TestUsesAllAddresses(t *testing.T) {
	t.Parallel()
	eachNameService(t, func(t *testing.T, names nameService) {
		api, port := uniqueName(t, "api"), freePort(t)
		addresses := []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"}
		for _, address := range addresses {
			serve(t, say(address), address+":"+port)
		}
		names.set(t, api, addresses[0])
		p := start(t, settings{"API_UPSTREAM": api + ":" + port})
		names.set(t, api, addresses...)

		seen := map[string]bool{}
		require.Eventually(t, func() bool {
			seen[get(t, p.url+"/api/").body] = true
			return len(seen) == len(addresses)
		}, patience, 10*time.Millisecond)
	})
}

func TestKeepsAddressesOfANameThatIsNotFound(t *testing.T) {
	t.Parallel()
	eachNameService(t, func(t *testing.T, names nameService) {
		api, client, port := uniqueName(t, "api"), uniqueName(t, "client"), freePort(t)
		serve(t, say("api"), "127.0.0.2:"+port)
		serve(t, say("one"), "127.0.0.3:"+port)
		serve(t, say("two"), "127.0.0.4:"+port)
		names.set(t, api, "127.0.0.2")
		p := start(t, settings{"API_UPSTREAM": api + ":" + port, "CLIENT_UPSTREAM": client + ":" + port})
		require.Equal(t, "api", get(t, p.url+"/api/").body)

		// When both changes of the other name have been seen, this one has been looked for in vain.
		names.set(t, api)
		names.set(t, client, "127.0.0.3")
		requireSoon(t, p, "/", "one")
		names.set(t, client, "127.0.0.4")
		requireSoon(t, p, "/", "two")
		require.Equal(t, "api", get(t, p.url+"/api/").body)
	})
}

func TestADeadAddressAmongOthersHurtsNobody(t *testing.T) {
	t.Parallel()
	eachNameService(t, func(t *testing.T, names nameService) {
		api, port := uniqueName(t, "api"), freePort(t)
		names.set(t, api, "127.0.0.2", "127.0.0.3")
		var posts atomic.Int64
		serve(t, func(_ http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				posts.Add(1)
			}
		}, "127.0.0.2:"+port)
		p := start(t, settings{"API_UPSTREAM": api + ":" + port})

		// Nothing of the request has reached the dead one, so even a POST may go to the other.
		for i := range 20 {
			require.Equal(t, http.StatusOK, get(t, p.url+"/api/").StatusCode)
			require.Equal(t, http.StatusOK, send(t, http.MethodPost, p.url+"/api/values", strings.NewReader("{}")).StatusCode)
			require.EqualValues(t, i+1, posts.Load())
		}

		serve(t, say("back"), "127.0.0.3:"+port)
		requireSoon(t, p, "/api/", "back")
	})
}

func TestAGetIsSentAgainAndAPostNever(t *testing.T) {
	t.Parallel()
	eachNameService(t, func(t *testing.T, names nameService) {
		// How often a request arrives when the first upstream to have read it hangs up.
		arrivals := func(method string) (answer, int64) {
			api, port := uniqueName(t, "api"), freePort(t)
			names.set(t, api, "127.0.0.2", "127.0.0.3")
			var count atomic.Int64
			hangUpOnce := func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if count.Add(1) > 1 {
					return
				}
				conn, _, err := http.NewResponseController(w).Hijack()
				if assert.NoError(t, err) {
					conn.Close()
				}
			}
			serve(t, hangUpOnce, "127.0.0.2:"+port)
			serve(t, hangUpOnce, "127.0.0.3:"+port)
			p := start(t, settings{"API_UPSTREAM": api + ":" + port})
			return send(t, method, p.url+"/api/values", strings.NewReader("{}")), count.Load()
		}

		a, count := arrivals(http.MethodGet)
		require.Equal(t, http.StatusOK, a.StatusCode)
		require.EqualValues(t, 2, count)

		a, count = arrivals(http.MethodPost)
		requireProblem(t, a, http.StatusBadGateway)
		require.EqualValues(t, 1, count)
	})
}

func TestComesBackWithARestartedUpstream(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	p := start(t, settings{"API_UPSTREAM": address})
	for range 5 {
		requireProblem(t, get(t, p.url+"/api/values"), http.StatusBadGateway)
	}
	serve(t, say("api"), address)
	require.Equal(t, "api", get(t, p.url+"/api/values").body, "at once, for there is no other to ask instead")
}

func TestAReloadKeepsRunningRequests(t *testing.T) {
	t.Parallel()
	eachNameService(t, func(t *testing.T, names nameService) {
		api, port := uniqueName(t, "api"), freePort(t)
		asked, release := make(chan struct{}), make(chan struct{})
		serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/late" {
				close(asked)
				<-release
				_, _ = io.WriteString(w, "late")
			}
		}, "127.0.0.2:"+port)
		serve(t, say("new"), "127.0.0.3:"+port)
		names.set(t, api, "127.0.0.2")
		p := start(t, settings{"API_UPSTREAM": api + ":" + port})

		late := make(chan string, 1)
		go func() {
			response, err := http.Get(p.url + "/api/late")
			if err != nil {
				late <- err.Error()
				return
			}
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body)
			late <- string(body)
		}()
		<-asked
		names.set(t, api, "127.0.0.3")
		requireSoon(t, p, "/api/", "new")
		close(release)
		require.Equal(t, "late", <-late)
	})
}

func TestAnOldWorkerEndsItsEventsInTime(t *testing.T) {
	t.Parallel()
	eachNameService(t, func(t *testing.T, names nameService) {
		api, port := uniqueName(t, "api"), freePort(t)
		serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "127.0.0.2:"+port)
		names.set(t, api, "127.0.0.2")
		p := start(t, settings{"API_UPSTREAM": api + ":" + port, "GRACE_PERIOD": "1s"})
		response, err := http.Get(p.url + "/api/events")
		require.NoError(t, err)
		defer response.Body.Close()

		names.set(t, api, "127.0.0.3")
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = io.Copy(io.Discard, response.Body)
		}()
		select {
		case <-ended:
		case <-time.After(patience):
			require.Fail(t, "the events go on")
		}
	})
}

func TestRunsAnotherTemplate(t *testing.T) {
	t.Parallel()
	site := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(site, "index.css"), []byte("body{}"), 0o644))
	template := filepath.Join(t.TempDir(), "site.conf.template")
	require.NoError(t, os.WriteFile(template, []byte("server { listen ${PORT}; root ${CLIENT_ROOT}; try_files $uri =404; }\n"), 0o644))
	p := start(t, settings{"CLIENT_ROOT": site}, template)
	a := get(t, p.url+"/index.css")
	assert.Equal(t, "body{}", a.body)
	assert.Equal(t, "text/css", a.Header.Get("Content-Type"))
}

var namesGiven atomic.Int64

// uniqueName is a host name of this test only, as all of them share the name services.
func uniqueName(t *testing.T, prefix string) string {
	t.Helper()
	return fmt.Sprintf("%s-%d.test", prefix, namesGiven.Add(1))
}

func freePort(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(freeAddress(t))
	require.NoError(t, err)
	return port
}
