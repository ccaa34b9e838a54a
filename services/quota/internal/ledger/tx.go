package ledger

import (
	"container/heap"
	"math"
	"slices"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// remember is how long the outcome of a reservation is kept if nobody says: a day,
// and an hour for clocks that differ.
const remember = 25 * time.Hour

// tx is a state with changes that are not made yet.
type tx struct {
	state    *state
	o        Options
	now      time.Time
	balances map[account]*balance // copies, changed
	records  map[ID]*record
	grown    int // balances that the state does not have
	opened   int // records that the state does not have
	entries  []*quotav1.LedgerEntry
	size     int // about the bytes of entries
}

func newTx(s *state, o Options) *tx {
	return &tx{state: s, o: o, now: o.Now(), balances: make(map[account]*balance), records: make(map[ID]*record)}
}

// balance returns the one of an account; nil if there is none. It must not be
// changed.
func (t *tx) balance(a account) *balance {
	if b := t.balances[a]; b != nil {
		return b
	}
	return t.state.part(a.key).balances[a]
}

// record returns the one of an id; nil if there is none, or if it is forgotten. It
// must not be changed.
func (t *tx) record(id ID) *record {
	r := t.records[id]
	if r == nil {
		r = t.state.part(id).records[id]
	}
	if r != nil && r.forget != 0 && r.forget < t.now.UnixNano() {
		return nil
	}
	return r
}

// book adds an entry and applies it.
func (t *tx) book(e *quotav1.LedgerEntry) {
	t.entries = append(t.entries, e)
	t.size += 128
	for _, s := range e.GetAttributes() {
		t.size += len(s) + 2
	}
	t.apply(e, math.MaxUint64)
}

// apply changes what an entry of a message says, but for parts whose snapshot has
// the message already.
func (t *tx) apply(e *quotav1.LedgerEntry, sequence uint64) {
	a := account{e.GetLimit(), ID{e.GetHi(), e.GetLo()}, e.GetPeriod()}
	if sequence > t.state.part(a.key).floor {
		t.applyBalance(a, e)
	}
	if id := (ID{e.GetIdHi(), e.GetIdLo()}); id != (ID{}) && sequence > t.state.part(id).floor {
		t.applyRecord(id, a, e)
	}
}

func (t *tx) applyBalance(a account, e *quotav1.LedgerEntry) {
	b := t.balances[a]
	if b == nil {
		b = new(balance)
		if old := t.state.part(a.key).balances[a]; old != nil {
			*b = *old
		} else {
			t.grown++
		}
		t.balances[a] = b
	}
	b.end = e.GetPeriodEnd()
	if len(e.GetAttributes()) > 0 {
		b.attributes = e.GetAttributes()
	}
	switch e.GetKind() {
	case quotav1.LedgerKind_LEDGER_KIND_RESERVE:
		b.most = e.GetMost()
		b.reserved = plus(b.reserved, e.GetAmount())
		return
	case quotav1.LedgerKind_LEDGER_KIND_SPEND:
		b.most = e.GetMost()
	}
	b.reserved = minus(b.reserved, e.GetReleased())
	b.spent = minus(plus(b.spent, e.GetAmount()), e.GetCredited())
}

func (t *tx) applyRecord(id ID, a account, e *quotav1.LedgerEntry) {
	r := t.records[id]
	if r == nil {
		r = new(record)
		if old := t.state.part(id).records[id]; old != nil {
			*r = *old
			r.holds = slices.Clone(old.holds)
		} else {
			t.opened++
		}
		t.records[id] = r
	}
	at := e.GetTime().AsTime().UnixNano()
	switch kind := e.GetKind(); kind {
	case quotav1.LedgerKind_LEDGER_KIND_SPEND:
		*r = record{kind: kind, forget: e.GetExpires().AsTime().UnixNano()}
	case quotav1.LedgerKind_LEDGER_KIND_RESERVE:
		if r.kind != kind || r.forget != 0 && r.forget < at { // else it is another limit of the same booking
			*r = record{kind: kind}
		}
		r.expires = e.GetExpires().AsTime().UnixNano()
		r.holds = append(r.holds, hold{
			account: a, end: e.GetPeriodEnd(), most: e.GetMost(), amount: e.GetAmount(), free: e.GetFreeExpiry(),
		})
	case quotav1.LedgerKind_LEDGER_KIND_EXPIRE:
		r.kind, r.forget = kind, at+int64(remember)
		for i := range r.holds {
			if r.holds[i].account == a {
				r.holds[i].charged = e.GetAmount()
			}
		}
	case quotav1.LedgerKind_LEDGER_KIND_COMMIT:
		*r = record{
			kind: kind, expires: r.expires, forget: forgotten(e),
			amount: e.GetAmount(), overdraft: max(r.overdraft, e.GetOverdraft()),
		}
	case quotav1.LedgerKind_LEDGER_KIND_REFUND:
		back := plus(e.GetReleased(), e.GetCredited())
		if r.kind == kind { // of another limit
			back = max(back, r.amount)
		}
		*r = record{kind: kind, expires: r.expires, forget: forgotten(e), amount: back}
	}
}

// forgotten is when the outcome that an entry has settled is forgotten.
func forgotten(e *quotav1.LedgerEntry) int64 {
	if e.GetExpires() != nil {
		return e.GetExpires().AsTime().UnixNano()
	}
	return e.GetTime().AsTime().UnixNano() + int64(remember)
}

// merge makes the changes, which are those of all messages up to sequence. It
// needs the book's lock.
func (t *tx) merge(sequence uint64) {
	s := t.state
	for a, b := range t.balances {
		p := s.part(a.key)
		if p.balances[a] == nil {
			s.balances++
		}
		p.balances[a], p.changed = b, sequence
	}
	for id, r := range t.records {
		p := s.part(id)
		old := p.records[id]
		if old == nil {
			s.records++
		}
		if r.kind == quotav1.LedgerKind_LEDGER_KIND_RESERVE && (old == nil || old.kind != r.kind) {
			heap.Push(&s.expiries, expiry{r.expires, id})
		}
		p.records[id], p.changed = r, sequence
	}
	s.applied = sequence
}

// plus adds, and stays at the most there is: what is spent must not become little.
func plus(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// minus takes away what there is.
func minus(a, b uint64) uint64 { return a - min(a, b) }
