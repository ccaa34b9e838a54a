package cluster

import (
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// names translates between a limit's number here and its name everywhere.
type names struct {
	byNumber [][]uint64 // the name it has, then those that it had before
	byName   map[uint64]uint32
	born     []time.Duration // since when there is such a limit; 0 for those of the start
}

func newNames(byNumber [][]uint64) *names {
	m := &names{byNumber: byNumber, byName: make(map[uint64]uint32, len(byNumber)), born: make([]time.Duration, len(byNumber))}
	for i, all := range byNumber {
		for age, name := range all {
			// What a limit is goes before what another was.
			if of, ok := m.byName[name]; !ok || age == 0 || byNumber[of][0] != name {
				m.byName[name] = uint32(i)
			}
		}
	}
	return m
}

// slotSet is a set of slots.
type slotSet [slotCount / 8]byte

func (s *slotSet) add(slot int)      { s[slot/8] |= 1 << (slot % 8) }
func (s *slotSet) has(slot int) bool { return s[slot/8]>>(slot%8)&1 == 1 }

func (s *slotSet) hasKey(k limiter.Key) bool { return s.has(slotOf(k)) }

func counterState(it limiter.Item) *quotav1.CounterState {
	m := &quotav1.CounterState{}
	fillState(m, it)
	return m
}

func fillState(m *quotav1.CounterState, it limiter.Item) {
	m.Limit, m.Hi, m.Lo = it.Counter.Name, it.Key.Hi, it.Key.Lo
	m.AtNanos, m.Count, m.Words = it.Counter.At, it.Counter.N, it.Counter.Words
}

// counter reads a counter. It reports false for one of a limit that this node's
// configuration does not have.
func (n *Node) counter(c *quotav1.CounterState) (limiter.Item, bool) {
	limit, ok := n.rates.Load().byName[c.GetLimit()]
	return limiter.Item{
		Limit: limit, Key: limiter.Key{Hi: c.GetHi(), Lo: c.GetLo()},
		Counter: limiter.Counter{At: c.GetAtNanos(), N: c.GetCount(), Words: c.GetWords(), Name: c.GetLimit()},
	}, ok
}

func (n *Node) permitState(p limiter.Permit) *quotav1.PermitState {
	names, m := n.permits.Load(), &quotav1.PermitState{Id: p.ID}
	for _, h := range p.Holds {
		m.Holds = append(m.Holds, &quotav1.PermitHold{
			Limit: names.byNumber[h.Limit][0], Hi: h.Key.Hi, Lo: h.Key.Lo, LeftNanos: int64(h.Left),
		})
	}
	return m
}

func (n *Node) permit(m *quotav1.PermitState) limiter.Permit {
	names, p := n.permits.Load(), limiter.Permit{ID: m.GetId()}
	for _, h := range m.GetHolds() {
		if limit, ok := names.byName[h.GetLimit()]; ok {
			p.Holds = append(p.Holds, limiter.Hold{
				Limit: limit, Key: limiter.Key{Hi: h.GetHi(), Lo: h.GetLo()}, Left: time.Duration(h.GetLeftNanos()),
			})
		}
	}
	return p
}

// ofPermits reports whether a verb is about permits.
func ofPermits(v quotav1.AskVerb) bool {
	switch v {
	case quotav1.AskVerb_ASK_VERB_PEEK_PERMITS, quotav1.AskVerb_ASK_VERB_ACQUIRE, quotav1.AskVerb_ASK_VERB_RELEASE:
		return true
	}
	return false
}

func (n *Node) namesOf(v quotav1.AskVerb) *names {
	if ofPermits(v) {
		return n.permits.Load()
	}
	return n.rates.Load()
}
