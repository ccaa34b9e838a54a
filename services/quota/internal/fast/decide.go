package fast

import (
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// Take is [limiter.Limiter.Take]. All limits asked for must be counted here.
//
// While another member is silent, which the states tell as degraded, limits do what
// they say for that case. Deny fails with [ErrSilent]. Share admits on each of N
// nodes no more than an N-th of the limit, and in all no more than the limit as
// far as it is known; it fails too until the node has heard all that others know, once.
// Allow goes on with what is known.
func (n *Node) Take(now time.Duration, asks []limiter.Ask) (bool, error) {
	return n.decide(now, asks, true)
}

// Peek tells what Take would, and takes nothing.
func (n *Node) Peek(now time.Duration, asks []limiter.Ask) (bool, error) {
	return n.decide(now, asks, false)
}

// Silent reports whether a member was not heard of in time.
func (n *Node) Silent(now time.Duration) bool { return int64(now) >= n.silentFrom.Load() }

func (n *Node) decide(now time.Duration, asks []limiter.Ask, take bool) (bool, error) {
	degraded := n.Silent(now)
	nodes := uint64(n.nodes.Load())
	held := n.lock(now, asks)
	defer n.unlock(held)
	ok := true
	for i := range asks {
		a := &asks[i]
		s := n.shard(a.Key.Hi)
		l := s.limits.at(a.Limit)
		if l == nil { // its mode is being changed
			return false, ErrSilent
		}
		if degraded && !l.shadow && (l.without == limiter.Deny || l.without == limiter.Share && nodes == 0) {
			return false, ErrSilent
		}
		left := s.look(a, l, nodes, degraded)
		a.State = limiter.State{Remaining: left, Exceeded: a.Cost > left, Degraded: degraded}
		a.Mark = 0
		ok = ok && (!a.State.Exceeded || l.shadow)
	}
	if take && ok {
		if err := n.charge(asks); err != nil {
			return false, err
		}
	}
	for i := range asks {
		a := &asks[i]
		s := n.shard(a.Key.Hi)
		l := s.limits.at(a.Limit)
		s.foretell(a, s.counters[itemOf(a)], l, uint64(l.max)/max(nodes, 1), a.State.Degraded && l.without == limiter.Share)
	}
	return ok, nil
}

func itemOf(a *limiter.Ask) item { return item{a.Limit, a.Key.Hi, a.Key.Lo} }

// look is what is left.
func (s *shard) look(a *limiter.Ask, l *limit, nodes uint64, degraded bool) uint32 {
	total, own := uint64(0), uint64(0)
	if c := s.find(itemOf(a), l); c != nil {
		total, own = c.total(), c.own.sum
	}
	left := uint64(l.max) - min(uint64(l.max), total)
	if degraded && l.without == limiter.Share {
		share := uint64(l.max) / max(nodes, 1)
		left = min(left, share-min(share, own))
	}
	return uint32(left)
}

// charge spends from all, or fails before it has from any.
func (n *Node) charge(asks []limiter.Ask) error {
	for i := range asks { // for all at once: this forgets counters that count nothing yet
		n.shard(asks[i].Key.Hi).room(len(asks))
	}
	for i := range asks {
		a := &asks[i]
		s := n.shard(a.Key.Hi)
		l := s.limits.at(a.Limit)
		if a.State.Exceeded {
			continue
		}
		if s.findOrMake(itemOf(a), l) == nil && !l.shadow {
			return limiter.ErrFull
		}
	}
	for i := range asks {
		a := &asks[i]
		s := n.shard(a.Key.Hi)
		l := s.limits.at(a.Limit)
		c := s.counters[itemOf(a)]
		if c == nil || a.State.Exceeded { // shadow limits go without
			continue
		}
		a.Mark = c.own.add(c.began(s.now, l), l.width, a.Cost) + 1
		c.fresh += a.Cost
		a.State.Remaining -= a.Cost
		if s.touch(c) {
			n.tellSoon()
		}
	}
	return nil
}

// Undo gives back what Take took under the asks' marks, as far as it still counts.
// Others hear of it as they do of a spend.
func (n *Node) Undo(now time.Duration, asks []limiter.Ask) {
	held := n.lock(now, asks)
	defer n.unlock(held)
	for i := range asks {
		a := &asks[i]
		s := n.shard(a.Key.Hi)
		l := s.limits.at(a.Limit)
		if l == nil || a.Mark == 0 {
			continue
		}
		c := s.find(itemOf(a), l)
		if c == nil || !c.own.take(a.Mark-1, a.Cost, l.clock) {
			continue
		}
		c.fresh -= min(c.fresh, a.Cost)
		a.State.Remaining += a.Cost
		a.Mark = 0
		if s.touch(c) {
			n.tellSoon()
		}
	}
}
