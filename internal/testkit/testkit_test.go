package testkit_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestServersKeepTheirDataOverAStop(t *testing.T) {
	s := testkit.Redis(t)
	client := redis.NewClient(&redis.Options{Addr: s.Addr()})
	defer client.Close()
	require.NoError(t, client.Set(context.Background(), "key", "kept", 0).Err())

	s.Stop()
	require.Error(t, client.Get(context.Background(), "key").Err())

	require.NoError(t, s.Start())
	require.Equal(t, "kept", client.Get(context.Background(), "key").Val())
}

func TestEveryDatabaseIsEmpty(t *testing.T) {
	server, first := testkit.Database(t)
	same, second := testkit.Database(t)
	require.Same(t, server, same)
	require.NotEqual(t, first, second)
}
