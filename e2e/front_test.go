package e2e_test

import (
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/e2e"
)

func TestThePageIsServedAtEachOfItsAddresses(t *testing.T) {
	t.Parallel()
	home := target.Get(t, "/")
	require.Equal(t, http.StatusOK, home.StatusCode)
	require.Contains(t, home.Header.Get("Content-Type"), "text/html")
	require.Contains(t, home.Body, `<div id="root">`)
	require.Equal(t, "no-cache", home.Header.Get("Cache-Control"), "a new release must be found")
	require.NotEmpty(t, home.Header.Get("ETag"))
	require.Equal(t, http.StatusNotModified, target.Get(t, "/", "If-None-Match", home.Header.Get("ETag")).StatusCode)

	for _, path := range []string{"/otherpage", "/otherpage?from=link", "/some/other/page"} {
		require.Equal(t, home.Body, target.Get(t, path).Body, path)
	}
}

func TestThePageMayLoadNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/", "/otherpage"} {
		header := target.Get(t, path).Header
		require.Contains(t, header.Get("Content-Security-Policy"), "default-src 'none'", path)
		require.Contains(t, header.Get("Content-Security-Policy"), "script-src 'self'", path)
		require.Equal(t, "nosniff", header.Get("X-Content-Type-Options"), path)
	}
}

// assets returns what the page loads.
func assets(t *testing.T) []string {
	t.Helper()
	found := regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`).FindAllStringSubmatch(target.Get(t, "/").Body, -1)
	require.NotEmpty(t, found)
	var paths []string
	for _, match := range found {
		paths = append(paths, match[1])
	}
	return paths
}

func TestAssetsMayBeKeptForEver(t *testing.T) {
	t.Parallel()
	types := map[string]string{".js": "javascript", ".css": "text/css"}
	for _, path := range assets(t) {
		asset := target.Get(t, path)
		require.Equal(t, http.StatusOK, asset.StatusCode, path)
		require.Equal(t, "public, max-age=31536000, immutable", asset.Header.Get("Cache-Control"), path)
		require.Contains(t, asset.Header.Get("Content-Type"), types[path[strings.LastIndex(path, "."):]], path)
	}
}

func TestAssetsComeCompressed(t *testing.T) {
	t.Parallel()
	for _, path := range assets(t) {
		plain := target.Get(t, path)
		compressed := target.Get(t, path, "Accept-Encoding", "gzip")
		require.Equal(t, "gzip", compressed.Header.Get("Content-Encoding"), path)
		require.Contains(t, compressed.Header.Values("Vary"), "Accept-Encoding", path)
		require.Less(t, len(compressed.Body), len(plain.Body), path)
		reader, err := gzip.NewReader(strings.NewReader(compressed.Body))
		require.NoError(t, err)
		content, err := io.ReadAll(reader)
		require.NoError(t, err)
		require.Equal(t, sha256.Sum256([]byte(plain.Body)), sha256.Sum256(content), path)
	}
}

func TestAMissingAssetIsMissing(t *testing.T) {
	t.Parallel()
	missing := target.Get(t, "/assets/index-00000000.js")
	require.Equal(t, http.StatusNotFound, missing.StatusCode)
	require.NotContains(t, missing.Header.Get("Cache-Control"), "immutable")
}

// What operators ask is not for everybody who comes through the front door.
func TestTheOpsEndpointsAreNotForTheOutside(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		"/metrics", "/healthz", "/readyz", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap", "/debug/vars", "/stub_status",
		"/nginx_status", "/server-status", "/.git/config", "/.env", "/_problem",
	} {
		requireNothingOfTheInsides(t, target.Get(t, path))

		answer := target.Get(t, "/api"+path)
		require.Equal(t, http.StatusNotFound, answer.StatusCode, "/api"+path)
		requireNothingOfTheInsides(t, answer)
	}
}

// Neither another spelling of a path nor another name of the host opens another door.
func TestTheOpsEndpointsHaveNoBackDoor(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"metrics", "healthz", "readyz", "debug/pprof/", "stub_status"} {
		encoded := fmt.Sprintf("%%%02x%s", path[0], path[1:])
		for _, way := range []string{
			"//" + path, "/./" + path, "/api/../" + path, "/api/%2e%2e/" + path, "/api/..%2f" + path, "/" + encoded,
			"/api//" + path, "/api/./" + path, "/api/api/" + path, "/api/values/../" + path, "/api/values/..%2f" + path,
			"/api%2f" + path, "/api/" + encoded, "/api;/" + path,
		} {
			answer, err := target.Do(t.Context(), http.MethodGet, way, "")
			require.NoError(t, err)
			requireNothingOfTheInsides(t, answer)
		}
		for _, host := range []string{"api:9090", "worker:9090", "127.0.0.1:9090", "localhost:8081", "nginx-exporter:9113", "prometheus:9090"} {
			for _, prefix := range []string{"/", "/api/"} {
				answer, err := target.Do(t.Context(), http.MethodGet, prefix+path, "", "Host", host)
				require.NoError(t, err)
				requireNothingOfTheInsides(t, answer)
			}
		}
	}
}

// insides are what only the endpoints for operators, and files that are nobody's business, hold.
var insides = regexp.MustCompile(`# HELP|fibstack_\w|nginx_connections|pg_up|redis_up|go_goroutines|goroutine|Active connections|"checks"|"ready"|\[core\]|root:x?:|/bin/api`)

func requireNothingOfTheInsides(t *testing.T, answer e2e.Answer) {
	t.Helper()
	require.NotRegexp(t, insides, answer.Body, answer.Request.URL.Opaque)
}
