package fast

import (
	"cmp"
	"slices"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// Tell answers a node that has missed something. It hands out a page: of one part
// of the counts, in their order, those whose rows were told after a frame; or, to
// one that knows nothing, all rows, also those of other nodes, which may be gone.
func (n *Node) Tell(now time.Duration, q *quotav1.FastSyncRequest) *quotav1.FastSyncReply {
	reply := &quotav1.FastSyncReply{Sequence: n.sequence.Load(), SentNanos: int64(now)}
	if q.GetPart() >= shardCount {
		return reply
	}
	limits := n.limits.Load()
	after := item{hi: q.GetAfter().GetHi(), lo: q.GetAfter().GetLo()}
	after.limit = limits.byName[q.GetAfter().GetLimit()]
	for part := q.GetPart(); part < shardCount; part++ {
		s := &n.shards[part]
		s.mu.Lock()
		s.at(now, n.o.Wall())
		var all []*counter
		for it, c := range s.counters {
			if s.limits.of(it.limit) && (q.GetAfter() == nil || it.compare(after) > 0) && c.knows(q.GetSince()) {
				all = append(all, c)
			}
		}
		slices.SortFunc(all, func(a, b *counter) int { return a.compare(b.item) })
		for _, c := range all {
			rows := c.page(q.GetSince(), now, s, s.limits.at(c.limit))
			if len(rows)+len(reply.Counts) > frameSize {
				reply.Next, reply.More = part, true
				break
			}
			reply.Counts = append(reply.Counts, rows...)
		}
		s.mu.Unlock()
		if reply.GetMore() {
			if len(reply.Counts) == 0 || n.shardOf(reply.Counts[len(reply.Counts)-1]) != part {
				reply.More = false // begin this part with the next page
			}
			return reply
		}
		q = &quotav1.FastSyncRequest{Since: q.GetSince()}
	}
	return reply
}

func (n *Node) shardOf(m *quotav1.FastCount) uint32 { return uint32(m.GetHi() % shardCount) }

func (it item) compare(other item) int {
	return cmp.Or(cmp.Compare(it.lo, other.lo), cmp.Compare(it.hi, other.hi), cmp.Compare(it.limit, other.limit))
}

// knows reports whether a page for somebody who has the frames up to one may have
// something of the counter.
func (c *counter) knows(since uint64) bool { return since == 0 || c.own.sequence > since }

func (c *counter) page(since uint64, now time.Duration, s *shard, l *limit) (rows []*quotav1.FastCount) {
	c.tidy(s.now, s.wall, l)
	if c.own.sequence > since && (since > 0 || c.own.length > 0) {
		m := c.told(&c.own, now, l)
		m.Sequence = c.own.sequence
		rows = append(rows, m)
	}
	if since > 0 {
		return rows
	}
	for i := range c.others {
		m := c.told(&c.others[i], now, l)
		m.Sequence = c.others[i].sequence
		rows = append(rows, m)
	}
	return rows
}

// After is the request for the page after one, nil if it was the last.
func After(q *quotav1.FastSyncRequest, reply *quotav1.FastSyncReply) *quotav1.FastSyncRequest {
	if reply.GetNext() == 0 && !reply.GetMore() {
		return nil
	}
	next := &quotav1.FastSyncRequest{Since: q.GetSince(), Part: reply.GetNext()}
	if counts := reply.GetCounts(); reply.GetMore() && len(counts) > 0 {
		next.After = counts[len(counts)-1]
	}
	return next
}

// Page takes a page of a node that was asked.
func (n *Node) Page(now time.Duration, boot uint64, reply *quotav1.FastSyncReply) {
	n.mu.Lock()
	p := n.peers[boot]
	if p == nil || len(reply.GetCounts()) > frameSize {
		n.mu.Unlock()
		return
	}
	delay := p.delay(now, time.Duration(reply.GetSentNanos()))
	n.mu.Unlock()
	for _, m := range reply.GetCounts() {
		by := p
		if m.GetBoot() != 0 && m.GetBoot() != boot {
			if m.GetBoot() == n.boot {
				continue // we know better
			}
			n.mu.Lock()
			by = n.peer(m.GetBoot(), now)
			n.mu.Unlock()
		}
		if by != nil {
			n.apply(now, delay, by, m.GetSequence(), m)
		}
	}
}

// Synced notes that all pages were taken, the first of which was this.
func (n *Node) Synced(now time.Duration, boot uint64, first *quotav1.FastSyncReply) *Gap {
	n.mu.Lock()
	p := n.peers[boot]
	var gap *Gap
	if p != nil {
		p.syncing = false
		p.caughtUp(first.GetSequence())
		gap = n.review(p, now-p.delay(now, time.Duration(first.GetSentNanos())))
	}
	n.mu.Unlock()
	n.tally.synced.Add(1)
	n.refresh(now)
	return gap
}

// Failed notes that a node that was asked has not answered. It is asked again when
// it is next heard of.
func (n *Node) Failed(boot uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.peers[boot]; p != nil {
		p.syncing = false
	}
}
