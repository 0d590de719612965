package fib_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/internal/fib"
)

func BenchmarkDigits(b *testing.B) {
	for n := uint64(1000); n <= fib.MaxIndex; n *= 10 {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			var count int
			for b.Loop() {
				d, err := fib.Digits(b.Context(), n)
				require.NoError(b, err)
				count += len(d)
			}
			b.ReportMetric(float64(count)/b.Elapsed().Seconds(), "digits/s")
		})
	}
}

// BenchmarkCancel reports the longest time seen from cancelling F(MaxIndex) to the return,
// cancelled at another phase of the calculation in each iteration: run it with
// -benchtime=100x.
func BenchmarkCancel(b *testing.B) {
	start := time.Now()
	_, err := fib.Digits(b.Context(), fib.MaxIndex)
	require.NoError(b, err)
	whole := time.Since(start)

	var worst time.Duration
	for i := 0; b.Loop(); i++ {
		ctx, cancel := context.WithCancel(b.Context())
		returned := make(chan struct{})
		go func() {
			_, _ = fib.Digits(ctx, fib.MaxIndex)
			close(returned)
		}()

		// Multiples of the golden ratio spread evenly, however many are taken.
		_, phase := math.Modf(float64(i) * math.Phi)
		select {
		case <-time.After(time.Duration(phase * float64(whole))):
			cancelled := time.Now()
			cancel()
			<-returned
			worst = max(worst, time.Since(cancelled))
		case <-returned: // done earlier than the first time
			cancel()
		}
	}
	b.ReportMetric(float64(worst.Microseconds())/1000, "worst-ms")
}
