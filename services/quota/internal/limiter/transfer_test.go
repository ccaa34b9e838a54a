package limiter_test

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// transferSpecs have one of each algorithm.
var transferSpecs = []limiter.Spec{
	{Max: 7, Window: time.Second},
	{Max: 128, Window: time.Minute},
	{Max: 300, Window: time.Minute},
	{Max: 20, Window: 7 * time.Second, Algorithm: limiter.GCRA},
	{Max: 20, Window: 7 * time.Second, Algorithm: limiter.GCRA, Burst: 3},
	{Max: 20, Window: 20 * 24 * time.Hour, Algorithm: limiter.GCRA},
	{Max: 20, Window: time.Second, Algorithm: limiter.Fixed},
	{Max: 20, Window: time.Second, Algorithm: limiter.Fixed, Clock: true},
}

// clock is a limiter with a clock of its own.
type clock struct {
	*limiter.Limiter
	origin time.Duration
}

func newClock(spec limiter.Spec, rng *rand.Rand) clock {
	return clock{limiter.New([]limiter.Spec{spec}, limiter.MinKeys), 64*24*time.Hour + time.Duration(rng.Int64N(1e15))}
}

// bound checks what holds for the spends of a spec, wherever they were counted.
func bound(t *testing.T, spec limiter.Spec, kept spends) {
	t.Helper()
	for i, last := range kept {
		switch spec.Algorithm {
		case limiter.Sliding:
			if sum := kept[:i+1].since(last.at-spec.Window, last.at); sum > uint64(spec.Max) {
				t.Fatalf("at %d: %d in one window of %d", last.at, sum, spec.Max)
			}
		case limiter.GCRA:
			burst := uint64(spec.Burst)
			if burst == 0 {
				burst = uint64(spec.Max)
			}
			var sum uint64 // of what was spent since the first
			for j := i; j >= 0; j-- {
				first := kept[j]
				sum += uint64(first.cost)
				hi, lo := bits.Mul64(uint64(last.at-first.at), uint64(spec.Max))
				if refilled, _ := bits.Div64(hi, lo, uint64(spec.Window)); sum > burst+refilled+1 {
					t.Fatalf("from %d to %d: %d, but only %d and %d", first.at, last.at, sum, burst, refilled)
				}
			}
		}
	}
}

func TestCountersThatMoveStayExact(t *testing.T) {
	t.Parallel()
	for _, spec := range transferSpecs {
		t.Run(fmt.Sprintf("%+v", spec), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(20) {
				rng := rand.New(rand.NewPCG(seed, 5))
				here := newClock(spec, rng)
				plan := &schedule{Rand: rng, spec: spec}
				var kept spends
				var takes []limiter.Ask // that can still be undone
				for range 600 {
					now, cost := plan.next()
					switch rng.IntN(20) {
					case 0: // moves, which takes some time
						c := here.Save(here.origin+now, 0, limiter.Key{Lo: 9})
						there := newClock(spec, rng)
						plan.now += time.Duration(rng.Int64N(1e6))
						if err := there.Load(there.origin+plan.now, limiter.Item{Key: limiter.Key{Lo: 9}, Counter: c}, false); err != nil {
							t.Fatalf("seed %d: load %+v: %v", seed, c, err)
						}
						here, takes = there, nil
					case 1, 2: // gives back one of the last
						if len(takes) > 0 && spec.Algorithm != limiter.Fixed {
							i := len(takes) - 1 - rng.IntN(min(len(takes), 1+int(spec.Max)))
							here.Undo(here.origin+now, takes[i:i+1])
							j := slices.IndexFunc(kept, func(s spend) bool { return s.id == takes[i].Mark && s.cost == takes[i].Cost })
							if j >= 0 {
								kept = slices.Delete(kept, j, j+1)
							}
							takes = slices.Delete(takes, i, i+1)
						}
					default:
						asks := []limiter.Ask{{Key: limiter.Key{Lo: 9}, Cost: cost}}
						ok, err := here.Take(here.origin+now, asks)
						if err != nil {
							t.Fatal(err)
						}
						if ok {
							takes = append(takes, asks[0])
							kept = append(kept, spend{at: now, cost: cost, id: asks[0].Mark})
						}
					}
				}
				bound(t, spec, kept)
			}
		})
	}
}

func TestUndo(t *testing.T) {
	t.Parallel()
	const start = 100 * 24 * time.Hour
	for _, spec := range transferSpecs {
		t.Run(fmt.Sprintf("%+v", spec), func(t *testing.T) {
			t.Parallel()
			l := limiter.New([]limiter.Spec{spec}, limiter.MinKeys)
			key := limiter.Key{Lo: 3}
			take := func(now time.Duration, cost uint32) limiter.Ask {
				t.Helper()
				asks := []limiter.Ask{{Key: key, Cost: cost}}
				if ok, err := l.Take(now, asks); !ok || err != nil {
					t.Fatal(ok, err)
				}
				return asks[0]
			}
			left := func(now time.Duration) uint32 {
				asks := []limiter.Ask{{Key: key, Cost: 1}}
				l.Peek(now, asks)
				return asks[0].State.Remaining
			}
			all := left(start)
			first := take(start, 1)
			second := take(start+time.Millisecond, 2)
			l.Undo(start+2*time.Millisecond, []limiter.Ask{first})
			if got := left(start + 2*time.Millisecond); got != all-2 {
				t.Errorf("after the first was undone: %d left, want %d", got, all-2)
			}
			l.Undo(start+2*time.Millisecond, []limiter.Ask{second})
			least := all
			if spec.Algorithm == limiter.GCRA {
				least-- // what has refilled meanwhile is not given back
			}
			if got := left(start + 2*time.Millisecond); got < least || got > all {
				t.Errorf("after both were undone: %d left, want %d to %d", got, least, all)
			}
			late := start + 10*spec.Window
			old := take(late, 1)
			later := late + 10*spec.Window
			take(later, 1)
			before := left(later)
			l.Undo(later, []limiter.Ask{old, {Key: key, Cost: 5}, {Key: limiter.Key{Lo: 4}, Cost: 1, Mark: 7}})
			if got := left(later); got != before {
				t.Errorf("after what counts no longer, and what was not taken, was undone: %d left, want %d", got, before)
			}
		})
	}
}

// TestWhatHasRefilledIsNotGivenBack undoes days of gcra, and then what has refilled
// long since, for what was undone before it.
func TestWhatHasRefilledIsNotGivenBack(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	l := limiter.New([]limiter.Spec{{Algorithm: limiter.GCRA, Max: 20, Window: 20 * day}}, limiter.MinKeys)
	spend := func(now time.Duration, cost uint32) []limiter.Ask {
		asks := []limiter.Ask{{Cost: cost}}
		if ok, err := l.Take(now, asks); !ok || err != nil {
			t.Fatalf("at %v: %v, %v", now, ok, err)
		}
		return asks
	}
	const start = 100 * day
	undone, refilled := spend(start, 10), spend(start, 10)
	l.Undo(start, undone)
	spend(start+10*day, 20)
	l.Undo(start+10*day, refilled)
	asks := []limiter.Ask{{Cost: 1}}
	if l.Peek(start+10*day, asks) || asks[0].State.Remaining != 0 {
		t.Errorf("%d are left of 20 that were just spent", asks[0].State.Remaining)
	}
}

func TestPagesHaveEveryCounterOnce(t *testing.T) {
	t.Parallel()
	const start = 100 * 24 * time.Hour
	l := limiter.New(transferSpecs, 1<<16)
	rng := rand.New(rand.NewPCG(1, 1))
	type id struct {
		limit uint32
		key   limiter.Key
	}
	want := make(map[id]bool)
	for range 2000 {
		ask := limiter.Ask{Limit: rng.Uint32N(uint32(len(transferSpecs))), Key: limiter.Key{Hi: rng.Uint64(), Lo: rng.Uint64N(50)}, Cost: 1}
		if _, err := l.Take(start, []limiter.Ask{ask}); err != nil {
			t.Fatal(err)
		}
		if ask.Key.Hi&1024 > 0 {
			want[id{ask.Limit, ask.Key}] = true
		}
	}
	got := make(map[id]bool)
	for part := range l.Shards() {
		var after *limiter.Item
		for more := true; more; {
			var page []limiter.Item
			page, more = l.Page(start, part, func(k limiter.Key) bool { return k.Hi&1024 > 0 }, after, 7)
			for i := range page {
				it := id{page[i].Limit, page[i].Key}
				if got[it] {
					t.Errorf("%v came twice", it)
				}
				got[it] = true
				after = &page[i]
			}
			l.Sweep(start, part)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(uint8(0), int64(-5), uint32(0), []byte{3, 0, 0, 0, 0, 0, 0, 0}, int64(1))
	f.Add(uint8(2), int64(-1e9), uint32(3), make([]byte, 44), int64(1e9))
	f.Add(uint8(3), int64(1e9), uint32(19), []byte(nil), int64(0))
	f.Add(uint8(5), int64(0), uint32(21), []byte(nil), int64(1e10))
	f.Fuzz(func(t *testing.T, algorithm uint8, at int64, n uint32, words []byte, later int64) {
		l := limiter.New(transferSpecs, limiter.MinKeys)
		limit := uint32(algorithm) % uint32(len(transferSpecs))
		it := limiter.Item{Limit: limit, Key: limiter.Key{Lo: 1}, Counter: limiter.Counter{At: at, N: n}}
		for pair := range slices.Chunk(words, 4) {
			if len(pair) == 4 {
				it.Counter.Words = append(it.Counter.Words, uint32(pair[0])|uint32(pair[1])<<8|uint32(pair[2])<<16|uint32(pair[3])<<24)
			}
		}
		now := 64 * 24 * time.Hour
		if l.Load(now, it, false) != nil {
			return
		}
		now += time.Duration(uint64(later) % uint64(40*24*time.Hour))
		for range 3 {
			asks := []limiter.Ask{{Limit: limit, Key: it.Key, Cost: 1}}
			if _, err := l.Take(now, asks); err != nil {
				t.Fatal(err)
			}
			if most := max(transferSpecs[limit].Max, transferSpecs[limit].Burst); asks[0].State.Remaining > most {
				t.Fatalf("%d left of %d", asks[0].State.Remaining, most)
			}
			l.Undo(now, asks)
			l.Save(now, limit, it.Key)
		}
	})
}

func TestPermitsMove(t *testing.T) {
	t.Parallel()
	specs := []limiter.PermitSpec{{Max: 2, TTL: time.Minute}, {Max: 9, TTL: time.Minute}}
	from, to := limiter.NewPermits(specs, 100), limiter.NewPermits(specs, 100)
	a, b := limiter.Key{Lo: 1}, limiter.Key{Lo: 2}
	asks := []limiter.Ask{{Limit: 0, Key: a}, {Limit: 1, Key: b}}
	if ok, err := from.Acquire(time.Hour, 0, "p", asks); !ok || err != nil {
		t.Fatal(ok, err)
	}
	onlyA := func(k limiter.Key) bool { return k == a }
	onlyB := func(k limiter.Key) bool { return k == b }
	page, more := from.Page(time.Hour+time.Second, onlyA, "", 10)
	want := []limiter.Permit{{ID: "p", Holds: []limiter.Hold{{Limit: 0, Key: a, Left: 59 * time.Second}}}}
	if diff := cmp.Diff(want, page); diff != "" || more {
		t.Fatalf("page (-want +got), more %v:\n%s", more, diff)
	}
	left := func(ask limiter.Ask) uint32 {
		asks := []limiter.Ask{ask}
		to.Peek(3*time.Hour, asks)
		return asks[0].State.Remaining
	}
	for range 2 { // the second time changes nothing
		if err := to.Load(3*time.Hour, page[0], onlyA); err != nil {
			t.Fatal(err)
		}
		if err := to.Load(3*time.Hour, from.Save(time.Hour, "p", onlyB), onlyB); err != nil {
			t.Fatal(err)
		}
	}
	if l0, l1 := left(asks[0]), left(asks[1]); l0 != 1 || l1 != 8 {
		t.Errorf("after a move: %d and %d left, want 1 and 8", l0, l1)
	}
	from.Release("p")
	if err := to.Load(3*time.Hour, from.Save(time.Hour, "p", onlyA), onlyA); err != nil {
		t.Fatal(err)
	}
	if l0, l1 := left(asks[0]), left(asks[1]); l0 != 2 || l1 != 8 {
		t.Errorf("after a copy of a part that was given back: %d and %d left, want 2 and 8", l0, l1)
	}
	to.Forget(onlyB)
	if l1 := left(asks[1]); l1 != 9 || to.Len() != 0 {
		t.Errorf("after it was forgotten: %d left and %d permits, want 9 and none", l1, to.Len())
	}
}

// Two nodes know a counter up to some time, and then each lacks what the other has: what
// was spent later, or that something was given back. What is made of both never
// admits more than either, then or later.
func TestWhatIsJoinedHoldsNoLess(t *testing.T) {
	t.Parallel()
	key := limiter.Key{Lo: 9}
	for _, spec := range transferSpecs {
		t.Run(fmt.Sprintf("%+v", spec), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(50) {
				rng := rand.New(rand.NewPCG(seed, 1))
				now := 64*24*time.Hour + time.Duration(rng.Int64N(1e15))
				a, b, both := newClock(spec, rng), newClock(spec, rng), newClock(spec, rng)
				step := spec.Window / 20
				spendSome := func(l clock) (marks []limiter.Ask) {
					for range rng.IntN(8) {
						asks := []limiter.Ask{{Key: key, Cost: 1 + uint32(rng.IntN(3))}}
						if ok, err := l.Take(now, asks); err != nil {
							t.Fatal(err)
						} else if ok {
							marks = append(marks, asks...)
						}
					}
					return marks
				}
				given := spendSome(a)
				now += time.Duration(rng.Int64N(int64(step)))
				given = append(given, spendSome(a)...)
				if err := b.Load(now, limiter.Item{Key: key, Counter: a.Save(now, 0, key)}, false); err != nil {
					t.Fatal(err)
				}
				if len(given) > 0 && rng.IntN(2) == 0 {
					a.Undo(now, given[:1+rng.IntN(len(given))])
				}
				now += time.Duration(rng.Int64N(int64(step)))
				spendSome(a)
				if rng.IntN(2) == 0 {
					spendSome(b)
				}
				order := []clock{a, b}
				if seed%2 == 0 {
					slices.Reverse(order)
				}
				for _, from := range order {
					if err := both.Load(now, limiter.Item{Key: key, Counter: from.Save(now, 0, key)}, true); err != nil {
						t.Fatal(err)
					}
				}
				left := func(l clock) uint32 {
					asks := []limiter.Ask{{Key: key, Cost: 1}}
					l.Peek(now, asks)
					return asks[0].State.Remaining
				}
				for range 30 {
					if x, y, got := left(a), left(b), left(both); got > min(x, y) {
						t.Fatalf("seed %d: one has %d left, the other %d, and both together %d", seed, x, y, got)
					}
					now += step
				}
				now += 2 * spec.Window
				if x, got := left(a), left(both); got != x {
					t.Errorf("seed %d: %d are left when all is over, want %d", seed, got, x)
				}
			}
		})
	}
}
