package cluster

import (
	"context"
	"sync"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// What to do about limits whose owner cannot be reached, when a check has waited
// for its patience:
//
//	deny    the check fails
//	allow   as if there were no such limit
//	share   this node admits, until an owner answers again, what is a fair part of
//	        what is left as far as it knows: (limit - known) / nodes, rounded down
//
// What a node knows is what it has counted as the owner, or has copies of as the
// heir; others know nothing of a key. So all nodes together admit no more than the
// limit by shares, on top of what the owner had admitted: with two nodes, which both
// know, the limit and what was not copied yet; with N at most (N-2)/N of the limit
// more. What was admitted by shares, or let through, is a debt, and charged to the
// new owner as soon as it serves, as far as it fits.

// Bounds of the memory for what is decided without owners.
const (
	maxShares = 65_536 // counters
	maxDebts  = 65_536 // counters
)

// payEvery is how often debts are paid.
const payEvery = 100 * time.Millisecond

// fallback is what a node decides without owners.
type fallback struct {
	mu     sync.Mutex
	shares *limiter.Limiter // what is spent of shares; limits are those of the node, divided
	nodes  int              // by how many
	names  *names           // when it was made
	debts  map[item]uint32
}

// without decides asks that could not be decided before, one more time, such that
// limits that are for it do without their owners. The error is [ErrUnreachable]
// where one is not.
func (n *Node) without(ctx context.Context, asks []limiter.Ask, op *operation) (bool, error) {
	if ctx.Err() != nil || !n.anySpare(asks) {
		return false, ErrUnreachable
	}
	last := *op
	last.spare, last.until = true, n.o.Now()+n.o.Config.Patience
	a := n.divideForLast(asks, &last)
	v, t := a.decide(ctx)
	if v == notMine || v == strange {
		v = lost
	}
	if v == done {
		n.fallback.owe(a)
	}
	return n.told(ctx, v, t)
}

// anySpare reports whether an owner could be done without.
func (n *Node) anySpare(asks []limiter.Ask) bool {
	for i := range asks {
		if n.o.Limiter.Without(asks[i].Limit) != limiter.Deny {
			return true
		}
	}
	return false
}

// divideForLast is divide where slots without an owner count as our own, which
// are not served either.
func (n *Node) divideForLast(asks []limiter.Ask, op *operation) *attempt {
	a, ok := n.divide(asks, op)
	if !ok {
		a = &attempt{n: n, op: op, asks: asks}
		for i := range asks {
			a.own = append(a.own, i)
		}
	}
	return a
}

// spareOwner decides asks whose owner cannot be reached. It is notMine if one of
// them has to be decided by its owner.
func (a *attempt) spareOwner(asks []int) verdict {
	if !a.op.spare {
		return notMine
	}
	v := done
	for _, i := range asks {
		ask := &a.asks[i]
		switch without := a.n.o.Limiter.Without(ask.Limit); {
		case without == limiter.Share:
			if !a.n.share(ask) && !a.shadow(i) {
				v = refused
			}
			ask.State.Degraded = true
		case without == limiter.Allow, a.shadow(i):
			ask.State = limiter.State{Unknown: true, Degraded: true}
		default:
			return notMine
		}
	}
	return v
}

// share takes from this node's share, and reports whether it is enough.
func (n *Node) share(ask *limiter.Ask) bool {
	n.mu.RLock()
	nodes := len(n.view.members)
	n.mu.RUnlock()
	f := &n.fallback
	f.mu.Lock()
	defer f.mu.Unlock()
	now := n.o.Now()
	known := []limiter.Ask{{Limit: ask.Limit, Key: ask.Key, Cost: 1}}
	n.o.Limiter.Peek(now, known)
	ask.State = limiter.State{Exceeded: true, Wait: known[0].State.Wait, Reset: known[0].State.Reset}
	if ask.State.Wait == 0 {
		ask.State.Wait = time.Second // by then there may be an owner
	}
	if nodes == 0 {
		return false // it never was part of a cluster, and knows of no part
	}
	f.prepare(n, now, nodes)
	f.shares.SetWall(n.o.Limiter.Wall())
	mine := []limiter.Ask{{Limit: ask.Limit, Key: ask.Key, Cost: 1}}
	f.shares.Peek(now, mine)
	spent := f.shares.Most(ask.Limit) - mine[0].State.Remaining
	part := known[0].State.Remaining / uint32(nodes)
	ask.State.Remaining = part - min(part, spent)
	if ask.State.Remaining < ask.Cost {
		return false
	}
	mine[0].Cost = ask.Cost
	if ok, err := f.shares.Take(now, mine); !ok || err != nil {
		return false // the memory is full, or the limit is less than a part of another
	}
	ask.State = limiter.State{Remaining: ask.State.Remaining - ask.Cost, Reset: mine[0].State.Reset}
	return true
}

// prepare makes the shares those of this many nodes.
func (f *fallback) prepare(n *Node, now time.Duration, nodes int) {
	names := n.rates.Load()
	if f.shares != nil && f.nodes == nodes && f.names == names {
		return
	}
	specs := n.o.Limiter.Specs()
	for i := range specs {
		specs[i].Max = max(specs[i].Max/uint32(nodes), 1)
		if specs[i].Burst > 0 {
			specs[i].Burst = max(specs[i].Burst/uint32(nodes), 1)
		}
		specs[i].Shadow, specs[i].Penalty = false, false
	}
	if f.shares == nil {
		f.shares = limiter.New(specs, maxShares)
	} else {
		f.shares.Change(now, specs)
	}
	f.nodes, f.names = nodes, names
}

// owe notes what was decided without owners. What does not fit is not charged.
func (f *fallback) owe(a *attempt) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range a.asks {
		ask := &a.asks[i]
		it := item{ask.Limit, ask.Key}
		if _, ok := f.debts[it]; !ask.State.Degraded || ask.State.Exceeded || !ok && len(f.debts) >= maxDebts {
			continue
		}
		if f.debts == nil {
			f.debts = make(map[item]uint32)
		}
		f.debts[it] = min(f.debts[it]+ask.Cost, a.n.o.Limiter.Most(ask.Limit))
	}
}

// pay charges debts to owners that answer again, until ctx is done.
func (n *Node) pay(ctx context.Context) {
	for pause(ctx, payEvery) {
		n.fallback.mu.Lock()
		debts := n.fallback.debts
		n.fallback.debts = nil
		n.fallback.mu.Unlock()
		failed := 0
		for it, cost := range debts {
			if n.charge(ctx, it, cost) {
				delete(debts, it)
			} else if failed++; failed == 8 || ctx.Err() != nil {
				break // each has waited for its patience
			}
		}
		n.fallback.mu.Lock()
		for it, cost := range debts {
			if n.fallback.debts == nil {
				n.fallback.debts = make(map[item]uint32)
			}
			n.fallback.debts[it] = min(n.fallback.debts[it]+cost, n.o.Limiter.Most(it.limit))
		}
		n.fallback.mu.Unlock()
	}
}

// charge charges a debt, or as much of it as is left of the limit. It reports
// false if nobody could be charged.
func (n *Node) charge(ctx context.Context, it item, cost uint32) bool {
	asks := []limiter.Ask{{Limit: it.limit, Key: it.key, Cost: cost}}
	for range 3 {
		ok, err := n.take(ctx, asks, &operation{verb: quotav1.AskVerb_ASK_VERB_TAKE})
		if err != nil {
			return false
		}
		if ok || asks[0].State.Remaining == 0 {
			return true
		}
		asks[0].Cost = min(cost, asks[0].State.Remaining)
	}
	return true // others spend it all the while
}
