package oauth

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Introspection is how an issuer is asked about its opaque tokens, of which only it
// knows what they mean (RFC 7662).
//
// A token goes to one issuer or to none. It is the one whose token_prefix it begins
// with. Without such a one, a signed JWT is verified by keys, or goes to the issuer
// that it names if that has "tokens: opaque"; anything else goes to the one issuer
// with introspection and without token_prefix. A token of somebody else that is sent
// here by mistake, a password for that matter, is told to that last one: give all of
// them a prefix where their tokens have one. API keys are told to nobody.
//
// A revoked token is refused after the time of cache, at the latest: neither this
// service nor the edge remembers an answer for longer. What was allowed before goes on.
type Introspection struct {
	// URL is the introspection endpoint.
	URL string `yaml:"url"`
	// ClientID is as whom this server asks. The issuer should know it as the resource
	// server that tokens are for: some say nothing of tokens for others.
	ClientID string `yaml:"client_id"`
	// ClientSecretFile holds the client's secret, one line. It is read each time.
	ClientSecretFile string `yaml:"client_secret_file"`
	// AuthMethod is how the secret is sent: client_secret_basic, the default, or
	// client_secret_post.
	AuthMethod string `yaml:"auth_method"`
	// TokenPrefix is what all opaque tokens of the issuer begin with, and no others.
	// Of several issuers one may do without.
	TokenPrefix string `yaml:"token_prefix"`
	// Cache is for how long an answer is good, counted from the question, and never
	// longer than the token; 10s when zero. That a token is not good is remembered
	// for 2s at most.
	Cache time.Duration `yaml:"cache"`
	// Timeout is how long the issuer may take to answer, 1.5s when zero. It should be
	// shorter than the peer_timeout of the edge. What it cannot tell is refused (fails
	// closed), as if keys were not known.
	Timeout time.Duration `yaml:"timeout"`
}

// The words for AuthMethod and for Issuer.Tokens.
const (
	secretBasic  = "client_secret_basic"
	secretPost   = "client_secret_post"
	tokensOpaque = "opaque"
)

func (n Introspection) withDefaults() Introspection {
	if n.AuthMethod == "" {
		n.AuthMethod = secretBasic
	}
	if n.Cache == 0 {
		n.Cache = 10 * time.Second
	}
	if n.Timeout == 0 {
		n.Timeout = 1500 * time.Millisecond
	}
	return n
}

var (
	// clientPattern is what RFC 6749 allows, without spaces.
	clientPattern = regexp.MustCompile(`^[\x21-\x7e]{1,256}$`)
	// prefixPattern is a beginning of a token (RFC 6750) that is no JWT.
	prefixPattern = regexp.MustCompile(`^[A-Za-z0-9._~+/-]{3,64}$`)
)

func (n Introspection) validate() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("introspection."+format, args...)) }
	n = n.withDefaults()
	if err := address(n.URL); err != nil {
		bad("url: %q %w", n.URL, err)
	}
	if !clientPattern.MatchString(n.ClientID) {
		bad("client_id: %q is not 1 to 256 characters of ASCII without spaces", n.ClientID)
	}
	if n.ClientSecretFile == "" {
		bad("client_secret_file: missing; it names the file with the secret of the client")
	}
	if n.AuthMethod != secretBasic && n.AuthMethod != secretPost {
		bad("auth_method: %q is neither %s nor %s", n.AuthMethod, secretBasic, secretPost)
	}
	if p := n.TokenPrefix; p != "" && (!prefixPattern.MatchString(p) || strings.HasPrefix(p, "ey")) {
		bad("token_prefix: %q is not 3 to 64 characters of tokens, or is how JWTs begin", p)
	}
	if n.Cache < time.Second || n.Cache > time.Minute {
		bad("cache: %v is not between 1s and 1m", n.Cache)
	}
	if n.Timeout < 100*time.Millisecond || n.Timeout > 10*time.Second {
		bad("timeout: %v is not between 100ms and 10s", n.Timeout)
	}
	return errs
}

// validateAsked checks that each token has one issuer to be asked about it.
func (c Config) validateAsked() error {
	var errs []error
	without := -1
	for i, one := range c.Issuers {
		switch {
		case one.Introspection == nil:
		case one.Introspection.TokenPrefix == "" && without >= 0:
			errs = append(errs, fmt.Errorf("issuers[%d].introspection.token_prefix: missing, as it is in issuers[%d]; one issuer can do without", i, without))
		case one.Introspection.TokenPrefix == "":
			without = i
		default:
			for j, other := range c.Issuers {
				if i != j && other.Introspection != nil && other.Introspection.TokenPrefix != "" &&
					strings.HasPrefix(one.Introspection.TokenPrefix, other.Introspection.TokenPrefix) {
					errs = append(errs, fmt.Errorf("issuers[%d].introspection.token_prefix: %q begins with that of issuers[%d]", i, one.Introspection.TokenPrefix, j))
				}
			}
		}
	}
	return errors.Join(errs...)
}
