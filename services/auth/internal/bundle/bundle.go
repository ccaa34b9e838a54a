// Package bundle seals policies for the store, so that who can write to the
// store and does not have the pepper can make none.
//
// The stored form is one byte version (1), one byte length n and n bytes of the
// pepper's id, 32 bytes of HMAC over the rest, and the rest: a serialized
// authv1.PolicyBundle. One without files says that the store holds no policies;
// that is sealed too, so that nobody else can take policies away.
package bundle

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

const (
	// version of the stored form that this code writes, and the only one that it
	// reads.
	version = 1
	// domain separates these seals from other uses of the pepper.
	domain = "sallyport-policy-bundle-v1"
	// most is what a set has at most, as in the contract.
	most = 64
)

// Sealer is a key with a name.
type Sealer interface {
	ID() string
	Seal(domain string, data []byte) [sha256.Size]byte
}

// Encode returns the stored form of a bundle.
func Encode(b *authv1.PolicyBundle, sealer Sealer) ([]byte, error) {
	body, err := proto.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode policies: %w", err)
	}
	id := sealer.ID()
	if len(id) > 255 {
		return nil, errors.New("encode policies: the pepper's id is too long")
	}
	seal := sealer.Seal(domain, body)
	text := append([]byte{version, byte(len(id))}, id...)
	text = append(text, seal[:]...)
	return append(text, body...), nil
}

// SealedBy returns the id of the pepper that the stored form says it is sealed
// with, or nothing where it cannot be read.
func SealedBy(text []byte) string {
	if len(text) < 2 || text[0] != version || len(text) < 2+int(text[1]) {
		return ""
	}
	return string(text[2 : 2+int(text[1])])
}

// Decode reads the stored form. What is not sealed with one of the peppers is an
// error.
func Decode(text []byte, sealers ...Sealer) (*authv1.PolicyBundle, error) {
	if len(text) < 2 || text[0] != version {
		return nil, errors.New("decode policies: not a version that is known")
	}
	n := int(text[1])
	rest := text[2:]
	if len(rest) < n+sha256.Size {
		return nil, errors.New("decode policies: too short")
	}
	id := string(rest[:n])
	i := slices.IndexFunc(sealers, func(s Sealer) bool { return s.ID() == id })
	if i < 0 {
		return nil, fmt.Errorf("decode policies: sealed with pepper %q, which is not here", id)
	}
	seal, body := rest[n:n+sha256.Size], rest[n+sha256.Size:]
	if want := sealers[i].Seal(domain, body); !hmac.Equal(want[:], seal) {
		return nil, errors.New("decode policies: the seal is broken, somebody else has written them")
	}
	b := new(authv1.PolicyBundle)
	if err := proto.Unmarshal(body, b); err != nil {
		return nil, fmt.Errorf("decode policies: %w", err)
	}
	if len(b.GetFiles()) > most || b.GetTime() == nil || !b.GetTime().IsValid() {
		return nil, errors.New("decode policies: incomplete, or too many files")
	}
	return b, nil
}
