package limiter_test

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// key spreads n over all shards and places.
func key(n uint64) limiter.Key {
	r := rand.NewPCG(n, 1)
	return limiter.Key{Hi: r.Uint64(), Lo: r.Uint64()}
}

func take(t *testing.T, l *limiter.Limiter, now time.Duration, asks ...limiter.Ask) bool {
	t.Helper()
	ok, err := l.Take(now, asks)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestTake(t *testing.T) {
	t.Parallel()
	specs := []limiter.Spec{
		0: {Max: 3, Window: time.Minute},
		1: {Max: 1, Window: time.Second},
		2: {Max: 2, Window: time.Minute, Shadow: true},
		3: {Algorithm: limiter.GCRA, Max: 60, Window: time.Minute, Burst: 2},
	}
	ask := func(limit uint32, cost uint32) limiter.Ask {
		return limiter.Ask{Limit: limit, Key: key(1), Cost: cost}
	}
	tests := []struct {
		name   string
		before []limiter.Ask // each taken alone
		asks   []limiter.Ask
		want   bool
		states []limiter.State
	}{{
		name:   "takes from all limits",
		asks:   []limiter.Ask{ask(0, 1), ask(1, 1)},
		want:   true,
		states: []limiter.State{{Remaining: 2, Reset: time.Minute}, {Reset: time.Second}},
	}, {
		name:   "takes from none if one refuses",
		before: []limiter.Ask{ask(1, 1)},
		asks:   []limiter.Ask{ask(0, 1), ask(1, 1)},
		states: []limiter.State{{Remaining: 3}, {Reset: time.Second, Exceeded: true, Wait: time.Second}},
	}, {
		name:   "a cost beyond the limit never passes",
		asks:   []limiter.Ask{ask(0, 4)},
		states: []limiter.State{{Remaining: 3, Exceeded: true, Wait: limiter.Never}},
	}, {
		name:   "a shadow limit does not refuse, and takes only what it would admit",
		before: []limiter.Ask{ask(2, 2)},
		asks:   []limiter.Ask{ask(0, 1), ask(2, 1)},
		want:   true,
		states: []limiter.State{{Remaining: 2, Reset: time.Minute}, {Reset: time.Minute, Exceeded: true, Wait: time.Minute}},
	}, {
		name:   "a shadow limit is not charged when another refuses",
		before: []limiter.Ask{ask(1, 1)},
		asks:   []limiter.Ask{ask(2, 1), ask(1, 1)},
		states: []limiter.State{{Remaining: 2}, {Reset: time.Second, Exceeded: true, Wait: time.Second}},
	}, {
		name:   "gcra tells the next whole unit",
		before: []limiter.Ask{ask(3, 1)},
		asks:   []limiter.Ask{ask(3, 2)},
		states: []limiter.State{{Remaining: 1, Reset: time.Second, Exceeded: true, Wait: time.Second}},
	}, {
		name: "nothing matched, nothing refused",
		want: true,
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := limiter.New(specs, limiter.MinKeys)
			for _, a := range tt.before {
				take(t, l, 0, a)
			}
			if got := take(t, l, 0, tt.asks...); got != tt.want {
				t.Errorf("Take: got %v, want %v", got, tt.want)
			}
			var got []limiter.State
			for _, a := range tt.asks {
				got = append(got, a.State)
			}
			if diff := cmp.Diff(tt.states, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("states (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCallersOfOneKeyShareOneLimit(t *testing.T) {
	t.Parallel()
	for _, spec := range []limiter.Spec{
		{Max: 10, Window: time.Minute},
		{Max: 1000, Window: time.Minute},
		{Algorithm: limiter.GCRA, Max: 10, Window: time.Hour},
		{Algorithm: limiter.Fixed, Max: 10, Window: time.Minute},
	} {
		l := limiter.New([]limiter.Spec{spec}, limiter.MinKeys)
		var admitted atomic.Uint32
		var wg sync.WaitGroup
		start := time.Now()
		for range 100 {
			wg.Go(func() {
				for range 20 {
					if ok, err := l.Take(time.Since(start), []limiter.Ask{{Key: key(1), Cost: 1}}); ok && err == nil {
						admitted.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if got := admitted.Load(); got != spec.Max {
			t.Errorf("%+v: 2000 tries admitted %d", spec, got)
		}
	}
}

// Under concurrency too, what one limit has admitted all others of the same
// spend have: no partial charge survives.
func TestAllOrNothingUnderConcurrency(t *testing.T) {
	t.Parallel()
	const limits = 6
	specs := make([]limiter.Spec, limits)
	for i := range specs {
		specs[i] = limiter.Spec{Max: uint32(20 + 30*i), Window: time.Hour}
	}
	l := limiter.New(specs, limiter.MinKeys)
	var spent [limits]atomic.Uint32
	var wg sync.WaitGroup
	for seed := range uint64(50) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 2))
			for range 50 {
				var asks []limiter.Ask
				for _, i := range r.Perm(limits)[:1+r.IntN(limits)] {
					asks = append(asks, limiter.Ask{Limit: uint32(i), Key: key(uint64(i)), Cost: 1 + r.Uint32N(3)})
				}
				if ok, err := l.Take(0, asks); ok && err == nil {
					for _, a := range asks {
						spent[a.Limit].Add(a.Cost)
					}
				}
			}
		})
	}
	wg.Wait()
	for i := range specs {
		ask := []limiter.Ask{{Limit: uint32(i), Key: key(uint64(i)), Cost: 1}}
		l.Peek(0, ask)
		if got, want := specs[i].Max-ask[0].State.Remaining, spent[i].Load(); got != want {
			t.Errorf("limit %d: charged %d, admitted %d", i, got, want)
		}
	}
}

func TestManyKeysAreKeptApart(t *testing.T) {
	t.Parallel()
	specs := []limiter.Spec{
		{Max: 5, Window: time.Minute},
		{Max: 500, Window: time.Minute},
		{Algorithm: limiter.Fixed, Max: 5, Window: time.Minute},
	}
	const keys = 20_000
	l := limiter.New(specs, 10*keys)
	want := make([]uint32, keys*len(specs))
	r := rand.New(rand.NewPCG(1, 1))
	for range 4 * keys {
		k, limit := r.Uint64N(keys), r.Uint32N(uint32(len(specs)))
		if take(t, l, 0, limiter.Ask{Limit: limit, Key: key(k), Cost: 1}) {
			want[int(k)*len(specs)+int(limit)]++
		}
	}
	counters := 0
	for k := range uint64(keys) {
		for limit := range uint32(len(specs)) {
			ask := []limiter.Ask{{Limit: limit, Key: key(k), Cost: 1}}
			l.Peek(0, ask)
			n := want[int(k)*len(specs)+int(limit)]
			if got := specs[limit].Max - ask[0].State.Remaining; got != n {
				t.Fatalf("key %d, limit %d: got %d spent, want %d", k, limit, got, n)
			}
			if n > 0 {
				counters++
			}
		}
	}
	if got := l.Len(); got != counters {
		t.Errorf("Len: got %d, want %d", got, counters)
	}
	for part := range l.Shards() {
		l.Sweep(2*time.Minute, part)
	}
	if got := l.Len(); got != 0 {
		t.Errorf("Len after all is idle: got %d, want 0", got)
	}
}

// TestManyLimits has the most limits that there can be, all of one key.
func TestManyLimits(t *testing.T) {
	t.Parallel()
	specs := make([]limiter.Spec, limiter.MaxLimits)
	for i := range specs {
		specs[i] = limiter.Spec{Max: 1, Window: time.Minute}
	}
	l := limiter.New(specs, limiter.MinKeys)
	for _, want := range []bool{true, false} {
		for _, n := range []uint32{0, 1, 255, 256, limiter.MaxLimits / 2, limiter.MaxLimits - 1} {
			if got := take(t, l, 0, limiter.Ask{Limit: n, Cost: 1}); got != want {
				t.Errorf("limit %d: got %v, want %v", n, got, want)
			}
		}
	}
	if got := l.Len(); got != 6 {
		t.Errorf("got %d counters, want 6", got)
	}
}

// TestACounterTakesAHundredBytesAtMost weighs counters that are used up, in a table
// that was made for about as many. It runs alone, for it looks at the heap.
func TestACounterTakesAHundredBytesAtMost(t *testing.T) {
	const keys = 1_000_000
	before := heap()
	l := limiter.New([]limiter.Spec{{Max: 10, Window: time.Minute}}, keys+keys/10)
	for n := range uint64(keys) {
		take(t, l, 0, limiter.Ask{Key: key(n), Cost: 10})
	}
	if got := float64(heap()-before) / keys; got > 100 {
		t.Errorf("got %.1f bytes for each, want 100 at most", got)
	}
	runtime.KeepAlive(l)
}

// TestMemoryOfLogsIsUsedAgain lets one log after the other grow: what one has left
// behind on its way is room for the next. It runs alone, for it looks at the heap.
func TestMemoryOfLogsIsUsedAgain(t *testing.T) {
	const keys = 20_000
	l := limiter.New([]limiter.Spec{{Max: limiter.LogMax, Window: time.Minute}}, limiter.MinKeys+2*keys)
	for n := range uint64(keys) {
		take(t, l, 0, limiter.Ask{Key: key(n), Cost: 1})
	}
	before := heap()
	for n := range uint64(keys) {
		for range limiter.LogMax - 1 {
			take(t, l, 0, limiter.Ask{Key: key(n), Cost: 1})
		}
	}
	if got := float64(heap()-before) / keys; got > 2*4*limiter.LogMax {
		t.Errorf("each takes %.0f bytes, of which its times are %d", got, 4*limiter.LogMax)
	}
	runtime.KeepAlive(l)
}

func TestAFullTable(t *testing.T) {
	t.Parallel()
	specs := []limiter.Spec{
		{Max: 2, Window: time.Minute},
		{Max: 2, Window: time.Minute, Shadow: true},
	}
	l := limiter.New(specs, limiter.MinKeys)
	var known []limiter.Key
	for n := uint64(0); l.Len() < limiter.MinKeys && n < 1e6; n++ {
		if ok, err := l.Take(0, []limiter.Ask{{Key: key(n), Cost: 1}}); ok && err == nil {
			known = append(known, key(n))
		}
	}
	if got := l.Len(); got != limiter.MinKeys {
		t.Fatalf("Len: got %d, want %d", got, limiter.MinKeys)
	}
	fresh := key(1 << 40)

	// It fails closed for who is new.
	if ok, err := l.Take(time.Second, []limiter.Ask{{Key: fresh, Cost: 1}}); ok || !errors.Is(err, limiter.ErrFull) {
		t.Errorf("a new key: got %v, %v, want ErrFull", ok, err)
	}
	// Who is known is still counted right.
	for _, k := range known {
		if !take(t, l, time.Second, limiter.Ask{Key: k, Cost: 1}) || take(t, l, time.Second, limiter.Ask{Key: k, Cost: 1}) {
			t.Fatal("a known key: its count was lost")
		}
	}
	// Nothing is charged of a spend that finds no room for one of its counters.
	both := []limiter.Ask{{Key: known[0], Cost: 1}, {Key: fresh, Cost: 1}}
	if _, err := l.Take(time.Minute, both); !errors.Is(err, limiter.ErrFull) {
		t.Errorf("a new and a known key: got %v, want ErrFull", err)
	}
	// A shadow limit goes without.
	if !take(t, l, time.Minute, limiter.Ask{Key: known[0], Cost: 1}, limiter.Ask{Limit: 1, Key: fresh, Cost: 1}) {
		t.Error("a shadow limit without room: got a refusal")
	}
	if take(t, l, time.Minute, limiter.Ask{Key: known[0], Cost: 1}) {
		t.Error("a failed spend or a shadow limit: got one charge too few")
	}
	// Once counters are idle there is room, without any sweep.
	if !take(t, l, 2*time.Minute, limiter.Ask{Key: fresh, Cost: 1}) {
		t.Error("a new key when others are idle: got a refusal")
	}
}

// Ten sub-windows of whole nanoseconds must not be less than the window.
func TestAWindowThatTenDoesNotDivide(t *testing.T) {
	t.Parallel()
	l := limiter.New([]limiter.Spec{{Max: 200, Window: time.Second + 7}}, limiter.MinKeys)
	spent := 100*time.Millisecond - 1 // the end of a sub-window
	if !take(t, l, spent, limiter.Ask{Cost: 200}) {
		t.Fatal("the first spend was refused")
	}
	if take(t, l, spent+time.Second+6, limiter.Ask{Cost: 1}) {
		t.Error("a nanosecond before the window is over: got allowed")
	}
}

func TestClocksThatDisagree(t *testing.T) {
	t.Parallel()
	specs := []limiter.Spec{
		{Max: 3, Window: time.Second},
		{Max: 300, Window: time.Second},
		{Algorithm: limiter.GCRA, Max: 3, Window: time.Second},
		{Algorithm: limiter.Fixed, Max: 3, Window: time.Second},
	}
	l := limiter.New(specs, limiter.MinKeys)
	for i, s := range specs {
		at := 10 * time.Second
		for n := range s.Max {
			// Each reads the clock a little before the one that got the lock first.
			if !take(t, l, at-time.Duration(n), limiter.Ask{Limit: uint32(i), Cost: 1}) {
				t.Fatalf("%+v: spend %d was refused", s, n)
			}
		}
		ask := []limiter.Ask{{Limit: uint32(i), Cost: 1}}
		if ok, err := l.Take(at-time.Microsecond, ask); ok || err != nil || ask[0].State.Remaining != 0 {
			t.Errorf("%+v: one more: got %v, %v, %d left", s, ok, err, ask[0].State.Remaining)
		}
	}
}

func TestSpecValidate(t *testing.T) {
	t.Parallel()
	good := limiter.Spec{Max: 1, Window: time.Second}
	if err := good.Validate(); err != nil {
		t.Errorf("%+v: %v", good, err)
	}
	for _, s := range []limiter.Spec{
		{Window: time.Second},
		{Max: 1_000_000_001, Window: time.Second},
		{Max: 1},
		{Max: 1, Window: time.Millisecond},
		{Max: 1, Window: 32 * 24 * time.Hour},
		{Max: 1, Window: time.Second, Burst: 1},
		{Max: 1, Window: time.Second, Algorithm: 9},
		{Max: 1, Window: 24 * time.Hour, Algorithm: limiter.GCRA, Burst: 32},
		{Max: 1, Window: 31 * 24 * time.Hour, Algorithm: limiter.GCRA, Burst: 1_000_000_000},
	} {
		if err := s.Validate(); err == nil {
			t.Errorf("%+v: got no error", s)
		}
	}
}
