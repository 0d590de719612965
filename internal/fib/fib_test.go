package fib_test

import (
	"context"
	"math"
	"math/big"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/internal/fib"
)

func digits(t *testing.T, n uint64) []byte {
	t.Helper()
	d, err := fib.Digits(t.Context(), n)
	require.NoError(t, err)
	return d
}

// OEIS A000045.
func TestDigitsOfPublishedValues(t *testing.T) {
	small := []string{
		"0", "1", "1", "2", "3", "5", "8", "13", "21", "34", "55", "89", "144", "233", "377",
		"610", "987", "1597", "2584", "4181", "6765", "10946", "17711", "28657", "46368", "75025",
		"121393", "196418", "317811", "514229", "832040", "1346269", "2178309", "3524578",
		"5702887", "9227465", "14930352", "24157817", "39088169", "63245986", "102334155",
	}
	for n, want := range small {
		require.Equal(t, want, string(digits(t, uint64(n))), "F(%d)", n)
	}

	require.Equal(t, "354224848179261915075", string(digits(t, 100)))
	require.Equal(t, "222232244629420445529739893461909967206666939096499764990979600",
		string(digits(t, 300)))
	require.Equal(t, "43466557686937456435688527675040625802564660517371780402481729089536555417949051"+
		"89040387984007925516929592259308032263477520968962323987332247116164299644090653"+
		"3187938298969649928516003704476137795166849228875", string(digits(t, 1000)))

	million := string(digits(t, 1_000_000))
	require.Len(t, million, 208_988)
	require.Equal(t, "19532821287077577316", million[:20])
	require.Equal(t, "68996526838242546875", million[len(million)-20:])
}

func TestDigitsEqualPlainAddition(t *testing.T) {
	f, next := big.NewInt(0), big.NewInt(1)
	for n := range uint64(3000) {
		require.Equal(t, f.String(), string(digits(t, n)), "F(%d)", n)
		f.Add(f, next)
		f, next = next, f
	}
}

// The transform doubles its length where F(n/2) passes a power of two of limbs. Off by one
// there, the top of the product would wrap around to its bottom.
func TestDigitsAreRightWhereTheTransformGrows(t *testing.T) {
	for limbs := uint64(2); limbs <= 1<<13; limbs *= 2 {
		first := 2 * (limbs - 1) * 6000 / 209
		for n := first - 6; n <= first+6; n++ {
			requireRightModuloPrimes(t, n)
		}
	}
}

func TestDigitsSatisfyDoublingAndCassini(t *testing.T) {
	f := func(n uint64) *big.Int {
		v, ok := new(big.Int).SetString(string(digits(t, n)), 10)
		require.True(t, ok)
		return v
	}
	for range 10 {
		n := 1 + rand.Uint64N(200_000)
		before, here, after := f(n-1), f(n), f(n+1)

		// F(2n) = F(n) (2F(n+1) - F(n))
		double := new(big.Int).Lsh(after, 1)
		double.Sub(double, here).Mul(double, here)
		require.Zero(t, double.Cmp(f(2*n)), "doubling, n = %d", n)

		// F(n-1) F(n+1) - F(n)^2 = (-1)^n
		sign := int64(1)
		if n%2 == 1 {
			sign = -1
		}
		cassini := new(big.Int).Mul(before, after)
		cassini.Sub(cassini, new(big.Int).Mul(here, here))
		require.Zero(t, cassini.Cmp(big.NewInt(sign)), "Cassini, n = %d", n)
	}
}

func TestDigitsAreRightModuloPrimes(t *testing.T) {
	ns := []uint64{10_000, 99_999, 100_000, 500_000, 1 << 19, 999_999, 1_000_000, 4_000_000}
	for range 10 {
		ns = append(ns, rand.Uint64N(1_000_000))
	}
	for _, n := range ns {
		requireRightModuloPrimes(t, n)
	}
}

// Only here do the sums within the transform come near the bound that keeps them exact.
func TestDigitsAreRightAtTheLargestIndex(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds, and ten with the race detector")
	}
	t.Parallel()
	requireRightModuloPrimes(t, fib.MaxIndex)
}

// requireRightModuloPrimes compares the digits of F(n) with F(n) modulo primes that have
// nothing to do with the one the calculation uses, and their number with the formula.
func requireRightModuloPrimes(t *testing.T, n uint64) {
	t.Helper()
	d := digits(t, n)
	for _, q := range []uint64{1<<61 - 1, 1<<62 - 57, 1<<63 - 25} {
		require.Equal(t, fibonacciModulo(n, q), digitsModulo(d, q), "F(%d) mod %d", n, q)
	}
	if n > 1 {
		count := math.Floor(float64(n)*math.Log10(math.Phi)-math.Log10(5)/2) + 1
		require.Len(t, d, int(count), "digits of F(%d)", n)
	}
}

func mulModulo(a, b, q uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return bits.Rem64(hi, lo, q)
}

// fibonacciModulo raises the matrix (1 1; 1 0) to the power n, modulo q < 2^63.
func fibonacciModulo(n, q uint64) uint64 {
	type matrix [2][2]uint64
	mul := func(a, b matrix) (c matrix) {
		for i := range 2 {
			for j := range 2 {
				c[i][j] = (mulModulo(a[i][0], b[0][j], q) + mulModulo(a[i][1], b[1][j], q)) % q
			}
		}
		return c
	}
	power, square := matrix{{1, 0}, {0, 1}}, matrix{{1, 1}, {1, 0}}
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			power = mul(power, square)
		}
		square = mul(square, square)
	}
	return power[0][1]
}

func digitsModulo(digits []byte, q uint64) uint64 {
	var rest uint64
	for len(digits) > 0 {
		// 18 digits fit in a word.
		chunk := digits[:min(18, len(digits))]
		digits = digits[len(chunk):]
		scale, value := uint64(1), uint64(0)
		for _, d := range chunk {
			scale, value = scale*10, value*10+uint64(d-'0')
		}
		rest = (mulModulo(rest, scale, q) + value%q) % q
	}
	return rest
}

func TestDigitsRefusesAnIndexAboveTheLargest(t *testing.T) {
	for _, n := range []uint64{fib.MaxIndex + 1, math.MaxUint64} {
		d, err := fib.Digits(t.Context(), n)
		require.ErrorContains(t, err, "above 100000000")
		require.Nil(t, d)
	}
}

func FuzzDigits(f *testing.F) {
	for _, n := range []uint64{0, 1, 2, 29, 30, 31, 92, 93, 94, 1000, 4095, 4096, 117_000, 299_999} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, n uint64) {
		// Larger ones would only make the fuzzer slower.
		requireRightModuloPrimes(t, n%300_000)
	})
}

// watchedContext counts the looks at it and reports each before it answers.
type watchedContext struct {
	context.Context
	looks  int
	onLook func(look int)
}

func (c *watchedContext) Err() error {
	c.looks++
	c.onLook(c.looks)
	return c.Context.Err()
}

// F(500,000) is large enough for the transform to recurse, so that every way out is taken.
func TestDigitsStopsWhereverItIsCancelled(t *testing.T) {
	t.Parallel()
	const n = 500_000
	count := &watchedContext{Context: t.Context(), onLook: func(int) {}}
	_, err := fib.Digits(count, n)
	require.NoError(t, err)

	for last := 1; last <= count.looks; last++ {
		parent, cancel := context.WithCancel(t.Context())
		ctx := &watchedContext{Context: parent, onLook: func(look int) {
			if look == last {
				cancel()
			}
		}}
		d, err := fib.Digits(ctx, n)
		require.ErrorIs(t, err, context.Canceled)
		require.Nil(t, d)
		require.Equal(t, last, ctx.looks, "it went on after it was told to stop")
	}
}

func TestDigitsReturnsWhenCancelledByAnother(t *testing.T) {
	parent, cancel := context.WithCancel(t.Context())
	running := make(chan struct{})
	ctx := &watchedContext{Context: parent, onLook: func(look int) {
		if look == 100 {
			close(running)
		}
	}}
	result := make(chan error)
	go func() {
		_, err := fib.Digits(ctx, fib.MaxIndex)
		result <- err
	}()
	<-running
	cancel()
	require.ErrorIs(t, <-result, context.Canceled)
}

func TestDigitsDoesNotStartWhenTheContextIsDone(t *testing.T) {
	parent, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	for _, n := range []uint64{0, 1, 1000, fib.MaxIndex} {
		ctx := &watchedContext{Context: parent, onLook: func(int) {}}
		d, err := fib.Digits(ctx, n)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Nil(t, d)
		require.Equal(t, 1, ctx.looks)
	}
}
