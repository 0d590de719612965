package testkit

import (
	"bytes"
	"io"
	"net/http"
	"regexp"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"
)

var (
	metricNames = regexp.MustCompile(`(?m)^# TYPE (\w+)`)
	goodNames   = regexp.MustCompile(`^(fibstack|go|process|promhttp)_`)
	series      = regexp.MustCompile(`(?m)^[^#\n]`)
)

// RequireGoodMetrics requires of what one of our processes serves at a URL that Prometheus's linter, which is promtool's
// too, finds nothing wrong with it. What the libraries serve there is no exception. It returns the number of series.
func RequireGoodMetrics(t testing.TB, url string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
	names := metricNames.FindAllSubmatch(text, -1)
	require.NotEmpty(t, names)
	for _, name := range names {
		require.Regexp(t, goodNames, string(name[1]))
	}
	return len(series.FindAllIndex(text, -1))
}
