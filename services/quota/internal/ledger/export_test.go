package ledger

import (
	"context"
	"time"
)

// Keep does what [Book.Run] does from time to time, all of it at once.
func (b *Book) Keep(ctx context.Context) {
	b.keep(ctx, 0)
	b.saveParts(ctx, 0, parts)
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range parts {
		b.state.sweep(b.o.Now(), i)
	}
}

// Catch reads what the stream has.
func (b *Book) Catch(ctx context.Context) error {
	began := time.Now()
	return b.do(ctx, func(*tx, *op) time.Time { return began })
}

// Sizes are how many balances and ids there are.
func (b *Book) Sizes() (balances, records int) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for i := range b.state.parts {
		balances += len(b.state.parts[i].balances)
		records += len(b.state.parts[i].records)
	}
	if balances != b.state.balances || records != b.state.records {
		panic("the sizes are not those that are counted")
	}
	return balances, records
}

// ReadBatch and ReadPage read bytes from outside.
func ReadBatch(data []byte) error {
	m, err := readBatch(data)
	if err != nil {
		return err
	}
	s := newState()
	t := newTx(s, Options{Now: time.Now})
	for _, e := range m.GetEntries() {
		t.apply(e, 1)
	}
	t.merge(1)
	for i := range s.parts {
		s.sweep(time.Now(), i)
		for _, p := range s.pages(i) {
			if err := newState().addPage(i, p); err != nil {
				panic(err)
			}
		}
	}
	return nil
}

// ReadPage puts a page into a part that it may belong to.
func ReadPage(part int, data []byte) error {
	m, err := readPage(data)
	if err != nil {
		return err
	}
	s := newState()
	return s.addPage(part%parts, m)
}
