package limiter_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// forms are limits that one limit may become.
var forms = []limiter.Spec{
	{Max: 5, Window: time.Second},
	{Max: 9, Window: time.Second},
	{Max: 9, Window: 3 * time.Second},
	{Max: 128, Window: time.Second},
	{Max: 200, Window: time.Second},
	{Max: 400, Window: 2 * time.Second},
	{Max: 20, Window: time.Second, Algorithm: limiter.GCRA},
	{Max: 20, Window: time.Second, Algorithm: limiter.GCRA, Burst: 3},
	{Max: 20, Window: time.Second, Algorithm: limiter.Fixed},
	{Max: 7, Window: 2 * time.Second, Algorithm: limiter.Fixed},
	{Max: 20, Window: time.Second, Algorithm: limiter.Fixed, Clock: true},
}

// named gives a spec a name that tells its form, as the cluster needs it.
func named(s limiter.Spec, of []limiter.Spec) limiter.Spec {
	for i, other := range of {
		if other.Form() == s.Form() {
			s.Name = uint64(i) + 1
			break
		}
	}
	return s
}

// A sliding limit that was another before counts all that is known of what was
// spent, by whichever limit, within its window.
func TestChangedLimitsStayWithinTheirBounds(t *testing.T) {
	t.Parallel()
	for seed := range uint64(80) {
		rng := rand.New(rand.NewPCG(seed, 11))
		spec := named(forms[rng.IntN(len(forms))], forms)
		l := limiter.New([]limiter.Spec{spec}, limiter.MinKeys)
		plan := &schedule{Rand: rng, spec: spec, now: time.Duration(seed%2) * limiter64}
		key := limiter.Key{Lo: 9}
		var kept spends            // as far as the limiter can know
		known := time.Duration(-1) // what is older was forgotten
		for range 400 {
			now, cost := plan.next()
			if rng.IntN(15) == 0 {
				next := named(forms[rng.IntN(len(forms))], forms)
				if spec.Algorithm != limiter.Sliding { // it knows a sum
					asks := []limiter.Ask{{Key: key, Cost: 1}}
					l.Peek(now, asks)
					most := spec.Max
					if spec.Burst > 0 {
						most = spec.Burst
					}
					kept = spends{{at: now, cost: most - asks[0].State.Remaining}}
				}
				known = max(known, now-spec.Window)
				if next.Algorithm == limiter.Sliding && next.Max <= limiter.LogMax {
					kept = newest(kept, limiter.LogMax)
				}
				l.Change(now, []limiter.Spec{next})
				spec, plan.spec = next, next
			}
			asks := []limiter.Ask{{Key: key, Cost: cost}}
			ok, err := l.Take(now, asks)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				kept = append(kept, spend{at: now, cost: cost})
			}
			if spec.Algorithm != limiter.Sliding || !ok {
				continue
			}
			if sum := kept.since(max(now-spec.Window, known), now); sum > uint64(spec.Max) {
				t.Fatalf("seed %d, at %d: %d in one window of %d in %v", seed, now, sum, spec.Max, spec.Window)
			}
		}
	}
}

// limiter64 is a time at which all ages are positive; a node that counts alone begins
// at zero.
const limiter64 = 64 * 24 * time.Hour

// newest is the latest of spends, up to most in all.
func newest(all spends, most uint32) spends {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].cost >= most {
			all[i].cost = most
			return all[i:]
		}
		most -= all[i].cost
	}
	return all
}

// A log that becomes another with the same window is as if it had always been
// that: exact, whatever it was in between.
func TestChangedLogsStayExact(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 12))
		spec := limiter.Spec{Max: 10, Window: time.Second}
		l := limiter.New([]limiter.Spec{spec}, limiter.MinKeys)
		plan := &schedule{Rand: rng, spec: spec}
		var kept spends
		for range 500 {
			now, cost := plan.next()
			if rng.IntN(10) == 0 {
				spec.Max = 1 + rng.Uint32N(limiter.LogMax)
				l.Change(now, []limiter.Spec{spec})
				plan.spec = spec
			}
			asks := []limiter.Ask{{Cost: cost}}
			ok, err := l.Take(now, asks)
			if err != nil {
				t.Fatal(err)
			}
			sum := kept.since(now-spec.Window, now) + uint64(cost)
			if want := sum <= uint64(spec.Max); ok != want {
				t.Fatalf("seed %d, at %d: cost %d with %d spent of %d: got %v", seed, now, cost, sum-uint64(cost), spec.Max, ok)
			}
			if ok {
				kept = append(kept, spend{at: now, cost: cost})
				continue
			}
			// The wait is exact under the limit as it is now.
			if wait := asks[0].State.Wait; wait != limiter.Never {
				if early := kept.since(now+wait-1-spec.Window, now+wait) + uint64(cost); early <= uint64(spec.Max) {
					t.Fatalf("seed %d, at %d: a wait of %v is too long", seed, now, wait)
				}
				if l.Peek(now+wait, []limiter.Ask{{Cost: cost}}); kept.since(now+wait-spec.Window, now+wait)+uint64(cost) > uint64(spec.Max) {
					t.Fatalf("seed %d, at %d: a wait of %v is too short", seed, now, wait)
				}
				plan.now = max(plan.now, now+wait)
			}
		}
	}
}

func TestChange(t *testing.T) {
	t.Parallel()
	minute := func(n uint32) limiter.Spec { return limiter.Spec{Max: n, Window: time.Minute} }
	for _, tt := range []struct {
		name         string
		before, then limiter.Spec
		spent, left  uint32
	}{
		{"a higher limit admits at once", minute(5), minute(10), 5, 5},
		{"a lower limit refuses at once", minute(10), minute(5), 8, 0},
		{"a log becomes a ring", minute(100), minute(1000), 100, 900},
		{"a ring becomes a log", minute(1000), minute(100), 60, 40},
		{"a log becomes a bucket", minute(10), limiter.Spec{Max: 10, Window: time.Minute, Algorithm: limiter.GCRA}, 4, 6},
		{"a bucket becomes a log", limiter.Spec{Max: 10, Window: time.Minute, Algorithm: limiter.GCRA}, minute(10), 4, 6},
		{"a fixed window becomes a log", limiter.Spec{Max: 10, Window: time.Minute, Algorithm: limiter.Fixed}, minute(10), 4, 6},
		{"a log becomes a window of the clock", minute(10), limiter.Spec{Max: 10, Window: time.Minute, Algorithm: limiter.Fixed, Clock: true}, 4, 6},
		{"a window gets longer", minute(10), limiter.Spec{Max: 10, Window: time.Hour}, 4, 6},
		{"another limit takes the number", minute(10), limiter.Spec{Max: 10, Window: time.Minute, Count: 1}, 4, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := limiter.New([]limiter.Spec{tt.before}, limiter.MinKeys)
			take(t, l, limiter64, limiter.Ask{Key: key(1), Cost: tt.spent})
			l.Change(limiter64, []limiter.Spec{tt.then, minute(1)})
			asks := []limiter.Ask{{Key: key(1), Cost: 1}, {Limit: 1, Key: key(1), Cost: 1}}
			l.Peek(limiter64, asks)
			if got := asks[0].State.Remaining; got != tt.left {
				t.Errorf("left after the change: got %d, want %d", got, tt.left)
			}
			if got := asks[1].State.Remaining; got != 1 {
				t.Errorf("left of a limit that is new: got %d, want 1", got)
			}
		})
	}
}

// What another node still counts by an older form of a limit is read as what it
// was, in all directions.
func TestCountersOfOlderFormsAreRead(t *testing.T) {
	t.Parallel()
	for _, from := range forms {
		for _, to := range forms {
			from, to := named(from, forms), named(to, forms)
			t.Run(fmt.Sprintf("%s to %s", from.Form(), to.Form()), func(t *testing.T) {
				t.Parallel()
				const now = limiter64
				here := limiter.New([]limiter.Spec{from}, limiter.MinKeys)
				there := limiter.New([]limiter.Spec{from}, limiter.MinKeys)
				take(t, here, now, limiter.Ask{Key: key(1), Cost: 2})
				there.Change(now, []limiter.Spec{to})
				it := limiter.Item{Key: key(1), Counter: here.Save(now, 0, key(1))}
				if err := there.Load(now, it, false); err != nil {
					t.Fatal(err)
				}
				here.Change(now, []limiter.Spec{to})
				left := func(l *limiter.Limiter) uint32 {
					asks := []limiter.Ask{{Key: key(1), Cost: 1}}
					l.Peek(now, asks)
					return asks[0].State.Remaining
				}
				if a, b := left(here), left(there); a != b {
					t.Errorf("left where it was counted %d, where it was copied to %d", a, b)
				}
				it.Counter.Name = 99
				if err := there.Load(now, it, false); err == nil {
					t.Error("a counter of a form that the limit never had was read")
				}
			})
		}
	}
}
