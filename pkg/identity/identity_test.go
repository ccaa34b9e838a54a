package identity_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"testing"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/sallyport-mcp/sallyport/pkg/identity"
)

func uris(t *testing.T, all ...string) []*url.URL {
	t.Helper()
	var out []*url.URL
	for _, s := range all {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, u)
	}
	return out
}

func TestOnlyOneExactURINamesARole(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		cert x509.Certificate
		want string
	}{
		{"a role", x509.Certificate{URIs: uris(t, "spiffe://x/role/edge")}, "edge"},
		{"no URI", x509.Certificate{DNSNames: []string{"edge"}}, ""},
		{"two URIs", x509.Certificate{URIs: uris(t, "spiffe://x/role/edge", "spiffe://x/role/auth")}, ""},
		{"another scheme", x509.Certificate{URIs: uris(t, "https://x/role/edge")}, ""},
		{"another path", x509.Certificate{URIs: uris(t, "spiffe://x/roles/edge")}, ""},
		{"a longer path", x509.Certificate{URIs: uris(t, "spiffe://x/role/edge/auth")}, ""},
		{"an empty role", x509.Certificate{URIs: uris(t, "spiffe://x/role/")}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := identity.Of(&tt.cert); got != tt.want {
				t.Errorf("Of = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCallerNeedsAVerifiedCertificate(t *testing.T) {
	t.Parallel()
	cert := &x509.Certificate{URIs: uris(t, "spiffe://x/role/edge")}
	with := func(state tls.ConnectionState) context.Context {
		return peer.NewContext(t.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: state}})
	}
	if got := identity.Caller(with(tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{cert}}})); got != "edge" {
		t.Errorf("verified: got %q", got)
	}
	if got := identity.Caller(with(tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}})); got != "" {
		t.Errorf("shown but not verified: got %q", got)
	}
	if got := identity.Caller(t.Context()); got != "" {
		t.Errorf("no connection: got %q", got)
	}
	if got := identity.Caller(identity.With(t.Context(), "auth")); got != "auth" {
		t.Errorf("within the process: got %q", got)
	}
}
