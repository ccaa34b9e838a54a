package fast

import (
	"slices"
	"time"
)

// maxPeers bounds the processes that are remembered.
const maxPeers = 1024

// peer is another process.
type peer struct {
	boot    uint64
	member  string
	gone    bool // it has said goodbye
	synced  bool // all that it knew when we met is known
	syncing bool
	last    time.Duration // when it was last heard of

	// Frames up to have were all taken, and those from low to high. The last that we
	// know to be is told.
	have, low, high, told uint64

	offset  [2]offset     // see delay
	fresh   time.Duration // as of when all that it had admitted is known
	peaks   map[uint64]uint32
	peaksAt time.Duration
}

// offset is the least difference of our clock and another's, when a message came
// that the other had sent; it is that of a message that was on its way for the
// shortest time.
type offset struct {
	since time.Duration
	least time.Duration
}

// offsetLife is for how long one is believed: clocks run at different rates.
const offsetLife = 30 * time.Second

// delay is for how long a message that was sent at a time of another's clock was on
// its way, beyond the shortest that any took lately.
func (p *peer) delay(now, sent time.Duration) time.Duration {
	if sent > now+1<<62 || sent < now-1<<62 {
		return 0 // no clock shows that
	}
	diff := now - sent
	cur := &p.offset[0]
	switch {
	case cur.since == 0:
		*cur = offset{max(now, 1), diff}
		p.offset[1] = *cur
	case now-cur.since > offsetLife:
		p.offset[1] = *cur
		*cur = offset{now, diff}
	default:
		cur.least = min(cur.least, diff)
	}
	return diff - min(p.offset[0].least, p.offset[1].least)
}

// complete reports whether nothing that the peer has told is missing.
func (p *peer) complete() bool { return p.synced && p.have >= p.told }

// took notes that a frame with counts was taken, and reports whether it is one
// that was not taken before.
func (p *peer) took(sequence uint64) bool {
	p.told = max(p.told, sequence)
	switch {
	case sequence <= p.have, p.low > 0 && sequence >= p.low && sequence <= p.high:
		return false
	case sequence == p.have+1:
		p.have = sequence
	case p.low > 0 && sequence == p.high+1:
		p.high = sequence
	case p.low == 0 || sequence > p.high:
		p.low, p.high = sequence, sequence
	}
	p.join()
	return true
}

// join adds the frames after a gap to those before it.
func (p *peer) join() {
	if p.low > 0 && p.low <= p.have+1 {
		p.have = max(p.have, p.high)
		p.low, p.high = 0, 0
	}
}

// caughtUp notes that all up to a frame is known.
func (p *peer) caughtUp(sequence uint64) {
	p.synced = true
	p.have, p.told = max(p.have, sequence), max(p.told, sequence)
	p.join()
}

// peer returns the one of a boot, which it makes if there is room. n.mu is held.
func (n *Node) peer(boot uint64, now time.Duration) *peer {
	p := n.peers[boot]
	if p == nil && (len(n.peers) < maxPeers || n.forget(now)) {
		p = &peer{boot: boot, last: now}
		n.peers[boot] = p
	}
	return p
}

// forget drops peers whose counts are all over, and reports whether there were any.
// n.mu is held.
func (n *Node) forget(now time.Duration) bool {
	life := 2*n.limits.Load().longest() + time.Minute
	before := len(n.peers)
	for boot, p := range n.peers {
		if now-p.last > life {
			delete(n.peers, boot)
		}
	}
	return len(n.peers) < before
}

func (n *Node) forgetPeers(now time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forget(now)
}

// refresh finds out until when all members are heard of.
func (n *Node) refresh(now time.Duration) {
	self, all := n.o.Members()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.self = self
	nodes, until := int64(len(all)), int64(1<<63-1)
	switch {
	case len(all) == 0: // nobody knows yet
		until = 0
	case self == "" || !slices.Contains(all, self):
		nodes++
	}
	for _, id := range all {
		if id == self {
			continue
		}
		p := n.member(id)
		switch {
		case p == nil:
			until = 0
		case !p.gone:
			until = min(until, int64(p.fresh))
		}
	}
	if until != 0 && until < 1<<62 {
		until += int64(n.o.Config.Silence)
	}
	n.silentFrom.Store(until)
	if n.nodes.Load() > 0 || int64(now) < until {
		n.nodes.Store(nodes)
	}
}

// member is the peer that is a member, the one that was heard of last.
func (n *Node) member(id string) (found *peer) {
	for _, p := range n.peers {
		if p.member == id && (found == nil || p.last > found.last) {
			found = p
		}
	}
	return found
}

// others are the peers that are members.
func (n *Node) others() (found []*peer) {
	_, all := n.o.Members()
	for _, id := range all {
		if p := n.member(id); id != n.self && p != nil {
			found = append(found, p)
		}
	}
	return found
}
