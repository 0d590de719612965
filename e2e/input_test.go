package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever is sent, the answer is a problem that the contract describes, with the request's id and without a word
// about the insides: Send checks that for each.

func TestBadBodies(t *testing.T) {
	t.Parallel()
	const tooHigh = "1" + "000000000000000000000000000000"
	bodies := map[string]struct {
		body   string
		status int
		title  string
		field  string
	}{
		"negative":                     {`{"index":"-1"}`, 400, "Invalid index", "index"},
		"negative number":              {`{"index":-1}`, 400, "Invalid index", "index"},
		"negative zero":                {`{"index":"-0"}`, 400, "Invalid index", "index"},
		"very negative":                {`{"index":"-` + tooHigh + `"}`, 400, "Invalid index", "index"},
		"plus sign":                    {`{"index":"+7"}`, 400, "Invalid index", "index"},
		"fraction":                     {`{"index":"7.5"}`, 400, "Invalid index", "index"},
		"fraction as a number":         {`{"index":7.5}`, 400, "Invalid index", "index"},
		"whole fraction":               {`{"index":7.0}`, 400, "Invalid index", "index"},
		"exponent":                     {`{"index":"7e3"}`, 400, "Invalid index", "index"},
		"exponent as a number":         {`{"index":7e3}`, 400, "Invalid index", "index"},
		"hexadecimal":                  {`{"index":"0x10"}`, 400, "Invalid index", "index"},
		"underscore":                   {`{"index":"1_000"}`, 400, "Invalid index", "index"},
		"thousands":                    {`{"index":"1,000"}`, 400, "Invalid index", "index"},
		"text":                         {`{"index":"seven"}`, 400, "Invalid index", "index"},
		"text behind":                  {`{"index":"7abc"}`, 400, "Invalid index", "index"},
		"space before":                 {`{"index":" 7"}`, 400, "Invalid index", "index"},
		"newline behind":               {`{"index":"7\n"}`, 400, "Invalid index", "index"},
		"NUL":                          {`{"index":"7\u0000"}`, 400, "Invalid index", "index"},
		"digits of another script":     {`{"index":"٧"}`, 400, "Invalid index", "index"},
		"full-width digits":            {`{"index":"７"}`, 400, "Invalid index", "index"},
		"SQL":                          {`{"index":"7; DROP TABLE calculations"}`, 400, "Invalid index", "index"},
		"empty text":                   {`{"index":""}`, 400, "Invalid index", "index"},
		"true":                         {`{"index":true}`, 400, "Invalid index", "index"},
		"list":                         {`{"index":[7]}`, 400, "Invalid index", "index"},
		"object":                       {`{"index":{"index":7}}`, 400, "Invalid index", "index"},
		"null":                         {`{"index":null}`, 400, "Missing index", "index"},
		"missing":                      {`{}`, 400, "Missing index", "index"},
		"null instead of an object":    {`null`, 400, "", ""},
		"unknown field":                {`{"index":"7","priority":1}`, 400, "Unknown field", "priority"},
		"unknown field alone":          {`{"number":"7"}`, 400, "Unknown field", "number"},
		"field in other letters":       {`{"INDEX":"7"}`, 400, "Unknown field", "INDEX"},
		"empty body":                   {``, 400, "Malformed body", ""},
		"blank body":                   {" \n", 400, "Malformed body", ""},
		"not JSON":                     {`index=7`, 400, "Malformed body", ""},
		"cut off":                      {`{"index":"7"`, 400, "Malformed body", ""},
		"single quotes":                {`{'index':'7'}`, 400, "Malformed body", ""},
		"leading zero":                 {`{"index":07}`, 400, "Malformed body", ""},
		"not a number":                 {`{"index":NaN}`, 400, "Malformed body", ""},
		"trailing comma":               {`{"index":"7",}`, 400, "Malformed body", ""},
		"trailing garbage":             {`{"index":"7"} x`, 400, "Malformed body", ""},
		"trailing bracket":             {`{"index":"7"}}`, 400, "Malformed body", ""},
		"two objects":                  {`{"index":"7"}{"index":"8"}`, 400, "Malformed body", ""},
		"list instead of an object":    {`[{"index":"7"}]`, 400, "Malformed body", ""},
		"number instead of an object":  {`7`, 400, "Malformed body", ""},
		"text instead of an object":    {`"7"`, 400, "Malformed body", ""},
		"byte order mark":              {"\ufeff" + `{"index":"7"}`, 400, "Malformed body", ""},
		"UTF-16":                       {"{\x00\"\x00i\x00", 400, "Malformed body", ""},
		"binary":                       {"\x00\x01\xfe\xff", 400, "Malformed body", ""},
		"not UTF-8":                    {"{\"index\":\"\xff\"}", 400, "Invalid index", "index"},
		"deep":                         {strings.Repeat("[", 2000), 400, "Malformed body", ""},
		"just above the limit":         {fmt.Sprintf(`{"index":"%d"}`, target.MaxIndex+1), 422, "Index too high", "index"},
		"number just above the limit":  {fmt.Sprintf(`{"index":%d}`, target.MaxIndex+1), 422, "Index too high", "index"},
		"above the limits of integers": {`{"index":"` + tooHigh + `"}`, 422, "Index too high", "index"},
		"number above all integers":    {`{"index":` + tooHigh + `}`, 422, "Index too high", "index"},
		"1 above a uint64":             {`{"index":"18446744073709551616"}`, 422, "Index too high", "index"},
		"a thousand digits":            {`{"index":"` + strings.Repeat("9", 1000) + `"}`, 422, "Index too high", "index"},
		"oversized":                    {`{"index":"7"` + strings.Repeat(" ", 5000) + `}`, 413, "", ""},
		"oversized behind":             {`{"index":"7"}` + strings.Repeat(" ", 5000), 413, "", ""},
		"oversized index":              {`{"index":"` + strings.Repeat("7", 5000) + `"}`, 413, "", ""},
		"oversized garbage":            {strings.Repeat("x", 100_000), 413, "", ""},
	}
	for name, c := range bodies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := target.Post(t, c.body)
			require.Equal(t, c.status, answer.StatusCode, answer)
			p := answer.Problem(t)
			require.NotEmpty(t, p.Detail)
			if c.title != "" {
				require.Equal(t, c.title, p.Title)
				require.Equal(t, c.field, p.Field)
			}
		})
	}
}

func TestBodiesOfOtherTypes(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{
		"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml",
		"application/jsonp", "application/problem+json", "json", "application", "application/json, text/plain", ";", "*/*",
		"application/json;charset", "\xff",
	} {
		answer := target.Post(t, `{"index":"7"}`, "Content-Type", kind)
		require.Equal(t, http.StatusUnsupportedMediaType, answer.StatusCode, "%q", kind)
	}
	for _, kind := range []string{"application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/json;charset=UTF-8"} {
		require.Less(t, target.Post(t, `{"index":"7"}`, "Content-Type", kind).StatusCode, 300, "%q", kind)
	}
}

func TestTheLimitItselfMayBeAskedFor(t *testing.T) {
	t.Parallel()
	const costly = 5_000_000 // is not calculated for the sake of a test
	if target.MaxIndex > costly {
		t.Skipf("MAX_INDEX=%d", target.MaxIndex)
	}
	target.Calculated(t, target.MaxIndex)
}

func TestBadPaths(t *testing.T) {
	t.Parallel()
	const nobodyAskedForThis = "123456789012345678901234567890"
	for path, status := range map[string]int{
		"/api/values/-1":                                400,
		"/api/values/7.5":                               400,
		"/api/values/seven":                             400,
		"/api/values/7abc":                              400,
		"/api/values/0x7":                               400,
		"/api/values/%207":                              400,
		"/api/values/7%20":                              400,
		"/api/values/7%00":                              400,
		"/api/values/%D9%A7":                            400,
		"/api/values/%ff%fe":                            400,
		"/api/values/ALL":                               400,
		"/api/values/" + strings.Repeat("x", 4000):      400,
		"/api/values/seven/digits":                      400,
		"/api/values/-1/digits":                         400,
		"/api/values/" + nobodyAskedForThis:             404,
		"/api/values/" + nobodyAskedForThis + "/digits": 404,
		"/api/values/" + strings.Repeat("9", 4000):      404,
		"/api/values/":                                  404,
		"/api/values/7/":                                404,
		"/api/values/7/digits/":                         404,
		"/api/values/7/nothing":                         404,
		"/api/values/7/digits/7":                        404,
		"/api/value":                                    404,
		"/api/VALUES":                                   404,
		"/api/nothing":                                  404,
		"/api/index.php":                                404,
		"/api/%ff%fe":                                   404,
		"/api/" + strings.Repeat("x", 4000):             404,
		"/api/" + strings.Repeat("x/", 2000):            404,
		"/api/openapi.yml":                              404,
		"/api/.env":                                     404,
	} {
		t.Run(fmt.Sprintf("%.40s", path), func(t *testing.T) {
			t.Parallel()
			answer := target.Get(t, path)
			require.Equal(t, status, answer.StatusCode, answer)
			require.Len(t, answer.Header.Values("X-Request-Id"), 1)
		})
	}
}

// Proxies and routers clean such paths, each in its own way; what counts is that nothing breaks and nothing gets out.
func TestCrookedPaths(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		"/api/values/7%2Fdigits", "/api/values%2F7", "/api%2Fvalues", "/api/values/..%2F..%2Fmetrics", "/api//values", "/api//metrics",
		"/api/values/../metrics", "/api/values/../../metrics", "/api/./values", "/api/values/7/../8", "/api/%2e%2e/metrics",
		"/api/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "//api/values", "/api/values/%", "/api/values/%zz", "/api/values/%2", "/api/values/\xff\xfe",
		"/api/\\..\\metrics", "/api/values/7;x=1", "/api/values/7#x", "/api/values/7?", "/api/values/?", "/api/{index}", "/api/values/<7>",
		"/api/%00", "/api/%0d%0aSet-Cookie:x=1",
	} {
		t.Run(fmt.Sprintf("%q", path), func(t *testing.T) {
			t.Parallel()
			answer, err := target.Do(t.Context(), http.MethodGet, path, "")
			require.NoError(t, err)
			require.Less(t, answer.StatusCode, http.StatusInternalServerError)
			require.Empty(t, answer.Header.Get("Set-Cookie"))
			requireNothingOfTheInsides(t, answer)
		})
	}
}

func TestBadParameters(t *testing.T) {
	t.Parallel()
	everywhere := map[string]string{
		"limit=0": "limit", "limit=-1": "limit", "limit=10001": "limit", "limit=": "limit", "limit": "limit", "limit=ten": "limit",
		"limit=1.5": "limit", "limit=1e2": "limit", "limit=0x10": "limit", "limit=99999999999999999999": "limit",
		"limit=5&limit=6": "limit", "limit=%D9%A7": "limit", "limit=%00": "limit",
		"before=0": "before", "before=-1": "before", "before=": "before", "before=x": "before", "before=1.5": "before",
		"before=99999999999999999999": "before", "before=1&before=2": "before", "before=%ff": "before",
		"offset=5": "offset", "Limit=5": "Limit", "limit[]=5": "limit[]",
		"limit=%zz": "", "limit=5;before=1": "", "%": "", "limit=5&%ff=%": "",
	}
	statuses := map[string]string{
		"status=": "status", "status=DONE": "status", "status=finished": "status", "status=done,failed": "status",
		"status=done'--": "status", "status=%00": "status", "status=done&status=done": "status",
	}
	for list, queries := range map[string][]map[string]string{
		"/api/values":         {everywhere, statuses},
		"/api/values/all":     {everywhere, {"status=done": "status"}},
		"/api/values/current": {everywhere, {"status=done": "status"}},
	} {
		for _, some := range queries {
			for query, field := range some {
				t.Run(list+"?"+query, func(t *testing.T) {
					t.Parallel()
					answer := target.Get(t, list+"?"+query)
					require.Equal(t, http.StatusBadRequest, answer.StatusCode, answer)
					if field != "" {
						require.Equal(t, field, answer.Problem(t).Field)
					}
				})
			}
		}
	}
}

func TestOtherMethods(t *testing.T) {
	t.Parallel()
	for path, allow := range map[string]string{
		"/api/values":           "GET, HEAD, POST",
		"/api/":                 "GET, HEAD",
		"/api/values/all":       "GET, HEAD",
		"/api/values/current":   "GET, HEAD",
		"/api/values/7":         "GET, HEAD",
		"/api/values/7/digits":  "GET, HEAD",
		"/api/values/seven":     "GET, HEAD",
		"/api/stats":            "GET, HEAD",
		"/api/version":          "GET, HEAD",
		"/api/openapi.yaml":     "GET, HEAD",
		"/api/events":           "GET",
		"/api/values?limit=bad": "GET, HEAD, POST",
	} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, "BREW"} {
			if strings.Contains(allow, method) {
				continue
			}
			t.Run(method+" "+path, func(t *testing.T) {
				t.Parallel()
				answer := target.Send(t, method, path, `{"index":"7"}`, "Content-Type", "application/json")
				require.Equal(t, http.StatusMethodNotAllowed, answer.StatusCode)
				require.Equal(t, allow, answer.Header.Get("Allow"))
			})
		}
	}
	require.Equal(t, http.StatusMethodNotAllowed, target.Send(t, http.MethodHead, "/api/events", "").StatusCode)
	require.Equal(t, http.StatusNotFound, target.Send(t, http.MethodDelete, "/api/nothing", "").StatusCode)
}
