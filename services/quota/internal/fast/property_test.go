package fast_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// spent is what one process has admitted.
type spent struct {
	at       time.Duration
	by       *node
	cost     uint64
	degraded bool
}

// oracle knows all that was admitted of a key.
type oracle struct {
	w      *world
	spec   limiter.Spec
	spends []spent
	most   float64 // of what was allowed beyond the limit, the greatest part that was used
}

// admitted adds a spend, and holds it against the bound: what is in the window that
// ends with it is no more than the limit, and what others have admitted in the time
// that a word may take, and processes that died before others have heard of it. If
// others are silent, that is the time before they were found to be; what they have
// admitted since is their share.
func (o *oracle) admitted(n *node, cost uint32, degraded bool) {
	o.w.t.Helper()
	now, l := o.w.now, uint64(o.spec.Max)
	o.spends = append(o.spends, spent{now, n, uint64(cost), degraded})
	slack := o.w.cfg.Silence + o.w.most + o.w.every
	since := now - slack
	if degraded && n.silent > 0 {
		since = n.silent - slack
	}
	var total, unheard uint64
	kept := o.spends[:0]
	for _, s := range o.spends {
		if s.at <= now-o.spec.Window {
			continue
		}
		kept = append(kept, s)
		total += s.cost
		if s.by != n && (s.at > now-slack || s.at > since && !s.degraded || s.by.gone && s.at > s.by.died-slack) {
			unheard += s.cost
		}
	}
	o.spends = kept
	share := uint64(0)
	if nodes := uint64(len(o.w.places)); nodes > 2 && o.spec.Without == limiter.Share {
		share = l * (nodes - 2) / nodes
	}
	if total > l+unheard+share {
		o.w.t.Fatalf("at %v node %s: %d admitted in %v, with %d that it may not have heard of; the limit is %d", now-100*day, n.id, total, o.spec.Window, unheard, l)
	}
	if total > l {
		o.most = max(o.most, float64(total-l)/float64(unheard+share))
	}
}

// TestNoWindowAdmitsMoreThanTheBound tries random schedules of messages that are
// lost, late and doubled, of nodes that crash and start anew, and that are cut off
// for a while.
func TestNoWindowAdmitsMoreThanTheBound(t *testing.T) {
	t.Parallel()
	over, whole := 0.0, 0
	for seed := range uint64(30) {
		rng := newWorld(t, seed, 1).rng
		nodes := 2 + rng.IntN(3)
		spec := limiter.Spec{Max: uint32(20 + rng.IntN(500)), Window: time.Duration(1+rng.IntN(4)) * time.Second, Without: limiter.Share}
		w := newWorld(t, seed, nodes, spec)
		w.lose, w.double = rng.Float64()*0.3, rng.Float64()*0.2
		w.most, w.every = time.Duration(1+rng.IntN(40))*time.Millisecond, time.Duration(2+rng.IntN(10))*time.Millisecond
		spec = w.specs[0]
		oracles := []*oracle{{w: w, spec: spec}, {w: w, spec: spec}}
		end := w.now + 6*spec.Window
		for w.now < end {
			// Now more, now less than the limit.
			rate := float64(spec.Max) / spec.Window.Seconds() * (0.3 + 4*rng.Float64())
			for range 1 + rng.IntN(200) {
				n := w.nodes[rng.IntN(len(w.nodes))]
				k, cost := rng.IntN(2), uint32(1+rng.IntN(3))
				if ok, degraded := n.take(0, k, cost); ok {
					oracles[k].admitted(n, cost, degraded)
				}
				if len(w.nodes) == nodes && rng.IntN(3000) == 0 {
					w.kill(n)
					w.at(time.Duration(rng.IntN(1500))*time.Millisecond, func() { w.start(n.id) })
				}
				if rng.IntN(2000) == 0 {
					a, b := w.places[rng.IntN(nodes)], w.places[rng.IntN(nodes)]
					w.cut[[2]string{a, b}], w.cut[[2]string{b, a}] = true, true
					w.at(time.Duration(rng.IntN(1500))*time.Millisecond, func() { clear(w.cut) })
				}
				w.run(time.Duration(rng.ExpFloat64() / rate * float64(time.Second)))
			}
		}
		for _, o := range oracles {
			over = max(over, o.most)
			whole += len(o.spends)
		}
	}
	if over == 0 || whole == 0 {
		t.Errorf("the schedules have exceeded no limit, or nothing was admitted: what does this test show?")
	}
	t.Logf("at most %.2f of what the bound allows beyond a limit was used", over)
}

// TestALimitHoldsWhereWordsAreFast has nodes take turns, each when the others have
// heard: then all together admit the limit, and nothing more.
func TestALimitHoldsWhereWordsAreFast(t *testing.T) {
	t.Parallel()
	for _, spec := range []limiter.Spec{
		{Max: 100, Window: time.Minute, Without: limiter.Share},
		{Max: 5000, Window: time.Minute, Without: limiter.Share},
		{Algorithm: limiter.Fixed, Clock: true, Max: 100, Window: time.Minute, Without: limiter.Share},
	} {
		t.Run(fmt.Sprint(spec.Algorithm, spec.Max), func(t *testing.T) {
			w := newWorld(t, 1, 3, spec)
			w.every = 8 * time.Millisecond
			admitted, cost := uint32(0), spec.Max/50
			for i := range 90 {
				if ok, degraded := w.nodes[i%3].take(0, 1, cost); degraded {
					t.Fatal("degraded, though all are heard of")
				} else if ok {
					admitted += cost
				}
				w.run(10 * time.Millisecond)
			}
			if admitted != spec.Max {
				t.Errorf("admitted %d of %d", admitted, spec.Max)
			}
			for _, n := range w.nodes {
				asks := []limiter.Ask{{Key: key(1), Cost: cost}}
				if ok, err := n.Peek(n.now(), asks); ok || err != nil || asks[0].State.Remaining != 0 || asks[0].State.Wait <= 0 || asks[0].State.Wait > spec.Window*11/10 {
					t.Errorf("node %s: %v, %v, %+v", n.id, ok, err, asks[0].State)
				}
				if asks[0].State.Reset <= 0 || asks[0].State.Reset > asks[0].State.Wait {
					t.Errorf("more in %v, enough in %v", asks[0].State.Reset, asks[0].State.Wait)
				}
			}
			// What was said about the time is true, and no later than need be.
			asks := []limiter.Ask{{Key: key(1), Cost: cost}}
			n := w.nodes[0]
			_, _ = n.Peek(n.now(), asks)
			wait := asks[0].State.Wait
			w.run(wait - 1)
			if ok, _ := n.take(0, 1, cost); ok {
				t.Errorf("admitted before %v were over", wait)
			}
			w.run(1)
			if ok, _ := n.take(0, 1, cost); !ok {
				t.Errorf("refused after %v", wait)
			}
		})
	}
}
