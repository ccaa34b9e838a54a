package edge

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"
	"time"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// Notices is how the edge hears that credentials have changed.
type Notices interface {
	// Listen calls changed for each notice until ctx is done. It keeps trying
	// where it cannot listen just now.
	Listen(ctx context.Context, changed func())
	// Epoch tells whether notices arrive just now, and a number that differs
	// whenever some may have been missed in between.
	Epoch() (epoch uint64, live bool)
}

// authCache remembers who holds a credential, for seconds, so that not every
// request asks auth twice. It forgets all on any notice of a change, and says
// nothing while notices may be missed: then auth is asked each time. A grant is
// never made from it; auth checks the credential again for that.
//
// It holds no credential, only an HMAC under a key that lives as long as the
// process.
type authCache struct {
	size    int
	ttl     time.Duration
	notices Notices
	macs    sync.Pool // of *keyMaker

	mu         sync.Mutex
	epoch      uint64
	generation uint64
	entries    map[authKey]authEntry
}

type authKey [sha256.Size]byte

// keyMaker is what is used again in making keys.
type keyMaker struct {
	mac hash.Hash
	buf []byte
}

type authEntry struct {
	principal *authv1.Principal // never written to
	until     time.Time
}

func newAuthCache(size int, ttl time.Duration, notices Notices) (*authCache, error) {
	key := make([]byte, sha256.Size)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("make a key for the authentication cache: %w", err)
	}
	c := &authCache{size: size, ttl: ttl, notices: notices, entries: make(map[authKey]authEntry)}
	c.macs.New = func() any { return &keyMaker{mac: hmac.New(sha256.New, key)} }
	return c, nil
}

// rememberable reports whether a credential can be good for more than one request.
// One with a proof is not.
func rememberable(cred *authv1.Credential) bool {
	return cred.GetScheme() != authv1.Scheme_SCHEME_DPOP && cred.GetDpopProof() == ""
}

// key covers the client's address too, since a credential may be good from some
// networks only, and its certificate, to which a token may be bound.
func (c *authCache) key(cred *authv1.Credential, address string) (k authKey) {
	m, ok := c.macs.Get().(*keyMaker)
	if !ok {
		return k // the pool holds nothing else
	}
	m.buf = append(m.buf[:0], byte(cred.GetScheme()), byte(len(address)))
	m.buf = append(m.buf, address...)
	m.buf = append(append(m.buf, byte(len(cred.GetCertificateSha256()))), cred.GetCertificateSha256()...)
	m.buf = binary.BigEndian.AppendUint16(m.buf, uint16(len(cred.GetSpiffeId())))
	m.buf = append(m.buf, cred.GetSpiffeId()...)
	m.buf = append(m.buf, cred.GetToken()...)
	m.mac.Reset()
	m.mac.Write(m.buf)
	clear(m.buf)
	m.buf = m.mac.Sum(m.buf[:0])
	copy(k[:], m.buf)
	c.macs.Put(m)
	return k
}

// Get returns the principal if it is remembered, and else a ticket for Put.
func (c *authCache) Get(k authKey, now time.Time) (p *authv1.Principal, ticket uint64) {
	if c.size == 0 || c.notices == nil {
		return nil, 0
	}
	epoch, live := c.notices.Epoch()
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch != c.epoch {
		c.epoch = epoch
		c.flush()
	}
	if !live {
		return nil, c.generation
	}
	if e, ok := c.entries[k]; ok && now.Before(e.until) {
		return e.principal, c.generation
	}
	return nil, c.generation
}

// Put remembers an answer of auth, unless credentials have changed since the
// ticket was given out: the answer may be older than the change.
func (c *authCache) Put(k authKey, p *authv1.Principal, validFor time.Duration, ticket uint64) {
	ttl := min(validFor, c.ttl)
	if c.size == 0 || c.notices == nil || ttl <= 0 {
		return
	}
	epoch, live := c.notices.Epoch()
	if !live {
		return
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generation != ticket || c.epoch != epoch {
		return
	}
	if len(c.entries) >= c.size {
		c.evict(now)
	}
	c.entries[k] = authEntry{principal: p, until: now.Add(ttl)}
}

// evict makes room for one: by what is over among a few entries, else by any. It
// looks at few, so that a caller who fills the cache costs no more than others.
func (c *authCache) evict(now time.Time) {
	const few = 8
	looked := 0
	for k, e := range c.entries {
		if looked++; !now.Before(e.until) || looked == few {
			delete(c.entries, k)
		}
		if looked == few {
			break
		}
	}
	for k := range c.entries {
		if len(c.entries) < c.size {
			return
		}
		delete(c.entries, k)
	}
}

// Forget drops one entry.
func (c *authCache) Forget(k authKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, k)
}

// Flush drops all.
func (c *authCache) Flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flush()
}

func (c *authCache) flush() {
	c.generation++
	clear(c.entries)
}
