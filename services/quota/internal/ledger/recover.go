package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// catchUp reads what the stream has beyond the state. What it has read when ctx
// ends stays read. Only the writer calls it.
func (b *Book) catchUp(ctx context.Context) error {
	began := time.Now()
	applied := b.state.applied
	first, last, err := b.o.Log.Read(ctx, applied+1, func(sequence uint64, data []byte) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.state.read(b.o, sequence, data)
	})
	if err == nil {
		err = whole(applied, first, last)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if errors.Is(err, errGap) { // this node was away for long; a snapshot may have more
		b.state = nil
		return errBehind
	}
	if err != nil {
		return err
	}
	b.fresh, b.behind = began, false
	return nil
}

// errBroken is in all errors that do not pass by themselves. Nothing is decided
// then: what was spent is not known.
var errBroken = errors.New("what was spent is not known")

// The stream and the snapshots do not belong together.
var (
	errGap = errors.New("the ledger begins after the snapshots end: messages are missing; restore the bucket " +
		bus.QuotaSnapshots.Name + ", or delete it and the stream " + bus.LedgerStream + " to begin with nothing spent")
	errShort = errors.New("the ledger ends before the snapshots: it was deleted or restored; restore it, or delete the bucket " +
		bus.QuotaSnapshots.Name + " to go by the ledger alone")
)

// whole checks that a stream with messages from first to last continues what ends
// with applied.
func whole(applied, first, last uint64) error {
	switch {
	case last < applied:
		return fmt.Errorf("%w: %w (%d, %d)", errBroken, errShort, last, applied)
	case last > applied && first > applied+1:
		return fmt.Errorf("%w: %w (%d, %d)", errBroken, errGap, first, applied)
	}
	return nil
}

// readAtOnce is how many snapshots are read side by side.
const readAtOnce = 16

func readSnapshots(ctx context.Context, store Store) (all [parts]*snapshot, err error) {
	if all[0], err = readSnapshot(ctx, store, 0); err != nil { // which opens the bucket for the others
		return all, fmt.Errorf("read the snapshots of quotas: %w", err)
	}
	g, reading := errgroup.WithContext(ctx)
	g.SetLimit(readAtOnce)
	for i := range all[1:] {
		g.Go(func() (err error) {
			if all[i+1], err = readSnapshot(reading, store, i+1); err != nil {
				return fmt.Errorf("read the snapshot %d of quotas: %w", i+1, err)
			}
			return nil
		})
	}
	return all, g.Wait()
}

// load reads the snapshots and the stream after them. Only the writer calls it.
func (b *Book) load(ctx context.Context) error {
	began := time.Now()
	snapshots, err := readSnapshots(ctx, b.o.Store)
	if err != nil {
		return err
	}
	s := newState()
	oldest, newest := ^uint64(0), uint64(0)
	for i, from := range snapshots {
		if err := s.restore(i, from); err != nil {
			return fmt.Errorf("%w: the snapshot %d of quotas: %w", errBroken, i, err)
		}
		oldest, newest = min(oldest, from.applied), max(newest, from.applied)
	}
	s.applied = oldest
	first, last, err := b.o.Log.Read(ctx, oldest+1, func(sequence uint64, data []byte) error {
		return s.read(b.o, sequence, data)
	})
	if err == nil {
		err = whole(oldest, first, last)
	}
	if err == nil {
		err = whole(newest, 0, last)
	}
	if err != nil {
		return err
	}
	s.applied = last
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state, b.fresh, b.behind = s, began, false
	b.o.Logger.Info("the ledger of quotas is loaded", "sequence", last, "replayed", last-oldest,
		"keys", s.balances, "ids", s.records, "took", time.Since(began))
	return nil
}

// read applies a message of the stream.
func (s *state) read(o Options, sequence uint64, data []byte) error {
	if sequence <= s.applied {
		return nil
	}
	m, err := readBatch(data)
	if err != nil {
		return fmt.Errorf("%w: message %d of the ledger: %w", errBroken, sequence, err)
	}
	t := newTx(s, o)
	for _, e := range m.GetEntries() {
		t.apply(e, sequence)
	}
	t.merge(sequence)
	return nil
}

// Bounds of what is read.
const (
	maxEntries    = 4096
	maxAttributes = 64
	maxText       = 512
)

// readBatch reads a message of the stream. What is not as the contract says was
// written by nobody of ours, or by a later version: nothing can be decided with it
// left out.
func readBatch(data []byte) (*quotav1.LedgerBatch, error) {
	m := new(quotav1.LedgerBatch)
	if err := proto.Unmarshal(data, m); err != nil {
		return nil, errors.New("it is no batch of entries")
	}
	if n := len(m.GetEntries()); n < 1 || n > maxEntries {
		return nil, fmt.Errorf("it has %d entries, which is not from 1 to %d", n, maxEntries)
	}
	for i, e := range m.GetEntries() {
		if _, known := quotav1.LedgerKind_name[int32(e.GetKind())]; !known || e.GetKind() == 0 {
			return nil, fmt.Errorf("entry %d is of the unknown kind %d: was it written by a later version?", i, e.GetKind())
		}
		if err := readAttributes(e.GetAttributes()); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return m, nil
}

func readAttributes(all []string) error {
	if len(all) > maxAttributes || len(all)%2 != 0 {
		return fmt.Errorf("%d names and values of attributes", len(all))
	}
	for _, text := range all {
		if len(text) > maxText {
			return fmt.Errorf("an attribute of %d bytes", len(text))
		}
	}
	return nil
}
