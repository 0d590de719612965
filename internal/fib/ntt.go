package fib

import (
	"context"
	"math/bits"
)

// The transform works in the field of integers modulo p = 2^64 - 2^32 + 1, known as the
// Goldilocks prime: one of the generalized Mersenne numbers of J. A. Solinas (1999), modulo
// which a product is reduced without a division. Elements are always kept below p.
const (
	p = 1<<64 - 1<<32 + 1

	// epsilon is 2^64 mod p: dropping a carry out of 64 bits is made good by adding it.
	epsilon = 1<<32 - 1

	// generator generates the multiplicative group, whose order p-1 = 2^32 * (2^32 - 1) is
	// what gives the field roots of unity of every power of two up to 2^32.
	generator = 7
)

// sub returns u-v mod p for v <= p. The result is below p when u-v is; u itself may be any
// 64-bit value.
func sub(u, v uint64) uint64 {
	d, borrow := bits.Sub64(u, v, 0)
	return d - (-borrow & epsilon)
}

// add returns u+v mod p for v <= p. The result is below p when u+v < 2p.
func add(u, v uint64) uint64 {
	return sub(u, p-v)
}

// mul returns u*v mod p. Write the product as a + 2^64 b + 2^96 c with 64-bit a and 32-bit
// b and c: since 2^64 = epsilon and 2^96 = -1 mod p, it is congruent to a - c + b*epsilon.
// b*epsilon is at most (2^32-1)^2 = 2^64 - 2^33 + 1, so that even with the largest a the sum
// stays below 2p, as add needs.
func mul(u, v uint64) uint64 {
	hi, a := bits.Mul64(u, v)
	c, b := hi>>32, hi&epsilon
	return add(sub(a, c), b*epsilon)
}

// pow returns u^exponent mod p.
func pow(u, exponent uint64) uint64 {
	result := uint64(1)
	for ; exponent > 0; exponent >>= 1 {
		if exponent&1 == 1 {
			result = mul(result, u)
		}
		u = mul(u, u)
	}
	return result
}

// roots holds what the number-theoretic transform (J. M. Pollard, "The Fast Fourier
// Transform in a Finite Field", 1971) multiplies by.
//
// The transform of a polynomial is its remainders modulo x-w for all w with w^N = 1. It is
// reached by halving: what is known modulo x^2h - r^2 gives, by one multiplication by r and
// an addition or subtraction for each of h pairs of coefficients, the remainders modulo
// x^h - r and modulo x^h + r. The halvings form a binary tree, whose nodes are numbered
// from 0 in each level: node i has the children 2i and 2i+1, and roots[i] is the r that
// splits it, the same in every level and for every N. One table so serves all sizes, and a
// node needs a single root for all its pairs.
//
// The remainders come out in bit-reversed order, which nobody minds: they are multiplied in
// place, and inverse climbs the same tree.
type roots []uint64

// newRoots makes the table for transforms of up to 2n values; n is a power of two.
//
// The child 2i splits by a square root of what its parent splits by, 2i+1 by a square root
// of its negative. Followed down from roots[0] = 1, this says that bit j of i contributes a
// root of unity of order 2^(j+2) as a factor.
func newRoots(ctx context.Context, n int) (roots, error) {
	r := make(roots, n)
	r[0] = 1
	for known := 1; known < n; known *= 2 {
		factor := pow(generator, (p-1)/uint64(4*known))
		err := inBlocks(ctx, known, func(from, to int) {
			for i := from; i < to; i++ {
				r[known+i] = mul(r[i], factor)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

// reciprocal returns 1/roots[i], without a table of its own. Flip all bits of i below its
// highest, j: between them, the two roots have the factor of every lower bit once and that
// of bit j twice. In parts of a full turn these are 1/4 + 1/8 + ... + 1/2^(j+1), and
// 1/2^(j+1) once more, which is one half: the product of the two is -1.
func (r roots) reciprocal(i int) uint64 {
	if i == 0 {
		return 1
	}
	lower := 1<<(bits.Len(uint(i))-1) - 1
	return p - r[i^lower]
}

// evaluate transforms the polynomial in the lower half of x. Without higher coefficients it
// is the same modulo either child of the top node.
func (r roots) evaluate(ctx context.Context, x []uint64) error {
	lo, hi := halves(x)
	err := inBlocks(ctx, len(lo), func(from, to int) {
		copy(hi[from:to], lo[from:to])
	})
	if err != nil {
		return err
	}
	if err := r.forward(ctx, lo, 0); err != nil {
		return err
	}
	return r.forward(ctx, hi, 1)
}

// interpolate undoes a transform. Every level of inverse leaves a factor of two, so at the
// top all is divided by N = len(x): 1/N is -(p-1)/N.
func (r roots) interpolate(ctx context.Context, x []uint64) error {
	lo, hi := halves(x)
	if err := r.inverse(ctx, lo, 0); err != nil {
		return err
	}
	if err := r.inverse(ctx, hi, 1); err != nil {
		return err
	}
	scale := p - (p-1)/uint64(len(x))
	return inBlocks(ctx, len(lo), func(from, to int) {
		for i := from; i < to; i++ {
			u, v := lo[i], hi[i]
			lo[i], hi[i] = mul(add(u, v), scale), mul(sub(u, v), scale)
		}
	})
}

// leafSize is the number of values, 32 KiB of them, up to which a subtree is worked through
// level by level without a look at the context: it stays in the first-level cache, and is
// done in a tenth of a millisecond.
const leafSize = 1 << 12

// forward takes x, what is known modulo the polynomial of this node, down to the remainders.
// One half is finished before the other is begun, to make the most of the cache.
func (r roots) forward(ctx context.Context, x []uint64, node int) error {
	if len(x) <= leafSize {
		r.forwardLeaf(x, node)
		return nil
	}
	lo, hi := halves(x)
	err := inBlocks(ctx, len(lo), func(from, to int) {
		split(lo[from:to], hi[from:to], r[node])
	})
	if err != nil {
		return err
	}
	if err := r.forward(ctx, lo, 2*node); err != nil {
		return err
	}
	return r.forward(ctx, hi, 2*node+1)
}

func (r roots) forwardLeaf(x []uint64, node int) {
	for size := len(x); size > 1; size /= 2 {
		for i := range len(x) / size {
			lo, hi := halves(x[i*size:][:size])
			split(lo, hi, r[node+i])
		}
		node *= 2
	}
}

// inverse undoes forward, but for leaving len(x) times the polynomial.
func (r roots) inverse(ctx context.Context, x []uint64, node int) error {
	if len(x) <= leafSize {
		r.inverseLeaf(x, node)
		return nil
	}
	lo, hi := halves(x)
	if err := r.inverse(ctx, lo, 2*node); err != nil {
		return err
	}
	if err := r.inverse(ctx, hi, 2*node+1); err != nil {
		return err
	}
	w := r.reciprocal(node)
	return inBlocks(ctx, len(lo), func(from, to int) {
		join(lo[from:to], hi[from:to], w)
	})
}

func (r roots) inverseLeaf(x []uint64, node int) {
	for size := 2; size <= len(x); size *= 2 {
		first := node * (len(x) / size)
		for i := range len(x) / size {
			lo, hi := halves(x[i*size:][:size])
			join(lo, hi, r.reciprocal(first+i))
		}
	}
}

func halves(x []uint64) (lo, hi []uint64) {
	return x[:len(x)/2], x[len(x)/2:]
}

// split replaces lo + hi*x^h by its remainders modulo x^h - w and x^h + w.
func split(lo, hi []uint64, w uint64) {
	hi = hi[:len(lo)]
	for i, u := range lo {
		v := mul(hi[i], w)
		lo[i], hi[i] = add(u, v), sub(u, v)
	}
}

// join undoes split, given 1/w, and leaves twice the polynomial.
func join(lo, hi []uint64, w uint64) {
	hi = hi[:len(lo)]
	for i, u := range lo {
		v := hi[i]
		lo[i], hi[i] = add(u, v), mul(sub(u, v), w)
	}
}
