// Package oidctest runs a real OpenID provider in a test, so that OAuth is tried
// with what somebody else has written.
//
// Its protocol is package op of github.com/zitadel/oidc. What is ours is what it
// leaves to its user: it keeps everything in memory, logs everybody in as the same
// person at once, and issues access tokens, JWTs or opaque ones, for the resource that
// was asked for (RFC 8707) with the scopes that were, bound to a key where the client
// proves one.
package oidctest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// Clients that are registered from the beginning.
const (
	// PublicClient is a native client: it has no secret and needs PKCE.
	PublicClient = "mcp-client"
	// MachineClient gets tokens for itself, by MachineSecret.
	MachineClient = "mcp-machine"
	MachineSecret = "machine-secret"
	// ResourceServer is told about opaque tokens, by ResourceSecret.
	ResourceServer = "mcp-gateway"
	ResourceSecret = "gateway secret" // with a space, which has to be escaped
	// Subject is whom everybody is logged in as.
	Subject = "ada"
	// Redirect is where PublicClient comes back to, with any port. Nothing needs to
	// listen there.
	Redirect = "http://127.0.0.1/callback"
	// IntrospectionPath and RevocationPath are where it is asked about tokens and told
	// that they are to be revoked.
	IntrospectionPath = "/oauth/introspect"
	RevocationPath    = "/revoke"
)

// Provider is a running OpenID provider.
type Provider struct {
	// Issuer is its URL.
	Issuer string

	storage *storage
	mu      sync.Mutex
	asked   []Request
}

// Request is what a client has asked an endpoint for.
type Request struct {
	// Path is /authorize, /oauth/token or IntrospectionPath.
	Path string
	// Form has the parameters, in the query or in the body.
	Form url.Values
}

// New runs a provider on a port of its own until the test ends. Its tokens are good
// for an hour.
func New(t testing.TB) *Provider {
	t.Helper()
	s, err := newStorage()
	if err != nil {
		t.Fatal(err)
	}
	p := &Provider{storage: s}
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	p.Issuer = server.URL
	config := &op.Config{
		CodeMethodS256: true, AuthMethodPost: true, GrantTypeRefreshToken: true,
		SupportedScopes: []string{"openid", "offline_access"},
	}
	if _, err := rand.Read(config.CryptoKey[:]); err != nil {
		t.Fatal(err)
	}
	provider, err := op.NewProvider(config, s, op.StaticIssuer(p.Issuer), op.WithAllowInsecure())
	if err != nil {
		t.Fatal(err)
	}
	login := op.NewIssuerInterceptor(provider.IssuerFromRequest).HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.FormValue("id")
		if !s.login(id) {
			http.Error(w, "no such request", http.StatusNotFound)
			return
		}
		http.Redirect(w, r, op.AuthCallbackURL(provider)(r.Context(), id), http.StatusFound)
	})
	handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			http.Error(w, "no form", http.StatusBadRequest)
			return
		}
		switch r.URL.Path {
		case loginPath:
			login(w, r)
			return
		case "/authorize", "/oauth/token", IntrospectionPath:
			p.note(Request{Path: r.URL.Path, Form: r.Form})
		}
		r = r.WithContext(withResource(r.Context(), r.Form.Get("resource")))
		if r.URL.Path == "/oauth/token" && r.Header.Get("DPoP") != "" {
			bind(w, r, provider.ServeHTTP)
			return
		}
		provider.ServeHTTP(w, r)
	})
	return p
}

func (p *Provider) note(r Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, r)
}

// Requests returns what clients have asked for since it was last called.
func (p *Provider) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.asked
	p.asked = nil
	return asked
}

// Last tokens from now on: an access token is good that long.
func (p *Provider) Last(life time.Duration) {
	p.storage.mu.Lock()
	defer p.storage.mu.Unlock()
	p.storage.life = life
}

// Audience makes the tokens from now on those of another resource than was asked
// for, as a provider may that does not know of resources. Empty ends that.
func (p *Provider) Audience(resource string) {
	p.storage.mu.Lock()
	defer p.storage.mu.Unlock()
	p.storage.audience = resource
}

// Claims adds claims to the access tokens from now on.
func (p *Provider) Claims(claims map[string]any) {
	p.storage.mu.Lock()
	defer p.storage.mu.Unlock()
	p.storage.claims = claims
}

// Token is what an access token says.
type Token struct {
	Subject, Client string
	Audience        []string
	Scopes          []string
	// Over means that its time has passed.
	Over bool
	// Thumbprint is of the key that it is bound to (RFC 9449), if it is.
	Thumbprint string
}

// Read verifies the signature of an access token of this provider, which is a JWT.
func (p *Provider) Read(token string) (Token, error) {
	signed, err := jose.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return Token{}, err
	}
	payload, err := signed.Verify(p.storage.key.key.Public())
	if err != nil {
		return Token{}, err
	}
	var claims oidc.AccessTokenClaims
	if err := json.Unmarshal(payload, &claims); err != nil {
		return Token{}, err
	}
	t := Token{
		Subject: claims.Subject, Client: claims.ClientID, Audience: claims.Audience, Scopes: claims.Scopes,
		Over: time.Now().After(claims.Expiration.AsTime()),
	}
	if cnf, ok := claims.Claims["cnf"].(map[string]any); ok {
		t.Thumbprint, _ = cnf["jkt"].(string)
	}
	return t, nil
}

// Browse does what a browser would do with an authorization URL: it follows
// redirects until one leads away from the provider, and returns that one.
func Browse(ctx context.Context, address string) (*url.URL, error) {
	var back *url.URL
	client := &http.Client{CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if next.URL.Host == via[0].URL.Host {
			return nil
		}
		back = next.URL
		return http.ErrUseLastResponse
	}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // nothing is read
	if back == nil {
		return nil, fmt.Errorf("the provider answers %s", resp.Status)
	}
	return back, nil
}
