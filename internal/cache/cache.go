// Package cache keeps finished short values in a Redis hash, so that reading them again costs the database nothing. It
// is only a cache: Redis may lose it at any time.
//
// The caller puts in values of at most 1,000 digits and nothing else. That bounds the hash without any eviction: only
// the indexes up to 4,786 have values that short, so that it never has more than 4,787 fields, some 6 MB at most.
package cache

import (
	"context"
	"errors"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// Values is the hash: index → the caller's bytes.
const Values = "{fib}:values"

// Cache is the hash on one client. Its methods may be called concurrently.
type Cache struct{ client redis.UniversalClient }

// New returns the cache on a client, which stays the caller's to close.
func New(client redis.UniversalClient) *Cache { return &Cache{client} }

// Get returns what was put for an index; ok is false when there is nothing.
func (c *Cache) Get(ctx context.Context, index int64) (data []byte, ok bool, err error) {
	data, err = c.client.HGet(ctx, Values, strconv.FormatInt(index, 10)).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, false, nil
	}
	return data, err == nil, err
}

// Put keeps data for an index in place of what was there.
func (c *Cache) Put(ctx context.Context, index int64, data []byte) error {
	return c.client.HSet(ctx, Values, strconv.FormatInt(index, 10), data).Err()
}
