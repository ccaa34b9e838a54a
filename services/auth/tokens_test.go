package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth"
)

// mint is an issuer with one key.
type mint struct {
	*httptest.Server
	key *ecdsa.PrivateKey
}

func newMint(t *testing.T) *mint {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	m := &mint{key: key}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]string{
			"kty": "EC", "crv": "P-256", "x": encode(point[1:33]), "y": encode(point[33:]),
		}}})
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *mint) token(t *testing.T, edit map[string]any) string {
	t.Helper()
	claims := map[string]any{
		"iss": m.URL, "sub": "anna", "client_id": "c", "aud": "https://gate.example.com/mcp", "roles": []string{"analyst"},
		"exp": time.Now().Add(time.Hour).Unix(), "scope": "tools:read",
	}
	for name, value := range edit {
		claims[name] = value
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"ES256","typ":"at+jwt"}`)) + "." + encode(payload)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, m.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + encode(signature)
}

func (m *mint) config(c *auth.Config) {
	c.OAuth.Resource, c.OAuth.ChallengeScopes = "https://gate.example.com/mcp", []string{"tools:read"}
	c.OAuth.Issuers = []oauth.Issuer{{Issuer: m.URL, JWKSURL: m.URL + "/keys"}}
}

func TestTokensAreCredentials(t *testing.T) {
	t.Parallel()
	m := newMint(t)
	h := open(t, newStore(t), m.config)
	good := m.token(t, nil)
	for range 2 { // the second time it is remembered
		got, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(good), Origin: from("192.0.2.1")})
		if err != nil {
			t.Fatal(err)
		}
		want := &authv1.Principal{
			Id: "user:" + m.URL + "/anna", CredentialId: got.GetPrincipal().GetCredentialId(), Tenant: "default", Roles: []string{"analyst"},
		}
		if diff := cmp.Diff(want, got.GetPrincipal(), protocmp.Transform()); diff != "" || got.GetValidFor().AsDuration() != 5*time.Second {
			t.Errorf("valid for %v (-want +got):\n%s", got.GetValidFor().AsDuration(), diff)
		}
	}
	over := m.token(t, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()})
	for n := range 100 { // a client learns that it has to get another, wherever it is
		got, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(over), Origin: from("203.0.113.1")})
		if err != nil || got.GetPrincipal() != nil || got.GetRetryAfter() != nil {
			t.Fatalf("a token that is over, time %d: got %v, %v", n, got, err)
		}
	}
	certificate := sha256.Sum256([]byte("a certificate"))
	bound := m.token(t, map[string]any{"cnf": map[string]string{"x5t#S256": base64.RawURLEncoding.EncodeToString(certificate[:])}})
	tests := []struct {
		name string
		c    *authv1.Credential
		want auditv1.Reason
	}{
		{"expired", bearer(m.token(t, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()})), auditv1.Reason_REASON_CREDENTIAL_EXPIRED},
		{"for another", bearer(m.token(t, map[string]any{"aud": "https://a.example"})), auditv1.Reason_REASON_CREDENTIAL_RESTRICTED},
		{"of a stranger", bearer(newMint(t).token(t, nil)), auditv1.Reason_REASON_CREDENTIAL_UNKNOWN},
		{"nonsense", bearer("nonsense"), auditv1.Reason_REASON_CREDENTIAL_MALFORMED},
		{"as an API key", &authv1.Credential{Scheme: authv1.Scheme_SCHEME_API_KEY, Token: good}, auditv1.Reason_REASON_CREDENTIAL_MALFORMED},
		{"bound to a certificate that was not shown", bearer(bound), auditv1.Reason_REASON_CREDENTIAL_RESTRICTED},
	}
	for i, tt := range tests {
		h.ledger.take()
		got, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: tt.c, Origin: from("198.51.100." + string(rune('1'+i)))})
		if err != nil || got.GetPrincipal() != nil {
			t.Errorf("%s: got %v, %v; want nobody", tt.name, got, err)
		}
		events := h.ledger.take()
		if len(events) != 1 || events[0].GetDecision().GetReason() != tt.want {
			t.Errorf("%s: got %v on record, want %v", tt.name, events, tt.want)
		}
	}
	shown := bearer(bound)
	shown.CertificateSha256 = certificate[:]
	if got, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: shown, Origin: from("192.0.2.1")}); err != nil || got.GetPrincipal() == nil {
		t.Errorf("bound to the certificate that was shown: got %v, %v", got, err)
	}
	described, err := h.auth.DescribeResource(t.Context(), &authv1.DescribeResourceRequest{})
	want := &authv1.DescribeResourceResponse{
		Resource: "https://gate.example.com/mcp", AuthorizationServers: []string{m.URL}, ChallengeScopes: []string{"tools:read"},
	}
	if diff := cmp.Diff(want, described, protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("DescribeResource: %v (-want +got):\n%s", err, diff)
	}
}

// A token needs the scopes that a tool asks for, and is told of all of them at
// once; an API key needs none.
func TestScopesThatAToolNeeds(t *testing.T) {
	t.Parallel()
	s, err := auth.NewSimulator()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		roles  []string
		scopes []string
		want   auditv1.Reason
		needs  []string
	}{
		{"all of them", []string{"analyst"}, []string{"sql:run", "sql:read", "x"}, auditv1.Reason_REASON_UNSPECIFIED, nil},
		{"some of them", []string{"analyst"}, []string{"sql:read"}, auditv1.Reason_REASON_INSUFFICIENT_SCOPE, []string{"sql:read", "sql:run"}},
		{"no token", []string{"analyst"}, nil, auditv1.Reason_REASON_UNSPECIFIED, nil},
		{"what policies deny needs no scope", []string{"nobody"}, []string{"x"}, auditv1.Reason_REASON_POLICY_DENIED, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			resp, err := s.Simulate(t.Context(), &authv1.SimulateRequest{
				Tools: []*authv1.SimulatedTool{{Name: "query", Service: "db", Risk: "read", Scopes: []string{"sql:read", "sql:run"}}},
				Cases: []*authv1.SimulatedCase{{
					Subject: &authv1.SimulatedCase_Principal{Principal: &authv1.Principal{Id: "user:x/a", Roles: tt.roles}},
					Action:  authv1.Action_ACTION_TOOLS_CALL, Target: "query", Scopes: tt.scopes,
				}},
			})
			if err != nil {
				t.Fatal(err)
			}
			got := resp.GetExplanations()[0]
			if got.GetReason() != tt.want || !cmp.Equal(got.GetScopesNeeded(), tt.needs) {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestMachines(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), func(c *auth.Config) {
		c.Machines = []auth.Machine{
			{SPIFFEID: "spiffe://example.org/ci", Roles: []string{"analyst"}, Name: "CI"},
			{SPIFFEID: "spiffe://example.org/ns/*", Roles: []string{"intern"}, Tenant: "acme"},
			{SPIFFEID: "spiffe://example.org/ns/ops/*", Roles: []string{"admin"}},
		}
	})
	tests := []struct {
		id   string
		role string // none: nobody
	}{
		{"spiffe://example.org/ci", "analyst"},
		{"spiffe://example.org/ns/a", "intern"},
		{"spiffe://example.org/ns/ops/a", "admin"},
		{"spiffe://example.org/ns/", ""},
		{"spiffe://example.org/ns", ""},
		{"spiffe://example.org/cia", ""},
		{"spiffe://other.org/ci", ""},
		{"", ""},
	}
	for _, tt := range tests {
		got, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{
			Credential: &authv1.Credential{Scheme: authv1.Scheme_SCHEME_CERTIFICATE, SpiffeId: tt.id}, Origin: from("192.0.2.1"),
		})
		if err != nil {
			t.Fatal(err)
		}
		switch p := got.GetPrincipal(); {
		case tt.role == "" && p != nil:
			t.Errorf("%s: got %v, want nobody", tt.id, p)
		case tt.role != "" && (p.GetId() != tt.id || len(p.GetRoles()) != 1 || p.GetRoles()[0] != tt.role || got.GetValidFor() == nil):
			t.Errorf("%s: got %v, want the role %s", tt.id, got, tt.role)
		}
	}
	bad := auth.DefaultConfig()
	bad.Machines = []auth.Machine{{SPIFFEID: "spiffe://*", Roles: []string{"A"}}, {SPIFFEID: "https://x"}}
	if err := bad.Validate(); err == nil {
		t.Error("machines that are none: got no error")
	}
}
