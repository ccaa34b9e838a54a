package edge_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdkauth "github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/auth/extauth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"google.golang.org/grpc"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/oidctest"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

// providerAuth takes the tokens of a provider that are for this server.
type providerAuth struct {
	*oauthAuth
	provider *oidctest.Provider
}

// holder returns whose a token is, nil if it is not good.
func (a *providerAuth) holder(c *authv1.Credential) (*authv1.Principal, []string) {
	token, err := a.provider.Read(c.GetToken())
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil || token.Over || !slices.Equal(token.Audience, []string{a.resource.GetResource()}) {
		return nil, nil
	}
	kind := "user:"
	if token.Subject == token.Client {
		kind = "client:"
	}
	return &authv1.Principal{Id: kind + a.provider.Issuer + "/" + token.Subject, Tenant: "default"}, token.Scopes
}

func (a *providerAuth) Authenticate(_ context.Context, req *authv1.AuthenticateRequest) (*authv1.AuthenticateResponse, error) {
	p, _ := a.holder(req.GetCredential())
	return &authv1.AuthenticateResponse{Principal: p}, nil
}

func (a *providerAuth) Authorize(ctx context.Context, req *authv1.AuthorizeRequest) (*authv1.AuthorizeResponse, error) {
	p, scopes := a.holder(req.GetCredential())
	if p == nil {
		return &authv1.AuthorizeResponse{}, nil
	}
	needed := []string{"mcp"}
	if req.GetTarget() == "summarize_logs" || req.GetTarget() == "send_mail" {
		needed = append(needed, "scope:"+req.GetTarget())
	}
	for _, scope := range needed {
		if !slices.Contains(scopes, scope) {
			return &authv1.AuthorizeResponse{Principal: p, ScopesNeeded: needed, Decision: &authv1.Decision{
				Id: "d_01K00000000000000000000000", Verdict: auditv1.Verdict_VERDICT_DENY, Reason: auditv1.Reason_REASON_INSUFFICIENT_SCOPE,
			}}, nil
		}
	}
	return a.fakeAuth.Authorize(ctx, req)
}

func (a *providerAuth) FilterTools(ctx context.Context, req *authv1.FilterToolsRequest) (*authv1.FilterToolsResponse, error) {
	if p, _ := a.holder(req.GetCredential()); p == nil {
		return &authv1.FilterToolsResponse{}, nil
	}
	return a.fakeAuth.FilterTools(ctx, req)
}

// newProviderWorld is a world that takes the tokens of a real OpenID provider.
func newProviderWorld(t *testing.T) (*world, *oidctest.Provider) {
	t.Helper()
	provider := oidctest.New(t)
	a := &providerAuth{&oauthAuth{fakeAuth: &fakeAuth{}, resource: &authv1.DescribeResourceResponse{}}, provider}
	w := newWorld(t, func(o *edge.Options) {
		o.Auth = authv1.NewAuthServiceClient(rpctest.Serve(t, func(r grpc.ServiceRegistrar) { authv1.RegisterAuthServiceServer(r, a) }))
	})
	a.change(func() {
		a.resource = &authv1.DescribeResourceResponse{
			Resource: w.url + "/mcp", AuthorizationServers: []string{provider.Issuer},
			ScopesSupported: []string{"mcp", "scope:send_mail"}, ChallengeScopes: []string{"mcp"},
		}
	})
	return w, provider
}

// user is a handler that sends the person to the provider as soon as it has to.
func user(t *testing.T) sdkauth.OAuthHandler {
	t.Helper()
	h, err := sdkauth.NewAuthorizationCodeHandler(&sdkauth.AuthorizationCodeHandlerConfig{
		PreregisteredClient: &oauthex.ClientCredentials{ClientID: oidctest.PublicClient},
		RedirectURL:         "http://127.0.0.1:9/callback", RequestRefreshToken: true,
		AuthorizationCodeFetcher: func(ctx context.Context, args *sdkauth.AuthorizationArgs) (*sdkauth.AuthorizationResult, error) {
			back, err := oidctest.Browse(ctx, args.URL)
			if err != nil {
				return nil, err
			}
			q := back.Query()
			if q.Get("error") != "" {
				return nil, errors.New(back.String())
			}
			return &sdkauth.AuthorizationResult{Code: q.Get("code"), State: q.Get("state"), Iss: q.Get("iss")}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// machineClient is a handler of a client that is its own user.
func machineClient(t *testing.T) sdkauth.OAuthHandler {
	t.Helper()
	h, err := extauth.NewClientCredentialsHandler(&extauth.ClientCredentialsHandlerConfig{Credentials: &oauthex.ClientCredentials{
		ClientID: oidctest.MachineClient, ClientSecretAuth: &oauthex.ClientSecretAuth{ClientSecret: oidctest.MachineSecret},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// forms returns what the provider was asked for, of one parameter.
func forms(provider *oidctest.Provider, path, name string) (all []string) {
	for _, r := range provider.Requests() {
		if r.Path == path {
			all = append(all, r.Form.Get(name))
		}
	}
	return all
}

// A client that knows nothing but the URL gets its tokens, and wider ones where a
// tool needs them.
func TestTheGoSDKGetsTokens(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2026-07-28", "2025-11-25"} {
		for name, handler := range map[string]func(*testing.T) sdkauth.OAuthHandler{"user": user, "machine": machineClient} {
			t.Run(name+" "+version, func(t *testing.T) {
				t.Parallel()
				w, provider := newProviderWorld(t)
				if name == "machine" { // it does not say which resource its token is for
					provider.Audience(w.url + "/mcp")
				}
				c := mcp.NewClient(&mcp.Implementation{Name: "sdk", Version: "1"}, nil)
				s, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{
					Endpoint: w.url + "/mcp", OAuthHandler: handler(t), MaxRetries: -1, DisableStandaloneSSE: true,
				}, &mcp.ClientSessionOptions{ProtocolVersion: version})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = s.Close() })
				tools, err := s.ListTools(t.Context(), nil)
				if err != nil || len(tools.Tools) == 0 {
					t.Fatalf("ListTools: got %v, %v", tools, err)
				}
				for _, tool := range []string{"echo", "summarize_logs", "send_mail"} {
					r, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: map[string]any{"text": "hi"}})
					if tool == "summarize_logs" && err == nil { // over its quota, which is after it was allowed
						continue
					}
					if err != nil || r.IsError {
						t.Fatalf("%s: got %v, %v", tool, r, err)
					}
				}
				path, want := "/authorize", []string{"mcp offline_access", "mcp offline_access scope:summarize_logs", "mcp offline_access scope:summarize_logs scope:send_mail"}
				if name == "machine" {
					path, want = "/oauth/token", []string{"mcp", "mcp scope:summarize_logs", "mcp scope:summarize_logs scope:send_mail"}
				}
				got := forms(provider, path, "scope")
				for _, scopes := range [][]string{got, want} {
					for i, text := range scopes {
						scopes[i] = strings.Join(slices.Sorted(slices.Values(strings.Fields(text))), " ")
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("scopes that were asked for (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// A token for another resource is no token here, however well it is signed.
func TestTokensForOthersAreRefused(t *testing.T) {
	t.Parallel()
	w, provider := newProviderWorld(t)
	provider.Audience(w.url + "/other")
	c := mcp.NewClient(&mcp.Implementation{Name: "sdk", Version: "1"}, nil)
	s, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: w.url + "/mcp", OAuthHandler: user(t), MaxRetries: -1}, nil)
	if err == nil {
		_ = s.Close()
		t.Fatal("the client is connected")
	}
	if !strings.Contains(err.Error(), http.StatusText(http.StatusUnauthorized)) {
		t.Errorf("got error %v, want that it is not authorized", err)
	}
}

// A token that runs out is refreshed, and its person is not asked again.
func TestTokensAreRefreshed(t *testing.T) {
	t.Parallel()
	w, provider := newProviderWorld(t)
	provider.Last(5 * time.Second) // the client counts it as over ten seconds before
	c := mcp.NewClient(&mcp.Implementation{Name: "sdk", Version: "1"}, nil)
	s, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: w.url + "/mcp", OAuthHandler: user(t), MaxRetries: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for range 2 {
		if _, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{}}); err != nil {
			t.Fatal(err)
		}
	}
	grants := forms(provider, "/oauth/token", "grant_type")
	if len(grants) < 2 || grants[0] != "authorization_code" || slices.Contains(grants[1:], "authorization_code") {
		t.Errorf("the provider was asked for %v, want one code and then refreshed tokens", grants)
	}
}
