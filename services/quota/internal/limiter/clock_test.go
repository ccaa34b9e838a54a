package limiter_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// Windows of the clock begin where the clock says, and admit the limit each.
func TestWindowsOfTheClockAreExact(t *testing.T) {
	t.Parallel()
	spec := limiter.Spec{Max: 10, Window: time.Minute, Algorithm: limiter.Fixed, Clock: true}
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 31))
		wall := time.Duration(rng.Int64N(1e18))
		l := limiter.New([]limiter.Spec{spec}, limiter.MinKeys)
		l.SetWall(wall)
		plan := &schedule{Rand: rng, spec: spec}
		window, spent := time.Duration(-1), uint32(0)
		for range 2000 {
			now, cost := plan.next()
			if w := (wall + now) / spec.Window; w != window {
				window, spent = w, 0
			}
			ask := []limiter.Ask{{Cost: cost}}
			ok, err := l.Take(now, ask)
			if err != nil {
				t.Fatal(err)
			}
			if want := spent+cost <= spec.Max; ok != want {
				t.Fatalf("seed %d, at %v: cost %d after %d: got %v", seed, wall+now, cost, spent, ok)
			}
			if ok {
				spent += cost
			} else if rest := spec.Window - (wall+now)%spec.Window; cost <= spec.Max && ask[0].State.Wait != rest {
				t.Fatalf("seed %d, at %v: wait %v, want %v", seed, wall+now, ask[0].State.Wait, rest)
			}
		}
	}
}

// No limit but those of the clock sees a step of the wall clock; and those admit no
// more than one window's worth more for each.
func TestStepsOfTheWallClock(t *testing.T) {
	t.Parallel()
	specs := []limiter.Spec{
		{Max: 10, Window: time.Minute},
		{Max: 300, Window: time.Minute},
		{Max: 10, Window: time.Minute, Algorithm: limiter.GCRA},
		{Max: 10, Window: time.Minute, Algorithm: limiter.Fixed},
		{Max: 10, Window: time.Minute, Algorithm: limiter.Fixed, Clock: true},
	}
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 32))
		steady, stepped := limiter.New(specs, limiter.MinKeys), limiter.New(specs, limiter.MinKeys)
		var kept spends
		var steps []time.Duration
		now := time.Duration(0)
		for range 3000 {
			now += time.Duration(rng.Int64N(int64(3 * time.Second)))
			if rng.IntN(50) == 0 {
				steps = append(steps, now)
				stepped.SetWall(time.Duration(rng.Int64N(1e18)))
			}
			for i := range specs {
				a, b := []limiter.Ask{{Limit: uint32(i), Cost: 1}}, []limiter.Ask{{Limit: uint32(i), Cost: 1}}
				if i == len(specs)-1 {
					if take(t, stepped, now, b...) {
						kept = append(kept, spend{at: now, cost: 1})
						most := uint64(2 * specs[i].Max)
						for _, s := range steps { // the window at the step ends as it would have; the one after may be shorter
							if s > now-3*specs[i].Window {
								most += uint64(specs[i].Max)
							}
						}
						if sum := kept.since(now-specs[i].Window, now); sum > most {
							t.Fatalf("seed %d: %d in one minute, and %d at most", seed, sum, most)
						}
					} else if b[0].State.Wait > specs[i].Window {
						t.Fatalf("seed %d: a wait of %v in windows of %v", seed, b[0].State.Wait, specs[i].Window)
					}
					continue
				}
				if take(t, steady, now, a...) != take(t, stepped, now, b...) || a[0].State != b[0].State {
					t.Fatalf("seed %d: limit %d was moved by the wall clock", seed, i)
				}
			}
		}
	}
}
