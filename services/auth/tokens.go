package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// maxTokens is how many good tokens are remembered. Past it all are forgotten,
// which costs a verification each.
const maxTokens = 10_000

// tokens tells who holds an access token. It remembers good ones, by their hash, so
// that a caller is the same from call to call and what policies say of him can be
// remembered too.
type tokens struct {
	verifier *oauth.Verifier

	mu   sync.Mutex
	good map[[sha256.Size]byte]*goodToken
}

type goodToken struct {
	verdict *oauth.Verdict
	caller  *caller
}

func newTokens(cfg oauth.Config, log *slog.Logger) (*tokens, error) {
	v, err := oauth.New(cfg, log)
	if err != nil {
		return nil, err
	}
	return &tokens{verifier: v, good: make(map[[sha256.Size]byte]*goodToken)}, nil
}

// identify returns whose a token is, or why it is not good. Where flooded reports that
// its sender has shown too many bad ones, its issuer is not asked about it. The error
// says that it cannot be told.
func (t *tokens) identify(ctx context.Context, shown *authv1.Credential, now time.Time, flooded func() bool) (*goodToken, auditv1.Reason, error) {
	hash := sha256.Sum256([]byte(shown.GetToken()))
	t.mu.Lock()
	known := t.good[hash]
	t.mu.Unlock()
	if known == nil || !known.verdict.Current(now) {
		verdict, err := t.verifier.Verify(ctx, shown.GetToken(), now, flooded)
		if err != nil {
			return nil, 0, err
		}
		if verdict.Identity == nil {
			return nil, verdict.Reason, nil
		}
		known = &goodToken{verdict, ofToken(verdict.Identity)}
		t.remember(hash, known)
	}
	if bound := known.verdict.Identity.Certificate; bound != nil && !bytes.Equal(bound, shown.GetCertificateSha256()) {
		return nil, auditv1.Reason_REASON_CREDENTIAL_RESTRICTED, nil
	}
	return known, 0, nil
}

func (t *tokens) remember(hash [sha256.Size]byte, g *goodToken) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.good) >= maxTokens {
		clear(t.good)
	}
	t.good[hash] = g
}

// ofToken returns the caller who has shown a token.
func ofToken(id *oauth.Identity) *caller {
	return &caller{
		principal: id.Principal, subject: policy.NewSubject(id.Principal, slices.Collect(maps.Keys(id.Scopes))), scopes: id.Scopes,
		proofKey: id.Key, needsProof: id.NeedsKey, validUntil: id.Expires,
	}
}

// scopesOf makes a set of scopes, nil of none.
func scopesOf(list []string) map[string]bool {
	if len(list) == 0 {
		return nil
	}
	all := make(map[string]bool, len(list))
	for _, s := range list {
		all[s] = true
	}
	return all
}

// stepUp refuses what policies allow where the caller's token lacks scopes that the
// tool asks for. It names all that are needed, so that one step is enough (MCP,
// "Scope Challenge Handling"). An API key has no scopes and needs none.
func (r *ruling) stepUp(c *caller) {
	if c.scopes == nil || r.tool == nil || r.reason != auditv1.Reason_REASON_UNSPECIFIED && r.lift == policy.ApprovalNone {
		return
	}
	if !slices.ContainsFunc(r.tool.scopes, func(s string) bool { return !c.scopes[s] }) {
		return
	}
	r.lift, r.rule, r.source = policy.ApprovalNone, "", ""
	r.reason, r.scopes = auditv1.Reason_REASON_INSUFFICIENT_SCOPE, r.tool.scopes
	r.message = clip(fmt.Sprintf("The token lacks scopes that this tool needs: %s.", strings.Join(r.tool.scopes, " ")), maxMessage)
}
