package jose

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// MaxSet bounds a document of keys, and MaxKeys how many it may have.
	MaxSet  = 64 << 10
	MaxKeys = 100

	minRSA, maxRSA = 2048, 8192 // bits
)

// ErrKey says that a key cannot be used to verify signatures.
var ErrKey = errors.New("not a public key for signatures")

// Key is a public key. It never changes.
type Key struct {
	// ID is what tokens call it; may be empty.
	ID string

	algorithms []string
	public     any
	thumbprint string
}

// Fits reports whether the key is for an algorithm: by its kind and curve, and by
// what is written with it.
func (k *Key) Fits(algorithm string) bool { return slices.Contains(k.algorithms, algorithm) }

// Thumbprint returns the SHA-256 thumbprint of the key (RFC 7638) in base64url.
func (k *Key) Thumbprint() string { return k.thumbprint }

// Equal reports whether two keys are the same in all that counts.
func (k *Key) Equal(other *Key) bool {
	return k.ID == other.ID && k.thumbprint == other.thumbprint && slices.Equal(k.algorithms, other.algorithms)
}

// ParseKey reads a JWK. A private or a secret key is refused, as is a key that is
// marked as being for anything but the verification of signatures. The only error
// is [ErrKey].
func ParseKey(raw []byte) (*Key, error) {
	m, err := ParseClaims(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, ok := m[name]; ok {
			return nil, fmt.Errorf("%w: it has %s, which is private", ErrKey, name)
		}
	}
	k := new(Key)
	var canonical string
	kind, err := m.Text("kty")
	if err == nil {
		switch kind {
		case "RSA":
			canonical, err = k.readRSA(m)
		case "EC":
			canonical, err = k.readEC(m)
		case "OKP":
			canonical, err = k.readOKP(m)
		default:
			err = errors.New("kty is not known")
		}
	}
	if err == nil {
		err = k.readUse(m)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	sum := sha256.Sum256([]byte(canonical))
	k.thumbprint = base64.RawURLEncoding.EncodeToString(sum[:])
	return k, nil
}

// readUse takes what is written about the use of a key.
func (k *Key) readUse(m Claims) (err error) {
	if k.ID, err = m.Text("kid"); err != nil || len(k.ID) > maxID {
		return errors.New("kid is not a short string")
	}
	if _, ok := m["use"]; ok {
		if use, err := m.Text("use"); err != nil || use != "sig" {
			return errors.New("use is not sig")
		}
	}
	if raw, ok := m["key_ops"]; ok {
		ops, err := m.Texts("key_ops")
		if err != nil || raw.Kind() != '[' || !slices.Contains(ops, "verify") {
			return errors.New("key_ops has no verify")
		}
	}
	if _, ok := m["alg"]; ok {
		alg, err := m.Text("alg")
		if err != nil || !k.Fits(alg) {
			return errors.New("alg is not one for this kind of key")
		}
		k.algorithms = []string{alg}
	}
	return nil
}

func (k *Key) readRSA(m Claims) (canonical string, err error) {
	n, nText, err := number(m, "n")
	if err != nil {
		return "", err
	}
	e, eText, err := number(m, "e")
	if err != nil {
		return "", err
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	switch {
	case n[0] == 0 || e[0] == 0:
		return "", errors.New("a number starts with zeros")
	case modulus.BitLen() < minRSA || modulus.BitLen() > maxRSA || modulus.Bit(0) == 0:
		return "", errors.New("n is too small, too large or even")
	case exponent.BitLen() < 17 || exponent.BitLen() > 31 || exponent.Bit(0) == 0: // from 65537
		return "", errors.New("e is too small, too large or even")
	case guessable(modulus):
		return "", errors.New("n is of the form that faulty chips make (ROCA)")
	}
	k.public = &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}
	k.algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	return `{"e":"` + eText + `","kty":"RSA","n":"` + nText + `"}`, nil
}

// guessable reports whether a modulus has the form of keys whose private half can
// be computed (CVE-2017-15361): modulo each small prime it is a power of 65537.
// Of good keys about one in 2^27 has that form.
func guessable(n *big.Int) bool {
	for _, p := range []int64{
		3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107,
		109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
	} {
		rest := new(big.Int).Mod(n, big.NewInt(p)).Int64()
		power := int64(1)
		for power != rest {
			if power = power * 65537 % p; power == 1 {
				return false
			}
		}
	}
	return true
}

func (k *Key) readEC(m Claims) (canonical string, err error) {
	name, err := m.Text("crv")
	if err != nil {
		return "", err
	}
	var curve elliptic.Curve
	switch name {
	case "P-256":
		curve, k.algorithms = elliptic.P256(), []string{"ES256"}
	case "P-384":
		curve, k.algorithms = elliptic.P384(), []string{"ES384"}
	case "P-521":
		curve, k.algorithms = elliptic.P521(), []string{"ES512"}
	default:
		return "", errors.New("crv is not known")
	}
	x, xText, err := number(m, "x")
	if err != nil {
		return "", err
	}
	y, yText, err := number(m, "y")
	if err != nil {
		return "", err
	}
	if size := (curve.Params().BitSize + 7) / 8; len(x) != size || len(y) != size {
		return "", errors.New("x or y has the wrong length")
	}
	// This also checks that the point is on the curve.
	if k.public, err = ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y)); err != nil {
		return "", errors.New("the point is not on the curve")
	}
	return `{"crv":"` + name + `","kty":"EC","x":"` + xText + `","y":"` + yText + `"}`, nil
}

func (k *Key) readOKP(m Claims) (canonical string, err error) {
	name, err := m.Text("crv")
	if err != nil || name != "Ed25519" {
		return "", errors.New("crv is not known")
	}
	x, text, err := number(m, "x")
	if err != nil || len(x) != ed25519.PublicKeySize {
		return "", errors.New("x has the wrong length")
	}
	k.public, k.algorithms = ed25519.PublicKey(x), []string{"EdDSA", "Ed25519"}
	return `{"crv":"Ed25519","kty":"OKP","x":"` + text + `"}`, nil
}

// number returns a member that is bytes in base64url, at least one.
func number(m Claims, name string) (b []byte, text string, err error) {
	if text, err = m.Text(name); err != nil {
		return nil, "", err
	}
	if b, err = Decode(text); err != nil || len(b) == 0 {
		return nil, "", fmt.Errorf("%s is not a number in base64url", name)
	}
	return b, text, nil
}

// Set is the keys of an issuer. It never changes.
type Set struct{ keys []*Key }

// ParseSet reads a JWK Set. Keys in it that cannot be used are left out, as the
// standard wants it: sets have keys for encryption, and of kinds not known yet.
// Skipped tells how many.
func ParseSet(raw []byte) (set *Set, skipped int, err error) {
	if len(raw) > MaxSet {
		return nil, 0, errors.New("read keys: too long")
	}
	m, err := ParseClaims(raw)
	if err != nil {
		return nil, 0, fmt.Errorf("read keys: %w", err)
	}
	var items []jsontext.Value
	if m["keys"].Kind() != '[' || json.Unmarshal(m["keys"], &items) != nil {
		return nil, 0, errors.New("read keys: keys is not an array")
	}
	if len(items) > MaxKeys {
		return nil, 0, fmt.Errorf("read keys: more than %d", MaxKeys)
	}
	set = new(Set)
	for _, item := range items {
		k, err := ParseKey(item)
		if err != nil {
			skipped++
			continue
		}
		set.keys = append(set.keys, k)
	}
	return set, skipped, nil
}

// NewSet returns a set of keys.
func NewSet(keys ...*Key) *Set { return &Set{slices.Clone(keys)} }

// Len returns how many keys there are.
func (s *Set) Len() int { return len(s.keys) }

// Find returns the key for a token, or nil: the one that has the id and is for
// the algorithm. A token without an id of a key has to fit exactly one key. Where
// several fit none is taken.
func (s *Set) Find(id, algorithm string) *Key {
	var found *Key
	for _, k := range s.keys {
		if id != "" && k.ID != id || !k.Fits(algorithm) {
			continue
		}
		if found != nil {
			return nil
		}
		found = k
	}
	return found
}

// Has reports whether a key is in the set.
func (s *Set) Has(k *Key) bool { return s != nil && slices.Contains(s.keys, k) }

// Keeping returns s with keys of an older set in place of those that are equal,
// so that a key stays the same as long as it is there.
func (s *Set) Keeping(old *Set) *Set {
	if old == nil {
		return s
	}
	keys := slices.Clone(s.keys)
	for i, k := range keys {
		if j := slices.IndexFunc(old.keys, k.Equal); j >= 0 {
			keys[i] = old.keys[j]
		}
	}
	return &Set{keys}
}
