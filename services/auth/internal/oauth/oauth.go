// Package oauth judges access tokens as a resource server does (OAuth 2.1, RFC
// 9068): whether an issuer that is configured has signed one, for this server, for
// now; and it makes a principal of the claims.
//
// Nothing in a token says what to fetch: an issuer is looked up by name among those
// configured, keys are fetched at the issuer's place and at most every so often, and
// keys or URLs in headers of tokens are not looked at. Issuers that have it configured
// are asked about tokens that are opaque (RFC 7662).
package oauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/jose"
)

// ErrNotReady says that it cannot be told whether a token is good: its issuer's
// keys are not known, or too old.
var ErrNotReady = errors.New("tokens of this issuer cannot be judged now")

// Identity is who holds a token.
type Identity struct {
	Principal *authv1.Principal
	// Scopes are those of the token and those they imply.
	Scopes map[string]bool
	// Expires is when the token ends, or its issuer has to be asked again.
	Expires time.Time
	// Key is the thumbprint of the key that the token is bound to (RFC 9449), "" if to
	// none. NeedsKey says that it has to be bound to one.
	Key      string
	NeedsKey bool
	// Certificate is the SHA-256 of the certificate that the token is bound to (RFC
	// 8705), nil if to none.
	Certificate []byte
}

// Verifier judges tokens. It is safe for concurrent use.
type Verifier struct {
	resource string
	skew     time.Duration
	implies  map[string][]string
	issuers  map[string]*issuer

	byPrefix  map[string]*issuer // by what their opaque tokens begin with
	otherwise *asked             // about opaque tokens that begin with nothing of that, nil if nobody
}

type issuer struct {
	Issuer
	claims     Claims
	algorithms []string
	audiences  []string // canonical
	keys       *keys    // nil: all tokens are opaque
	asked      *asked   // nil: none is
}

// New returns a verifier. Run must run for it to know keys.
func New(c Config, log *slog.Logger) (*Verifier, error) {
	v := &Verifier{
		resource: c.Resource, skew: c.Skew, implies: c.ScopeImplies, issuers: make(map[string]*issuer), byPrefix: make(map[string]*issuer),
	}
	for i, cfg := range c.Issuers {
		one := &issuer{Issuer: cfg, claims: cfg.Claims.withDefaults(), algorithms: cfg.Algorithms}
		if err := v.connect(c, one, log); err != nil {
			return nil, fmt.Errorf("issuers[%d].%w", i, err)
		}
		if len(one.algorithms) == 0 {
			one.algorithms = []string{"RS256", "PS256", "ES256", "EdDSA"}
		}
		for _, a := range append([]string{c.Resource}, cfg.Audiences...) {
			one.audiences = append(one.audiences, canonical(a))
		}
		v.issuers[cfg.Issuer] = one
	}
	return v, nil
}

// connect makes what an issuer's tokens are judged by.
func (v *Verifier) connect(c Config, i *issuer, log *slog.Logger) (err error) {
	if i.Tokens != tokensOpaque {
		if i.keys, err = newKeys(c, i.Issuer, log); err != nil {
			return err
		}
	}
	if i.Introspection == nil {
		return nil
	}
	if i.asked, err = newAsked(v, i, log); err != nil {
		return err
	}
	if prefix := i.Introspection.TokenPrefix; prefix != "" {
		v.byPrefix[prefix] = i
	} else {
		v.otherwise = i.asked
	}
	return nil
}

// Run keeps the keys of issuers fresh until ctx is done.
func (v *Verifier) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, i := range v.issuers {
		if i.keys != nil {
			wg.Go(func() { i.keys.run(ctx) })
		}
	}
	wg.Wait()
}

// Verdict is what is said of a token: whose it is, or why it is not good.
type Verdict struct {
	// Identity is nil if the token is not good.
	Identity *Identity
	// Reason is for the audit record.
	Reason auditv1.Reason
	// Why is one of a few words, for the record; never a value of the token.
	Why string

	keys    *keys // nil: an issuer has said so
	version uint64
}

// Current reports whether a good token still is by the keys or the answer that are
// known now, and not over.
func (d *Verdict) Current(now time.Time) bool {
	return d.Identity != nil && now.Before(d.Identity.Expires) && (d.keys == nil || d.keys.current(d.version))
}

// The types that an access token may have; the header of an ID token or a proof
// says something else, or its audience does.
var tokenTypes = []string{"", "at+jwt", "jwt"}

// Verify judges a token. The error is ErrNotReady, or none. Where flooded, which can
// be nil, reports that whoever shows it has shown too many bad ones, no issuer is
// asked about an opaque token that has not been good before.
func (v *Verifier) Verify(ctx context.Context, text string, now time.Time, flooded func() bool) (*Verdict, error) {
	asked := v.askedAbout(text)
	if asked == nil {
		return v.verifyJWT(ctx, text, now)
	}
	if !bearerForm(text) {
		return refuse(malformed, "malformed"), nil
	}
	if flooded == nil {
		flooded = func() bool { return false }
	}
	verdict, err := asked.verify(ctx, text, now, flooded)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return verdict, nil
}

// verifyJWT judges a token that has to be signed with a key of an issuer.
func (v *Verifier) verifyJWT(ctx context.Context, text string, now time.Time) (*Verdict, error) {
	token, err := jose.Parse(text)
	if err != nil {
		return refuse(malformed, "malformed"), nil
	}
	if !slices.Contains(tokenTypes, token.Type) {
		return refuse(malformed, "not an access token"), nil
	}
	name, err := token.Claims.Text("iss")
	if err != nil {
		return refuse(malformed, "iss"), nil
	}
	i := v.issuers[name]
	if i == nil || i.keys == nil || !slices.Contains(i.algorithms, token.Algorithm) {
		return refuse(unknown, "issuer or algorithm"), nil
	}
	key, version, err := i.keys.find(ctx, token.KeyID, token.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	if key == nil || token.Verify(key) != nil {
		return refuse(unknown, "signature"), nil
	}
	// From here on it is the issuer who speaks.
	verdict := v.judge(i, token.Claims, text, now)
	verdict.keys, verdict.version = i.keys, version
	return verdict, nil
}
