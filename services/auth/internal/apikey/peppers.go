package apikey

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"

	"github.com/sallyport-mcp/sallyport/pkg/secret"
)

// maxPeppers bounds the work that each attempt costs, for all are tried each time.
const maxPeppers = 6

// Peppers are the one that hashes are made with and others that are accepted.
// They never change, and may be used concurrently.
type Peppers struct {
	all []*Pepper // the current one first
	old map[string]bool
}

// NewPeppers returns the current pepper with others that are accepted. What was
// made with an old one is to be made anew with the current one when it can be;
// what was made with one of next is left alone, for another process makes it.
func NewPeppers(current secret.Key, next, old []secret.Key) (*Peppers, error) {
	p := &Peppers{all: []*Pepper{NewPepper(current)}, old: make(map[string]bool)}
	for i, key := range append(append([]secret.Key(nil), next...), old...) {
		if p.Find(key.ID()) != nil {
			return nil, fmt.Errorf("pepper %s is named twice", key.ID())
		}
		p.all = append(p.all, NewPepper(key))
		p.old[key.ID()] = i >= len(next)
	}
	if len(p.all) > maxPeppers {
		return nil, fmt.Errorf("%d peppers are more than %d", len(p.all), maxPeppers)
	}
	return p, nil
}

// Current returns the pepper that hashes are made with.
func (p *Peppers) Current() *Pepper { return p.all[0] }

// All returns all of them, the current one first.
func (p *Peppers) All() []*Pepper { return slices.Clone(p.all) }

// Find returns the pepper with an id, or nil if it is none of these.
func (p *Peppers) Find(id string) *Pepper {
	for _, pepper := range p.all {
		if pepper.id == id {
			return pepper
		}
	}
	return nil
}

// Old reports whether an id is of a pepper that is to be replaced.
func (p *Peppers) Old(id string) bool { return p.old[id] }

// Replaces reports whether there are old peppers at all.
func (p *Peppers) Replaces() bool {
	for _, old := range p.old {
		if old {
			return true
		}
	}
	return false
}

// Needed reports whether what was made with a pepper would be lost without a file
// that is neither the current nor the next one.
func (p *Peppers) Needed(id string) bool { return p.Old(id) || p.Find(id) == nil }

// Sums are what a token comes to under each pepper.
type Sums struct {
	peppers *Peppers
	sums    [maxPeppers][sha256.Size]byte
}

// Sums hashes a token with every pepper, so that the time does not tell which one
// its key was made with, or whether there is such a key.
func (p *Peppers) Sums(t Token) (s Sums) {
	s.peppers = p
	for i, pepper := range p.all {
		s.sums[i] = pepper.Sum(t)
	}
	return s
}

// Current returns the hash under the current pepper.
func (s *Sums) Current() [sha256.Size]byte { return s.sums[0] }

// Match reports whether sum is what the token comes to under the pepper with the
// given id. It compares with all, whichever that is.
func (s *Sums) Match(pepperID string, sum []byte) bool {
	good := 0
	for i, pepper := range s.peppers.all {
		same := subtle.ConstantTimeCompare(sum, s.sums[i][:])
		if pepper.id == pepperID { // ids are no secret
			good |= same
		}
	}
	return good == 1
}
