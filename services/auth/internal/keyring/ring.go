// Package keyring holds all API keys in memory, as the store tells of them, and
// says which are good.
//
// It fails closed: before all keys are known, and when for some time there is
// no sign that news of revocations would arrive, it answers nothing.
package keyring

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/apikey"
)

// usePrefix is before the id in the names of entries that keep last uses. They
// are apart from the records, so that a lost or late one can do no harm.
const usePrefix = "use."

// ErrStale says that the keys are not known, or not known to be current.
var ErrStale = errors.New("keys are not known to be current")

// Ring is the set of all keys. Its methods are safe for concurrent use.
type Ring struct {
	env        string
	peppers    *apikey.Peppers
	staleAfter time.Duration
	nobody     *Key // stands in for keys that do not exist

	mu         sync.RWMutex
	keys       map[string]*Key
	uses       map[string]*Use // of keys that are not known yet
	live       bool            // the watch stands, and has told everything
	heard      time.Time       // whatever was written before is known
	seen       uint64          // the latest revision that the watch has told of
	wrote      []written       // what it has not come to yet, oldest first
	generation uint64          // of the watch

	rehashing sync.Mutex
	rehashes  map[string]Rehash // by the old sum
}

// written is something that this process has written to the store.
type written struct {
	revision uint64
	begun    time.Time
}

// maxWritten is how many writes are waited for; the others do not count.
const maxWritten = 8

// New returns an empty ring, which answers nothing until it is told that it is
// complete. It accepts keys of one environment, hashed with any of the peppers,
// and for staleAfter without a sign of life from the store.
func New(env string, peppers *apikey.Peppers, staleAfter time.Duration) *Ring {
	zeros := Secret{Pepper: peppers.Current().ID(), Sum: make([]byte, sha256.Size)} // which no hash is
	return &Ring{
		env: env, peppers: peppers, staleAfter: staleAfter,
		nobody: &Key{Record: &Record{Env: env, Secrets: []Secret{zeros, zeros}}},
		keys:   make(map[string]*Key), uses: make(map[string]*Use), rehashes: make(map[string]Rehash),
	}
}

// Apply takes an entry of the store. An error says that it cannot be read; the
// key is then not good, whatever it was before: this might have been its
// revocation.
func (r *Ring) Apply(name string, value []byte, revision uint64, deleted bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.see(revision)
	if id, ok := strings.CutPrefix(name, usePrefix); ok {
		if deleted {
			return nil
		}
		return r.applyUse(id, value)
	}
	if old := r.keys[name]; old != nil && revision > 0 && revision < old.revision && old.generation == r.generation {
		return nil // what this process has written itself is newer
	}
	if deleted {
		delete(r.keys, name)
		return nil
	}
	record, err := Decode(value, r.peppers)
	if err == nil && record.ID != name {
		err = errors.New("decode key record: it is of another key")
	}
	if err != nil {
		delete(r.keys, name)
		return err
	}
	r.put(newKey(record, revision, r.peppers))
	return nil
}

// Put takes a record that this process has just written, before the watch tells
// of it, and returns the key.
func (r *Ring) Put(record *Record, revision uint64) *Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.keys[record.ID]; old != nil && old.revision > revision {
		return old
	}
	k := newKey(record, revision, r.peppers)
	r.put(k)
	return k
}

func (r *Ring) put(k *Key) {
	k.generation = r.generation
	if old := r.keys[k.Record.ID]; old != nil {
		k.use = old.use
	} else if u := r.uses[k.Record.ID]; u != nil {
		k.use.last.Store(u)
		delete(r.uses, k.Record.ID)
	}
	r.keys[k.Record.ID] = k
}

func (r *Ring) applyUse(id string, value []byte) error {
	u := new(Use)
	if err := strict(value, u); err != nil {
		return fmt.Errorf("decode last use: %w", err)
	}
	k := r.keys[id]
	if k == nil {
		r.uses[id] = u
		return nil
	}
	if last := k.use.last.Load(); last == nil || last.Time.Before(u.Time) {
		k.use.last.Store(u)
	}
	return nil
}

// Synced says that the watch has told everything, or that it broke.
func (r *Ring) Synced(complete bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if complete {
		r.live, r.heard = true, time.Now()
		return
	}
	if r.live {
		r.generation++
	}
	r.live, r.seen, r.wrote = false, 0, nil
}

// Wrote says that this process has written something to the store, beginning at
// a certain time. When the watch has come to its revision, everything is known
// that was written before that time. A store that answers does not make up for a
// watch that tells nothing.
func (r *Ring) Wrote(revision uint64, begun time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.wrote) < maxWritten {
		r.wrote = append(r.wrote, written{revision, begun})
	}
	r.see(0)
}

// Seen says that the watch has come to a revision, of an entry that is no key.
func (r *Ring) Seen(revision uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.see(revision)
}

func (r *Ring) see(revision uint64) {
	r.seen = max(r.seen, revision)
	for r.live && len(r.wrote) > 0 && r.wrote[0].revision <= r.seen {
		if r.heard.Before(r.wrote[0].begun) {
			r.heard = r.wrote[0].begun
		}
		r.wrote = r.wrote[1:]
	}
}

// Ready returns [ErrStale] when the ring must not be asked.
func (r *Ring) Ready() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.ready()
}

func (r *Ring) ready() error {
	if r.heard.IsZero() || time.Since(r.heard) > r.staleAfter {
		return ErrStale
	}
	return nil
}

// Verify tells whose the presented text is. It returns a nil key and the
// reason, for the record and not for the caller, if it is nobody's; knownID is
// then the id of the key that was meant, if there is one. The only error is
// [ErrStale].
//
// Whether the key exists, and which of its secrets was meant, does not show in
// the time that it takes.
func (r *Ring) Verify(presented, address string, now time.Time) (k *Key, reason auditv1.Reason, knownID string, err error) {
	token, malformed := apikey.Parse(presented)
	if malformed != nil {
		return nil, auditv1.Reason_REASON_CREDENTIAL_MALFORMED, "", r.Ready()
	}
	sums := r.peppers.Sums(token)
	r.mu.RLock()
	err, k = r.ready(), r.keys[token.ID]
	r.mu.RUnlock()
	if err != nil {
		return nil, 0, "", err
	}
	if k == nil {
		k = r.nobody
	}
	knownID = k.Record.ID
	secret := k.match(&sums, now)
	switch {
	case secret < 0 || token.Env != r.env || k.Record.Env != r.env:
		return nil, auditv1.Reason_REASON_CREDENTIAL_UNKNOWN, knownID, nil
	case !k.Record.Revoked.IsZero():
		return nil, auditv1.Reason_REASON_CREDENTIAL_REVOKED, knownID, nil
	case !now.Before(k.Record.Expires):
		return nil, auditv1.Reason_REASON_CREDENTIAL_EXPIRED, knownID, nil
	case !k.AllowsAddress(address):
		return nil, auditv1.Reason_REASON_CREDENTIAL_RESTRICTED, knownID, nil
	}
	r.noteRehash(k, secret, &sums)
	return k, auditv1.Reason_REASON_UNSPECIFIED, knownID, nil
}

// match returns which of the secrets was shown, or -1. It compares with two,
// always: where there is only one, with that one again.
func (k *Key) match(sums *apikey.Sums, now time.Time) int {
	found := -1
	for i := 1; i >= 0; i-- {
		at := min(i, len(k.Record.Secrets)-1)
		s := &k.Record.Secrets[at]
		if good := sums.Match(s.Pepper, s.Sum); good && (s.Until.IsZero() || now.Before(s.Until)) {
			found = at
		}
	}
	return found
}

// Get returns a key by its id, or nil.
func (r *Ring) Get(id string) *Key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.keys[id]
}

// NameTaken reports whether a live key has this name.
func (r *Ring) NameTaken(name string, now time.Time) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, k := range r.keys {
		if k.Record.Name == name && k.Live(now) {
			return true
		}
	}
	return false
}

// All returns all keys, oldest first.
func (r *Ring) All() []*Key {
	r.mu.RLock()
	all := make([]*Key, 0, len(r.keys))
	for _, k := range r.keys {
		all = append(all, k)
	}
	r.mu.RUnlock()
	slices.SortFunc(all, func(a, b *Key) int {
		return cmp.Or(a.Record.Created.Compare(b.Record.Created), cmp.Compare(a.Record.ID, b.Record.ID))
	})
	return all
}

// FlushUses calls store with the name and value of each last use that is not
// stored yet. One that cannot be stored is tried again the next time.
func (r *Ring) FlushUses(store func(name string, value []byte) error) error {
	var errs []error
	for _, k := range r.All() {
		if !k.use.dirty.Swap(false) {
			continue
		}
		value, err := json.Marshal(k.use.last.Load())
		if err == nil {
			err = store(usePrefix+k.Record.ID, value)
		}
		if err != nil {
			k.use.dirty.Store(true)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
