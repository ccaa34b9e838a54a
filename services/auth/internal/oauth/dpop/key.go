package dpop

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/lestrrat-go/jwx/v3/jwk"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/jose"
)

// maxKey bounds a public key in PEM or as a JWK, in bytes. The largest that is
// taken, RSA of 8192 bits, has about 1500.
const maxKey = 16 << 10

// What is wrong with a key that an API key shall be bound to. They repeat nothing
// of it.
var (
	// ErrPrivate says that the key is a private one.
	ErrPrivate = errors.New("this is a private key, which stays with the client; give the public one (of a PEM file: openssl pkey -in FILE -pubout)")
	// ErrKey says that it cannot be used for proofs, and then why.
	ErrKey = errors.New("this is no public key for proofs; give one of ECDSA (P-256, P-384, P-521), Ed25519 or RSA (from 2048 bits), as PEM or JWK")
)

// Thumbprint reads a public key, in PEM ("PUBLIC KEY") or as a JWK, and returns
// its thumbprint (RFC 7638, SHA-256, base64url), as CreateKeyRequest wants it. Keys
// of which no proof would be taken are refused. The error is [ErrPrivate] or
// [ErrKey].
func Thumbprint(text []byte) (string, error) {
	if len(text) > maxKey {
		return "", fmt.Errorf("%w: it is longer than %d bytes", ErrKey, maxKey)
	}
	text = bytes.TrimSpace(text)
	if block, rest := pem.Decode(text); block != nil {
		if strings.Contains(block.Type, "PRIVATE") {
			return "", ErrPrivate
		}
		if len(bytes.TrimSpace(rest)) > 0 {
			return "", fmt.Errorf("%w: there is more in the file than one key", ErrKey)
		}
		var err error
		if text, err = jwkOf(block); err != nil {
			return "", fmt.Errorf("%w: %w", ErrKey, err)
		}
	}
	var private struct {
		D json.RawMessage `json:"d"`
	}
	if json.Unmarshal(text, &private) == nil && private.D != nil {
		return "", ErrPrivate
	}
	key, err := jose.ParseKey(text)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrKey, err)
	}
	return key.Thumbprint(), nil
}

// jwkOf writes a public key that was in PEM as a JWK.
func jwkOf(block *pem.Block) ([]byte, error) {
	if block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("it is a %.40q, not a PUBLIC KEY", block.Type)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("what is between its lines is no public key")
	}
	key, err := jwk.Import(public)
	if err != nil {
		return nil, errors.New("it is too weak, or of a kind that is not taken")
	}
	return json.Marshal(key)
}
