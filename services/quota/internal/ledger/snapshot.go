package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// A snapshot is of one part of the state and of one sequence. Its pages are written
// first and its head last. Two generations take turns in the same keys, so a reader
// who is overtaken finds pages of another generation and begins again. When two
// nodes write the same generation at once, their pages may mix; a reader then takes
// the generation before.

const (
	// pageBytes is about how large a page gets.
	pageBytes = 256 << 10
	// pageItems is the most that it holds, of each kind.
	pageItems = 5000
	// getPatience is how long reading one key may take.
	getPatience = 2 * time.Second
	// refreshAfter is when a part is written again that has not changed: its
	// snapshot must not be older than the stream.
	refreshAfter = time.Hour
)

// saving is what the keeper of snapshots knows.
type saving struct {
	floors [parts]uint64    // sequences of the snapshots that this node wrote
	at     [parts]time.Time // and when
	good   [parts]time.Time // when each was known to have all of its part
}

func headKey(part int) string { return strconv.Itoa(part) }

func pageKey(part int, generation uint64, page int) string {
	return fmt.Sprintf("%d.%d.%d", part, generation%2, page)
}

// save writes the snapshot of a part, unless nothing has changed since the last.
// Only the keeper calls it.
func (b *Book) save(ctx context.Context, part int) error {
	b.mu.RLock()
	if b.state == nil || b.behind {
		b.mu.RUnlock()
		return nil
	}
	applied, changed := b.state.applied, b.state.parts[part].changed
	floor := b.saving.floors[part]
	old := time.Since(b.saving.at[part]) > refreshAfter && applied > floor
	if changed <= floor && !old {
		b.mu.RUnlock()
		b.saving.good[part] = time.Now()
		return nil
	}
	pages := b.state.pages(part)
	b.mu.RUnlock()
	if err := b.replace(ctx, part, applied, pages); err != nil {
		return fmt.Errorf("write the snapshot %d of quotas: %w", part, err)
	}
	b.saving.floors[part], b.saving.at[part] = applied, time.Now()
	b.saving.good[part] = time.Now()
	return nil
}

// replace writes one snapshot. One that has more, or another writer, is left alone.
func (b *Book) replace(ctx context.Context, part int, applied uint64, pages []*quotav1.SnapshotPage) error {
	head, revision, err := readHead(ctx, b.o.Store, part)
	if err != nil || head.GetApplied() >= applied {
		return err
	}
	next := &quotav1.SnapshotHead{
		Applied: applied, Generation: head.GetGeneration() + 1, Pages: uint32(len(pages)), BeforeApplied: head.GetApplied(), BeforePages: head.GetPages(),
	}
	for i, p := range pages {
		p.Applied, p.Generation = next.GetApplied(), next.GetGeneration()
		data, err := proto.Marshal(p)
		if err != nil {
			return err
		}
		if _, err := b.o.Store.Put(ctx, bus.QuotaSnapshots, pageKey(part, next.GetGeneration(), i), data); err != nil {
			return err
		}
	}
	data, err := proto.Marshal(next)
	if err != nil {
		return err
	}
	if revision == 0 {
		_, err = b.o.Store.Create(ctx, bus.QuotaSnapshots, headKey(part), data)
	} else {
		_, err = b.o.Store.Update(ctx, bus.QuotaSnapshots, headKey(part), data, revision)
	}
	if errors.Is(err, bus.ErrConflict) || errors.Is(err, bus.ErrExists) {
		return nil
	}
	return err
}

// get reads a key. A server that has just changed its leader may not answer at
// all, and then another try will be answered sooner.
func get(ctx context.Context, store Store, key string) (bus.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, getPatience)
	defer cancel()
	return store.Get(ctx, bus.QuotaSnapshots, key)
}

// readHead returns an empty head and no revision if there is no snapshot.
func readHead(ctx context.Context, store Store, part int) (*quotav1.SnapshotHead, uint64, error) {
	m := new(quotav1.SnapshotHead)
	e, err := get(ctx, store, headKey(part))
	if errors.Is(err, bus.ErrNotFound) {
		return m, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	if err := proto.Unmarshal(e.Value, m); err != nil || m.GetPages() > 100_000 {
		return nil, 0, fmt.Errorf("%w: its head cannot be read", errBroken)
	}
	return m, e.Revision, nil
}

var errMixed = fmt.Errorf("%w: its pages are not those of its head, nor of the one before; restore the bucket %s",
	errBroken, bus.QuotaSnapshots.Name)

// snapshot is one part as it was when a message was the last.
type snapshot struct {
	applied uint64
	pages   []*quotav1.SnapshotPage
}

// readSnapshot reads the one of a part; it is empty if there is none.
func readSnapshot(ctx context.Context, store Store, part int) (*snapshot, error) {
	head, revision, err := readHead(ctx, store, part)
	for err == nil {
		var s *snapshot
		if s, err = readPages(ctx, store, part, head); s != nil || err != nil {
			return s, err
		}
		was := revision
		if head, revision, err = readHead(ctx, store, part); err != nil || revision != was {
			continue
		}
		if head.GetBeforePages() == 0 {
			return nil, errMixed
		}
		before := &quotav1.SnapshotHead{Applied: head.GetBeforeApplied(), Generation: head.GetGeneration() - 1, Pages: head.GetBeforePages()}
		if s, err = readPages(ctx, store, part, before); s != nil || err != nil {
			return s, err
		}
		if head, revision, err = readHead(ctx, store, part); err == nil && revision == was {
			return nil, errMixed
		}
	}
	return nil, err
}

// readPages returns nothing if a page is missing or of another snapshot.
func readPages(ctx context.Context, store Store, part int, head *quotav1.SnapshotHead) (*snapshot, error) {
	s := &snapshot{applied: head.GetApplied()}
	for i := range int(head.GetPages()) {
		e, err := get(ctx, store, pageKey(part, head.GetGeneration(), i))
		if errors.Is(err, bus.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		m, err := readPage(e.Value)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBroken, err)
		}
		if m.GetApplied() != head.GetApplied() || m.GetGeneration() != head.GetGeneration() {
			return nil, nil
		}
		s.pages = append(s.pages, m)
	}
	return s, nil
}
