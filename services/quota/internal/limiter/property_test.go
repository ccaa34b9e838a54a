package limiter_test

import (
	"fmt"
	"math/big"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// spend is one admitted spend.
type spend struct {
	at   time.Duration
	cost uint32
	id   int64
}

// spends is the exact oracle: a plain list.
type spends []spend

// since is what was spent in (from, to].
func (l spends) since(from, to time.Duration) uint64 {
	var sum uint64
	for i := len(l) - 1; i >= 0 && l[i].at > from; i-- {
		if l[i].at <= to {
			sum += uint64(l[i].cost)
		}
	}
	return sum
}

// schedule makes times and costs that are likely to meet edges: bursts, the
// limit's own pace, whole windows, and long silence.
type schedule struct {
	*rand.Rand
	spec limiter.Spec
	now  time.Duration
}

func (s *schedule) next() (time.Duration, uint32) {
	w := int64(s.spec.Window)
	switch s.IntN(12) {
	case 0, 1, 2, 3: // at once
	case 4, 5, 6:
		s.now += time.Duration(s.Int64N(2*w/int64(s.spec.Max) + 2))
	case 7, 8:
		s.now += time.Duration(s.Int64N(w / 5))
	case 9:
		s.now += time.Duration(s.Int64N(2 * w))
	case 10:
		s.now += time.Duration(w - s.Int64N(3) + 1)
	case 11:
		if s.IntN(10) == 0 {
			s.now += time.Duration(w * (10 + s.Int64N(1e17/w)))
		}
	}
	if s.IntN(3) > 0 {
		return s.now, 1
	}
	return s.now, 1 + s.Uint32N(s.spec.Max+s.spec.Max/8+1)
}

// drive runs a random schedule through a limiter and checks what holds for
// every algorithm; each decision is shown to check.
func drive(t *testing.T, spec limiter.Spec, seed uint64, check func(now time.Duration, cost uint32, before spends, ok bool, s limiter.State)) {
	t.Helper()
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	l := limiter.New([]limiter.Spec{spec}, limiter.MinKeys)
	plan := &schedule{Rand: rand.New(rand.NewPCG(seed, 1)), spec: spec}
	var taken spends
	for range 2000 {
		now, cost := plan.next()
		ask := []limiter.Ask{{Key: limiter.Key{Hi: 7, Lo: 9}, Cost: cost}}
		foretold := l.Peek(now, ask)
		before := ask[0].State
		ok, err := l.Take(now, ask)
		if err != nil {
			t.Fatal(err)
		}
		after := ask[0].State
		if ok != foretold {
			t.Fatalf("at %d: Peek said %v, Take %v", now, foretold, ok)
		}
		if ok && before.Remaining-after.Remaining != cost || !ok && before.Remaining != after.Remaining {
			t.Fatalf("at %d: cost %d, allowed %v: remaining went from %d to %d", now, cost, ok, before.Remaining, after.Remaining)
		}
		check(now, cost, taken, ok, after)
		if ok {
			taken = append(taken, spend{at: now, cost: cost})
		}
		if ok != !after.Exceeded || ok != (after.Wait == 0) {
			t.Fatalf("at %d: allowed %v, but exceeded %v and wait %d", now, ok, after.Exceeded, after.Wait)
		}
		if plan.IntN(20) == 0 {
			checkFuture(t, spec, taken, now, cost, after)
		}
		if plan.IntN(50) == 0 {
			for part := range l.Shards() {
				l.Sweep(now, part)
			}
			ask[0].Cost = 1
			if l.Peek(now, ask); ask[0].State.Remaining != after.Remaining {
				t.Fatalf("at %d: a sweep changed what is left from %d to %d", now, after.Remaining, ask[0].State.Remaining)
			}
		}
	}
}

// checkFuture repeats what was taken in a fresh limiter and asks it about the
// times that s foretells: a refused spend passes after its wait, and not sooner;
// more is left after the reset, and not sooner.
func checkFuture(t *testing.T, spec limiter.Spec, taken spends, now time.Duration, cost uint32, s limiter.State) {
	t.Helper()
	l := limiter.New([]limiter.Spec{spec}, limiter.MinKeys)
	ask := []limiter.Ask{{}}
	for _, p := range taken {
		ask[0].Cost = p.cost
		if ok, err := l.Take(p.at, ask); !ok || err != nil {
			t.Fatalf("at %d: cost %d was admitted once, but not again (%v)", p.at, p.cost, err)
		}
	}
	ask[0].Cost = cost
	times := []time.Duration{s.Reset - 1, s.Reset, s.Wait - 1, s.Wait}
	slices.Sort(times) // it must not look back
	for _, at := range times {
		if at <= 0 || at == limiter.Never || at == limiter.Never-1 {
			continue
		}
		ok := l.Peek(now+at, ask)
		if s.Wait > 0 && ok != (at >= s.Wait) {
			t.Fatalf("at %d: cost %d after %d of a wait of %d: got %v", now, cost, at, s.Wait, ok)
		}
		if left := ask[0].State.Remaining; at <= s.Reset && (left > s.Remaining) != (at == s.Reset) {
			t.Fatalf("at %d: %d left became %d after %d of a reset of %d", now, s.Remaining, left, at, s.Reset)
		}
	}
}

func tick(window time.Duration) time.Duration {
	return 1 << max(0, bits.Len64(uint64(window))-31)
}

func TestSlidingLogIsExact(t *testing.T) {
	t.Parallel()
	for _, spec := range []limiter.Spec{
		{Max: 1, Window: time.Second},
		{Max: 5, Window: time.Minute},
		{Max: 10, Window: time.Minute},
		{Max: 33, Window: 15 * time.Minute},
		{Max: 128, Window: time.Second},
		{Max: 100, Window: 31 * 24 * time.Hour},
	} {
		t.Run(fmt.Sprintf("%d in %v", spec.Max, spec.Window), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(8) {
				drive(t, spec, seed, func(now time.Duration, cost uint32, before spends, ok bool, _ limiter.State) {
					exact := before.since(now-spec.Window, now) + uint64(cost)
					late := before.since(now-spec.Window-tick(spec.Window), now) + uint64(cost)
					if ok && exact > uint64(spec.Max) {
						t.Fatalf("seed %d, at %d: admitted %d in one window", seed, now, exact)
					}
					if !ok && late <= uint64(spec.Max) {
						t.Fatalf("seed %d, at %d: refused %d though only %d were spent", seed, now, cost, late-uint64(cost))
					}
				})
			}
		})
	}
}

func TestSlidingRingNeverAdmitsMore(t *testing.T) {
	t.Parallel()
	for _, spec := range []limiter.Spec{
		{Max: 129, Window: time.Second},
		{Max: 200, Window: time.Hour},
		{Max: 600, Window: time.Minute},
		{Max: 1_000_000, Window: time.Second + 7},
		{Max: 1_000_000_000, Window: 31 * 24 * time.Hour},
	} {
		t.Run(fmt.Sprintf("%d in %v", spec.Max, spec.Window), func(t *testing.T) {
			t.Parallel()
			width := (spec.Window + 9) / 10
			for seed := range uint64(8) {
				drive(t, spec, seed, func(now time.Duration, cost uint32, before spends, ok bool, _ limiter.State) {
					exact := before.since(now-spec.Window, now) + uint64(cost)
					if ok && exact > uint64(spec.Max) {
						t.Fatalf("seed %d, at %d: admitted %d in one window", seed, now, exact)
					}
					// It may remember for a sub-window too long, not more.
					if wide := before.since(now-11*width, now) + uint64(cost); !ok && wide <= uint64(spec.Max) {
						t.Fatalf("seed %d, at %d: refused %d though only %d were spent", seed, now, cost, wide-uint64(cost))
					}
				})
			}
		})
	}
}

func TestSlidingRingUnderFlood(t *testing.T) {
	t.Parallel()
	const limit, windows = 300, 50
	spec := limiter.Spec{Max: limit, Window: time.Second}
	l := limiter.New([]limiter.Spec{spec}, limiter.MinKeys)
	admitted := 0
	for now := time.Duration(0); now < windows*time.Second; now += 500 * time.Microsecond {
		ok, err := l.Take(now, []limiter.Ask{{Cost: 1}})
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			admitted++
		}
	}
	if low, high := limit*windows*10/11, limit*windows; admitted < low || admitted > high {
		t.Errorf("under a flood over %d windows: admitted %d, want %d to %d", windows, admitted, low, high)
	}
}

func TestGCRAIsExact(t *testing.T) {
	t.Parallel()
	for _, spec := range []limiter.Spec{
		{Max: 1, Window: time.Second},
		{Max: 7, Window: time.Second},
		{Max: 10, Window: time.Minute, Burst: 3},
		{Max: 6000, Window: time.Second},
		{Max: 1, Window: time.Minute, Burst: 100},
		{Max: 999_999_937, Window: time.Second + 1, Burst: 1000},
		{Max: 1_000_000_000, Window: 31 * 24 * time.Hour},
	} {
		spec.Algorithm = limiter.GCRA
		t.Run(fmt.Sprintf("%d in %v, burst %d", spec.Max, spec.Window, spec.Burst), func(t *testing.T) {
			t.Parallel()
			burst := big.NewRat(int64(max(spec.Burst, 1)), 1)
			if spec.Burst == 0 {
				burst.SetInt64(int64(spec.Max))
			}
			perNano := big.NewRat(int64(spec.Max), int64(spec.Window))
			for seed := range uint64(5) {
				level, then := new(big.Rat), time.Duration(0) // of a leaky bucket
				drive(t, spec, seed, func(now time.Duration, cost uint32, _ spends, ok bool, s limiter.State) {
					leaked := new(big.Rat).Mul(perNano, big.NewRat(int64(now-then), 1))
					if level.Sub(level, leaked); level.Sign() < 0 {
						level.SetInt64(0)
					}
					then = now
					after := new(big.Rat).Add(level, big.NewRat(int64(cost), 1))
					if want := after.Cmp(burst) <= 0; ok != want {
						t.Fatalf("seed %d, at %d: cost %d at level %v: got %v, want %v", seed, now, cost, level, ok, want)
					}
					if ok {
						level = after
					}
					left := new(big.Rat).Sub(burst, level)
					if want := new(big.Int).Quo(left.Num(), left.Denom()); want.Uint64() != uint64(s.Remaining) {
						t.Fatalf("seed %d, at %d: %d left, want %v", seed, now, s.Remaining, want)
					}
				})
			}
		})
	}
}

func TestFixedIsExact(t *testing.T) {
	t.Parallel()
	for _, spec := range []limiter.Spec{
		{Max: 1, Window: time.Second},
		{Max: 10, Window: time.Minute},
		{Max: 5000, Window: time.Hour},
	} {
		spec.Algorithm = limiter.Fixed
		t.Run(fmt.Sprintf("%d in %v", spec.Max, spec.Window), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(8) {
				var started time.Duration
				var spent uint64
				drive(t, spec, seed, func(now time.Duration, cost uint32, before spends, ok bool, _ limiter.State) {
					if spent > 0 && now >= started+spec.Window {
						spent = 0
					}
					if want := spent+uint64(cost) <= uint64(spec.Max); ok != want {
						t.Fatalf("seed %d, at %d: cost %d after %d: got %v, want %v", seed, now, cost, spent, ok, want)
					}
					if ok {
						if spent == 0 {
							started = now
						}
						spent += uint64(cost)
					}
				})
			}
		})
	}
}
