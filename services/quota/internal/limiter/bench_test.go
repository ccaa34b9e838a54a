package limiter_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// fiveLimits is a spend as the default rules make it, and more.
func fiveLimits() []limiter.Spec {
	return []limiter.Spec{
		{Max: 120, Window: time.Second},
		{Max: 128, Window: time.Second},
		{Max: 600, Window: time.Second},
		{Algorithm: limiter.GCRA, Max: 1e9, Window: time.Second},
		{Algorithm: limiter.Fixed, Max: 1e9, Window: time.Second},
	}
}

func BenchmarkTake(b *testing.B) {
	const keys = 20_000 // each far below its limits
	l := limiter.New(fiveLimits(), 10*keys)
	names := make([]limiter.Key, keys)
	for i := range names {
		names[i] = key(uint64(i))
	}
	start := time.Now()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		var asks [5]limiter.Ask
		for n := range asks {
			// Two rules count by address, the others by something else.
			asks[n] = limiter.Ask{Limit: uint32(n), Key: names[(i+max(0, n-1))%keys], Cost: 1}
		}
		if _, err := l.Take(time.Since(start), asks[:]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMemory tells what a million counters weigh.
func BenchmarkMemory(b *testing.B) {
	const keys = 1_000_000
	for _, bb := range []struct {
		name   string
		spec   limiter.Spec
		spends uint32
	}{
		{"log of 10, one spend", limiter.Spec{Max: 10, Window: time.Minute}, 1},
		{"log of 10, full", limiter.Spec{Max: 10, Window: time.Minute}, 10},
		{"log of 120, one spend", limiter.Spec{Max: 120, Window: time.Minute}, 1},
		{"ring", limiter.Spec{Max: 600, Window: time.Minute}, 1},
		{"gcra", limiter.Spec{Algorithm: limiter.GCRA, Max: 600, Window: time.Minute}, 1},
	} {
		b.Run(bb.name, func(b *testing.B) {
			for b.Loop() {
				before := heap()
				l := limiter.New([]limiter.Spec{bb.spec}, keys+keys/10)
				for n := range uint64(keys) {
					if _, err := l.Take(0, []limiter.Ask{{Key: key(n), Cost: bb.spends}}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(heap()-before)/keys, "B/key")
				start := time.Now()
				l.Sweep(time.Hour, 0)
				b.ReportMetric(float64(time.Since(start).Microseconds()), "µs/sweep")
				runtime.KeepAlive(l)
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkChange tells how long a change of rules holds up those who spend: the
// longest that one part is locked, of a million counters.
func BenchmarkChange(b *testing.B) {
	const keys = 1_000_000
	for _, bench := range []struct {
		name string
		next limiter.Spec
	}{
		{"a higher limit", limiter.Spec{Max: 20, Window: time.Minute}},
		{"a longer window", limiter.Spec{Max: 10, Window: time.Hour}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				l := limiter.New([]limiter.Spec{{Max: 10, Window: time.Minute}}, 2*keys)
				for i := range uint64(keys) {
					if _, err := l.Take(time.Second, []limiter.Ask{{Key: key(i), Cost: 3}}); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				l.Change(2*time.Second, []limiter.Spec{bench.next})
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*l64), "µs/part")
		})
	}
}

// l64 is how many parts there are.
const l64 = 64
