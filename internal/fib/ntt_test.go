package fib

import (
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// Most borrows and carries of the reduction come up once in 2^32 random products: no
// Fibonacci number can be trusted to meet them.
func TestFieldArithmeticAgreesWithDivision(t *testing.T) {
	values := []uint64{
		0, 1, 2, epsilon - 1, epsilon, epsilon + 1, epsilon + 2,
		1<<33 - 1, 1 << 48, 1<<63 - 1, 1 << 63, p - epsilon - 1, p - epsilon, p - 2, p - 1,
	}
	for range 100 {
		values = append(values, rand.Uint64N(p))
	}
	for _, u := range values {
		for _, v := range values {
			lo, carry := bits.Add64(u, v, 0)
			require.Equal(t, bits.Rem64(carry, lo, p), add(u, v), "%d + %d", u, v)
			lo, carry = bits.Add64(u, p-v, 0)
			require.Equal(t, bits.Rem64(carry, lo, p), sub(u, v), "%d - %d", u, v)
			hi, lo := bits.Mul64(u, v)
			require.Equal(t, bits.Rem64(hi, lo, p), mul(u, v), "%d * %d", u, v)
		}
	}
}
