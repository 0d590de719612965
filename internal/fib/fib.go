// Package fib calculates Fibonacci numbers exactly: F(0) = 0, F(1) = 1, as in OEIS A000045.
//
// It promises all decimal digits of F(n) for any n up to MaxIndex, and that the work stops
// within a few milliseconds of its context being done, however large n is. A call keeps one
// CPU busy, and leaves nothing behind that runs on. It keeps no results and shares nothing
// between calls.
//
// It doubles the index step by step, as is usual, but on numbers held in a decimal base
// from the start and multiplied by number-theoretic transforms. So there is no conversion
// of millions of bits to decimal at the end, and no long operation of a library that could
// not be interrupted: every loop over a number looks at the context on its way. Below
// n = 100,000 math/big would be some microseconds faster, which is no reason for a second
// method.
//
// Let N be the power of two at or above 0.035n. A call takes 20N bytes for two numbers and
// the table of roots, and 0.21n for the digits: 0.9n to 1.6n bytes in all, 105 MB for the
// largest n.
package fib

import (
	"context"
	"fmt"
	"math/bits"
	"strconv"
)

// MaxIndex is the largest n for which Digits calculates F(n), a number of 20,898,764 digits.
const MaxIndex = 100_000_000

// A number is a slice of limbs, the digits in this base, the lowest first, with zeros above
// its highest.
const (
	base       = 1_000_000
	limbDigits = 6
)

// The transform knows the coefficients of a product only modulo p, so they must stay below
// p to be exact. The longest factors are F(k-1) and F(k) with k = MaxIndex/2, and the largest
// product is F(k)^2 + F(k+1)^2 with F(k+1) = F(k-1)+F(k) summed without carrying, in limbs
// below 2*base. A coefficient sums at most maxLimbs products of two limbs from the first
// square and as many from the second, so it is below maxLimbs*(1+4)*base^2. The blank
// constant compiles only if that is at most 2^63, which is below p and leaves room for
// adding a carry in 64 bits.
const (
	maxLimbs = MaxIndex/2*209/1000/limbDigits + 1

	_ uint64 = 1<<63 - 5*maxLimbs*base*base
)

// Digits returns the decimal digits of F(n). It returns ctx.Err() soon after ctx is done,
// and an error if n is above MaxIndex.
func Digits(ctx context.Context, n uint64) ([]byte, error) {
	if n > MaxIndex {
		return nil, fmt.Errorf("fib: index %d is above %d", n, MaxIndex)
	}
	f, err := fibonacci(ctx, n)
	if err != nil {
		return nil, err
	}
	return format(ctx, f)
}

// fibonacci returns F(n). It starts from F(-1) = 1 and F(0) = 0 and takes in the bits of n
// from the highest to the lowest: k, the bits taken so far, becomes 2k or 2k+1.
func fibonacci(ctx context.Context, n uint64) ([]uint64, error) {
	size := transformSize(n / 2)
	r, err := newRoots(ctx, size/2)
	if err != nil {
		return nil, err
	}
	prev, cur := make([]uint64, size), make([]uint64, size)
	prev[0] = 1

	for shift := bits.Len64(n) - 1; shift >= 0; shift-- {
		size := transformSize(n >> (shift + 1))
		odd := n>>shift&1 == 1
		if err := double(ctx, r, prev[:size], cur[:size], odd); err != nil {
			return nil, err
		}
		if err := normalize(ctx, r, cur[:size]); err != nil {
			return nil, err
		}
		if shift == 0 {
			break // nobody asks for F(n-1)
		}
		if err := normalize(ctx, r, prev[:size]); err != nil {
			return nil, err
		}
	}
	return cur, nil
}

// transformSize returns the length of the transforms that take F(k-1) and F(k) to twice the
// index. log10 of the golden ratio is just below 0.209, so neither has more limbs than
// counted here, and F(2k+1), the longest result, at most one more than twice as many.
func transformSize(k uint64) int {
	limbs := k*209/1000/limbDigits + 1
	return 1 << bits.Len64(2*limbs)
}

// double replaces F(k-1) and F(k) by the transforms of F(2k-1) and F(2k), or of F(2k) and
// F(2k+1) if odd. The doubling identities are the entries of the square of (1 1; 1 0)^k; of
// their many forms these have no subtraction, so that no coefficient is negative:
//
//	F(2k-1) = F(k-1)^2 + F(k)^2
//	F(2k)   = F(k) (2F(k-1) + F(k))
//	F(2k+1) = F(k)^2 + (F(k-1) + F(k))^2
func double(ctx context.Context, r roots, prev, cur []uint64, odd bool) error {
	if err := r.evaluate(ctx, prev); err != nil {
		return err
	}
	if err := r.evaluate(ctx, cur); err != nil {
		return err
	}
	return inBlocks(ctx, len(cur), func(from, to int) {
		for i := from; i < to; i++ {
			a, b := prev[i], cur[i]
			next := add(a, b)
			f2k := mul(b, add(a, next))
			if odd {
				prev[i], cur[i] = f2k, add(mul(b, b), mul(next, next))
			} else {
				prev[i], cur[i] = add(mul(a, a), mul(b, b)), f2k
			}
		}
	})
}

// normalize turns the transform of a product into limbs below base.
func normalize(ctx context.Context, r roots, x []uint64) error {
	if err := r.interpolate(ctx, x); err != nil {
		return err
	}
	var carry uint64
	return inBlocks(ctx, len(x), func(from, to int) {
		for i := from; i < to; i++ {
			sum := x[i] + carry
			x[i], carry = sum%base, sum/base
		}
	})
}

// format writes a number in decimal.
func format(ctx context.Context, x []uint64) ([]byte, error) {
	top := len(x) - 1
	for top > 0 && x[top] == 0 {
		top--
	}
	digits := make([]byte, 0, (top+1)*limbDigits)
	digits = strconv.AppendUint(digits, x[top], 10)
	err := inBlocks(ctx, top, func(from, to int) {
		for i := from; i < to; i++ {
			var limb [limbDigits]byte
			rest := x[top-1-i]
			for j := range limb {
				limb[limbDigits-1-j] = '0' + byte(rest%10)
				rest /= 10
			}
			digits = append(digits, limb[:]...)
		}
	})
	if err != nil {
		return nil, err
	}
	return digits, nil
}

// blockSize is how many elements a loop works through between two looks at the context:
// below a millisecond of work, beside which the look costs nothing.
const blockSize = 1 << 16

// inBlocks calls do for one block of the n elements after the other. It stops with ctx.Err()
// once ctx is done.
func inBlocks(ctx context.Context, n int, do func(from, to int)) error {
	for from := 0; from < n; from += blockSize {
		if err := ctx.Err(); err != nil {
			return err
		}
		do(from, min(from+blockSize, n))
	}
	return nil
}
