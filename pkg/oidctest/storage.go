package oidctest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const loginPath = "/login"

var errUnknown = errors.New("it is not known")

type resourceKey struct{}

// withResource keeps the parameter that the library does not know.
func withResource(ctx context.Context, resource string) context.Context {
	return context.WithValue(ctx, resourceKey{}, resource)
}

func resourceOf(ctx context.Context) string {
	text, _ := ctx.Value(resourceKey{}).(string)
	return text
}

// storage is what the library wants of its user, in memory.
type storage struct {
	key *signingKey

	mu       sync.Mutex
	life     time.Duration
	audience string
	claims   map[string]any
	tokens   op.AccessTokenType
	requests map[string]*authRequest
	codes    map[string]string
	refresh  map[string]*grant
	issued   map[string]issued
}

func newStorage() (*storage, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return &storage{
		key: &signingKey{id: rand.Text(), key: key}, life: time.Hour, tokens: op.AccessTokenTypeJWT,
		requests: make(map[string]*authRequest), codes: make(map[string]string), refresh: make(map[string]*grant),
		issued: make(map[string]issued),
	}, nil
}

// login says that the person has logged in for a request.
func (s *storage) login(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.requests[id]
	if ok {
		r.done = true
	}
	return ok
}

// grant is what somebody was granted: what tokens say.
type grant struct {
	subject, client string
	resource        string
	scopes          []string
	at              time.Time
}

func (g *grant) GetAMR() []string             { return []string{"pwd"} }
func (g *grant) GetAuthTime() time.Time       { return g.at }
func (g *grant) GetClientID() string          { return g.client }
func (g *grant) GetScopes() []string          { return g.scopes }
func (g *grant) GetSubject() string           { return g.subject }
func (g *grant) SetCurrentScopes(of []string) { g.scopes = of }

func (g *grant) GetAudience() []string {
	if g.resource == "" {
		return nil
	}
	return []string{g.resource}
}

// authRequest is a request at /authorize until its code is used.
type authRequest struct {
	grant
	id   string
	of   *oidc.AuthRequest
	done bool
}

func (r *authRequest) GetID() string                      { return r.id }
func (r *authRequest) GetACR() string                     { return "" }
func (r *authRequest) GetNonce() string                   { return r.of.Nonce }
func (r *authRequest) GetRedirectURI() string             { return r.of.RedirectURI }
func (r *authRequest) GetResponseType() oidc.ResponseType { return r.of.ResponseType }
func (r *authRequest) GetResponseMode() oidc.ResponseMode { return r.of.ResponseMode }
func (r *authRequest) GetState() string                   { return r.of.State }
func (r *authRequest) Done() bool                         { return r.done }
func (r *authRequest) GetCodeChallenge() *oidc.CodeChallenge {
	return &oidc.CodeChallenge{Challenge: r.of.CodeChallenge, Method: r.of.CodeChallengeMethod}
}

func (s *storage) CreateAuthRequest(ctx context.Context, of *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	if of.CodeChallenge == "" || of.CodeChallengeMethod != oidc.CodeChallengeMethodS256 {
		return nil, oidc.ErrInvalidRequest().WithDescription("PKCE is needed")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &authRequest{id: rand.Text(), of: of, grant: grant{
		subject: Subject, client: of.ClientID, resource: s.resource(ctx), scopes: slices.Clone(of.Scopes), at: time.Now(),
	}}
	s.requests[r.id] = r
	return r, nil
}

// resource is the audience of a token, with the lock held.
func (s *storage) resource(ctx context.Context) string {
	if s.audience != "" {
		return s.audience
	}
	return resourceOf(ctx)
}

func (s *storage) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.requests[id]; ok {
		return r, nil
	}
	return nil, errUnknown
}

func (s *storage) AuthRequestByCode(ctx context.Context, code string) (op.AuthRequest, error) {
	s.mu.Lock()
	id, ok := s.codes[code]
	delete(s.codes, code) // good once
	s.mu.Unlock()
	if !ok {
		return nil, errUnknown
	}
	return s.AuthRequestByID(ctx, id)
}

func (s *storage) SaveAuthCode(_ context.Context, id, code string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes[code] = id
	return nil
}

func (s *storage) DeleteAuthRequest(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.requests, id)
	return nil
}

func (s *storage) CreateAccessToken(ctx context.Context, of op.TokenRequest) (id string, end time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := granted(of)
	if err != nil {
		return "", time.Time{}, err
	}
	id, end = s.issue(ctx, g)
	return id, end, nil
}

// granted returns what a token is asked for by.
func granted(of op.TokenRequest) (grant, error) {
	switch of := of.(type) {
	case *authRequest:
		return of.grant, nil
	case *grant:
		return *of, nil
	default:
		return grant{}, errUnknown
	}
}

// CreateAccessAndRefreshTokens gives out another refresh token each time, and the
// one before is not good any longer.
func (s *storage) CreateAccessAndRefreshTokens(ctx context.Context, of op.TokenRequest, before string) (id, refresh string, end time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.refresh, before)
	kept, err := granted(of)
	if err != nil {
		return "", "", time.Time{}, err
	}
	refresh = rand.Text()
	s.refresh[refresh] = &kept
	id, end = s.issue(ctx, kept)
	return id, refresh, end, nil
}

func (s *storage) TokenRequestByRefreshToken(_ context.Context, token string) (op.RefreshTokenRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.refresh[token]
	if !ok {
		return nil, op.ErrInvalidRefreshToken
	}
	of := *g
	return &of, nil
}

func (s *storage) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	if err := s.AuthorizeClientIDSecret(ctx, id, secret); err != nil {
		return nil, err
	}
	return s.GetClientByClientID(ctx, id)
}

// ClientCredentialsTokenRequest grants a client what it asks for itself: it is the
// subject.
func (s *storage) ClientCredentialsTokenRequest(ctx context.Context, id string, scopes []string) (op.TokenRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &grant{subject: id, client: id, resource: s.resource(ctx), scopes: scopes, at: time.Now()}, nil
}

func (s *storage) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch id {
	case PublicClient:
		return client{id, oidc.AuthMethodNone, []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken}, s.tokens}, nil
	case MachineClient:
		return client{id, oidc.AuthMethodBasic, []oidc.GrantType{oidc.GrantTypeClientCredentials}, s.tokens}, nil
	case ResourceServer:
		return client{id, oidc.AuthMethodBasic, nil, s.tokens}, nil
	}
	return nil, errUnknown
}

func (s *storage) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	want, ok := map[string]string{MachineClient: MachineSecret, ResourceServer: ResourceSecret}[id]
	if !ok || subtle.ConstantTimeCompare([]byte(secret), []byte(want)) != 1 {
		return errUnknown
	}
	return nil
}

// GetPrivateClaimsFromScopes adds what the library leaves out of access tokens.
func (s *storage) GetPrivateClaimsFromScopes(ctx context.Context, _, _ string, scopes []string) (map[string]any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	claims := map[string]any{"scope": strings.Join(scopes, " ")}
	if cnf := confirmation(ctx); cnf != nil {
		claims["cnf"] = cnf
	}
	maps.Copy(claims, s.claims)
	return claims, nil
}

func (s *storage) SigningKey(context.Context) (op.SigningKey, error) { return s.key, nil }

func (s *storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

func (s *storage) KeySet(context.Context) ([]op.Key, error) { return []op.Key{publicKey{s.key}}, nil }

func (s *storage) Health(context.Context) error { return nil }

// What follows belongs to flows that are not used here.

func (s *storage) TerminateSession(context.Context, string, string) error { return nil }

func (s *storage) GetRefreshTokenInfo(context.Context, string, string) (user, id string, err error) {
	return "", "", op.ErrInvalidRefreshToken
}

func (s *storage) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

func (s *storage) SetUserinfoFromToken(context.Context, *oidc.UserInfo, string, string, string) error {
	return nil
}

func (s *storage) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errUnknown
}

func (s *storage) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errUnknown
}
