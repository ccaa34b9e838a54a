// Package grant seals the capabilities that auth gives out and the executor
// takes: proof that a decision was made, for one call and a short time.
//
// The two share a key and no code; the layout is written down in the proto
// file, and testdata/grant_golden.txt of package auth pins it.
package grant

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"sync"

	"google.golang.org/protobuf/proto"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/secret"
)

const (
	version = 1
	// maxLen is the bound that the contract puts on the field that carries a
	// grant.
	maxLen = 4096
)

// ErrTooLong says that a grant would not fit its field.
var ErrTooLong = errors.New("grant is too long")

// Sealer makes grants. Its methods are safe for concurrent use.
type Sealer struct {
	header []byte
	macs   sync.Pool // of hash.Hash, keyed
}

// NewSealer returns a sealer that uses key.
func NewSealer(key secret.Key) *Sealer {
	id := key.ID()
	s := &Sealer{header: append([]byte{version, byte(len(id))}, id...)}
	s.macs.New = func() any { return hmac.New(sha256.New, key.Bytes()) }
	return s
}

// Seal returns the bytes of a grant: one byte version, one byte length and the
// key id, the serialized grant, 32 bytes HMAC-SHA256 over all before.
func (s *Sealer) Seal(g *authv1.Grant) ([]byte, error) {
	options := proto.MarshalOptions{Deterministic: true}
	size := len(s.header) + options.Size(g) + sha256.Size
	if size > maxLen {
		return nil, fmt.Errorf("seal %d bytes: %w", size, ErrTooLong)
	}
	sealed := append(make([]byte, 0, size), s.header...)
	sealed, err := options.MarshalAppend(sealed, g)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	h := s.macs.Get().(hash.Hash)
	defer s.macs.Put(h)
	h.Reset()
	_, _ = h.Write(sealed) // a hash never fails
	return h.Sum(sealed), nil
}
