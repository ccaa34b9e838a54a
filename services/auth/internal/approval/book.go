package approval

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// ErrUnknown says that not all approvals are known, or changes may be missed.
var ErrUnknown = errors.New("approvals are not known to be current")

// Entry is an entry of the store, opened. It is not to be changed.
type Entry struct {
	Key      string
	Revision uint64
	Record   *authv1.ApprovalRecord
}

// ID returns the id of the approval.
func (e *Entry) ID() string { return e.Record.GetApproval().GetId() }

// Book is a copy in memory of all that the store has. Its methods are safe for
// concurrent use.
type Book struct {
	box *Box

	mu        sync.Mutex
	live      bool // the watch stands and has told everything
	stale     map[string]bool
	byKey     map[string]*Entry
	byID      map[string]*Entry
	followers map[string]map[chan struct{}]bool // by id
}

// NewBook returns an empty book.
func NewBook(box *Box) *Book {
	return &Book{
		box: box, stale: make(map[string]bool), byKey: make(map[string]*Entry), byID: make(map[string]*Entry),
		followers: make(map[string]map[chan struct{}]bool),
	}
}

// Apply takes an entry of the store. An error says that it cannot be read; it
// counts as gone then.
func (b *Book) Apply(key string, value []byte, revision uint64, deleted bool) error {
	if deleted {
		b.Drop(key)
		return nil
	}
	record, err := b.box.Open(key, value)
	if err != nil {
		b.Drop(key)
		return err
	}
	b.Put(&Entry{Key: key, Revision: revision, Record: record})
	return nil
}

// Put takes an entry that was written or read, before the watch tells of it.
func (b *Book) Put(e *Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.byKey[e.Key]
	if old != nil && old.Revision > e.Revision && !b.stale[e.Key] {
		return // what this process has written itself is newer
	}
	delete(b.stale, e.Key)
	b.remove(old)
	b.byKey[e.Key], b.byID[e.ID()] = e, e
	b.tell(e.ID())
}

// Drop forgets an entry.
func (b *Book) Drop(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.stale, key)
	b.remove(b.byKey[key])
}

func (b *Book) remove(e *Entry) {
	if e == nil {
		return
	}
	delete(b.byKey, e.Key)
	if b.byID[e.ID()] == e {
		delete(b.byID, e.ID())
	}
	b.tell(e.ID())
}

func (b *Book) tell(id string) {
	for news := range b.followers[id] {
		select {
		case news <- struct{}{}:
		default: // it has not heard the last yet
		}
	}
}

// Synced says that the watch has told everything, or that it broke. A store that
// is opened anew may count revisions anew.
func (b *Book) Synced(complete bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.live = complete
	if !complete {
		for key := range b.byKey {
			b.stale[key] = true
		}
	}
}

// Ready returns [ErrUnknown] while the book may not be complete.
func (b *Book) Ready() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.live {
		return ErrUnknown
	}
	return nil
}

// Find returns the approval with an id, or nil.
func (b *Book) Find(id string) *Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byID[id]
}

// Follow sends on news whenever something is heard of an approval, known or not,
// until stop is called. Look first after the call.
func (b *Book) Follow(id string) (news <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.followers[id] == nil {
		b.followers[id] = make(map[chan struct{}]bool)
	}
	b.followers[id][c] = true
	return c, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if delete(b.followers[id], c); len(b.followers[id]) == 0 {
			delete(b.followers, id)
		}
	}
}

// Of returns what a principal has in the book: how many approvals are pending,
// and those that have ended, the oldest first.
func (b *Book) Of(principal string, now time.Time) (pending int, ended []*Entry) {
	for _, e := range b.All() {
		a := e.Record.GetApproval()
		switch {
		case a.GetPrincipal().GetId() != principal:
		case State(a, now) == authv1.ApprovalState_APPROVAL_STATE_PENDING:
			pending++
		case !Ended(a, now).IsZero():
			ended = append(ended, e)
		}
	}
	return pending, ended
}

// All returns all approvals, the oldest first.
func (b *Book) All() []*Entry {
	b.mu.Lock()
	all := make([]*Entry, 0, len(b.byKey))
	for _, e := range b.byKey {
		all = append(all, e)
	}
	b.mu.Unlock()
	slices.SortFunc(all, func(x, y *Entry) int { return cmp.Compare(x.ID(), y.ID()) })
	return all
}
