// Package apikey makes, reads and checks API keys.
//
// A key is sp_<env>_<id>_<secret><crc>. The id is public and finds the record;
// the secret has 256 random bits, so that a fast keyed hash is all the
// protection it needs at rest; the crc lets a mistyped or invented key be
// refused without a lookup, and lets scanners find leaked keys.
package apikey

import (
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"regexp"
	"strings"
)

const (
	prefix     = "sp_"
	idLen      = 10
	secretLen  = 43 // 43 · log2(62) > 256
	crcLen     = 6  // 62^6 > 2^32
	maxEnvLen  = 16
	maxLen     = len(prefix) + maxEnvLen + 1 + idLen + 1 + secretLen + crcLen
	alphabet   = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	envPattern = `^[a-z0-9]{1,16}$`
)

// Pattern is a regular expression that finds keys in text, for scanners.
const Pattern = `\bsp_[a-z0-9]{1,16}_[0-9A-Za-z]{10}_[0-9A-Za-z]{49}\b`

// ErrMalformed says that a text is not a key: it was never issued by anybody.
// It says no more, since more would repeat what may be a secret.
var ErrMalformed = errors.New("malformed API key")

// Token is a key in the hands of its owner. Its secret does not print.
type Token struct {
	// Env is the environment the key is for, such as "dev".
	Env string
	// ID is the public id.
	ID string

	secret string
}

// String shows what may be seen of the key.
func (t Token) String() string { return Masked(t.Env, t.ID) }

// Format implements [fmt.Formatter], so that no verb shows the secret.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// Reveal returns the whole key, secret and all. It is for the one answer that
// hands the key to its owner.
func (t Token) Reveal() string {
	body := prefix + t.Env + "_" + t.ID + "_" + t.secret
	return body + checksum(body)
}

// Masked returns what may be shown of a key.
func Masked(env, id string) string { return prefix + env + "_" + id + "_…" }

// ValidEnv reports whether env can stand in a key.
func ValidEnv(env string) bool {
	ok, err := regexp.MatchString(envPattern, env)
	return ok && err == nil
}

// Mint returns a new key with an id of its own.
func Mint(env string) Token { return MintSecret(env, random(idLen)) }

// MintSecret returns a key that has a new secret for a known id.
func MintSecret(env, id string) Token { return Token{Env: env, ID: id, secret: random(secretLen)} }

// Looks reports whether a text looks like an API key, good or not.
func Looks(text string) bool { return strings.HasPrefix(text, prefix) }

// Parse reads a key. It looks at the checksum first, which an invented key
// does not pass, and at nothing that is secret in a way that takes time.
func Parse(text string) (Token, error) {
	if len(text) > maxLen || !strings.HasPrefix(text, prefix) {
		return Token{}, ErrMalformed
	}
	env, rest, ok := strings.Cut(text[len(prefix):], "_")
	if !ok || len(rest) != idLen+1+secretLen+crcLen || rest[idLen] != '_' {
		return Token{}, ErrMalformed
	}
	body, sum := text[:len(text)-crcLen], text[len(text)-crcLen:]
	if checksum(body) != sum {
		return Token{}, ErrMalformed
	}
	t := Token{Env: env, ID: rest[:idLen], secret: rest[idLen+1 : idLen+1+secretLen]}
	if !lowerAlphanumeric(env) || !base62(t.ID) || !base62(t.secret) {
		return Token{}, ErrMalformed
	}
	return t, nil
}

// checksum returns the CRC-32 of body in six digits of base 62.
func checksum(body string) string {
	// Through a fixed array: a conversion of the string would allocate.
	var buf [maxLen]byte
	sum := crc32.ChecksumIEEE(buf[:copy(buf[:], body)])
	var digits [crcLen]byte
	for i := crcLen - 1; i >= 0; i-- {
		digits[i] = alphabet[sum%62]
		sum /= 62
	}
	return string(digits[:])
}

// random returns n digits of base 62, each equally likely: bytes of 248 and
// above are thrown away, for 256 is no multiple of 62.
func random(n int) string {
	digits := make([]byte, 0, n)
	var buf [64]byte
	for {
		_, _ = rand.Read(buf[:]) // never fails: crypto/rand ends the process instead
		for _, b := range buf {
			if b >= 248 {
				continue
			}
			if digits = append(digits, alphabet[b%62]); len(digits) == n {
				return string(digits)
			}
		}
	}
}

func base62(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

func lowerAlphanumeric(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != "" && len(s) <= maxEnvLen
}
