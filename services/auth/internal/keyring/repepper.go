package keyring

import (
	"crypto/sha256"
	"slices"
	"time"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/apikey"
)

// Rehash is what is known of a secret when it was shown: how it was hashed with an
// old pepper, and how it is with the current one.
type Rehash struct {
	// ID is of the key.
	ID string

	old, current [sha256.Size]byte
}

// noteRehash keeps the new hash of a secret that was made with an old pepper, once
// for each revision of the key.
func (r *Ring) noteRehash(k *Key, secret int, sums *apikey.Sums) {
	s := &k.Record.Secrets[secret]
	if !r.peppers.Old(s.Pepper) || k.noted[secret].Swap(true) {
		return
	}
	r.AddRehash(Rehash{ID: k.Record.ID, old: [sha256.Size]byte(s.Sum), current: sums.Current()})
}

// AddRehash keeps a new hash until it is taken, as one that could not be stored.
func (r *Ring) AddRehash(h Rehash) {
	r.rehashing.Lock()
	defer r.rehashing.Unlock()
	r.rehashes[string(h.old[:])] = h
}

// TakeRehashes returns up to limit new hashes that are to be stored, and forgets
// them.
func (r *Ring) TakeRehashes(limit int) []Rehash {
	r.rehashing.Lock()
	defer r.rehashing.Unlock()
	var taken []Rehash
	for sum, h := range r.rehashes {
		if len(taken) == limit {
			break
		}
		taken = append(taken, h)
		delete(r.rehashes, sum)
	}
	return taken
}

// Apply puts the new hash into a record, and reports whether that changed it: the
// secret may be gone, or hashed by another process.
func (h Rehash) Apply(r *Record, current *apikey.Pepper) bool {
	changed := false
	for i, s := range r.Secrets {
		if [sha256.Size]byte(s.Sum) == h.old {
			r.Secrets[i].Pepper, r.Secrets[i].Sum, changed = current.ID(), h.current[:], true
		}
	}
	return changed
}

// OldSeals returns the ids of up to limit keys whose records are sealed with an old
// pepper, dead ones too.
func (r *Ring) OldSeals(limit int) []string {
	var ids []string
	r.mu.RLock()
	defer r.mu.RUnlock()
	for id, k := range r.keys {
		if len(ids) == limit {
			break
		}
		if r.peppers.Old(k.Record.Sealed) {
			ids = append(ids, id)
		}
	}
	return ids
}

// OldPeppers tells how many keys depend on each pepper that is not the current or
// the next one.
func (r *Ring) OldPeppers(now time.Time) map[string]int {
	counts := make(map[string]int)
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, k := range r.keys {
		for _, id := range k.oldPeppers(now) {
			counts[id]++
		}
	}
	return counts
}

// oldPeppers returns the ids of the peppers without which the key, or a secret of
// it that is good, would be so no longer.
func (k *Key) oldPeppers(now time.Time) (ids []string) {
	need := func(id string) {
		if k.peppers.Needed(id) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	need(k.Record.Sealed)
	for i := range k.Record.Secrets {
		if s := &k.Record.Secrets[i]; k.Live(now) && (s.Until.IsZero() || now.Before(s.Until)) {
			need(s.Pepper)
		}
	}
	slices.Sort(ids)
	return ids
}
