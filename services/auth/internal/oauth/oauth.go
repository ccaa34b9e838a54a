// Package oauth judges access tokens as a resource server does (OAuth 2.1, RFC
// 9068): whether an issuer that is configured has signed one, for this server, for
// now; and it makes a principal of the claims.
//
// Nothing in a token makes it fetch anything: an issuer is looked up by name among
// those configured, keys are fetched at the issuer's place and at most every so
// often, and keys or URLs in headers of tokens are not looked at.
package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
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
	// Expires is when the token ends.
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
}

type issuer struct {
	Issuer
	claims     Claims
	algorithms []string
	audiences  []string // canonical
	keys       *keys
}

// New returns a verifier. Run must run for it to know keys.
func New(c Config, log *slog.Logger) (*Verifier, error) {
	v := &Verifier{resource: c.Resource, skew: c.Skew, implies: c.ScopeImplies, issuers: make(map[string]*issuer)}
	for i, cfg := range c.Issuers {
		k, err := newKeys(c, cfg, log)
		if err != nil {
			return nil, fmt.Errorf("issuers[%d].%w", i, err)
		}
		one := &issuer{Issuer: cfg, claims: cfg.Claims.withDefaults(), algorithms: cfg.Algorithms, keys: k}
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

// Run keeps the keys of issuers fresh until ctx is done.
func (v *Verifier) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, i := range v.issuers {
		wg.Go(func() { i.keys.run(ctx) })
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

	keys    *keys
	version uint64
}

// Current reports whether a good token still is by the keys that are known now,
// and not over.
func (d *Verdict) Current(now time.Time) bool {
	return d.Identity != nil && now.Before(d.Identity.Expires) && d.keys.current(d.version)
}

// The types that an access token may have; the header of an ID token or a proof
// says something else, or its audience does.
var tokenTypes = []string{"", "at+jwt", "jwt"}

// Verify judges a token. The error is ErrNotReady, or none.
func (v *Verifier) Verify(ctx context.Context, text string, now time.Time) (*Verdict, error) {
	refuse := func(reason auditv1.Reason, why string) (*Verdict, error) {
		return &Verdict{Reason: reason, Why: why}, nil
	}
	const (
		malformed  = auditv1.Reason_REASON_CREDENTIAL_MALFORMED
		unknown    = auditv1.Reason_REASON_CREDENTIAL_UNKNOWN
		expired    = auditv1.Reason_REASON_CREDENTIAL_EXPIRED
		restricted = auditv1.Reason_REASON_CREDENTIAL_RESTRICTED
	)
	token, err := jose.Parse(text)
	if err != nil {
		return refuse(malformed, "malformed")
	}
	if !slices.Contains(tokenTypes, token.Type) {
		return refuse(malformed, "not an access token")
	}
	name, err := token.Claims.Text("iss")
	if err != nil {
		return refuse(malformed, "iss")
	}
	i := v.issuers[name]
	if i == nil || !slices.Contains(i.algorithms, token.Algorithm) {
		return refuse(unknown, "issuer or algorithm")
	}
	key, version, err := i.keys.find(ctx, token.KeyID, token.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	if key == nil || token.Verify(key) != nil {
		return refuse(unknown, "signature")
	}
	// From here on it is the issuer who speaks.
	expires, ok, err := token.Claims.Time("exp")
	if err != nil || !ok {
		return refuse(malformed, "exp")
	}
	if !now.Before(expires.Add(v.skew)) {
		return refuse(expired, "expired")
	}
	for _, claim := range []string{"nbf", "iat"} {
		from, ok, err := token.Claims.Time(claim)
		if err != nil {
			return refuse(malformed, claim)
		}
		if ok && now.Add(v.skew).Before(from) {
			return refuse(restricted, "not yet valid")
		}
	}
	audiences, err := token.Claims.Texts("aud")
	if err != nil {
		return refuse(malformed, "aud")
	}
	if !slices.ContainsFunc(audiences, func(a string) bool { return slices.Contains(i.audiences, canonical(a)) }) {
		return refuse(restricted, "for another audience")
	}
	proofKey, certificate, why := bound(token.Claims)
	if proofKey != "" && (i.DPoP == "" || i.DPoP == dpopOff) {
		why = "bound to a key, and proofs are off"
	}
	if why != "" {
		return refuse(restricted, why)
	}
	p, err := i.principal(token.Claims, text)
	if err != nil {
		return refuse(restricted, err.Error())
	}
	scopes, err := v.scopes(token.Claims)
	if err != nil {
		return refuse(malformed, "scope")
	}
	return &Verdict{
		Identity: &Identity{Principal: p, Scopes: scopes, Expires: expires.Add(v.skew), Key: proofKey, NeedsKey: i.DPoP == dpopRequired, Certificate: certificate},
		keys:     i.keys, version: version,
	}, nil
}

// bound reads what a token is bound to: a key, a certificate or both. Whoever takes
// it has to see the proof. Bound in any other way it is not good.
func bound(c jose.Claims) (key string, certificate []byte, why string) {
	raw, ok := c["cnf"]
	if !ok {
		return "", nil, ""
	}
	const strange = "bound in a way that is not known"
	cnf, err := jose.ParseClaims(raw)
	if err != nil || len(cnf) == 0 {
		return "", nil, strange
	}
	for name := range cnf {
		text, err := cnf.Text(name)
		if err != nil || text == "" {
			return "", nil, strange
		}
		switch name {
		case "jkt":
			key = text
		case "x5t#S256":
			if certificate, err = jose.Decode(text); err != nil || len(certificate) != sha256.Size {
				return "", nil, strange
			}
		default:
			return "", nil, strange
		}
	}
	return key, certificate, ""
}

// maxScopes is how many scopes a token may have.
const maxScopes = 256

// scopes reads scope (RFC 9068), or scp as some issuers call it, and adds what the
// configuration says that they imply.
func (v *Verifier) scopes(c jose.Claims) (map[string]bool, error) {
	list, err := c.Texts("scope")
	if err != nil {
		return nil, err
	}
	more, err := c.Texts("scp")
	if err != nil {
		return nil, err
	}
	all := make(map[string]bool)
	var add func(string)
	add = func(scope string) {
		if scope == "" || all[scope] || len(all) >= maxScopes {
			return
		}
		all[scope] = true
		for _, narrow := range v.implies[scope] {
			add(narrow)
		}
	}
	for _, text := range append(list, more...) {
		for _, scope := range strings.Fields(text) {
			add(scope)
		}
	}
	return all, nil
}

// principal makes a principal of claims. The error names what is wrong and no
// value.
func (i *issuer) principal(c jose.Claims, token string) (*authv1.Principal, error) {
	read := func(path string) string {
		object, name := c.At(path)
		text, err := object.Text(name)
		if err != nil {
			return ""
		}
		return text
	}
	subject, client := read(i.claims.Subject), read(i.claims.Client)
	if client == "" {
		client = read("azp")
	}
	id := "user:" + i.Issuer.Issuer + "/" + subject
	if subject == "" || subject == client { // nobody but the client itself
		id = "client:" + i.Issuer.Issuer + "/" + client
		subject = client
	}
	if subject == "" {
		return nil, errors.New("without subject")
	}
	if len(id) > 256 || !printable(id) {
		return nil, errors.New("with a subject that is too long or does not print")
	}
	sum := sha256.Sum256([]byte(token))
	p := &authv1.Principal{
		Id: id, Owner: clip(read(i.claims.Owner)), Name: clip(read(i.claims.Name)),
		CredentialId: "t_" + base64.RawURLEncoding.EncodeToString(sum[:12]), Tenant: i.DefaultTenant,
	}
	if i.claims.Tenant != "" {
		if tenant := read(i.claims.Tenant); tenant != "" {
			p.Tenant = tenant
		}
	}
	if p.GetTenant() == "" {
		p.Tenant = "default"
	}
	if !tenantPattern.MatchString(p.GetTenant()) {
		return nil, errors.New("with a tenant that is none")
	}
	roles, err := i.roles(c)
	p.Roles = roles
	return p, err
}

// roles reads and maps the roles. Values that are no roles count for nothing.
func (i *issuer) roles(c jose.Claims) ([]string, error) {
	all := make(map[string]bool)
	for _, r := range i.DefaultRoles {
		all[r] = true
	}
	object, name := c.At(i.claims.Roles)
	values, err := object.Texts(name)
	if err != nil {
		return nil, errors.New("with roles that are no list of strings")
	}
	if len(values) == 1 {
		values = strings.Fields(values[0])
	}
	for _, value := range values {
		if len(i.RoleMap) == 0 {
			if rolePattern.MatchString(value) {
				all[value] = true
			}
			continue
		}
		for _, r := range i.RoleMap[value] {
			all[r] = true
		}
	}
	const most = 32
	if len(all) > most {
		return nil, errors.New("with too many roles")
	}
	return slices.Sorted(maps.Keys(all)), nil
}

// canonical is a resource as it is compared: scheme and host in lower case, no
// slash at the end (RFC 3986, 6.2.2.1; MCP, "Resource Parameter Implementation").
func canonical(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return text
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	return strings.TrimSuffix(u.String(), "/")
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x21 || r == 0x7f || r == 0xfffd })
}

// clip cuts a text for people to what the contract has room for.
func clip(s string) string {
	const most = 128
	r := []rune(strings.ToValidUTF8(s, ""))
	return string(r[:min(len(r), most)])
}
