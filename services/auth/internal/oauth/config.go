package oauth

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/jose"
)

// Config is the "oauth" section of auth's configuration. Without issuers no token
// is good.
type Config struct {
	// Resource is the canonical URI of this server, https://gate.example.com/mcp: the
	// audience that tokens must be for (RFC 8707).
	Resource string `yaml:"resource"`
	// ResourceName and Documentation are for people (RFC 9728).
	ResourceName  string `yaml:"resource_name"`
	Documentation string `yaml:"documentation"`
	// ScopesSupported is told to clients; ChallengeScopes are those without which
	// nothing can be done, for which a client is told to ask first.
	ScopesSupported []string `yaml:"scopes_supported"`
	ChallengeScopes []string `yaml:"challenge_scopes"`
	// ScopeImplies says which scopes a broader one stands for.
	ScopeImplies map[string][]string `yaml:"scope_implies"`
	// Issuers are those whose tokens are good.
	Issuers []Issuer `yaml:"issuers"`
	// Skew is how far apart clocks may be.
	Skew time.Duration `yaml:"skew"`
	// Refresh is how often keys of issuers are fetched, MinInterval how often at most,
	// whatever tokens say, and MaxStale for how long old keys are good while an issuer
	// does not answer; after that its tokens are refused (fails closed).
	Refresh     time.Duration `yaml:"refresh"`
	MinInterval time.Duration `yaml:"min_interval"`
	MaxStale    time.Duration `yaml:"max_stale"`
}

// Issuer is an authorization server.
type Issuer struct {
	// Issuer is the iss of its tokens, to the letter.
	Issuer string `yaml:"issuer"`
	// Audiences are good besides the resource.
	Audiences []string `yaml:"audiences"`
	// JWKSURL is where its keys are. When empty it is found by the issuer's metadata
	// (RFC 8414, OpenID Connect Discovery).
	JWKSURL string `yaml:"jwks_url"`
	// CAFile holds certificates to trust besides those of the system, PEM.
	CAFile string `yaml:"ca_file"`
	// Tokens is "opaque" if all of its tokens are to be asked about, JWTs too, so that
	// none outlives its revocation; then no keys are fetched. Otherwise JWTs are
	// verified by keys.
	Tokens string `yaml:"tokens"`
	// Introspection says how it is asked about tokens that are opaque. Without it they
	// are not good.
	Introspection *Introspection `yaml:"introspection"`
	// Algorithms are those it signs with; RS256, PS256, ES256 and EdDSA when empty.
	Algorithms []string `yaml:"algorithms"`
	// Claims says where in a token things are.
	Claims Claims `yaml:"claims"`
	// RoleMap makes roles of values of the roles claim. When it is empty, the values
	// are the roles; when not, values that it does not have count for nothing.
	RoleMap map[string][]string `yaml:"role_map"`
	// DefaultRoles are those of everybody with a token of this issuer.
	DefaultRoles []string `yaml:"default_roles"`
	// DefaultTenant is that of tokens that do not say; "default" when empty.
	DefaultTenant string `yaml:"default_tenant"`
	// DPoP is "off" (the default; tokens that are bound to a key are refused),
	// "optional" or "required": whether clients prove that they hold the key that
	// their token is bound to (RFC 9449).
	DPoP string `yaml:"dpop"`
}

// The words for DPoP.
const (
	dpopOff      = "off"
	dpopOptional = "optional"
	dpopRequired = "required"
)

// Claims are names of claims; a path such as realm_access.roles goes into objects.
type Claims struct {
	Subject string `yaml:"subject"`
	Client  string `yaml:"client"`
	Name    string `yaml:"name"`
	Owner   string `yaml:"owner"`
	Tenant  string `yaml:"tenant"`
	Roles   string `yaml:"roles"`
}

// withDefaults fills in the names that are registered for it.
func (c Claims) withDefaults() Claims {
	for _, d := range []struct {
		name *string
		word string
	}{{&c.Subject, "sub"}, {&c.Client, "client_id"}, {&c.Name, "name"}, {&c.Owner, "email"}, {&c.Roles, "roles"}} {
		if *d.name == "" {
			*d.name = d.word
		}
	}
	return c
}

// DefaultConfig returns the values that hold where the file is silent.
func DefaultConfig() Config {
	return Config{Skew: 30 * time.Second, Refresh: 5 * time.Minute, MinInterval: 30 * time.Second, MaxStale: time.Hour}
}

// Proofs reports whether some issuers' tokens can be bound by DPoP, and whether all
// have to be.
func (c Config) Proofs() (some, all bool) {
	all = c.Enabled()
	for _, i := range c.Issuers {
		some = some || i.DPoP == dpopOptional || i.DPoP == dpopRequired
		all = all && i.DPoP == dpopRequired
	}
	return some, all
}

// Enabled reports whether tokens of any issuer are good.
func (c Config) Enabled() bool { return len(c.Issuers) > 0 }

var (
	rolePattern   = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`)
	tenantPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	scopePattern  = regexp.MustCompile(`^[\x21\x23-\x5b\x5d-\x7e]{1,128}$`) // RFC 6749
)

// Validate reports every mistake at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	within := func(name string, d, least, most time.Duration) {
		if d < least || d > most {
			bad("%s: %v is not between %v and %v", name, d, least, most)
		}
	}
	within("skew", c.Skew, 0, 5*time.Minute)
	within("refresh", c.Refresh, time.Second, 24*time.Hour)
	within("min_interval", c.MinInterval, time.Second, time.Hour)
	within("max_stale", c.MaxStale, c.Refresh, 7*24*time.Hour)
	if c.Enabled() || c.Resource != "" {
		if err := address(c.Resource); err != nil || strings.HasSuffix(c.Resource, "/") {
			bad("resource: %q is not an https URL without a slash at its end", c.Resource)
		}
		if !c.Enabled() {
			bad("issuers: none, so no token could be for the resource")
		}
	}
	if len(c.Issuers) > 16 {
		bad("issuers: %d, and 16 are the most", len(c.Issuers))
	}
	scopes := func(name string, list []string) {
		for i, s := range list {
			if !scopePattern.MatchString(s) {
				bad("%s[%d]: %q is no scope", name, i, s)
			}
		}
		if len(list) > 64 {
			bad("%s: more than 64", name)
		}
	}
	scopes("scopes_supported", c.ScopesSupported)
	scopes("challenge_scopes", c.ChallengeScopes)
	for broad, narrow := range c.ScopeImplies {
		scopes("scope_implies."+broad, append([]string{broad}, narrow...))
	}
	seen := make(map[string]bool)
	for i, issuer := range c.Issuers {
		if seen[issuer.Issuer] {
			bad("issuers[%d].issuer: %q is there twice", i, issuer.Issuer)
		}
		seen[issuer.Issuer] = true
		if err := issuer.validate(); err != nil {
			for _, e := range err {
				bad("issuers[%d].%w", i, e)
			}
		}
	}
	errs = append(errs, c.validateAsked())
	return errors.Join(errs...)
}

func (i Issuer) validate() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := address(i.Issuer); err != nil {
		bad("issuer: %q %w", i.Issuer, err)
	}
	if i.JWKSURL != "" {
		if err := address(i.JWKSURL); err != nil {
			bad("jwks_url: %q %w", i.JWKSURL, err)
		}
	}
	switch {
	case i.Tokens != "" && i.Tokens != tokensOpaque:
		bad("tokens: %q is not %s, or nothing", i.Tokens, tokensOpaque)
	case i.Tokens == tokensOpaque && i.Introspection == nil:
		bad("introspection: missing; it says who is asked about opaque tokens")
	case i.Tokens == tokensOpaque && i.JWKSURL != "":
		bad("jwks_url: no keys are used with tokens: %s", tokensOpaque)
	}
	if i.Introspection != nil {
		errs = append(errs, i.Introspection.validate()...)
	}
	for _, a := range i.Algorithms {
		if !slices.Contains(jose.Algorithms(), a) {
			bad("algorithms: %q is none of %s", a, strings.Join(jose.Algorithms(), ", "))
		}
	}
	check := func(name string, roles []string) {
		for _, r := range roles {
			if !rolePattern.MatchString(r) {
				bad("%s: %q is no role: lower-case letters, digits, - and _, a letter first", name, r)
			}
		}
	}
	if !slices.Contains([]string{"", dpopOff, dpopOptional, dpopRequired}, i.DPoP) {
		bad("dpop: %q is none of off, optional and required", i.DPoP)
	}
	check("default_roles", i.DefaultRoles)
	for value, roles := range i.RoleMap {
		check("role_map."+value, roles)
	}
	if i.DefaultTenant != "" && !tenantPattern.MatchString(i.DefaultTenant) {
		bad("default_tenant: %q is no tenant: lower-case letters, digits and dashes", i.DefaultTenant)
	}
	return errs
}

// address checks that a URL is https, or http on this machine.
func address(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(text) > 512 {
		return errors.New("is not a plain URL")
	}
	if u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()) {
		return nil
	}
	return errors.New("is not https")
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
