package cluster

import (
	"slices"
	"strings"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// Which slots nobody who is left may know.
//
// With sync, what is acknowledged under a view is in the memory of two nodes: the
// slot's owner by that view and its heir by that view. A view is settled when all
// its members have said that all they own is with their heirs as a whole. So all
// that counts of a slot is there if, of the last settled view and of each view after
// it, the owner or the heir is there; else the slot is in doubt. It does not matter
// under which id: a node that was fenced keeps its memory.
//
// An owner in doubt decides by no limit whose spends of before it began may still
// count: such checks fail, or do what the limit's on_unavailable says. The doubt ends
//
//   - when a view comes by which there is none, because a node has come back: then
//     the slot is gathered again;
//   - or by time: for each limit when nothing of before counts any more. Without
//     sync, which promises less, it is a lease for all: time enough to come back for
//     a node that was only slow; what nobody has by then is lost, and counted.
//
// Until then what the owner has is a part, never a whole.

// maxPast and maxGone bound what a view tells.
const maxPast, maxGone = 16, 1024

// recall adds what is known of the views before. It is for views that nobody has
// seen yet.
func (v *view) recall(m *quotav1.ClusterView) *view {
	v.past, v.gone, v.forgotten = m.GetPast(), m.GetGone(), m.GetForgotten()
	if len(v.gone) == 0 {
		return v
	}
	gone := func(id string) bool { return id == "" || slices.Contains(v.gone, process(id)) }
	for i, p := range v.past {
		was := newView(p.GetEpoch(), 0, p.GetMembers(), nil)
		for s := range slotCount {
			if owner := was.owner(s); owner != "" && gone(owner) && gone(was.heir(s)) || i == 0 && v.forgotten {
				v.lost[s] = max(v.lost[s], p.GetEpoch())
			}
		}
	}
	return v
}

// process is the part of a member's id that stays when it joins again.
func process(id string) string {
	name, _, _ := strings.Cut(id, "-")
	return name
}

// after is the view that follows v. settled says that v is.
func (v *view) after(members, leaving []string, settled bool) *quotav1.ClusterView {
	m := &quotav1.ClusterView{Epoch: v.epoch + 1, Members: members, Leaving: leaving}
	if v.epoch == 0 {
		return m
	}
	known := make(map[string]bool) // processes that are here, or gone as we have said already
	for _, id := range slices.Concat(members, leaving) {
		known[process(id)] = true
	}
	this := &quotav1.PastView{Epoch: v.epoch, Members: v.members}
	if settled {
		m.Past = []*quotav1.PastView{this}
	} else {
		m.Past, m.Forgotten = append(slices.Clone(v.past), this), v.forgotten
		for _, id := range v.gone {
			m.Gone = addGone(m.Gone, known, id)
		}
	}
	if len(m.Past) > maxPast {
		m.Past, m.Forgotten = m.Past[len(m.Past)-maxPast:], true
	}
	for _, p := range m.Past {
		for _, id := range p.GetMembers() {
			m.Gone = addGone(m.Gone, known, id)
		}
	}
	return m
}

func addGone(gone []string, known map[string]bool, id string) []string {
	if name := process(id); !known[name] && len(gone) < maxGone {
		known[name] = true
		gone = append(gone, name)
	}
	return gone
}

// settled reports whether the members of v have said that all is with two nodes. A
// view without members is if those who were the last have left on purpose.
func (n *Node) settled(v *view) bool {
	n.peersMu.Lock()
	defer n.peersMu.Unlock()
	for _, id := range v.members {
		if n.peers[id].copied != v.epoch {
			return false
		}
	}
	for _, id := range v.leaving {
		if len(v.members) == 0 && n.peers[id].state != quotav1.MemberState_MEMBER_STATE_LEFT {
			return false
		}
	}
	return true
}

// dropped reports whether a member was in a past view and is not in v: it will never
// be again, whatever news of it comes late.
func (v *view) dropped(id string) bool {
	return slices.ContainsFunc(v.past, func(p *quotav1.PastView) bool { return slices.Contains(p.GetMembers(), id) })
}

// allCopied is the view of which this node serves all that it owns, knows all that
// counts, and its heirs too; zero if that is not so.
func (n *Node) allCopied() uint64 {
	n.mu.RLock()
	defer n.mu.RUnlock()
	epoch := n.ready.Load()
	if epoch != n.view.epoch || n.doubts > 0 {
		return 0
	}
	for _, c := range n.heirs {
		if c.owed.Load() > 0 {
			return 0
		}
	}
	return epoch
}

// youngDoubt is for how long a check waits for the end of a doubt, and a node
// without sync for others to come back.
func (n *Node) youngDoubt() time.Duration { return n.o.Config.Lease }

// doubtful reports whether one of the asks cannot be decided because of what may
// have been counted before, and whether that may be over soon. It needs n.mu.
func (n *Node) doubtful(asks []limiter.Ask, op *operation) (yes, soon bool) {
	now := n.o.Now()
	for i := range asks {
		s := &n.slots[slotOf(asks[i].Key)]
		if s.doubt == 0 || op.shadow(n, asks[i].Limit) {
			continue
		}
		age := now - s.doubt
		soon = age < n.youngDoubt()
		if soon || n.o.Config.Sync && age < n.horizon(op.verb, asks[i].Limit) {
			return true, soon
		}
	}
	return false, false
}

func (n *Node) horizon(verb quotav1.AskVerb, limit uint32) time.Duration {
	if ofPermits(verb) {
		return n.o.Permits.Horizon(limit)
	}
	return n.o.Limiter.Horizon(limit)
}

// longest is after what time nothing counts any more.
func (n *Node) longest() (span time.Duration) {
	for i := range n.o.Limiter.Names() {
		span = max(span, n.o.Limiter.Horizon(uint32(i)))
	}
	for i := range n.o.Permits.Names() {
		span = max(span, n.o.Permits.Horizon(uint32(i)))
	}
	return span
}

// doubtUntil is the age at which a doubt ends for all limits.
func (n *Node) doubtUntil() time.Duration {
	if n.o.Config.Sync {
		return max(n.longest(), n.youngDoubt())
	}
	return n.youngDoubt()
}

// endDoubts ends the doubts whose time is over: what the node has is all there is.
func (n *Node) endDoubts() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.doubts == 0 {
		return
	}
	now, until, ended := n.o.Now(), n.doubtUntil(), 0
	for i := range n.slots {
		s := &n.slots[i]
		if s.doubt == 0 || now-s.doubt < until {
			continue
		}
		s.doubt, s.kind = 0, quotav1.HoldingKind_HOLDING_KIND_OWNED
		n.doubts--
		ended++
		if s.heir != nil {
			s.heir.begin(i)
		}
	}
	if ended == 0 {
		return
	}
	if !n.o.Config.Sync {
		n.tally.forgot.Add(int64(ended))
		n.o.Log.Error("the nodes that knew the counts of some slots are gone; these begin anew", "slots", ended)
	} else {
		n.o.Log.Warn("slots whose counts were lost admit again, as none of it can count any more", "slots", ended)
	}
	n.renewSoon()
	n.changes.tell()
}

// doubting counts the slots in doubt.
func (n *Node) doubting() int64 {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return int64(n.doubts)
}
