// Package jose reads and verifies signed tokens (JWS, RFC 7515) in their compact
// form, and the public keys (JWK, RFC 7517) that they are verified with.
//
// The signature itself is verified by a library. All that a library would forgive
// is refused here before: other serialisations, base64 that is not canonical,
// duplicate members, keys that are for something else, extensions. A key that a
// token brings along is never used; package dpop alone asks for it.
package jose

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jws"
)

const (
	// MaxToken bounds a token.
	MaxToken = 16 << 10
	// maxID bounds the id of a key.
	maxID = 256
)

// ErrMalformed says that a text is not a signed token in compact form. What is
// wrong follows, without a value of the token.
var ErrMalformed = errors.New("malformed token")

// ErrSignature says that a signature is not of the key.
var ErrSignature = errors.New("the signature is not good")

// Algorithms returns the signature algorithms that there are. All are
// asymmetric: with a secret that is shared, who can verify can also sign, and a
// public key could be taken for one.
func Algorithms() []string {
	return []string{
		"RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
		"ES256", "ES384", "ES512", "EdDSA", "Ed25519",
	}
}

// Token is a token as it is written, not verified yet.
type Token struct {
	// Algorithm, KeyID and Type are of the header. The type is in lower case
	// and without "application/"; it and the key id are empty where absent.
	Algorithm, KeyID, Type string
	// JWK is the key that the header brings along, if any. Anybody can have
	// written it.
	JWK []byte
	// Claims are the members of the payload.
	Claims Claims

	text string
}

// Parse reads a token. The only error is [ErrMalformed].
func Parse(text string) (*Token, error) {
	t, payload, err := ParseBytes(text)
	if err != nil {
		return nil, err
	}
	if t.Claims, err = ParseClaims(payload); err != nil {
		return nil, fmt.Errorf("%w: payload: %w", ErrMalformed, err)
	}
	return t, nil
}

// ParseBytes is Parse for a token whose payload can be anything: it has no
// claims.
func ParseBytes(text string) (t *Token, payload []byte, err error) {
	if len(text) > MaxToken {
		return nil, nil, fmt.Errorf("%w: too long", ErrMalformed)
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, nil, fmt.Errorf("%w: not three parts", ErrMalformed)
	}
	var raw [3][]byte
	for i, part := range parts {
		if raw[i], err = Decode(part); err != nil {
			return nil, nil, fmt.Errorf("%w: part %d: %w", ErrMalformed, i+1, err)
		}
		if len(raw[i]) == 0 && i != 1 {
			return nil, nil, fmt.Errorf("%w: part %d is empty", ErrMalformed, i+1)
		}
	}
	t = &Token{text: text}
	if err := t.readHeader(raw[0]); err != nil {
		return nil, nil, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	return t, raw[1], nil
}

// readHeader takes what it knows of a header and refuses what would give the
// rest another meaning. Other members are ignored, above all those that name a
// key (jku, x5u, x5c).
func (t *Token) readHeader(raw []byte) error {
	h, err := ParseClaims(raw)
	if err != nil {
		return err
	}
	for _, name := range []string{"crit", "b64", "zip", "enc", "cty"} {
		if _, ok := h[name]; ok {
			return fmt.Errorf("%s is not understood", name)
		}
	}
	for name, to := range map[string]*string{"alg": &t.Algorithm, "kid": &t.KeyID, "typ": &t.Type} {
		if *to, err = h.Text(name); err != nil {
			return err
		}
	}
	if len(t.KeyID) > maxID {
		return errors.New("kid is too long")
	}
	if !slices.Contains(Algorithms(), t.Algorithm) {
		return errors.New("alg is none of those that are taken")
	}
	t.Type = strings.TrimPrefix(strings.ToLower(t.Type), "application/")
	t.JWK = h["jwk"]
	return nil
}

// Verify checks the signature. The key must be one that the algorithm of the
// token is for. The only error is [ErrSignature].
func (t *Token) Verify(k *Key) error {
	if !k.Fits(t.Algorithm) {
		return fmt.Errorf("%w: the key is not for %s", ErrSignature, t.Algorithm)
	}
	alg, ok := jwa.LookupSignatureAlgorithm(t.Algorithm)
	if !ok {
		return fmt.Errorf("%w: %s is not known", ErrSignature, t.Algorithm)
	}
	if _, err := jws.Verify([]byte(t.text), jws.WithKey(alg, k.public), jws.WithCompact()); err != nil {
		return ErrSignature // the library's own words could repeat the token
	}
	return nil
}

// Decode decodes base64url without padding, of which there is one way to write
// any bytes.
func Decode(text string) ([]byte, error) {
	// Go's decoder skips line ends, even a strict one.
	for _, c := range []byte(text) {
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return nil, errors.New("not base64url")
		}
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errors.New("not base64url")
	}
	return b, nil
}

// Claims are the members of a JSON object, each as it is written.
type Claims map[string]jsontext.Value

// ParseClaims reads an object. A member that comes twice, at any depth, is an
// error, as is anything after the object.
func ParseClaims(raw []byte) (Claims, error) {
	// An object that is not one is a mistake of another kind than bad JSON, and
	// "null" would be an object without members.
	if jsontext.Value(raw).Kind() != '{' {
		return nil, errors.New("not a JSON object")
	}
	c := make(Claims)
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, errors.New("not a JSON object in which each member comes once")
	}
	return c, nil
}
