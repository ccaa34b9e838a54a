package cluster

import (
	"sync"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// Rules change on one node after the other. Meanwhile nobody is refused for it, and
// no count is lost:
//
//   - A limit that is higher or lower has the same name. Whoever owns a key decides
//     by the limit as it knows it.
//   - One whose counters are written otherwise now, because its window or algorithm
//     is another, has another name, and keeps the old ones: asks by an old name are
//     decided by the limit as it is, and an owner that does not know the new name is
//     asked by the old one.
//   - Copies that a node cannot read yet wait for its new rules.
//   - A limit that is altogether new is not asked of owners that do not know it, for
//     the time of youngFor; then they make checks fail, as they do if a node starts
//     with other rules.

// youngFor is how long others may not know a limit that is new here.
const youngFor = 10 * time.Second

// Renamed says that the limits of Limiter and Permits are others than before.
func (n *Node) Renamed() {
	now := n.o.Now()
	rates, permits := newNames(n.o.Limiter.Names()), newNames(n.o.Permits.Names())
	rates.bornAfter(n.rates.Load(), now)
	permits.bornAfter(n.permits.Load(), now)
	n.rates.Store(rates)
	n.permits.Store(permits)
	n.denials.forget() // a limit may admit more now
	n.bank.forget()    // or less
	n.readStrangers()
}

// bornAfter notes which limits there are since now.
func (m *names) bornAfter(before *names, now time.Duration) {
	for i, all := range m.byNumber {
		was, ok := before.byName[all[0]]
		switch {
		case ok:
			m.born[i] = before.born[was]
		case len(all) == 1:
			m.born[i] = now
		}
	}
}

// young reports whether others may not know a limit yet.
func (m *names) young(limit uint32, now time.Duration) bool {
	return m.born[limit] > 0 && now-m.born[limit] < youngFor
}

// at is the name that a limit had some names ago, or the oldest that it had.
func (m *names) at(limit uint32, age int) uint64 {
	all := m.byNumber[limit]
	return all[min(age, len(all)-1)]
}

// otherwise finds another way to ask owners that do not know a limit: by older
// names, then without limits that are new. It reports whether there is one; when
// none is left it begins again with the first.
func (n *Node) otherwise(asks []limiter.Ask, op *operation) bool {
	names, oldest, young := n.namesOf(op.verb), 0, false
	for i := range asks {
		oldest = max(oldest, len(names.byNumber[asks[i].Limit])-1)
		young = young || names.young(asks[i].Limit, n.o.Now())
	}
	switch {
	case op.age < oldest:
		op.age++
	case young && !op.without:
		op.age, op.without = 0, true
	default:
		op.age, op.without = 0, false
		return false
	}
	return true
}

// maxStrangers bounds the copies that wait, 100 to 600 bytes each. What comes when
// there are as many is lost if the owner dies before it is spent again.
const maxStrangers = 16_384

// strangers are the last copies of counters of limits that this node does not know.
type strangers struct {
	mu   sync.Mutex
	kept map[strangerID]stranger
}

type strangerID struct {
	limit uint64
	key   limiter.Key
}

type stranger struct {
	counter *quotav1.CounterState
	at      time.Duration // when it came
}

// keepStranger keeps a copy until the node knows its limit, or takes it if it does
// by now. It reports whether there was room.
func (n *Node) keepStranger(c *quotav1.CounterState) bool {
	s := &n.strangers
	s.mu.Lock()
	defer s.mu.Unlock()
	if it, ok := n.counter(c); ok {
		return n.note(n.o.Limiter.Load(n.o.Now(), it, false))
	}
	if s.kept == nil {
		s.kept = make(map[strangerID]stranger)
	}
	id := strangerID{c.GetLimit(), limiter.Key{Hi: c.GetHi(), Lo: c.GetLo()}}
	if _, ok := s.kept[id]; !ok && len(s.kept) >= maxStrangers {
		return n.note(limiter.ErrFull)
	}
	s.kept[id] = stranger{c, n.o.Now()}
	return true
}

// readStrangers takes what can be read by now. Of slots that this node owns it has
// counted since, and that is better.
func (n *Node) readStrangers() {
	n.mu.RLock()
	defer n.mu.RUnlock()
	s := &n.strangers
	s.mu.Lock()
	defer s.mu.Unlock()
	now := n.o.Now()
	for id, kept := range s.kept {
		it, ok := n.counter(kept.counter)
		if !ok {
			continue
		}
		delete(s.kept, id)
		it.Counter.At -= int64(now - kept.at)
		n.note(n.o.Limiter.Load(now, it, n.slots[slotOf(id.key)].serving))
	}
}
