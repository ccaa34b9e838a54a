package mcp

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
)

// MaxProofKey bounds a private key in PEM or as a JWK, in bytes.
const MaxProofKey = 16 << 10

// ErrProofKey says that a key cannot make proofs, and then why; nothing of it is
// repeated.
var ErrProofKey = errors.New("this is no private key for proofs; give one of ECDSA, Ed25519 or RSA, as PEM or JWK")

// ProofKey is the private key of a client, which makes proofs that it is there (DPoP,
// RFC 9449). It does not print.
type ProofKey struct {
	private   crypto.Signer
	public    jwk.Key
	algorithm jwa.SignatureAlgorithm
}

// Format implements [fmt.Formatter], so that no verb shows the key.
func (*ProofKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, "a private key") }

// ReadProofKey reads a private key, in PEM or as a JWK. The error is [ErrProofKey].
func ReadProofKey(text []byte) (*ProofKey, error) {
	bad := func(why string) (*ProofKey, error) { return nil, fmt.Errorf("%w: %s", ErrProofKey, why) }
	if len(text) > MaxProofKey {
		return bad("it is too long")
	}
	var key jwk.Key
	var err error
	if block := privateBlock(text); block == nil {
		key, err = jwk.ParseKey(bytes.TrimSpace(text))
	} else {
		if strings.Contains(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != "" {
			return bad("it is encrypted; openssl pkey -in FILE decrypts it")
		}
		key, err = jwk.ParseKey(pem.EncodeToMemory(block), jwk.WithPEM(true))
	}
	if err != nil {
		return bad("it cannot be read") // the library's own words could repeat it
	}
	var raw any
	if err := jwk.Export(key, &raw); err != nil {
		return bad("it cannot be read")
	}
	k := new(ProofKey)
	var ok bool
	if k.private, ok = raw.(crypto.Signer); !ok {
		return bad("it is not a private key, or not one that signs")
	}
	if k.algorithm, ok = algorithmOf(k.private.Public()); !ok {
		return bad("it is of a curve or kind that is not taken")
	}
	// Anew, for a proof shall have nothing of what is written beside the key.
	if k.public, err = jwk.Import(k.private.Public()); err != nil {
		return bad("it is of a kind that is not taken")
	}
	return k, nil
}

// privateBlock returns the part of a PEM file that has a private key, nil if none.
func privateBlock(text []byte) *pem.Block {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil || strings.Contains(block.Type, "PRIVATE KEY") {
			return block
		}
	}
}

func algorithmOf(public crypto.PublicKey) (jwa.SignatureAlgorithm, bool) {
	switch k := public.(type) {
	case ed25519.PublicKey:
		return jwa.EdDSA(), true
	case *rsa.PublicKey:
		return jwa.PS256(), true
	case *ecdsa.PublicKey:
		switch k.Params().BitSize {
		case 256:
			return jwa.ES256(), true
		case 384:
			return jwa.ES384(), true
		case 521:
			return jwa.ES512(), true
		}
	}
	return jwa.EmptySignatureAlgorithm(), false
}

// Prove makes a new proof for one request with a token or API key.
func (k *ProofKey) Prove(method, address, token string, now time.Time) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("make a proof: %w", err)
	}
	u.RawQuery, u.ForceQuery, u.Fragment = "", false, ""
	sum := sha256.Sum256([]byte(token))
	claims, err := json.Marshal(map[string]any{
		"jti": rand.Text(), "htm": method, "htu": u.String(), "iat": now.Unix(), "ath": base64.RawURLEncoding.EncodeToString(sum[:]),
	})
	if err != nil {
		return "", fmt.Errorf("make a proof: %w", err)
	}
	headers := jws.NewHeaders()
	if err := errors.Join(headers.Set(jws.TypeKey, "dpop+jwt"), headers.Set(jws.JWKKey, k.public)); err != nil {
		return "", fmt.Errorf("make a proof: %w", err)
	}
	proof, err := jws.Sign(claims, jws.WithKey(k.algorithm, k.private, jws.WithProtectedHeaders(headers)), jws.WithCompact())
	if err != nil {
		return "", fmt.Errorf("make a proof: %w", err)
	}
	return string(proof), nil
}
