package dpop

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/secret"
)

const (
	receiptVersion = 1
	receiptLen     = 1 + 8 + sha256.Size
	// receiptLife is how long a request may last that has shown a proof: a stream
	// of notices is one, whose lists are filtered all the time. After it a client
	// has to come again, with a new proof. What is checked each time is the token.
	receiptLife = time.Hour
	// purpose keeps the key of receipts apart from others made of the same.
	purpose = "sallyport-dpop-receipt-v1"
)

// Receipts are what is given for a proof that was used up, so that it is not taken
// for a replay when the same HTTP request asks again. A client never sees one. Its
// methods are safe for concurrent use.
type Receipts struct {
	mu   sync.RWMutex
	keys [][]byte // the first one seals, all open
}

// NewReceipts returns receipts that are sealed by a key derived from one that all
// processes have.
func NewReceipts(key secret.Key) (*Receipts, error) {
	r := new(Receipts)
	return r, r.Turn(key)
}

// Turn seals with another key from now on. Receipts of the one before it stay
// good.
func (r *Receipts) Turn(key secret.Key) error {
	derived, err := hkdf.Key(sha256.New, key.Bytes(), nil, purpose, sha256.Size)
	if err != nil {
		return fmt.Errorf("derive the key of receipts: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := [][]byte{derived}
	if len(r.keys) > 0 {
		keys = append(keys, r.keys[0])
	}
	r.keys = keys
	return nil
}

// Give returns the receipt for a proof that was used up for a request.
func (r *Receipts) Give(proof string, req Request, now time.Time) []byte {
	r.mu.RLock()
	defer r.mu.RUnlock()
	head := binary.BigEndian.AppendUint64([]byte{receiptVersion}, uint64(now.Unix()))
	return seal(r.keys[0], head, proof, req)
}

// Good reports whether a receipt was given, not too long ago, for this proof with
// this token and request.
func (r *Receipts) Good(receipt []byte, proof string, req Request, now time.Time) bool {
	if len(receipt) != receiptLen || receipt[0] != receiptVersion {
		return false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, key := range r.keys {
		if hmac.Equal(receipt, seal(key, receipt[:9], proof, req)) {
			age := now.Sub(time.Unix(int64(binary.BigEndian.Uint64(receipt[1:9])), 0))
			return age < receiptLife // in the future: by the clock of another machine
		}
	}
	return false
}

func seal(key, head []byte, proof string, req Request) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write(head) // a hash takes everything
	for _, part := range [...]string{proof, req.Token, req.Method, req.URI} {
		sum := sha256.Sum256([]byte(part))
		_, _ = h.Write(sum[:])
	}
	return h.Sum(append(make([]byte, 0, receiptLen), head...))
}
