package e2e_test

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/e2e"
)

// short and long are bounds of indexes whose numbers are told in full, and by their ends only. There are more long ones
// for a target to run out of.
var short, long = [2]int64{300, 4700}, [2]int64{5000, 99_999}

func fresh(t *testing.T, bounds [2]int64) int64 {
	t.Helper()
	return target.FreshIndex(t, bounds[0], bounds[1])
}

func TestEveryOperationIsDescribedAndAnswers(t *testing.T) {
	t.Parallel()
	index := fresh(t, long)
	target.Calculated(t, index)
	contract := map[string]string{
		"GET /":                      "/api/",
		"GET /values":                "/api/values?limit=10",
		"POST /values":               "/api/values",
		"GET /values/all":            "/api/values/all?limit=10",
		"GET /values/current":        "/api/values/current?limit=10",
		"GET /values/{index}":        fmt.Sprintf("/api/values/%d", index),
		"GET /values/{index}/digits": fmt.Sprintf("/api/values/%d/digits", index),
		"GET /events":                "/api/events",
		"GET /stats":                 "/api/stats",
		"GET /version":               "/api/version",
		"GET /openapi.yaml":          "/api/openapi.yaml",
	}
	var described []string
	for path, item := range target.Contract.Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(contract)), described)

	// Every answer is checked against its description.
	for operation, path := range contract {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			switch operation {
			case "POST /values":
				require.Equal(t, http.StatusOK, target.Post(t, fmt.Sprintf(`{"index":"%d"}`, index)).StatusCode)
			case "GET /events":
				target.Listen(t)
			default:
				answer := target.Get(t, path)
				require.Equal(t, http.StatusOK, answer.StatusCode)
				head := target.Send(t, http.MethodHead, path, "")
				require.Equal(t, http.StatusOK, head.StatusCode)
				require.Equal(t, answer.Header.Get("Content-Type"), head.Header.Get("Content-Type"))
				require.Empty(t, head.Body)
			}
		})
	}
}

func TestTheVersionIsTold(t *testing.T) {
	t.Parallel()
	var version struct{ Name, Version, Commit, GoVersion string }
	target.Get(t, "/api/version").JSON(t, &version)
	require.Equal(t, "fibstack-api", version.Name)
	require.NotEmpty(t, version.Version)
	require.NotEmpty(t, version.Commit)
	require.Regexp(t, `^go1\.\d+`, version.GoVersion)
}

func TestTheApiAnswersWithAndWithoutASlash(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/api", "/api/"} {
		answer := target.Get(t, path)
		require.Equal(t, http.StatusOK, answer.StatusCode, path)
		require.Equal(t, "text/plain; charset=utf-8", answer.Header.Get("Content-Type"), path)
		require.NotEmpty(t, answer.Body, path)
	}
}

// The requests of the client that everybody knows, as axios sends them from a browser.
func TestTheClassicClientWorksUnchanged(t *testing.T) {
	t.Parallel()
	axios := []string{
		"Accept", "application/json, text/plain, */*",
		"Content-Type", "application/json;charset=utf-8",
		"Origin", target.URL, "Referer", target.URL + "/", "User-Agent", "Mozilla/5.0",
	}
	ask := func(index string) {
		var submission struct{ Working bool }
		answer := target.Post(t, `{"index":"`+index+`"}`, axios...)
		answer.JSON(t, &submission)
		require.True(t, submission.Working)
	}

	ask("7")
	e2e.Await(t, "the value of 7", func() bool { return valueOf(t, "7", axios...) == "13" })

	index := fresh(t, short)
	text := strconv.FormatInt(index, 10)
	ask(text)
	require.Contains(t, seen(t, axios...), index)
	e2e.Await(t, "the value of "+text, func() bool {
		value := valueOf(t, text, axios...)
		return value != "Nothing yet!" && value == target.Look(t, index).Value
	})
}

// seen returns the newest indexes that were asked for.
func seen(t *testing.T, headers ...string) []int64 {
	t.Helper()
	var numbers []struct{ Number int64 }
	target.Get(t, "/api/values/all", headers...).JSON(t, &numbers)
	var indexes []int64
	for _, n := range numbers {
		indexes = append(indexes, n.Number)
	}
	return indexes
}

// valueOf looks an index up in /values/current, on whichever page it is.
func valueOf(t *testing.T, index string, headers ...string) string {
	t.Helper()
	for path := "/api/values/current"; path != ""; {
		var values map[string]string
		answer := target.Get(t, path, headers...)
		answer.JSON(t, &values)
		if value, found := values[index]; found {
			return value
		}
		path = nextLink(t, answer)
	}
	require.FailNow(t, "no page has the index", index)
	return ""
}

func TestAnIndexGoesFromPendingToDone(t *testing.T) {
	t.Parallel()
	index := fresh(t, short)
	asked := time.Now()
	require.Equal(t, "pending", target.Ask(t, index))

	c := target.AwaitDone(t, index)
	require.Equal(t, strconv.FormatInt(index, 10), c.Index)
	require.Equal(t, len(c.Value), c.Digits)
	require.Equal(t, 1, c.Attempts)
	require.Empty(t, c.Error)
	require.WithinDuration(t, asked, c.RequestedAt, e2e.Patience, "the clocks of this machine and the target differ a lot")
	require.False(t, c.CompletedAt.Before(c.RequestedAt))
	e2e.RequireFibonacci(t, index, c.Value)
	require.Equal(t, c.Value, target.Digits(t, index))
}

func TestAskingAgainChangesNothing(t *testing.T) {
	t.Parallel()
	index := fresh(t, long)
	first := target.Calculated(t, index)
	require.Equal(t, "done", target.Ask(t, index))
	require.Equal(t, "done", target.Ask(t, index))
	require.Equal(t, first, target.Look(t, index))
}

func TestManyWhoAskAtOnceAskOnce(t *testing.T) {
	t.Parallel()
	index := fresh(t, long)
	answers := make(chan int)
	const askers = 20
	for range askers {
		go func() {
			answer, err := target.Do(t.Context(), http.MethodPost, "/api/values", fmt.Sprintf(`{"index":"%d"}`, index),
				"Content-Type", "application/json")
			if err != nil {
				answers <- 0
				return
			}
			answers <- answer.StatusCode
		}()
	}
	for range askers {
		require.Contains(t, []int{http.StatusOK, http.StatusAccepted}, <-answers)
	}
	require.Equal(t, 1, target.AwaitDone(t, index).Attempts)
	require.Len(t, slices.DeleteFunc(seen(t), func(other int64) bool { return other != index }), 1)
}

func TestAnIndexMayBeANumber(t *testing.T) {
	t.Parallel()
	index := fresh(t, long)
	var submission struct{ Index string }
	target.Post(t, fmt.Sprintf(` { "index" : %d } `, index)).JSON(t, &submission)
	require.Equal(t, strconv.FormatInt(index, 10), submission.Index)
	target.AwaitDone(t, index)
}

func TestKnownNumbers(t *testing.T) {
	t.Parallel()
	for index, value := range map[int64]string{
		0: "0", 1: "1", 2: "1", 7: "13", 90: "2880067194370816120", 300: "222232244629420445529739893461909967206666939096499764990979600",
		93: "12200160415121876738", // more than an int64
		94: "19740274219868223167", // more than a uint64
		1000: "43466557686937456435688527675040625802564660517371780402481729089536555417949051890403879840079255169295" +
			"922593080322634775209689623239873322471161642996440906533187938298969649928516003704476137795166849228875",
	} {
		require.Equal(t, value, target.Calculated(t, index).Value, "F(%d)", index)
		require.Equal(t, value, target.Digits(t, index), "F(%d)", index)
	}
}

func TestStatsCountWhatIsThere(t *testing.T) {
	t.Parallel()
	type stats struct {
		Counts              map[string]int
		QueueDepth, Workers *int
	}
	var before, after stats
	target.Get(t, "/api/stats").JSON(t, &before)
	require.NotNil(t, before.QueueDepth)
	require.NotNil(t, before.Workers)
	require.Positive(t, *before.Workers)
	target.Calculated(t, fresh(t, long))
	target.Get(t, "/api/stats").JSON(t, &after)
	require.Greater(t, after.Counts["done"], before.Counts["done"])
}

func TestTheRequestIDIsTheCallersIfItIsFitForLogs(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"a", "0f8fad5b-d9cd-469f-a165-70867728950e", "A.b_c-9", strings.Repeat("x", 64)} {
		require.Equal(t, id, target.Get(t, "/api/version", "X-Request-Id", id).Header.Get("X-Request-Id"))
		require.Equal(t, id, target.Get(t, "/api/nothing", "X-Request-Id", id).Problem(t).RequestID)
	}
	own := regexp.MustCompile(`^[A-Za-z0-9._-]{8,64}$`)
	for _, id := range []string{
		"", "two words", `"quoted"`, "{json}", "<script>", "semi;colon", "a,b", "../../etc", "naïve", "\xff\xfe", "%0d%0a",
		"tab\tbed", strings.Repeat("x", 65), strings.Repeat("x", 1000),
	} {
		answer := target.Get(t, "/api/nothing", "X-Request-Id", id)
		require.Regexp(t, own, answer.Header.Get("X-Request-Id"), "%.80q", id)
		require.Len(t, answer.Header.Values("X-Request-Id"), 1)
		require.Regexp(t, own, answer.Problem(t).RequestID)
	}
	one, other := target.Get(t, "/api/version"), target.Get(t, "/api/version")
	require.NotEqual(t, one.Header.Get("X-Request-Id"), other.Header.Get("X-Request-Id"))
}
