package ledger

import (
	"container/heap"
	"context"
	"errors"
	"slices"
	"time"
)

const (
	// keepEvery is how often the keeper works.
	keepEvery = time.Second
	// savedAtOnce is how many parts it saves then: all in ten seconds.
	savedAtOnce = parts/10 + 1
	// sweptAtOnce is how many parts it sweeps.
	sweptAtOnce = 8
	// expiredAtOnce is how many reservations one message ends.
	expiredAtOnce = 100
	// keepPatience is how long it takes at most.
	keepPatience = 30 * time.Second
)

// Run loads the state, ends what expires, and keeps snapshots until ctx is done;
// then it saves what has changed. A book works without it, but for that.
func (b *Book) Run(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		if b.o.Needed == nil || b.o.Needed() {
			b.keep(ctx, n)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepPatience/10)
			defer cancel()
			if b.leads() {
				b.saveParts(last, 0, parts)
			}
			return
		}
	}
}

func (b *Book) leads() bool { return b.o.Leads == nil || b.o.Leads() }

// keep does what is due.
func (b *Book) keep(ctx context.Context, n int) {
	ctx, cancel := context.WithTimeout(ctx, keepPatience)
	defer cancel()
	// Who does not lead has the state at hand, should it have to decide.
	began := time.Now()
	err := b.do(ctx, func(*tx, *op) time.Time { return began })
	if err != nil { // the writer has logged it
		return
	}
	if b.leads() {
		b.expireDue(ctx)
		b.saveParts(ctx, n*savedAtOnce, savedAtOnce)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range sweptAtOnce {
		if b.state != nil {
			b.state.sweep(b.o.Now(), (n*sweptAtOnce+i)%parts)
		}
	}
}

func (b *Book) saveParts(ctx context.Context, from, count int) {
	defer func() { // the keeper alone saves
		if oldest := slices.MinFunc(b.saving.good[:], time.Time.Compare); !oldest.IsZero() {
			b.tally.saved.Store(oldest.UnixNano())
		}
	}()
	for i := range count {
		if err := b.save(ctx, (from+i)%parts); err != nil && !errors.Is(err, context.Canceled) {
			b.o.Logger.Warn("a snapshot of quotas is not written; a restart reads more of the ledger", "err", err)
			return
		}
	}
}

// expireDue ends the reservations whose time is over.
func (b *Book) expireDue(ctx context.Context) {
	for {
		b.mu.Lock()
		var ids []ID
		if b.state != nil {
			ids = b.state.due(b.o.Now(), expiredAtOnce)
		}
		b.mu.Unlock()
		if len(ids) == 0 {
			return
		}
		if err := b.expire(ctx, ids); err != nil {
			b.again(ids)
			return
		}
	}
}

// again puts reservations back that could not be ended.
func (b *Book) again(ids []ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == nil {
		return
	}
	for _, id := range ids {
		if r := b.state.part(id).records[id]; r != nil {
			heap.Push(&b.state.expiries, expiry{r.expires, id})
		}
	}
}

// Balance is what a key has spent in a period.
type Balance struct {
	Attributes            []string // name, value, name, value …
	Start, End            int64    // of the period, in seconds since 1970
	Spent, Reserved, Most uint64   // Most is the limit that held last
}

// Balances tells what all keys of a limit have spent in the period of a moment,
// with all that was booked before. What ended longer ago than a period is
// forgotten. The error is ErrUnavailable.
func (b *Book) Balances(ctx context.Context, limit uint64, at time.Time) ([]Balance, error) {
	began := time.Now()
	if err := b.do(ctx, func(*tx, *op) time.Time { return began }); err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.state == nil {
		return nil, ErrUnavailable
	}
	var all []Balance
	for i := range b.state.parts {
		for a, s := range b.state.parts[i].balances {
			if a.limit == limit && a.start <= at.Unix() && at.Unix() < s.end {
				all = append(all, Balance{
					Attributes: s.attributes, Start: a.start, End: s.end, Spent: s.spent, Reserved: s.reserved, Most: s.most,
				})
			}
		}
	}
	return all, nil
}
