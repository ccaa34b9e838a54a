package ledger

import (
	"context"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// Ask is one limit of a booking, and what became of it. Asks are the book's while
// it works, and for good when it returns an error.
type Ask struct {
	// Limit names the limit alike on all nodes and in all configurations.
	Limit uint64
	Key   ID
	// Attributes are the key in words: name, value, name, value …
	Attributes []string
	// Start and End are the period, in seconds since 1970.
	Start, End int64
	// Most is the limit, and Cost what to take of it: 1 to 10^12.
	Most, Cost uint64
	// Shadow limits count and never refuse.
	Shadow bool
	// FreeExpiry gives back what is reserved when it expires; else it is charged.
	FreeExpiry bool

	// Spent and Reserved are the balance after what was booked.
	Spent, Reserved uint64
	// Exceeded tells that the limit did not admit the cost.
	Exceeded bool
}

// Left is what may still be spent.
func (a *Ask) Left() uint64 { return minus(minus(a.Most, a.Spent), a.Reserved) }

// Peek tells what Spend would, without the charge.
func (b *Book) Peek(ctx context.Context, asks []Ask) (ok bool, err error) {
	if ok, known, age := b.Hint(asks); known && age <= Staleness {
		return ok, nil
	}
	err = b.do(ctx, func(t *tx, o *op) time.Time {
		ok = t.look(asks)
		return o.arrived.Add(-Staleness)
	})
	if err != nil {
		return false, err
	}
	return ok, nil
}

// Hint is Peek by what is known here: to be asked before doing what would have to
// be undone. It tells whether anything is known, and how old that may be.
func (b *Book) Hint(asks []Ask) (ok, known bool, age time.Duration) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.state == nil {
		return false, false, 0
	}
	t := tx{state: b.state}
	if ok = t.look(asks); b.behind {
		return ok, true, math.MaxInt64
	}
	return ok, true, time.Since(b.fresh)
}

// Spend charges all asks or none, and returns when the ledger holds it. A
// repetition with the same id within life is not charged again. The error is
// ErrFull or ErrUnavailable.
func (b *Book) Spend(ctx context.Context, id ID, life time.Duration, asks []Ask) (ok bool, err error) {
	if ok, known, age := b.Hint(asks); known && age <= Staleness && !ok && !b.knows(id) {
		return false, nil // an over-limit flood writes nothing and waits for nobody
	}
	err = b.do(ctx, func(t *tx, o *op) time.Time {
		if r := t.record(id); r != nil && r.kind == quotav1.LedgerKind_LEDGER_KIND_SPEND {
			t.look(asks)
			ok, o.again = true, true
			for i := range asks {
				asks[i].Exceeded = false // this one has passed
			}
			return time.Time{}
		}
		if ok = t.look(asks); !ok {
			return o.arrived.Add(-Staleness)
		}
		if !t.room(asks) {
			o.err = ErrFull
			return o.arrived.Add(-Staleness)
		}
		t.take(quotav1.LedgerKind_LEDGER_KIND_SPEND, id, t.now.Add(life), asks)
		return time.Time{}
	})
	if err != nil { // the rest may still be written to
		return false, err
	}
	return ok, nil
}

// knows reports whether an id was seen.
func (b *Book) knows(id ID) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.state.part(id).records[id] != nil
}

// look fills in the balances, and reports whether all limits that can refuse admit
// the cost.
func (t *tx) look(asks []Ask) bool {
	ok := true
	for i := range asks {
		a := &asks[i]
		a.Spent, a.Reserved = 0, 0
		if b := t.balance(a.account()); b != nil {
			a.Spent, a.Reserved = b.spent, b.reserved
		}
		a.Exceeded = a.Cost > a.Left()
		ok = ok && (!a.Exceeded || a.Shadow)
	}
	return ok
}

func (a *Ask) account() account { return account{a.Limit, a.Key, a.Start} }

// room reports whether there is memory for what asks need. It fails closed.
func (t *tx) room(asks []Ask) bool {
	grow := 0
	for i := range asks {
		if t.balance(asks[i].account()) == nil {
			grow++
		}
	}
	return t.state.balances+t.grown+grow <= t.o.MaxBalances && t.state.records+t.opened < t.o.MaxRecords
}

// take books asks that are admitted, and fills in the balances after it.
func (t *tx) take(kind quotav1.LedgerKind, id ID, expires time.Time, asks []Ask) {
	for i := range asks {
		a := &asks[i]
		e := t.entry(kind, id, hold{account: a.account(), end: a.End, most: a.Most})
		e.Amount, e.Most, e.FreeExpiry = a.Cost, a.Most, a.FreeExpiry
		e.Expires = timestamppb.New(expires)
		if b := t.balance(a.account()); b == nil {
			e.Attributes = a.Attributes
		}
		t.book(e)
		b := t.balance(a.account())
		a.Spent, a.Reserved = b.spent, b.reserved
	}
}

// entry begins one.
func (t *tx) entry(kind quotav1.LedgerKind, id ID, h hold) *quotav1.LedgerEntry {
	return &quotav1.LedgerEntry{
		Kind: kind, Limit: h.limit, Hi: h.key.Hi, Lo: h.key.Lo, Period: h.start, PeriodEnd: h.end,
		IdHi: id.Hi, IdLo: id.Lo, Time: timestamppb.New(t.now),
	}
}
