package fast

import (
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// frameSize is how many counts one frame has.
const frameSize = 1024

// maxRows is how many nodes' rows one counter holds.
const maxRows = 128

// Collect makes a frame of what has changed, up to its size, and reports whether
// there is more. It is nil if nothing has.
func (n *Node) Collect(now time.Duration) (f *quotav1.FastFrame, more bool) {
	n.sending.Lock()
	defer n.sending.Unlock()
	next := n.sequence.Load() + 1
	f = n.frame(now)
	f.Sequence = next
	since := int64(now)
	for i := range n.shards {
		s := &n.shards[i]
		s.mu.Lock()
		s.at(now, n.o.Wall())
		room := min(frameSize-len(f.Counts), len(s.dirty))
		for _, c := range s.dirty[:room] {
			l := s.limits.at(c.limit)
			c.tidy(s.now, s.wall, l)
			l.peak.add(now, c.fresh)
			since = min(since, c.since)
			c.dirty, c.fresh, c.own.sequence = false, 0, next
			f.Counts = append(f.Counts, c.told(&c.own, now, l))
		}
		s.dirty = append(s.dirty[:0], s.dirty[room:]...)
		more = more || len(s.dirty) > 0
		s.mu.Unlock()
	}
	if len(f.Counts) == 0 {
		return nil, false
	}
	f.WaitedNanos = int64(now) - since
	n.sequence.Store(next)
	return f, more
}

// Beat makes a frame without counts, with which others know that nothing is
// missing.
func (n *Node) Beat(now time.Duration, peaks, leaving bool) *quotav1.FastFrame {
	n.sending.Lock()
	defer n.sending.Unlock()
	f := n.frame(now)
	f.Sequence, f.Leaving = n.sequence.Load(), leaving
	if peaks {
		for _, l := range n.limits.Load().list {
			if l == nil || len(f.Peaks) == frameSize {
				continue
			}
			if units := l.peak.most(now); units > 0 {
				f.Peaks = append(f.Peaks, &quotav1.FastPeak{Limit: l.names[0], Units: units})
			}
		}
	}
	return f
}

func (n *Node) frame(now time.Duration) *quotav1.FastFrame {
	n.mu.Lock()
	defer n.mu.Unlock()
	return &quotav1.FastFrame{Boot: n.boot, Member: n.self, SentNanos: int64(now)}
}

// told is a row as others are told.
func (c *counter) told(r *row, now time.Duration, l *limit) *quotav1.FastCount {
	m := &quotav1.FastCount{Limit: l.names[0], Hi: c.hi, Lo: c.lo, At: r.at, WidthNanos: r.width, Parts: r.n[:r.length:r.length]}
	if !l.clock {
		m.At -= int64(now)
	}
	if r.length > 0 { // the row changes
		m.Parts = append([]uint32(nil), m.GetParts()...)
	}
	if r.by != nil {
		m.Boot = r.by.boot
	}
	return m
}

// Gap is what a node has missed of another.
type Gap struct {
	Boot, Since uint64
}

// Receive takes a frame of another node, and tells what is to be asked of it, if
// anything. Whoever gets a gap has to call [Node.Synced] or [Node.Failed] after it.
func (n *Node) Receive(now time.Duration, f *quotav1.FastFrame) *Gap {
	if f.GetBoot() == n.boot || f.GetBoot() == 0 || len(f.GetCounts()) > frameSize || len(f.GetPeaks()) > frameSize || len(f.GetMember()) > 64 {
		return nil
	}
	n.mu.Lock()
	p := n.peer(f.GetBoot(), now)
	if p == nil {
		n.mu.Unlock()
		n.tally.dropped.Add(1)
		return nil
	}
	delay := p.delay(now, time.Duration(f.GetSentNanos()))
	n.heard, p.last, p.member, p.gone = now, now, f.GetMember(), p.gone || f.GetLeaving()
	anew := false
	if len(f.GetCounts()) > 0 {
		anew = p.took(f.GetSequence())
	} else {
		p.told = max(p.told, f.GetSequence())
	}
	if len(f.GetPeaks()) > 0 {
		p.peaks, p.peaksAt = make(map[uint64]uint32, len(f.GetPeaks())), now
		for _, peak := range f.GetPeaks() {
			p.peaks[peak.GetLimit()] = peak.GetUnits()
		}
	}
	n.mu.Unlock()

	if anew {
		n.tally.received.Add(1)
		n.tally.lagged(now, delay+time.Duration(max(f.GetWaitedNanos(), 0)))
		for _, m := range f.GetCounts() {
			n.apply(now, delay, p, f.GetSequence(), m)
		}
	}
	n.mu.Lock()
	gap := n.review(p, now-delay)
	n.mu.Unlock()
	n.refresh(now)
	return gap
}

// review notes what is known of a peer as of a time, and tells what is missing.
func (n *Node) review(p *peer, asOf time.Duration) *Gap {
	if p.complete() {
		p.fresh = max(p.fresh, asOf)
		return nil
	}
	if p.syncing || p.gone && p.synced {
		return nil
	}
	p.syncing = true
	if !p.synced {
		return &Gap{Boot: p.boot}
	}
	return &Gap{Boot: p.boot, Since: p.have}
}

// apply takes what a peer has admitted of one key, if it is not older than what is
// known of it.
func (n *Node) apply(now, delay time.Duration, p *peer, sequence uint64, m *quotav1.FastCount) {
	s := n.shard(m.GetHi())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at(now, n.o.Wall())
	number, ok := s.limits.byName[m.GetLimit()]
	if !ok || len(m.GetParts()) > parts || m.GetWidthNanos() < 1 && len(m.GetParts()) > 0 {
		return // a limit that this node does not have, or that nobody counts so
	}
	l := s.limits.at(number)
	it := item{number, m.GetHi(), m.GetLo()}
	c := s.find(it, l)
	if c == nil && len(m.GetParts()) == 0 {
		return
	}
	if c == nil {
		s.room(1)
		c = s.findOrMake(it, l)
	}
	if c == nil {
		s.dropped = true
		n.tally.dropped.Add(1)
		return
	}
	before := c.excess(l)
	if c.put(s.now, s.wall, delay, p, sequence, m, l) {
		n.tally.exceeded(c.excess(l), before)
	}
}

// excess is by how much more was admitted than the limit.
func (c *counter) excess(l *limit) uint64 { return c.total() - min(c.total(), uint64(l.max)) }

// put puts a row in the place of an earlier one of the same node.
func (c *counter) put(now, wall int64, delay time.Duration, p *peer, sequence uint64, m *quotav1.FastCount, l *limit) bool {
	var r *row
	for i := range c.others {
		if c.others[i].by == p {
			r = &c.others[i]
		}
	}
	switch {
	case r != nil && r.sequence >= sequence:
		return false
	case r == nil && len(c.others) >= maxRows:
		return false
	case r == nil:
		c.others = append(c.others, row{by: p})
		r = &c.others[len(c.others)-1]
	}
	*r = row{by: p, sequence: sequence, width: m.GetWidthNanos(), length: len(m.GetParts())}
	for i, units := range m.GetParts() {
		r.n[i] = units
		r.sum += uint64(units)
	}
	switch fits := l.clock == (len(m.GetParts()) <= 1 && m.GetWidthNanos() == l.window); {
	case l.clock && fits:
		// Whoever's clock is ahead begins a window for all. One that is far off counts
		// in ours.
		ours := max(c.number, l.number(now, wall))
		if r.at = m.GetAt(); r.at > ours+1 {
			r.at = ours
		}
		c.number = max(c.number, r.at)
	case l.clock: // of a rule that is being changed, on one node after the other
		sum := min(r.sum, 1<<32-1)
		r.clear()
		r.at, r.n[0], r.length, r.sum = c.number, uint32(sum), 1, sum
	default:
		r.at = min(now, now-int64(delay)+m.GetAt())
		if m.GetAt() > 0 || m.GetAt() < -1<<62 { // a number, or nonsense
			r.at = now
		}
		r.width = min(r.width, l.window)
	}
	c.next = 0
	c.tidy(now, wall, l)
	return true
}
