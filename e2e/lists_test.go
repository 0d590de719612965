package e2e_test

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/e2e"
)

// page is of GET /api/values.
type page struct {
	Values []e2e.Calculation
	Next   string
}

// askForSome asks for so many fresh indexes, one after the other, and returns them.
func askForSome(t *testing.T, count int) []int64 {
	t.Helper()
	var asked []int64
	for range count {
		index := fresh(t, long)
		target.Ask(t, index)
		asked = append(asked, index)
	}
	return asked
}

func mustParse(t *testing.T, index string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(index, 10, 64)
	require.NoError(t, err)
	return n
}

func TestCalculationsPageByCursorWithoutGapOrOverlap(t *testing.T) {
	t.Parallel()
	asked := askForSome(t, 8)

	// Others may ask meanwhile; what they add is newer than the first page.
	var walked []int64
	for cursor := ""; !slices.Contains(walked, asked[0]); {
		query := url.Values{"limit": {"3"}}
		if cursor != "" {
			query.Set("before", cursor)
		}
		var p page
		target.Get(t, "/api/values?"+query.Encode()).JSON(t, &p)
		require.Len(t, p.Values, 3)
		require.NotEmpty(t, p.Next)
		for _, c := range p.Values {
			require.Empty(t, c.Value+c.Head+c.Tail, "a list has no digits")
			walked = append(walked, mustParse(t, c.Index))
		}
		cursor = p.Next
	}

	var whole page
	target.Get(t, "/api/values?limit=10000").JSON(t, &whole)
	var listed []int64
	for _, c := range whole.Values {
		listed = append(listed, mustParse(t, c.Index))
	}
	start := slices.Index(listed, walked[0])
	require.GreaterOrEqual(t, start, 0)
	require.Equal(t, listed[start:start+len(walked)], walked)

	slices.Reverse(walked)
	requireInOrder(t, asked, walked)
}

func TestIndexesPageByLinksWithoutGapOrOverlap(t *testing.T) {
	t.Parallel()
	asked := askForSome(t, 8)
	var walked []int64
	for path := "/api/values/all?limit=3"; !slices.Contains(walked, asked[0]); {
		var numbers []struct{ Number int64 }
		answer := target.Get(t, path)
		answer.JSON(t, &numbers)
		require.Len(t, numbers, 3)
		var ascending []int64
		for _, n := range numbers {
			ascending = append(ascending, n.Number)
		}
		walked = append(ascending, walked...)
		path = nextLink(t, answer)
		require.NotEmpty(t, path)
	}
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(walked))), len(walked), "an index came twice")
	requireInOrder(t, asked, walked)
}

func TestCurrentValuesPageByLinks(t *testing.T) {
	t.Parallel()
	asked := askForSome(t, 4)
	seen := map[string]string{}
	for path := "/api/values/current?limit=3"; seen[strconv.FormatInt(asked[0], 10)] == ""; {
		var values map[string]string
		answer := target.Get(t, path)
		answer.JSON(t, &values)
		require.Len(t, values, 3)
		for index, value := range values {
			require.NotContains(t, seen, index, "an index came twice")
			seen[index] = value
		}
		path = nextLink(t, answer)
		require.NotEmpty(t, path)
	}
	for _, index := range asked {
		require.Contains(t, seen, strconv.FormatInt(index, 10))
	}
}

func TestCurrentValuesShortenLongNumbers(t *testing.T) {
	t.Parallel()
	index := fresh(t, long)
	c := target.Calculated(t, index)
	require.Equal(t, c.Head+"…"+c.Tail, valueOf(t, strconv.FormatInt(index, 10)))
}

func TestTheLastPageIsTheEnd(t *testing.T) {
	t.Parallel()
	target.Calculated(t, fresh(t, long))
	// Nobody was asked for anything before the first cursor there can be.
	var p page
	target.Get(t, "/api/values?before=1").JSON(t, &p)
	require.Empty(t, p.Values)
	require.Empty(t, p.Next)
	answer := target.Get(t, "/api/values/all?before=1")
	require.JSONEq(t, "[]", answer.Body)
	require.Empty(t, nextLink(t, answer))
	answer = target.Get(t, "/api/values/current?before=1")
	require.JSONEq(t, "{}", answer.Body)
	require.Empty(t, nextLink(t, answer))
}

func TestCalculationsAreListedByStatus(t *testing.T) {
	t.Parallel()
	index := fresh(t, long)
	target.Calculated(t, index)
	for _, status := range []string{"pending", "done", "failed"} {
		var p page
		target.Get(t, "/api/values?status="+status).JSON(t, &p)
		found := false
		for _, c := range p.Values {
			require.Equal(t, status, c.Status)
			found = found || mustParse(t, c.Index) == index
		}
		require.Equal(t, status == "done", found)
	}
}

// requireInOrder requires that all of some are in a list, in their order.
func requireInOrder(t *testing.T, some, list []int64) {
	t.Helper()
	found := slices.DeleteFunc(slices.Clone(list), func(n int64) bool { return !slices.Contains(some, n) })
	require.Equal(t, some, found)
}

var linkNext = regexp.MustCompile(`^<([^>]+)>; rel="next"$`)

// nextLink returns where the link to the next page leads, and nothing on the last page.
func nextLink(t *testing.T, answer e2e.Answer) string {
	t.Helper()
	require.Equal(t, http.StatusOK, answer.StatusCode)
	link := answer.Header.Get("Link")
	if link == "" {
		return ""
	}
	require.Regexp(t, linkNext, link)
	here, err := url.Parse(answer.Request.URL.Opaque)
	require.NoError(t, err)
	next, err := here.Parse(linkNext.FindStringSubmatch(link)[1])
	require.NoError(t, err)
	return next.String()
}
