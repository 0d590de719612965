package e2e_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/e2e"
)

func TestABigNumberIsRightToTheLastDigit(t *testing.T) {
	t.Parallel()
	const million = 1_000_000
	index := min(target.MaxIndex, million)
	c := target.Calculated(t, index)
	digits := target.Digits(t, index)
	e2e.RequireFibonacci(t, index, digits)
	require.Equal(t, len(digits), c.Digits)
	require.Equal(t, digits[:20], c.Head)
	require.Equal(t, digits[len(digits)-20:], c.Tail)
	require.Empty(t, c.Value)
	if index == million {
		require.Len(t, digits, 208_988)
		require.Equal(t, "19532821287077577316", c.Head)
		require.Equal(t, "68996526838242546875", c.Tail)
	}
}

// Numbers of 1,000 digits at most are told in full.
func TestOnlyLongNumbersAreToldByTheirEnds(t *testing.T) {
	t.Parallel()
	longest := int64(4780)
	for e2e.DigitsOf(longest+1) <= 1000 {
		longest++
	}
	c := target.Calculated(t, longest)
	require.Len(t, c.Value, 1000)
	require.Empty(t, c.Head+c.Tail)
	c = target.Calculated(t, longest+1)
	require.Equal(t, 1001, c.Digits)
	require.Empty(t, c.Value)
	require.Len(t, c.Head, 20)
	require.Len(t, c.Tail, 20)
}

func TestDigitsAreForEver(t *testing.T) {
	t.Parallel()
	index := fresh(t, long)
	target.Calculated(t, index)
	path := fmt.Sprintf("/api/values/%d/digits", index)
	whole := target.Get(t, path, "Accept-Encoding", "gzip")
	require.Equal(t, http.StatusOK, whole.StatusCode)
	require.Equal(t, "text/plain; charset=utf-8", whole.Header.Get("Content-Type"))
	require.Equal(t, "public, max-age=31536000, immutable", whole.Header.Get("Cache-Control"))
	require.Equal(t, "bytes", whole.Header.Get("Accept-Ranges"))
	require.Empty(t, whole.Header.Get("Content-Encoding"), "a compressed answer has no ranges")
	require.EqualValues(t, len(whole.Body), whole.ContentLength)
	tag := whole.Header.Get("ETag")
	require.Regexp(t, `^"[^"]+"$`, tag)

	head := target.Send(t, http.MethodHead, path, "")
	require.EqualValues(t, len(whole.Body), head.ContentLength)
	require.Equal(t, tag, head.Header.Get("ETag"))

	for _, known := range []string{tag, "*", `"other", ` + tag, "W/" + tag} {
		unchanged := target.Get(t, path, "If-None-Match", known)
		require.Equal(t, http.StatusNotModified, unchanged.StatusCode, known)
		require.Equal(t, tag, unchanged.Header.Get("ETag"), known)
		require.Empty(t, unchanged.Body, known)
	}
	changed := target.Get(t, path, "If-None-Match", `"other"`)
	require.Equal(t, http.StatusOK, changed.StatusCode)
	require.Equal(t, whole.Body, changed.Body)
}

func TestDigitsComeInRanges(t *testing.T) {
	t.Parallel()
	index := fresh(t, long)
	target.Calculated(t, index)
	path := fmt.Sprintf("/api/values/%d/digits", index)
	whole := target.Get(t, path)
	digits, size := whole.Body, len(whole.Body)
	tag := whole.Header.Get("ETag")

	for header, want := range map[string][2]int{
		"bytes=0-0":                         {0, 1},
		"bytes=0-19":                        {0, 20},
		"bytes=500-599":                     {500, 600},
		"bytes=-20":                         {size - 20, size},
		fmt.Sprintf("bytes=%d-", size-1):    {size - 1, size},
		fmt.Sprintf("bytes=100-%d", size*2): {100, size},
		"bytes=0-":                          {0, size},
		fmt.Sprintf("bytes=-%d", size*2):    {0, size},
	} {
		part := target.Get(t, path, "Range", header)
		require.Equal(t, http.StatusPartialContent, part.StatusCode, header)
		require.Equal(t, fmt.Sprintf("bytes %d-%d/%d", want[0], want[1]-1, size), part.Header.Get("Content-Range"), header)
		require.Equal(t, digits[want[0]:want[1]], part.Body, header)
		require.Equal(t, tag, part.Header.Get("ETag"), header)
	}

	for _, header := range []string{fmt.Sprintf("bytes=%d-", size), "bytes=9-1", "bytes=-", "bytes=a-b", "bytes=0x1-2"} {
		refused := target.Get(t, path, "Range", header)
		require.Equal(t, http.StatusRequestedRangeNotSatisfiable, refused.StatusCode, header)
		require.Empty(t, refused.Header.Get("ETag"), header)
	}
	beyond := target.Get(t, path, "Range", fmt.Sprintf("bytes=%d-", size))
	require.Equal(t, fmt.Sprintf("bytes */%d", size), beyond.Header.Get("Content-Range"))

	// A download that goes on does so only if the number is still the same.
	require.Equal(t, digits[20:], target.Get(t, path, "Range", "bytes=20-", "If-Range", tag).Body)
	require.Equal(t, digits, target.Get(t, path, "Range", "bytes=20-", "If-Range", `"other"`).Body)
}

func TestAShortNumbersDigitsComeInRangesToo(t *testing.T) {
	t.Parallel()
	target.Calculated(t, 90)
	part := target.Get(t, "/api/values/90/digits", "Range", "bytes=1-3")
	require.Equal(t, http.StatusPartialContent, part.StatusCode)
	require.Equal(t, "880", part.Body)
}

func TestDigitsThatAreNotThereYet(t *testing.T) {
	t.Parallel()
	index := fresh(t, long)
	path := fmt.Sprintf("/api/values/%d/digits", index)
	require.Equal(t, http.StatusNotFound, target.Get(t, path).StatusCode)

	target.Ask(t, index)
	e2e.Await(t, "the digits", func() bool {
		answer := target.Get(t, path)
		if answer.StatusCode == http.StatusConflict {
			require.NotContains(t, answer.Header.Get("Cache-Control"), "max-age")
			return false
		}
		require.Equal(t, http.StatusOK, answer.StatusCode)
		e2e.RequireFibonacci(t, index, answer.Body)
		return true
	})
}
