package limiter_test

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// tries runs a random schedule of admitted and refused spends through a limit with a
// penalty. Refused ones are repeated in a fresh limiter to see that their waits are
// exact.
func tries(t *testing.T, spec limiter.Spec, seed uint64, check func(now time.Duration, cost uint32, ok bool)) {
	t.Helper()
	spec.Penalty = true
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	l := limiter.New([]limiter.Spec{spec}, limiter.MinKeys)
	plan := &schedule{Rand: rand.New(rand.NewPCG(seed, 21)), spec: spec}
	type try struct {
		at   time.Duration
		cost uint32
	}
	var all []try
	for range 800 {
		now, cost := plan.next()
		ask := []limiter.Ask{{Cost: cost}}
		ok, err := l.Take(now, ask)
		if err != nil {
			t.Fatal(err)
		}
		check(now, cost, ok)
		all = append(all, try{now, cost})
		wait := ask[0].State.Wait
		if ok != (wait == 0) {
			t.Fatalf("seed %d, at %d: allowed %v, but wait %v", seed, now, ok, wait)
		}
		if ok || wait == limiter.Never || plan.IntN(10) > 0 {
			continue
		}
		again := limiter.New([]limiter.Spec{spec}, limiter.MinKeys)
		for _, p := range all {
			if _, err := again.Take(p.at, []limiter.Ask{{Cost: p.cost}}); err != nil {
				t.Fatal(err)
			}
		}
		if again.Peek(now+wait-1, ask) {
			t.Fatalf("seed %d, at %d: cost %d passes before a wait of %d", seed, now, cost, wait)
		}
		if !again.Peek(now+wait, ask) {
			t.Fatalf("seed %d, at %d: cost %d does not pass after a wait of %d", seed, now, cost, wait)
		}
	}
}

// A sliding limit with a penalty admits what fits among all that was tried in the
// window, of which nothing counts for more than the limit.
func TestPenaltyOfSlidingLimitsIsExact(t *testing.T) {
	t.Parallel()
	for _, spec := range []limiter.Spec{
		{Max: 1, Window: time.Second}, {Max: 5, Window: time.Minute}, {Max: 128, Window: time.Second}, {Max: 300, Window: time.Minute},
	} {
		t.Run(fmt.Sprint(spec.Max), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(4) {
				var tried spends
				tries(t, spec, seed, func(now time.Duration, cost uint32, ok bool) {
					exact := tried.since(now-spec.Window, now) + uint64(cost)
					if ok && exact > uint64(spec.Max) {
						t.Fatalf("seed %d, at %d: %d tried in one window, and admitted", seed, now, exact)
					}
					late := spec.Window + tick(spec.Window)
					if spec.Max > limiter.LogMax {
						late = 11 * ((spec.Window + 9) / 10)
					}
					if late := tried.since(now-late, now) + uint64(cost); !ok && late <= uint64(spec.Max) {
						t.Fatalf("seed %d, at %d: refused though only %d were tried", seed, now, late)
					}
					if cost <= spec.Max {
						tried = append(tried, spend{at: now, cost: cost})
					}
				})
			}
		})
	}
}

func TestPenaltyOfGCRAIsExact(t *testing.T) {
	t.Parallel()
	for _, spec := range []limiter.Spec{
		{Max: 7, Window: time.Second, Algorithm: limiter.GCRA}, {Max: 10, Window: time.Minute, Burst: 3, Algorithm: limiter.GCRA},
	} {
		t.Run(fmt.Sprint(spec.Max), func(t *testing.T) {
			t.Parallel()
			burst := big.NewRat(int64(spec.Max), 1)
			if spec.Burst > 0 {
				burst = big.NewRat(int64(spec.Burst), 1)
			}
			perNano := big.NewRat(int64(spec.Max), int64(spec.Window))
			for seed := range uint64(4) {
				level, then := new(big.Rat), time.Duration(0)
				tries(t, spec, seed, func(now time.Duration, cost uint32, ok bool) {
					if level.Sub(level, new(big.Rat).Mul(perNano, big.NewRat(int64(now-then), 1))); level.Sign() < 0 {
						level.SetInt64(0)
					}
					then = now
					c := big.NewRat(int64(cost), 1)
					after := new(big.Rat).Add(level, c)
					if want := after.Cmp(burst) <= 0; ok != want {
						t.Fatalf("seed %d, at %d: cost %d at level %v: got %v", seed, now, cost, level, ok)
					}
					switch {
					case ok:
						level = after
					case c.Cmp(burst) <= 0: // refused, and counted as far as the bucket goes
						level.Set(burst)
					}
				})
			}
		})
	}
}

func TestPenaltyOfFixedWindowsIsExact(t *testing.T) {
	t.Parallel()
	spec := limiter.Spec{Max: 10, Window: time.Minute, Algorithm: limiter.Fixed}
	for seed := range uint64(4) {
		var began time.Duration
		var spent uint32
		tries(t, spec, seed, func(now time.Duration, cost uint32, ok bool) {
			if spent > 0 && now >= began+spec.Window {
				spent = 0
			}
			if want := spent+cost <= spec.Max; ok != want {
				t.Fatalf("seed %d, at %d: cost %d after %d: got %v", seed, now, cost, spent, ok)
			}
			switch {
			case ok:
				if spent == 0 {
					began = now
				}
				spent += cost
			case cost <= spec.Max: // a window begins anew, and is used up
				began, spent = now, spec.Max
			}
		})
	}
}

// Of several limits only those with a penalty that have refused count it.
func TestPenaltyIsOfTheLimitThatRefused(t *testing.T) {
	t.Parallel()
	l := limiter.New([]limiter.Spec{
		{Max: 1, Window: time.Minute, Penalty: true},
		{Max: 5, Window: time.Minute, Penalty: true},
		{Max: 5, Window: time.Minute},
		{Max: 1, Window: time.Minute, Penalty: true, Shadow: true},
	}, limiter.MinKeys)
	asks := func() []limiter.Ask {
		return []limiter.Ask{{Limit: 0, Cost: 1}, {Limit: 1, Cost: 1}, {Limit: 2, Cost: 1}, {Limit: 3, Cost: 1}}
	}
	take(t, l, 0, asks()...)
	again := asks()
	if take(t, l, 30*time.Second, again...) {
		t.Fatal("admitted twice")
	}
	if got := again[0].State.Wait; got != time.Minute {
		t.Errorf("wait after a refusal: got %v, want a minute", got)
	}
	if a, b := again[1].State.Remaining, again[2].State.Remaining; a != 4 || b != 4 {
		t.Errorf("limits that have not refused have %d and %d left, want 4", a, b)
	}
	if got := again[3].State.Wait; got != time.Minute {
		t.Errorf("wait of a shadow limit after it would have refused: got %v, want a minute", got)
	}
}
