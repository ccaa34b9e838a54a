package limiter_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// Permits are exact over random schedules: acquired, given back, over by their time,
// under limits that change meanwhile.
func TestPermitsAreExact(t *testing.T) {
	t.Parallel()
	type held struct{ ends time.Duration }
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 41))
		specs := []limiter.PermitSpec{{Max: 3, TTL: time.Minute}, {Max: 5, TTL: 20 * time.Second}}
		p := limiter.NewPermits(specs, 1000)
		live := []map[string]held{{}, {}} // by limit: the oracle
		now := time.Duration(0)
		alive := func(limit int) (n uint32, first time.Duration) {
			for id, h := range live[limit] {
				if h.ends <= now {
					delete(live[limit], id)
					continue
				}
				if n++; n == 1 || h.ends < first {
					first = h.ends
				}
			}
			return n, first
		}
		for i := range 3000 {
			now += time.Duration(rng.Int64N(int64(8 * time.Second)))
			switch rng.IntN(10) {
			case 0, 1, 2: // gives one back, perhaps one that is over
				for id := range live[0] {
					p.Release(id)
					delete(live[0], id)
					delete(live[1], id)
					break
				}
				continue
			case 3:
				specs = []limiter.PermitSpec{
					{Max: 1 + rng.Uint32N(5), TTL: time.Minute}, {Max: 1 + rng.Uint32N(5), TTL: time.Duration(1+rng.IntN(30)) * time.Second},
				}
				p.Change(specs)
				continue
			}
			ttl := time.Duration(rng.IntN(3)) * 15 * time.Second
			id := fmt.Sprint(i)
			asks := []limiter.Ask{{Limit: 0, Cost: 1}, {Limit: 1, Cost: 1}}
			ok, err := p.Acquire(now, ttl, id, asks)
			if err != nil {
				t.Fatal(err)
			}
			want := true
			for limit := range specs {
				n, first := alive(limit)
				full := n >= specs[limit].Max
				want = want && !full
				if s := asks[limit].State; !ok && (s.Exceeded != full || full && s.Wait != first-now) {
					t.Fatalf("seed %d, step %d: limit %d with %d of %d: %+v, the first ends in %v", seed, i, limit, n, specs[limit].Max, s, first-now)
				}
			}
			if ok != want {
				t.Fatalf("seed %d, step %d: got %v, want %v", seed, i, ok, want)
			}
			for limit := range specs {
				if ok {
					lasts := specs[limit].TTL
					if ttl > 0 {
						lasts = min(ttl, lasts)
					}
					live[limit][id] = held{now + lasts}
				}
			}
		}
	}
}
