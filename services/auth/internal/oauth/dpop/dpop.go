// Package dpop checks proofs that a client holds the key that its token is bound
// to (RFC 9449).
package dpop

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/jose"
)

const (
	maxProof = 8192
	maxID    = 256
)

// ErrProof says that a proof is not good. What is wrong follows, without a value
// of it.
var ErrProof = errors.New("bad proof")

// Algorithms returns the algorithms that a proof may have.
func Algorithms() []string { return jose.Algorithms() }

// Request is what a proof must be for.
type Request struct {
	// Method and URI are of the HTTP request.
	Method, URI string
	// Token is the access token.
	Token string
}

// Proof is a proof whose signature is good.
type Proof struct {
	// Thumbprint is that of the key that has signed it.
	Thumbprint string
	// Claim names the proof among all others: who takes it a second time is
	// refused. It is good as a key in the store.
	Claim string
}

// Check checks a proof for a request: its signature by the key that it brings
// along, and that it was made for just this, not longer ago than window and not
// more than skew in the future. The only error is [ErrProof].
func Check(text string, r Request, now time.Time, window, skew time.Duration) (*Proof, error) {
	p, err := check(text, r, now, window, skew)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProof, err)
	}
	return p, nil
}

func check(text string, r Request, now time.Time, window, skew time.Duration) (*Proof, error) {
	if len(text) > maxProof {
		return nil, errors.New("too long")
	}
	t, err := jose.Parse(text)
	if err != nil {
		return nil, err
	}
	switch {
	case t.Type != "dpop+jwt":
		return nil, errors.New("typ is not dpop+jwt")
	case t.JWK == nil:
		return nil, errors.New("no jwk")
	}
	k, err := jose.ParseKey(t.JWK)
	if err != nil {
		return nil, err
	}
	if err := t.Verify(k); err != nil {
		return nil, err
	}
	id, err := t.Claims.Text("jti")
	if err != nil || id == "" || len(id) > maxID {
		return nil, errors.New("jti is not a short string")
	}
	if method, err := t.Claims.Text("htm"); err != nil || method == "" || method != r.Method {
		return nil, errors.New("htm is of another method")
	}
	address, err := t.Claims.Text("htu")
	if err != nil || !same(address, r.URI) {
		return nil, errors.New("htu is of another address")
	}
	issued, ok, err := t.Claims.Time("iat")
	switch {
	case err != nil || !ok:
		return nil, errors.New("iat is not a time")
	case issued.After(now.Add(skew)):
		return nil, errors.New("iat is in the future")
	case issued.Before(now.Add(-window)):
		return nil, errors.New("iat is too long ago")
	}
	sum := sha256.Sum256([]byte(r.Token))
	hash, err := t.Claims.Text("ath")
	if err != nil || subtle.ConstantTimeCompare([]byte(hash), []byte(base64.RawURLEncoding.EncodeToString(sum[:]))) != 1 {
		return nil, errors.New("ath is of another token")
	}
	// Of a key, so that nobody can use up the ids of others; and not of the text,
	// which can be written in several ways for one signature.
	claim := sha256.Sum256([]byte(k.Thumbprint() + " " + id))
	return &Proof{Thumbprint: k.Thumbprint(), Claim: hex.EncodeToString(claim[:])}, nil
}

// same compares two addresses without query and fragment, as RFC 3986 section 6.2
// has it: scheme and host in any case, the port of the scheme or none, no path or
// "/".
func same(a, b string) bool {
	x, y := normal(a), normal(b)
	return x != "" && x == y
}

func normal(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Opaque != "" {
		return ""
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	default:
		return ""
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	return scheme + "://" + strings.TrimSuffix(host, ":") + path
}
