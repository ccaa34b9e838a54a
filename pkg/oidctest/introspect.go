package oidctest

import (
	"context"
	"crypto/rand"
	"maps"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// issued is what the provider knows of an access token until it is revoked.
type issued struct {
	grant
	from, end time.Time
	claims    map[string]any
}

// Opaque makes the access tokens from now on opaque: what they mean is told at
// IntrospectionPath, to ResourceServer (RFC 7662).
func (p *Provider) Opaque() {
	p.storage.mu.Lock()
	defer p.storage.mu.Unlock()
	p.storage.tokens = op.AccessTokenTypeBearer
}

// issue notes a new access token, with the lock held.
func (s *storage) issue(ctx context.Context, g grant) (id string, end time.Time) {
	id, now := rand.Text(), time.Now()
	t := issued{grant: g, from: now, end: now.Add(s.life), claims: maps.Clone(s.claims)}
	if cnf := confirmation(ctx); cnf != nil {
		if t.claims == nil {
			t.claims = make(map[string]any)
		}
		t.claims["cnf"] = cnf
	}
	s.issued[id] = t
	return id, t.end
}

// RevokeToken forgets an access token (RFC 7009). What is not known is as good as
// revoked.
func (s *storage) RevokeToken(_ context.Context, id, _, client string) *oidc.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.issued[id].client == client {
		delete(s.issued, id)
	}
	return nil
}

// SetIntrospectionFromToken tells a resource server of an access token. The error says
// that it is not active.
func (s *storage) SetIntrospectionFromToken(ctx context.Context, to *oidc.IntrospectionResponse, id, _, client string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.issued[id]
	if !ok || client != ResourceServer || !time.Now().Before(t.end) {
		return errUnknown
	}
	to.Issuer, to.Subject, to.ClientID = op.IssuerFromContext(ctx), t.subject, t.client
	to.Audience, to.Scope, to.TokenType = t.GetAudience(), t.scopes, oidc.BearerToken
	to.Expiration, to.IssuedAt, to.JWTID = oidc.FromTime(t.end), oidc.FromTime(t.from), id
	to.Claims = t.claims
	if _, bound := t.claims["cnf"]; bound {
		to.TokenType = "DPoP"
	}
	return nil
}
