package cache_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/internal/cache"
	"github.com/fibstack/fibstack/internal/testkit"
)

func setup(t *testing.T) (*testkit.Server, *redis.Client, *cache.Cache) {
	t.Helper()
	t.Parallel()
	server := testkit.Redis(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), DialerRetries: 1})
	t.Cleanup(func() { _ = client.Close() })
	return server, client, cache.New(client)
}

func TestGetReturnsWhatWasPutByteForByte(t *testing.T) {
	_, _, c := setup(t)
	data := []byte("{\"index\":\"7\"}\x00\xff\r\n")
	require.NoError(t, c.Put(t.Context(), 7, data))

	got, ok, err := c.Get(t.Context(), 7)

	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, data, got)
}

func TestGetOfAnUnknownIndexIsNoError(t *testing.T) {
	_, client, c := setup(t)
	require.NoError(t, c.Put(t.Context(), 7, []byte("13")))
	require.NoError(t, client.FlushAll(t.Context()).Err())
	for _, index := range []int64{7, 8} {
		data, ok, err := c.Get(t.Context(), index)
		require.NoError(t, err)
		require.False(t, ok)
		require.Empty(t, data)
	}
}

func TestPutReplaces(t *testing.T) {
	_, _, c := setup(t)
	require.NoError(t, c.Put(t.Context(), 7, []byte("before")))
	require.NoError(t, c.Put(t.Context(), 7, []byte("after")))

	got, _, err := c.Get(t.Context(), 7)

	require.NoError(t, err)
	require.Equal(t, "after", string(got))
}

func TestAnAbsentRedisIsAnErrorUntilItIsBack(t *testing.T) {
	server, _, c := setup(t)
	require.NoError(t, c.Put(t.Context(), 7, []byte("13")))
	server.Stop()
	_, ok, err := c.Get(t.Context(), 7)
	require.Error(t, err)
	require.False(t, ok)
	require.Error(t, c.Put(t.Context(), 8, []byte("21")))

	require.NoError(t, server.Start())

	_, ok, err = c.Get(t.Context(), 7)
	require.NoError(t, err)
	require.True(t, ok)
}
