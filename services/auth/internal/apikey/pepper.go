package apikey

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"sync"

	"github.com/sallyport-mcp/sallyport/pkg/secret"
)

// domain separates these hashes from all others made with the same pepper.
const domain = "sallyport-key-v1"

// Pepper is the key under which secrets are hashed. It lives in a file, apart
// from the store: who has only the store can neither check nor forge a key.
// Its methods are safe for concurrent use.
type Pepper struct {
	id     string
	hashes sync.Pool // of hash.Hash, keyed: making one costs more than using it
}

// NewPepper returns a pepper made of key.
func NewPepper(key secret.Key) *Pepper {
	p := &Pepper{id: key.ID()}
	p.hashes.New = func() any { return hmac.New(sha256.New, key.Bytes()) }
	return p
}

// ID names the pepper; records keep it, so that peppers can be replaced.
func (p *Pepper) ID() string { return p.id }

// Sum returns what is stored of a token instead of its secret:
// HMAC-SHA256(pepper, "sallyport-key-v1" || id || secret).
func (p *Pepper) Sum(t Token) [sha256.Size]byte {
	var buf [len(domain) + idLen + secretLen]byte
	message := append(buf[:0], domain...)
	message = append(message, t.ID...)
	return p.sum(append(message, t.secret...))
}

// Seal returns an HMAC of data in a domain of its own, for records at rest.
func (p *Pepper) Seal(domain string, data []byte) [sha256.Size]byte {
	return p.sum(append([]byte(domain+"\x00"), data...))
}

func (p *Pepper) sum(message []byte) (sum [sha256.Size]byte) {
	h := p.hashes.Get().(hash.Hash)
	h.Reset()
	_, _ = h.Write(message) // a hash never fails
	h.Sum(sum[:0])
	p.hashes.Put(h)
	return sum
}
