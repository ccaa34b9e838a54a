package fast_test

import (
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/fast"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

var thousand = limiter.Spec{Max: 1000, Window: time.Minute, Without: limiter.Share}

// left is what a node believes to be left.
func (n *node) left(limit uint32, k int) uint32 {
	n.w.t.Helper()
	asks := []limiter.Ask{{Limit: limit, Key: key(k), Cost: 1}}
	if _, err := n.Peek(n.now(), asks); err != nil {
		n.w.t.Fatal(err)
	}
	return asks[0].State.Remaining
}

// spend takes one after the other, and tells how many were admitted.
func (n *node) spend(limit uint32, k, times int) (admitted int) {
	n.w.t.Helper()
	for range times {
		if ok, _ := n.take(limit, k, 1); ok {
			admitted++
		}
	}
	return admitted
}

func TestALaterWordStandsWhenAnEarlierOneComesAfterIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2, thousand)
	a, b := w.nodes[0], w.nodes[1]
	a.spend(0, 1, 10)
	early, _ := a.Collect(a.now())
	a.spend(0, 1, 20)
	late, _ := a.Collect(a.now())
	for _, f := range []*quotav1.FastFrame{late, early, late, early} {
		b.Receive(b.now(), f)
		if left := b.left(0, 1); left != 970 {
			t.Errorf("after frame %d: %d left, want 970", f.GetSequence(), left)
		}
	}
}

func TestAWordThatWasLongOnItsWayIsNotFresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2, thousand)
	a, b := w.nodes[0], w.nodes[1]
	w.cut[[2]string{"a", "b"}] = true
	var beats []*quotav1.FastFrame
	for range 10 {
		w.run(100 * time.Millisecond)
		beats = append(beats, a.Beat(a.now(), false, false))
	}
	for _, f := range beats[:7] {
		b.Receive(b.now(), f)
		if !b.Silent(b.now()) {
			t.Errorf("what was sent %v ago counts as news", w.now+a.ahead-time.Duration(f.GetSentNanos()))
		}
	}
	if b.Receive(b.now(), beats[9]); b.Silent(b.now()) {
		t.Error("what was sent just now does not count as news")
	}
}

func TestWhileANodeIsSilent(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		without limiter.Without
		most    int // that all admit
		fails   bool
	}{
		"share": {limiter.Share, 999, false},
		"allow": {limiter.Allow, 2000, false},
		"deny":  {limiter.Deny, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := thousand
			spec.Without = tt.without
			shadow := spec
			shadow.Shadow = true
			w := newWorld(t, 1, 3, spec, shadow)
			for _, other := range []string{"a", "b"} {
				w.cut[[2]string{other, "c"}], w.cut[[2]string{"c", other}] = true, true
			}
			w.run(w.cfg.Silence + 100*time.Millisecond)
			admitted := 0
			for range 1200 {
				for _, n := range w.nodes {
					ok, degraded := n.take(0, 1, 1)
					if ok {
						admitted++
					}
					if !degraded {
						t.Fatal("it is not said that a node is silent")
					}
				}
				w.run(10 * time.Millisecond)
			}
			if admitted != tt.most {
				t.Errorf("%d admitted, want %d", admitted, tt.most)
			}
			for _, n := range w.nodes {
				asks := []limiter.Ask{{Limit: 0, Key: key(1), Cost: 1}}
				_, err := n.Take(n.now(), asks)
				if tt.fails != errors.Is(err, fast.ErrSilent) {
					t.Errorf("got %v", err)
				}
				if !tt.fails && (!asks[0].State.Exceeded || asks[0].State.Wait <= 0 || asks[0].State.Wait > 2*time.Minute) {
					t.Errorf("a refusal says %+v", asks[0].State)
				}
				if ok, _ := n.take(1, 1, 1); !ok {
					t.Error("a shadow limit has refused")
				}
			}
			clear(w.cut)
			w.run(time.Second)
			for _, n := range w.nodes {
				if left := n.left(0, 1); left != uint32(max(0, 1000-tt.most)) {
					t.Errorf("when all hear each other again %d are left to node %s, and %d were admitted", left, n.id, tt.most)
				}
				if n.Silent(n.now()) {
					t.Errorf("node %s finds somebody silent still", n.id)
				}
			}
		})
	}
}

func TestANodeThatStartsKnowsWhatWasAdmittedBefore(t *testing.T) {
	t.Parallel()
	shadow := thousand
	shadow.Shadow = true
	w := newWorld(t, 1, 2, thousand, shadow)
	a, b := w.nodes[0], w.nodes[1]
	a.spend(0, 1, 600)
	b.spend(0, 1, 100)
	w.run(50 * time.Millisecond)
	w.kill(a)
	a = w.start("a")
	if _, err := a.Take(a.now(), []limiter.Ask{{Key: key(1), Cost: 1}}); !errors.Is(err, fast.ErrSilent) {
		t.Errorf("a node that knows nothing yet has decided: %v", err)
	}
	if a.Ready() == nil || b.Ready() != nil {
		t.Errorf("ready where it knows nothing yet: %v; where another has just gone: %v", a.Ready(), b.Ready())
	}
	if ok, degraded := a.take(1, 1, 1); !ok || !degraded {
		t.Error("a shadow limit has refused, or does not say that it knows nothing")
	}
	w.run(200 * time.Millisecond)
	if err := a.Ready(); err != nil {
		t.Error(err)
	}
	if n := a.left(0, 1); n != 300 {
		t.Errorf("%d left to the node that was started again, want 300", n)
	}
	a.spend(0, 1, 50)
	w.run(50 * time.Millisecond)
	if n := b.left(0, 1); n != 250 {
		t.Errorf("%d left to the other, want 250: nothing counts twice", n)
	}
	// A third knows it from both, and counts it once.
	w.places = append(w.places, "c")
	c := w.start("c")
	w.run(200 * time.Millisecond)
	if n := c.left(0, 1); n != 250 {
		t.Errorf("%d left to the third, want 250", n)
	}
}

func TestWhatIsMissedIsAskedForInPages(t *testing.T) {
	t.Parallel()
	const keys = 5000
	w := newWorld(t, 1, 2, thousand)
	a := w.nodes[0]
	for k := range keys {
		a.take(0, k, uint32(k%7+1))
	}
	w.run(200 * time.Millisecond)
	w.places = append(w.places, "c")
	w.lose = 0.05
	c := w.start("c")
	w.run(time.Second)
	for k := range keys {
		if left := c.left(0, k); left != 1000-uint32(k%7+1) {
			t.Fatalf("key %d: %d left", k, left)
		}
	}
}

func TestWhatIsUndoneIsUndoneEverywhere(t *testing.T) {
	t.Parallel()
	clock := limiter.Spec{Algorithm: limiter.Fixed, Clock: true, Max: 1000, Window: time.Hour, Without: limiter.Share}
	w := newWorld(t, 1, 2, thousand, clock)
	a, b := w.nodes[0], w.nodes[1]
	asks := []limiter.Ask{{Limit: 0, Key: key(1), Cost: 7}, {Limit: 1, Key: key(1), Cost: 7}}
	if ok, err := a.Take(a.now(), asks); !ok || err != nil {
		t.Fatal(ok, err)
	}
	w.run(50 * time.Millisecond)
	for limit := range uint32(2) {
		if left := b.left(limit, 1); left != 993 {
			t.Errorf("limit %d: %d left", limit, left)
		}
	}
	a.Undo(a.now(), asks)
	a.Undo(a.now(), asks) // once is enough
	w.run(50 * time.Millisecond)
	for limit := range uint32(2) {
		for _, n := range w.nodes {
			if left := n.left(limit, 1); left != 1000 {
				t.Errorf("limit %d: %d left", limit, left)
			}
		}
	}
}

func TestAllOrNothing(t *testing.T) {
	t.Parallel()
	small := thousand
	small.Max = 5
	w := newWorld(t, 1, 1, thousand, small)
	n := w.nodes[0]
	admitted := 0
	for range 10 {
		asks := []limiter.Ask{{Limit: 0, Key: key(1), Cost: 1}, {Limit: 1, Key: key(2), Cost: 1}}
		if ok, err := n.Take(n.now(), asks); err != nil {
			t.Fatal(err)
		} else if ok {
			admitted++
		}
	}
	if left := n.left(0, 1); admitted != 5 || left != 995 {
		t.Errorf("%d admitted, %d left of the large limit", admitted, left)
	}
}

func TestWindowsOfTheClockAreThoseOfWhoeverIsAhead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2, limiter.Spec{Algorithm: limiter.Fixed, Clock: true, Max: 100, Window: time.Minute, Without: limiter.Share})
	a, b := w.nodes[0], w.nodes[1]
	b.spend(0, 1, 80)
	w.run(50 * time.Millisecond)
	a.wall += time.Minute // its window is the next
	if n := a.spend(0, 1, 60); n != 60 {
		t.Errorf("%d admitted in a window of 100", n)
	}
	w.run(50 * time.Millisecond)
	if n := b.spend(0, 1, 60); n != 40 {
		t.Errorf("the other admitted %d in the same window, want 40", n)
	}
	// A clock that is a day fast begins no window for others.
	w = newWorld(t, 1, 2, limiter.Spec{Algorithm: limiter.Fixed, Clock: true, Max: 100, Window: time.Minute, Without: limiter.Share})
	a, b = w.nodes[0], w.nodes[1]
	a.wall += day
	a.spend(0, 1, 60)
	w.run(50 * time.Millisecond)
	if left := b.left(0, 1); left != 40 {
		t.Errorf("%d left", left)
	}
	w.every = 10 * time.Millisecond
	w.run(time.Minute)
	if left := b.left(0, 1); left != 100 {
		t.Errorf("%d left in the next window", left)
	}
}

func TestChangesKeepCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2, thousand)
	a, b := w.nodes[0], w.nodes[1]
	a.spend(0, 1, 300)
	b.spend(0, 1, 200)
	w.run(50 * time.Millisecond)
	change := func(n *node, edit func(*limiter.Spec)) {
		specs := append([]limiter.Spec(nil), w.specs...)
		edit(&specs[0])
		n.Change(n.now(), specs)
	}
	for _, tt := range []struct {
		name string
		edit func(*limiter.Spec)
		left uint32
	}{
		{"higher", func(s *limiter.Spec) { s.Max = 2000 }, 1500},
		{"lower", func(s *limiter.Spec) { s.Max = 400 }, 0},
		{"as before", func(*limiter.Spec) {}, 500},
		{"a longer window", func(s *limiter.Spec) { s.Window, s.Name = time.Hour, 77 }, 500},
		{"a window of the clock", func(s *limiter.Spec) {
			s.Algorithm, s.Clock, s.Window, s.Name = limiter.Fixed, true, time.Hour, 78
		}, 500},
		{"sliding again", func(*limiter.Spec) {}, 500},
		{"another limit", func(s *limiter.Spec) { s.Count = 99 }, 1000},
	} {
		// One node after the other, and both hear of each other between.
		change(a, tt.edit)
		w.run(50 * time.Millisecond)
		change(b, tt.edit)
		w.run(50 * time.Millisecond)
		for _, n := range w.nodes {
			if left := n.left(0, 1); left != tt.left {
				t.Errorf("%s: %d left to node %s, want %d", tt.name, left, n.id, tt.left)
			}
		}
	}
}

// TestWhereMemoryIsShortAllOrNothing has one limit of a check take the last place in
// memory, so that the other makes room by forgetting what counts nothing: not the
// first, which counts nothing yet.
func TestWhereMemoryIsShortAllOrNothing(t *testing.T) {
	t.Parallel()
	short := limiter.Spec{Max: 1000, Window: time.Second, Without: limiter.Share}
	w := newWorld(t, 1, 1, short, short)
	n := w.nodes[0]
	together := func(k int) limiter.Key { return limiter.Key{Hi: 0, Lo: uint64(k)} } // in one part of the memory
	places := 10_000 / n.Shards()
	for k := range places - 1 {
		if ok, err := n.Take(n.now(), []limiter.Ask{{Limit: 0, Key: together(k), Cost: 1}}); !ok || err != nil {
			t.Fatal(k, ok, err)
		}
	}
	w.run(2 * time.Second)
	asks := []limiter.Ask{{Limit: 0, Key: together(places), Cost: 1}, {Limit: 1, Key: together(places), Cost: 1}}
	if ok, err := n.Take(n.now(), asks); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, err := n.Peek(n.now(), asks); err != nil || asks[0].State.Remaining != 999 || asks[1].State.Remaining != 999 {
		t.Errorf("%d and %d left, want 999 of both", asks[0].State.Remaining, asks[1].State.Remaining)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	shadow := thousand
	shadow.Shadow = true
	w := newWorld(t, 1, 2, thousand, shadow)
	n := w.nodes[0]
	full := 0
	for k := range 30_000 {
		_, err := n.Take(n.now(), []limiter.Ask{{Limit: 0, Key: key(k), Cost: 1}})
		if err != nil && !errors.Is(err, limiter.ErrFull) {
			t.Fatal(err)
		} else if err != nil {
			full++
		}
	}
	keys := n.Keys()
	if keys[0] > 10_000 || keys[0] < 9_000 || full != 30_000-keys[0] {
		t.Errorf("%d keys of at most 10,000, %d refused", keys[0], full)
	}
	if ok, err := n.Take(n.now(), []limiter.Ask{{Limit: 1, Key: key(40_000), Cost: 1}}); !ok || err != nil {
		t.Errorf("a shadow limit without room: %v, %v", ok, err)
	}
	w.every = 50 * time.Millisecond
	w.run(2 * time.Minute)
	if ok, err := n.Take(n.now(), []limiter.Ask{{Limit: 0, Key: key(40_000), Cost: 1}}); !ok || err != nil {
		t.Errorf("when all windows are over: %v, %v", ok, err)
	}
}

// TestTheBoundThatIsToldHolds floods a key on three nodes, and holds what was
// admitted beyond the limit against what nodes tell of it.
func TestTheBoundThatIsToldHolds(t *testing.T) {
	t.Parallel()
	spec := limiter.Spec{Max: 1000, Window: time.Second, Without: limiter.Share}
	w := newWorld(t, 3, 3, spec)
	o := oracle{w: w, spec: w.specs[0]}
	most := uint64(0)
	for range 40_000 {
		n := w.nodes[w.rng.IntN(3)]
		if ok, degraded := n.take(0, 1, 1); ok {
			o.admitted(n, 1, degraded)
		}
		most = max(most, uint64(len(o.spends))-min(uint64(len(o.spends)), 1000))
		w.run(time.Duration(w.rng.ExpFloat64() * float64(time.Second) / 10_000))
	}
	w.run(100 * time.Millisecond)
	for _, n := range w.nodes {
		b := n.Bound(n.now(), 0)
		if b.Nodes != 3 || b.Worst != 2000 || b.Share != 333 || b.Silent || b.Lag <= 0 || b.Lag > 10*time.Millisecond {
			t.Errorf("node %s: %+v", n.id, b)
		}
		if most == 0 || b.Seen < most || b.Seen > 500 {
			t.Errorf("node %s tells that %d more can be admitted, and it were %d", n.id, b.Seen, most)
		}
	}
	t.Logf("%d beyond 1000, and at most %d as the nodes tell", most, w.nodes[0].Bound(w.nodes[0].now(), 0).Seen)
	if got := fast.Usual(1_000_000); got != 100 {
		t.Errorf("usual: %d", got)
	}
}

// TestManyAtOnce is for the race detector.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1, thousand, limiter.Spec{Max: 10, Window: time.Second, Without: limiter.Share})
	n := w.nodes[0]
	other, err := fast.New(fast.Options{
		Config: w.cfg, Specs: w.specs, MaxKeys: 10_000, Now: n.now, Wall: func() time.Duration { return 0 },
		Members: func() (string, []string) { return "z", []string{"z"} }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	var g sync.WaitGroup
	for c := range 4 {
		g.Go(func() {
			for i := range 2000 {
				asks := []limiter.Ask{{Limit: 0, Key: key(i % 5), Cost: 1}, {Limit: 1, Key: key(i % 70), Cost: 1}}
				ok, err := n.Take(n.now(), asks)
				if err != nil {
					t.Error(err)
				}
				if ok && c == 0 {
					n.Undo(n.now(), asks)
				}
			}
		})
	}
	g.Go(func() {
		for range 2000 {
			if f, _ := n.Collect(n.now()); f != nil {
				if gap := other.Receive(n.now(), proto.CloneOf(f)); gap != nil {
					reply := n.Tell(n.now(), &quotav1.FastSyncRequest{Since: gap.Since})
					other.Page(n.now(), gap.Boot, reply)
					other.Synced(n.now(), gap.Boot, reply)
				}
			}
			n.Sweep(n.now(), 3)
			n.Bound(n.now(), 0)
		}
	})
	g.Go(func() {
		for range 100 {
			n.Change(n.now(), w.specs)
		}
	})
	g.Wait()
}
