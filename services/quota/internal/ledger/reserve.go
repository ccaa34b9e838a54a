package ledger

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// A reservation's life. Each arrow is an entry of the ledger for every limit that
// it holds, and each happens once at most:
//
//	         RESERVE             COMMIT
//	(nothing) ─────▶ reserved ───────────▶ committed
//	                  │    │    REFUND
//	           EXPIRE │    └────────────▶ refunded
//	                  ▼
//	               expired ──COMMIT──▶ committed   (instead of what was charged)
//	                  └──────REFUND──▶ refunded
//
// What is settled or expired is forgotten 25 hours later, or sooner if whoever
// settles says so.

// Reserve sets the costs of all asks aside or of none, until ttl is over. A
// repetition with the same id returns the same reservation. The error is ErrFull or
// ErrUnavailable.
func (b *Book) Reserve(ctx context.Context, id ID, ttl time.Duration, asks []Ask) (ok bool, expires time.Time, err error) {
	err = b.do(ctx, func(t *tx, o *op) time.Time {
		if r := t.record(id); r != nil {
			t.look(asks)
			for i := range asks {
				asks[i].Exceeded = false // this one has passed
			}
			ok, expires, o.again = true, time.Unix(0, r.expires), true
			return time.Time{}
		}
		if ok = t.look(asks); !ok {
			return o.arrived.Add(-Staleness)
		}
		if !t.room(asks) {
			o.err = ErrFull
			return o.arrived.Add(-Staleness)
		}
		expires = t.now.Add(ttl)
		t.take(quotav1.LedgerKind_LEDGER_KIND_RESERVE, id, expires, asks)
		return time.Time{}
	})
	if err != nil {
		return false, time.Time{}, err
	}
	return ok, expires, nil
}

// Commit charges what was really spent in place of what is reserved, or of what was
// charged when the reservation expired. A repetition returns the first outcome,
// also that of a refund: nothing. It is remembered for keep, 25 hours when zero. The
// error is ErrUnknown or ErrUnavailable.
func (b *Book) Commit(ctx context.Context, id ID, actual uint64, keep time.Duration) (charged, overdraft uint64, err error) {
	err = b.do(ctx, func(t *tx, o *op) time.Time {
		r := t.record(id)
		charged, overdraft = 0, 0
		if r == nil {
			o.err = ErrUnknown
			return o.arrived
		}
		switch r.kind {
		case quotav1.LedgerKind_LEDGER_KIND_COMMIT:
			charged, overdraft, o.again = r.amount, r.overdraft, true
			return time.Time{}
		case quotav1.LedgerKind_LEDGER_KIND_REFUND:
			o.again = true
			return time.Time{}
		case quotav1.LedgerKind_LEDGER_KIND_SPEND: // no reservation
			o.err = ErrUnknown
			return time.Time{}
		}
		charged = actual
		for _, h := range r.holds {
			e := t.entry(quotav1.LedgerKind_LEDGER_KIND_COMMIT, id, h)
			e.Amount = actual
			t.giveUp(e, r, h, keep)
			e.Overdraft = t.beyond(e, h)
			overdraft = max(overdraft, e.Overdraft)
			t.book(e)
		}
		return time.Time{}
	})
	if err != nil {
		return 0, 0, err
	}
	return charged, overdraft, nil
}

// Refund gives back what is reserved, or what was charged when the reservation
// expired. A repetition returns the first outcome, also that of a commit: nothing.
// It is remembered for keep, 25 hours when zero. The error is ErrUnknown or
// ErrUnavailable.
func (b *Book) Refund(ctx context.Context, id ID, keep time.Duration) (refunded uint64, err error) {
	err = b.do(ctx, func(t *tx, o *op) time.Time {
		r := t.record(id)
		refunded = 0
		if r == nil {
			o.err = ErrUnknown
			return o.arrived
		}
		switch r.kind {
		case quotav1.LedgerKind_LEDGER_KIND_COMMIT:
			o.again = true
			return time.Time{}
		case quotav1.LedgerKind_LEDGER_KIND_REFUND:
			refunded, o.again = r.amount, true
			return time.Time{}
		case quotav1.LedgerKind_LEDGER_KIND_SPEND:
			o.err = ErrUnknown
			return time.Time{}
		}
		for _, h := range r.holds {
			e := t.entry(quotav1.LedgerKind_LEDGER_KIND_REFUND, id, h)
			t.giveUp(e, r, h, keep)
			refunded = max(refunded, plus(e.GetReleased(), e.GetCredited()))
			t.book(e)
		}
		return time.Time{}
	})
	if err != nil {
		return 0, err
	}
	return refunded, nil
}

// giveUp notes what a hold of a reservation has no longer: what is set aside, or
// what was charged when it expired; and until when that is remembered.
func (t *tx) giveUp(e *quotav1.LedgerEntry, r *record, h hold, keep time.Duration) {
	if keep > 0 {
		e.Expires = timestamppb.New(t.now.Add(keep))
	}
	if r.kind == quotav1.LedgerKind_LEDGER_KIND_EXPIRE {
		e.Credited = h.charged
	} else {
		e.Released = h.amount
	}
}

// beyond is how much of a commit the limit does not cover.
func (t *tx) beyond(e *quotav1.LedgerEntry, h hold) uint64 {
	b := t.balance(h.account)
	if b == nil {
		return 0
	}
	used := plus(minus(b.spent, e.GetCredited()), minus(b.reserved, e.GetReleased()))
	return minus(e.GetAmount(), minus(h.most, used))
}

// expire ends reservations whose time is over.
func (b *Book) expire(ctx context.Context, ids []ID) error {
	return b.do(ctx, func(t *tx, _ *op) time.Time {
		for _, id := range ids {
			r := t.record(id)
			if r == nil || r.kind != quotav1.LedgerKind_LEDGER_KIND_RESERVE || r.expires > t.now.UnixNano() {
				continue
			}
			for _, h := range r.holds {
				e := t.entry(quotav1.LedgerKind_LEDGER_KIND_EXPIRE, id, h)
				e.Released = h.amount
				if !h.free {
					e.Amount = h.amount
				}
				t.book(e)
			}
		}
		return time.Time{}
	})
}
