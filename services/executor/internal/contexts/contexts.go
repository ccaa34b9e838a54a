// Package contexts keeps what contexts have seen on record, for all executors and for
// auth. What is noted is in the store when [Book.Note] returns, or it returns an error
// and the caller must not pass the content on.
//
// What the store is known to have costs nothing to note again. Of one context many
// notes at once become one write.
package contexts

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/taint"
)

// Bucket is where the records are; [bus.Bus] has it.
type Bucket interface {
	Current(ctx context.Context, bucket bus.Bucket, key string) (bus.Entry, error)
	Create(ctx context.Context, bucket bus.Bucket, key string, value []byte) (uint64, error)
	Update(ctx context.Context, bucket bus.Bucket, key string, value []byte, revision uint64) (uint64, error)
}

// Keys are secrets that are shared with auth.
type Keys interface {
	// Key returns the secret of a name, or nil.
	Key(id string) []byte
}

const (
	// maxEntries bounds what is remembered. Past it all is forgotten, which costs a
	// read for each context that goes on.
	maxEntries = 10_000
	// maxEarly is how many values are remembered of a context whose record was not
	// needed so far.
	maxEarly = 64
	// maxConflicts is how often others may be faster.
	maxConflicts = 16
)

var errConflicts = errors.New("contexts: others have changed the record again and again")

// Book knows the records. It is safe for concurrent use.
type Book struct {
	bucket  Bucket
	keys    Keys
	timeout time.Duration

	mu      sync.Mutex
	entries map[string]*entry
}

// NewBook returns the book in a bucket, of which one write may take as long as
// timeout.
func NewBook(bucket Bucket, keys Keys, timeout time.Duration) *Book {
	return &Book{bucket: bucket, keys: keys, timeout: timeout, entries: make(map[string]*entry)}
}

// entry is one record.
type entry struct {
	name string

	mu    sync.Mutex
	early []string // values that were named before the record was read
	next  *batch   // that takes more notes

	turn     chan struct{} // holds one: who has it works with what follows
	record   *taint.Record // nil: not read, or not known to be what the store has
	told     *taint.Record // that knows some of early, from the first on
	tellings int           // how many
	old      *taint.Record // what it was before, for what was known
	revision uint64        // 0: the store has none
	key      string        // that it is sealed with
	read     time.Time     // when the store had it
}

// batch is notes that are written together.
type batch struct {
	changes []func(*taint.Record) bool
	done    chan struct{}
	err     error
}

func (b *Book) entry(name string) *entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[name]
	if e == nil {
		if len(b.entries) >= maxEntries {
			clear(b.entries)
		}
		e = &entry{name: name, turn: make(chan struct{}, 1)}
		b.entries[name] = e
	}
	return e
}

// Early remembers values that a context has named, for the record that it may need
// later. It is kept in this process alone: a value that was forgotten is only more
// suspect than it has to be.
func (b *Book) Early(name string, values []string) {
	e := b.entry(name)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.early = append(e.early, values[:min(len(values), max(0, maxEarly-len(e.early)))]...)
}

// Change is a change of the record with a name.
type Change struct {
	Name string
	// Make makes it, and reports whether there is anything to write. It may be called
	// several times, and must do the same each time.
	Make func(*taint.Record) bool
}

// Note makes changes of records, at most one of each, and returns when the store has
// them. key is the id of the secret to seal with. What nobody else works with, and is
// not news, takes no more than a look.
//
// It does not end with the caller's context alone: others may wait for the same write.
func (b *Book) Note(ctx context.Context, key string, changes ...Change) error {
	var left []func(context.Context) error
	for _, c := range changes {
		if rest := b.begin(key, c); rest != nil {
			left = append(left, rest)
		}
	}
	switch len(left) {
	case 0:
		return nil
	case 1:
		return left[0](ctx)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, rest := range left {
		group.Go(func() error { return rest(ctx) })
	}
	return group.Wait()
}

// begin makes a change if that takes no waiting. It returns what is left to do, which
// must be done: a turn may be taken for it.
func (b *Book) begin(key string, c Change) (rest func(context.Context) error) {
	e := b.entry(c.Name)
	select {
	case e.turn <- struct{}{}:
	default:
		return func(ctx context.Context) error { return b.join(ctx, e, key, c.Make) }
	}
	news := false
	if e.fresh() {
		if news = e.change(c.Make); !e.unwritten(news, key) {
			<-e.turn
			return nil
		}
	}
	return func(ctx context.Context) error {
		work, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.timeout)
		defer cancel()
		defer func() { <-e.turn }()
		return b.write(work, e, key, news, c.Make)
	}
}

// join makes a change together with those of others who wait.
func (b *Book) join(ctx context.Context, e *entry, key string, change func(*taint.Record) bool) error {
	e.mu.Lock()
	mine := e.next
	first := mine == nil
	if first {
		mine = &batch{done: make(chan struct{})}
		e.next = mine
	}
	mine.changes = append(mine.changes, change)
	e.mu.Unlock()
	if !first {
		select {
		case <-mine.done:
			return mine.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.timeout)
	defer cancel()
	select {
	case e.turn <- struct{}{}:
		e.close()
		mine.err = b.write(work, e, key, false, mine.changes...)
		<-e.turn
	case <-work.Done():
		e.close()
		mine.err = work.Err()
	}
	close(mine.done)
	return mine.err
}

// fresh reports whether the record is known to be what the store has. It is for who
// has the turn, as all that follows is.
func (e *entry) fresh() bool { return e.record != nil && time.Since(e.read) <= taint.Grain }

// change makes changes, after what was remembered for the record.
func (e *entry) change(changes ...func(*taint.Record) bool) (news bool) {
	e.mu.Lock()
	if e.told != e.record {
		e.told, e.tellings = e.record, 0
	}
	for ; e.tellings < len(e.early); e.tellings++ {
		e.record.Know(e.early[e.tellings])
	}
	e.mu.Unlock()
	for _, change := range changes {
		news = change(e.record) || news
	}
	return news
}

// unwritten reports whether a record has to be written: for news, or to be sealed with
// another key.
func (e *entry) unwritten(news bool, key string) bool {
	return news || e.key != key && e.revision != 0
}

// close lets no more notes join the batch.
func (e *entry) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next = nil
}

// write makes changes and writes them, if they are any. News are there already where
// they were made before.
func (b *Book) write(ctx context.Context, e *entry, key string, news bool, changes ...func(*taint.Record) bool) error {
	for range maxConflicts {
		if !e.fresh() {
			var err error
			if news, err = b.load(ctx, e); err != nil {
				return err
			}
		}
		news = e.change(changes...) || news
		if !e.unwritten(news, key) {
			return nil
		}
		err := b.put(ctx, e, key)
		if err == nil {
			return nil
		}
		e.old, e.record = e.record, nil // it has what the store may not have
		if !errors.Is(err, bus.ErrConflict) && !errors.Is(err, bus.ErrExists) {
			return err
		}
	}
	return errConflicts
}

// load reads the record, and reports whether it must be written in any case. One that
// cannot be read counts as one that has seen everything (fails closed).
func (b *Book) load(ctx context.Context, e *entry) (news bool, err error) {
	if e.record != nil {
		e.old = e.record
	}
	e.record = nil
	now := time.Now()
	found, err := b.bucket.Current(ctx, bus.Contexts, e.name)
	var record *taint.Record
	switch {
	case errors.Is(err, bus.ErrNotFound):
		record, e.revision, e.key = taint.NewRecord(), 0, ""
	case err != nil:
		return false, fmt.Errorf("read what a context has seen: %w", err)
	default:
		e.revision, e.key = found.Revision, taint.KeyID(found.Value)
		if record, err = taint.Open(e.name, found.Value, b.keys.Key(e.key), now); err != nil {
			record, news = taint.Suspect(), true
		}
	}
	record.Adopt(e.old)
	e.record, e.old, e.read = record, nil, now
	return news, nil
}

func (b *Book) put(ctx context.Context, e *entry, key string) error {
	sealed, err := taint.Seal(e.name, e.record, key, b.keys.Key(key))
	if err != nil {
		return err
	}
	now := time.Now()
	var revision uint64
	if e.revision == 0 {
		revision, err = b.bucket.Create(ctx, bus.Contexts, e.name, sealed)
	} else {
		revision, err = b.bucket.Update(ctx, bus.Contexts, e.name, sealed, e.revision)
	}
	if err != nil {
		return fmt.Errorf("write what a context has seen: %w", err)
	}
	e.revision, e.key, e.read = revision, key, now
	return nil
}
