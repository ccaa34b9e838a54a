package fast_test

import (
	"testing"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// BenchmarkTake decides about 1,000 keys, of which another node has told some; and
// about one that is used up.
func BenchmarkTake(b *testing.B) {
	for name, most := range map[string]uint32{"admits": 1_000_000_000, "refuses": 10} {
		b.Run(name, func(b *testing.B) {
			spec := thousand
			spec.Max = most
			w := newWorld(b, 1, 2, spec)
			for k := range 1000 {
				w.nodes[1].take(0, k, 10)
			}
			w.run(w.cfg.Silence)
			n := w.nodes[0]
			asks := make([]limiter.Ask, 1)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				asks[0] = limiter.Ask{Key: key(i % 1000), Cost: 1}
				if _, err := n.Take(n.now(), asks); err != nil {
					b.Fatal(err)
				}
				if i%10_000 == 0 {
					n.Collect(n.now())
				}
			}
		})
	}
}
