package cluster

import (
	"errors"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// takeCopy takes a message of an owner whose heir this node is. It refuses one of
// another view: once this node has begun to follow a view, nothing that an owner
// by an earlier one has done since gets in.
func (n *Node) takeCopy(f *quotav1.CopyFrame) *quotav1.CopyReply {
	n.copyMu.Lock()
	defer n.copyMu.Unlock()
	if len(f.GetSlots()) > 0 { // seldom
		n.mu.Lock()
		defer n.mu.Unlock()
	} else {
		n.mu.RLock()
		defer n.mu.RUnlock()
	}
	v := n.view
	if f.GetEpoch() != v.epoch || v.index(f.GetFrom()) < 0 || f.GetSequence() <= n.copySeen[f.GetFrom()] {
		return &quotav1.CopyReply{}
	}
	n.copySeen[f.GetFrom()] = f.GetSequence()
	theirs := func(k limiter.Key) bool { return v.owner(slotOf(k)) == f.GetFrom() }
	for _, c := range f.GetSlots() {
		if s := int(c.GetSlot()); s < slotCount && v.owner(s) == f.GetFrom() && !n.slots[s].serving {
			kind := quotav1.HoldingKind_HOLDING_KIND_PART
			if c.GetWhole() {
				kind = quotav1.HoldingKind_HOLDING_KIND_COPY
			}
			n.slots[s].reign, n.slots[s].seen, n.slots[s].kind = c.GetReign(), v.epoch, kind
		}
	}
	now, reply := n.o.Now(), &quotav1.CopyReply{Taken: true}
	for i, c := range f.GetCounters() {
		if it, ok := n.counter(c); !theirs(it.Key) {
			continue
		} else if !ok && n.keepStranger(c) || ok && n.note(n.o.Limiter.Load(now, it, false)) {
			continue
		}
		reply.DroppedCounters = append(reply.DroppedCounters, uint32(i))
	}
	for i, p := range f.GetPermits() {
		if !n.note(n.o.Permits.Load(now, n.permit(p), theirs)) {
			reply.DroppedPermits = append(reply.DroppedPermits, uint32(i))
		}
	}
	return reply
}

// note logs that something was not loaded, and reports whether it was.
func (n *Node) note(err error) bool {
	switch {
	case errors.Is(err, limiter.ErrFull):
		n.o.Log.Warn("no room for copies of counters of another quota node")
	case err != nil:
		n.o.Log.Warn("a copy of a counter cannot be taken", "err", err)
	}
	return err == nil
}

// holdings tells what this node knows.
func (n *Node) holdings(q *quotav1.HoldingsRequest) *quotav1.HoldingsReply {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if q.GetEpoch() != n.view.epoch {
		return &quotav1.HoldingsReply{}
	}
	m := &quotav1.HoldingsReply{Valid: true}
	for s := range n.slots {
		if h := &n.slots[s]; h.reign > 0 {
			m.Holdings = append(m.Holdings, &quotav1.Holding{Slot: uint32(s), Reign: h.reign, Seen: h.seen, Kind: h.kind})
		}
	}
	return m
}

// page tells counters, and permits after them, as many as one message holds. Only
// those of slots that this node does not own are asked for, so they do not change
// meanwhile.
func (n *Node) page(q *quotav1.PageRequest) *quotav1.PageReply {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if q.GetEpoch() != n.view.epoch || len(q.GetSlots()) != len(slotSet{}) {
		return &quotav1.PageReply{}
	}
	in := slotSet(q.GetSlots())
	var after *limiter.Item
	if q.GetAfter() != nil {
		it, ok := n.counter(q.GetAfter())
		if !ok {
			return &quotav1.PageReply{}
		}
		after = &it
	}
	m := &quotav1.PageReply{Valid: true, Part: q.GetPart()}
	for ; int(m.GetPart()) < n.o.Limiter.Shards(); m.Part++ {
		items, more := n.o.Limiter.Page(n.o.Now(), int(m.GetPart()), in.hasKey, after, pageSize-len(m.GetCounters()))
		for _, it := range items {
			m.Counters = append(m.Counters, counterState(it))
		}
		if m.More = more || len(m.GetCounters()) == pageSize; m.GetMore() {
			return m
		}
		after = nil
	}
	permits, more := n.o.Permits.Page(n.o.Now(), in.hasKey, q.GetAfterPermit(), pageSize)
	for _, p := range permits {
		m.Permits = append(m.Permits, n.permitState(p))
	}
	m.More = more
	return m
}
