package edge_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

// oauthAuth takes OAuth tokens and certificates besides what fakeAuth does. The
// token "bound" needs a proof, which Authenticate takes once, and the other RPCs with
// its receipt only; "short" is good until it is over.
type oauthAuth struct {
	*fakeAuth
	mu        sync.Mutex
	resource  *authv1.DescribeResourceResponse // nil: not ready
	described int
	over      bool // "short" has run out
	proofs    map[string]bool
	shown     []*authv1.Credential // to Authenticate
	used      []*authv1.Credential // to all others
}

// newOAuthWorld is a world whose auth takes OAuth tokens.
func newOAuthWorld(t testing.TB, change ...func(*edge.Options)) (*world, *oauthAuth) {
	t.Helper()
	a := &oauthAuth{fakeAuth: &fakeAuth{}, proofs: make(map[string]bool), resource: describedResource()}
	w := newWorld(t, append(change, func(o *edge.Options) {
		o.Auth = authv1.NewAuthServiceClient(rpctest.Serve(t, func(r grpc.ServiceRegistrar) { authv1.RegisterAuthServiceServer(r, a) }))
	})...)
	w.auth = a.fakeAuth
	return w, a
}

func describedResource() *authv1.DescribeResourceResponse {
	return &authv1.DescribeResourceResponse{
		Resource: "https://mcp.example.com/mcp", AuthorizationServers: []string{"https://id.example.com/realms/a"},
		ScopesSupported: []string{"mcp", "sql:read"}, ChallengeScopes: []string{"mcp"}, ResourceName: "Sally & co",
		Documentation: "https://example.com/docs", DpopAlgorithms: []string{"ES256"},
	}
}

// change does something to what auth knows.
func (a *oauthAuth) change(do func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	do()
}

// credentials returns what Authenticate and then what the other RPCs were shown.
func (a *oauthAuth) credentials() (shown, used []*authv1.Credential) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.shown), slices.Clone(a.used)
}

func (a *oauthAuth) DescribeResource(context.Context, *authv1.DescribeResourceRequest) (*authv1.DescribeResourceResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.described++
	if a.resource == nil {
		return nil, errDown
	}
	return a.resource, nil
}

func (a *oauthAuth) Authenticate(ctx context.Context, req *authv1.AuthenticateRequest) (*authv1.AuthenticateResponse, error) {
	c := req.GetCredential()
	a.mu.Lock()
	a.shown = append(a.shown, c)
	a.mu.Unlock()
	if c.GetScheme() == authv1.Scheme_SCHEME_CERTIFICATE {
		p := anna()
		p.Id, p.CredentialId = c.GetSpiffeId(), ""
		return &authv1.AuthenticateResponse{Principal: p, ValidFor: durationpb.New(time.Minute)}, nil
	}
	switch c.GetToken() {
	case "bound":
		return a.proved(c, true), nil
	case "bound-for-long": // what auth must not say, and the edge must not believe
		resp := a.proved(c, true)
		resp.ValidFor = durationpb.New(time.Minute)
		return resp, nil
	case "short":
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.over {
			return &authv1.AuthenticateResponse{}, nil
		}
		return &authv1.AuthenticateResponse{Principal: anna(), ValidFor: durationpb.New(time.Nanosecond)}, nil
	}
	return a.fakeAuth.Authenticate(ctx, req)
}

func (a *oauthAuth) proved(c *authv1.Credential, first bool) *authv1.AuthenticateResponse {
	if c.GetScheme() != authv1.Scheme_SCHEME_DPOP {
		return &authv1.AuthenticateResponse{Challenge: authv1.ChallengeError_CHALLENGE_ERROR_DPOP_NEEDED}
	}
	receipt := "receipt for " + c.GetDpopProof()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over || a.proofs[c.GetDpopProof()] == first || !first && string(c.GetProofReceipt()) != receipt {
		return &authv1.AuthenticateResponse{Challenge: authv1.ChallengeError_CHALLENGE_ERROR_DPOP_PROOF}
	}
	a.proofs[c.GetDpopProof()] = true
	return &authv1.AuthenticateResponse{Principal: anna(), ProofReceipt: []byte(receipt)}
}

// use keeps a credential, and reports whether it is good now.
func (a *oauthAuth) use(c *authv1.Credential) bool {
	a.mu.Lock()
	a.used = append(a.used, c)
	a.mu.Unlock()
	switch {
	case c.GetScheme() == authv1.Scheme_SCHEME_DPOP:
		return a.proved(c, false).GetPrincipal() != nil
	case c.GetToken() == "short":
		a.mu.Lock()
		defer a.mu.Unlock()
		return !a.over
	}
	return true
}

func (a *oauthAuth) Authorize(ctx context.Context, req *authv1.AuthorizeRequest) (*authv1.AuthorizeResponse, error) {
	if !a.use(req.GetCredential()) {
		return &authv1.AuthorizeResponse{}, nil
	}
	return a.fakeAuth.Authorize(ctx, req)
}

func (a *oauthAuth) FilterTools(ctx context.Context, req *authv1.FilterToolsRequest) (*authv1.FilterToolsResponse, error) {
	if !a.use(req.GetCredential()) {
		return &authv1.FilterToolsResponse{}, nil
	}
	return a.fakeAuth.FilterTools(ctx, req)
}

func (a *oauthAuth) FilterTargets(ctx context.Context, req *authv1.FilterTargetsRequest) (*authv1.FilterTargetsResponse, error) {
	if !a.use(req.GetCredential()) {
		return &authv1.FilterTargetsResponse{}, nil
	}
	return a.fakeAuth.FilterTargets(ctx, req)
}
