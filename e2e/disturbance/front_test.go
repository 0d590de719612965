package disturbance_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/e2e"
)

func TestTheFrontOutlivesTheApi(t *testing.T) {
	t.Parallel()
	b := setup(t)
	front := b.Stack.PIDs(t, "nginx")
	stream := b.Listen(t)
	index := b.FreshIndex(t, 1, 1000)
	b.Calculated(t, index)

	b.Stack.Stop(t, "api")
	stream.AwaitEnd(t)
	for _, path := range []string{"/api/version", fmt.Sprintf("/api/values/%d", index), "/api/events"} {
		answer, err := b.Do(t.Context(), http.MethodGet, path, "")
		require.NoError(t, err)
		require.Equal(t, http.StatusBadGateway, answer.StatusCode)
		require.NotEmpty(t, answer.Problem(t).Detail)
	}
	require.Contains(t, b.Get(t, "/").Body, "<html")

	b.Stack.Start(t, "api")
	e2e.Await(t, "the api", func() bool {
		answer, err := b.Do(t.Context(), http.MethodGet, "/api/version", "")
		require.NoError(t, err)
		return answer.StatusCode == http.StatusOK
	})
	e2e.RequireFibonacci(t, index, b.Look(t, index).Value)
	stream = b.Listen(t)
	last := b.FreshIndex(t, 1001, 2000)
	b.Ask(t, last)
	stream.Await(t, last)
	require.Equal(t, front, b.Stack.PIDs(t, "nginx"))
}
