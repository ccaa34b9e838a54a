package cluster

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// Of a limit that has much left, an owner lets others have some in advance: a
// grant, charged at once, from which its holder admits without a message.
//
//	asked again soon      the owner has taken it       used up, or its time is over
//	(nothing) ──────────▶ wanted ──────────▶ granted ──────────────────▶ (nothing)
//	                                                     └─ what is left: UNDO
//
// A grant ends before the part of the window ends that it was charged to (see
// [limiter.State], Slack), so its use counts as if the owner had decided it: no
// window admits more. All grants together are no more than a sixteenth of what is
// left, by which answers may tell too little meanwhile. Whoever crashes with a grant leaves a charge that nobody
// enjoyed. Limits that count to the moment, up to 128 and gcra, have no grants.
const (
	// grantFor is how long a grant lasts at most.
	grantFor = 100 * time.Millisecond
	// leastGrant is what is worth it, mostGrant what one holder gets at once.
	leastGrant, mostGrant = 8, 4096
	// accountsPerShard bounds the memory; a shard that is full forgets all, and the
	// charges of its grants stay.
	accountsPerShard = 4096
)

// bank holds the grants of other owners.
type bank struct {
	shards [denialShards]struct {
		sync.Mutex
		m       map[item]*account
		granted []item // that may have tokens
	}
	turn int // of sweep
}

// account is what is known of one counter of another owner.
type account struct {
	tokens uint32        // that may be spent
	until  time.Duration // and until when, by our clock
	mark   int64
	reign  uint64
	state  limiter.State // as the owner told it with the grant
	told   time.Duration // when
	listed bool          // among those that may have tokens

	want   uint32
	asked  time.Duration // when the owner was asked last
	asking time.Duration // when a grant was asked for that has not come; 0 for never
}

// draw spends from a grant, and then gives the ask its state.
func (b *bank) draw(now time.Duration, a *limiter.Ask) bool {
	s := &b.shards[a.Key.Lo%denialShards]
	s.Lock()
	defer s.Unlock()
	acc := s.m[item{a.Limit, a.Key}]
	if acc == nil || now >= acc.until || acc.tokens < a.Cost {
		return false
	}
	acc.tokens -= a.Cost
	a.State, a.Mark = acc.state, acc.mark
	a.State.Remaining += acc.tokens
	a.State.Reset = max(acc.state.Reset-(now-acc.told), 1)
	return true
}

// putBack undoes a draw that led to nothing.
func (b *bank) putBack(a *limiter.Ask) {
	s := &b.shards[a.Key.Lo%denialShards]
	s.Lock()
	defer s.Unlock()
	// What comes back to another grant must have been charged to the same part of the
	// window: the mark says which.
	if acc := s.m[item{a.Limit, a.Key}]; acc != nil && acc.mark == a.Mark && a.Mark != 0 {
		acc.tokens += a.Cost
	}
	a.State.Remaining += a.Cost
}

// wants tells how much to ask for in advance, when the owner is asked anyway.
func (b *bank) wants(now time.Duration, it item) uint32 {
	s := &b.shards[it.key.Lo%denialShards]
	s.Lock()
	defer s.Unlock()
	acc := s.m[it]
	if acc == nil {
		if s.m == nil || len(s.m) >= accountsPerShard {
			s.m, s.granted = make(map[item]*account), nil
		}
		s.m[it] = &account{asked: now}
		return 0
	}
	soon := now-acc.asked < grantFor
	acc.asked = now
	if !soon || acc.asking > 0 && now-acc.asking < grantFor {
		return 0
	}
	acc.want = min(max(2*acc.want, leastGrant), mostGrant)
	acc.asking = now
	return acc.want
}

// deposit takes a grant. What is left of the one before goes back.
func (b *bank) deposit(sent time.Duration, a *limiter.Ask, t *told) (old *returned) {
	it := item{a.Limit, a.Key}
	shard := &b.shards[it.key.Lo%denialShards]
	shard.Lock()
	defer shard.Unlock()
	acc := shard.m[it]
	if acc == nil {
		return &returned{it, t.granted, t.grantMark, t.grantReign}
	}
	old = acc.close(it)
	acc.asking = 0
	acc.tokens, acc.mark, acc.reign = t.granted, t.grantMark, t.grantReign
	acc.until = sent + min(t.grantedFor, grantFor)
	acc.state, acc.told = a.State, sent
	if !acc.listed {
		acc.listed, shard.granted = true, append(shard.granted, it)
	}
	return old
}

// close takes what is left out of an account.
func (acc *account) close(it item) *returned {
	if acc.tokens == 0 {
		return nil
	}
	r := &returned{it, acc.tokens, acc.mark, acc.reign}
	acc.tokens = 0
	return r
}

// returned is what was not used of a grant.
type returned struct {
	item
	tokens uint32
	mark   int64
	reign  uint64
}

// forget ends all grants; what is left of them stays charged.
func (b *bank) forget() {
	for i := range b.shards {
		s := &b.shards[i]
		s.Lock()
		s.m, s.granted = nil, nil
		s.Unlock()
	}
}

// forgetEvery is how many sweeps it takes to look at everybody who asks.
const forgetEvery = 16

// sweep ends the grants whose time is over, and in its turn forgets who does not ask
// any more. Only one goroutine may sweep.
func (b *bank) sweep(now time.Duration) (back []*returned) {
	b.turn++
	for i := range b.shards {
		s := &b.shards[i]
		s.Lock()
		s.granted = slices.DeleteFunc(s.granted, func(it item) bool {
			acc := s.m[it]
			if now < acc.until {
				return false
			}
			acc.listed = false
			if acc.tokens > acc.want/2 {
				acc.want /= 2
			}
			if r := acc.close(it); r != nil {
				back = append(back, r)
			}
			return true
		})
		if i%forgetEvery == b.turn%forgetEvery {
			maps.DeleteFunc(s.m, func(_ item, acc *account) bool { return now-acc.asked > 10*grantFor && !acc.listed })
		}
		s.Unlock()
	}
	return back
}

// settleGrants gives back what is not used, until ctx is done.
func (n *Node) settleGrants(ctx context.Context) {
	tick := time.NewTicker(grantFor / 2)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, r := range n.bank.sweep(n.o.Now()) {
			n.giveUp(r)
		}
	}
}

// giveUp tells the owner what of its grant was not used. Nobody waits for it.
func (n *Node) giveUp(r *returned) {
	n.mu.RLock()
	owner, id := n.view.owner(slotOf(r.key)), n.id
	n.mu.RUnlock()
	if owner == "" || owner == id {
		return // its mark is of another clock
	}
	n.link(owner).send(&call{group: group{verb: quotav1.AskVerb_ASK_VERB_UNDO, asks: []asked{{
		limit: n.rates.Load().at(r.limit, 0), key: r.key, cost: r.tokens, mark: r.mark, reign: r.reign,
	}}}})
}

// grant takes what an asker wants in advance, if the limit has much more, and adds
// it to the answer.
func (n *Node) grant(want uint32, a *limiter.Ask, to *told) ticket {
	n.mu.RLock()
	members := uint32(len(n.view.members))
	n.mu.RUnlock()
	slice := min(want, mostGrant, a.State.Remaining/(16*max(members, 1)))
	if a.Mark == 0 || slice < leastGrant || a.State.Slack < grantFor/10 {
		return ticket{}
	}
	asks := []limiter.Ask{{Limit: a.Limit, Key: a.Key, Cost: slice}}
	op := operation{verb: quotav1.AskVerb_ASK_VERB_TAKE, reigns: make([]uint64, 1)}
	v, t := n.here(asks, &op)
	if v != done || asks[0].Mark == 0 {
		return t
	}
	to.state.Remaining = asks[0].State.Remaining
	to.granted, to.grantMark, to.grantReign = slice, asks[0].Mark, op.reigns[0]
	// A quarter less, for clocks that run at different rates.
	to.grantedFor = min(asks[0].State.Slack*3/4, grantFor)
	return t
}
