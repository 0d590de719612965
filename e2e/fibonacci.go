package e2e

import (
	"math"
	"math/bits"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// moduli are the primes below 2^62, 2^61, 2^60 and 2^59, and one that shows the last digits. A wrong number of the
// right length agrees with all of them once in 10^90.
var moduli = []uint64{1<<62 - 57, 1<<61 - 1, 1<<60 - 93, 1<<59 - 55, 1e18}

// RequireFibonacci requires that digits are those of F(n), without calculating like the stack does: by how many they
// are, and by what is left of them modulo several numbers, where the matrix {{1,1},{1,0}}^n says what must be left.
func RequireFibonacci(tb testing.TB, n int64, digits string) {
	tb.Helper()
	require.Len(tb, digits, DigitsOf(n))
	for _, m := range moduli {
		require.Equal(tb, fibonacciMod(uint64(n), m), decimalMod(tb, digits, m), "F(%d) modulo %d", n, m)
	}
}

// DigitsOf returns how many digits F(n) has. F(n) is the integer next to φ^n/√5.
func DigitsOf(n int64) int {
	return max(1, int(math.Floor(float64(n)*math.Log10(math.Phi)-math.Log10(5)/2))+1)
}

func decimalMod(tb testing.TB, digits string, m uint64) uint64 {
	tb.Helper()
	const most = 18 // digits that are below any modulus, for one division each
	var rest uint64
	for part := range slices.Chunk([]byte(digits), most) {
		value, err := strconv.ParseUint(string(part), 10, 64)
		require.NoError(tb, err)
		rest = (mulMod(rest, uint64(math.Pow10(len(part))), m) + value) % m
	}
	return rest
}

// fibonacciMod keeps {{a+b, a}, {a, b}}, a power of the matrix, as a and b.
func fibonacciMod(n, m uint64) uint64 {
	type power struct{ a, b uint64 }
	times := func(x, y power) power {
		aa, bb := mulMod(x.a, y.a, m), mulMod(x.b, y.b, m)
		return power{
			a: (aa + (mulMod(x.a, y.b, m)+mulMod(x.b, y.a, m))%m) % m,
			b: (aa + bb) % m,
		}
	}
	result, square := power{0, 1}, power{1, 0}
	for ; n > 0; n /= 2 {
		if n%2 == 1 {
			result = times(result, square)
		}
		square = times(square, square)
	}
	return result.a
}

func mulMod(a, b, m uint64) uint64 {
	high, low := bits.Mul64(a, b)
	_, rest := bits.Div64(high, low, m)
	return rest
}
