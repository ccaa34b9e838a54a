package fast

import (
	"sync"
	"time"
)

// recentFor is how far back the greatest of something is told, within a tenth.
const recentFor = time.Minute

// peak remembers the greatest of something lately.
type peak struct {
	mu sync.Mutex
	at [tenths + 1]int64 // which tenth of a minute
	n  [tenths + 1]uint32
}

func (p *peak) add(now time.Duration, n uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := int64(now / (recentFor / tenths))
	i := at % int64(len(p.n))
	if p.at[i] != at {
		p.at[i], p.n[i] = at, 0
	}
	p.n[i] = max(p.n[i], n)
}

func (p *peak) most(now time.Duration) (most uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := int64(now / (recentFor / tenths))
	for i := range p.n {
		if p.at[i] > at-int64(len(p.n)) {
			most = max(most, p.n[i])
		}
	}
	return most
}

// Bound is by how much more than a limit one window may admit.
type Bound struct {
	// Nodes is how many count together, as far as this one knows; one if it counts
	// alone.
	Nodes int
	// Seen is the bound by what nodes have admitted in the last minute, and by how
	// long words took.
	Seen uint64
	// Lag is the longest that a word took in the last minute, from an admission until
	// this node knew of it.
	Lag time.Duration
	// Worst is what a burst on all nodes at the same moment can make of it, and Share
	// what it can be while nodes are silent, if the rule says share.
	Worst, Share uint64
	// Silent tells that a member is not heard of just now.
	Silent bool
}

// Bound computes the bound of a limit that is counted here. Until a node hears of
// it, each other node has admitted no more than it does between two frames, times
// the frames that can be on their way.
func (n *Node) Bound(now time.Duration, number uint32) Bound {
	n.refresh(now)
	b := Bound{Nodes: int(max(n.nodes.Load(), 1)), Lag: n.tally.lagMost(now), Silent: n.Silent(now)}
	l := n.limits.Load().at(number)
	if l == nil {
		return b
	}
	// One that is not sent yet, those on their way for as long as any was, and one for
	// the shortest time on the way, which nobody can measure.
	frames := 2 + uint64((b.Lag+n.o.Config.Every-1)/n.o.Config.Every)
	most := func(units uint32) uint64 { return min(uint64(units)*frames, uint64(l.max)) }
	sum := most(l.peak.most(now))
	least := sum
	n.mu.Lock()
	others := n.others()
	for _, p := range others {
		units := uint32(0)
		for _, name := range l.names {
			units = max(units, p.peaks[name])
		}
		sum += most(units)
		least = min(least, most(units))
	}
	n.mu.Unlock()
	others64 := uint64(b.Nodes - 1)
	b.Worst = others64 * uint64(l.max)
	b.Seen = min(sum-least, b.Worst) // whoever admits last knows what it has itself
	if b.Nodes > 2 {
		b.Share = uint64(l.max) * uint64(b.Nodes-2) / uint64(b.Nodes)
	}
	return b
}

// What [Usual] takes for usual.
const (
	usualRate  = 10_000 // checks of one key in a second on one node
	usualDelay = 10 * time.Millisecond
)

// Usual is by how much more than a limit a window may admit for each further node,
// when each decides 10,000 checks of a key in a second, all of which pass, and a
// word takes 10 ms: it is what to expect of a limit of which nothing was seen yet.
func Usual(limit uint32) uint32 {
	return min(limit, uint32(usualRate*usualDelay/time.Second))
}

// Bytes is about what a key takes where so many nodes count.
func Bytes(nodes int) uint32 { return 216 + 104*uint32(max(nodes-1, 0)) }
