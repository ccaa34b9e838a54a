package edge

import (
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/oauthex"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

func TestChallenge(t *testing.T) {
	t.Parallel()
	described := func(t *testing.T, said *authv1.DescribeResourceResponse) *resource {
		t.Helper()
		r, err := newResource(said, false)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	const (
		where       = `resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp"`
		resourceURI = "https://mcp.example.com/mcp"
	)
	plain := &authv1.DescribeResourceResponse{Resource: resourceURI, ChallengeScopes: []string{"mcp", "tools:read"}}
	proved := &authv1.DescribeResourceResponse{Resource: resourceURI, ChallengeScopes: []string{"mcp"}, DpopAlgorithms: []string{"ES256", "EdDSA"}}
	keys := &authv1.DescribeResourceResponse{DpopAlgorithms: []string{"ES256", "EdDSA"}} // no OAuth
	tests := []struct {
		name        string
		of          flaw
		about       *authv1.DescribeResourceResponse
		scopes      []string
		description string
		want        string
	}{{
		name: "without OAuth there is nowhere to go",
		of:   flawAbsent, about: &authv1.DescribeResourceResponse{},
		want: `Bearer realm="sallyport"`,
	}, {
		name: "without OAuth a bad key is still a bad token",
		of:   flawToken, about: &authv1.DescribeResourceResponse{},
		want: `Bearer realm="sallyport", error="invalid_token"`,
	}, {
		name: "no credential is no error",
		of:   flawAbsent, about: plain,
		want: `Bearer realm="sallyport", ` + where + `, scope="mcp tools:read"`,
	}, {
		name: "a bad token",
		of:   flawToken, about: plain,
		want: `Bearer realm="sallyport", error="invalid_token", ` + where + `, scope="mcp tools:read"`,
	}, {
		name: "a bad request",
		of:   flawRequest, about: plain,
		want: `Bearer realm="sallyport", error="invalid_request", ` + where + `, scope="mcp tools:read"`,
	}, {
		name: "with DPoP both ways are offered, Bearer first",
		of:   flawAbsent, about: proved,
		want: `Bearer realm="sallyport", ` + where + `, scope="mcp", DPoP algs="ES256 EdDSA", ` + where + `, scope="mcp"`,
	}, {
		name: "a bad proof is an error of DPoP alone",
		of:   flawProof, about: proved,
		want: `Bearer realm="sallyport", ` + where + `, scope="mcp", DPoP algs="ES256 EdDSA", error="invalid_dpop_proof", ` + where + `, scope="mcp"`,
	}, {
		name: "a token that lacks its proof is not valid either way",
		of:   flawUnproved, about: proved,
		want: `Bearer realm="sallyport", error="invalid_token", ` + where + `, scope="mcp", DPoP algs="ES256 EdDSA", error="invalid_token", ` + where + `, scope="mcp"`,
	}, {
		name: "without OAuth DPoP is not offered",
		of:   flawAbsent, about: keys,
		want: `Bearer realm="sallyport"`,
	}, {
		name: "without OAuth a bad key is no reason for DPoP",
		of:   flawToken, about: keys,
		want: `Bearer realm="sallyport", error="invalid_token"`,
	}, {
		name: "an API key that lacks its proof is not valid either way",
		of:   flawUnproved, about: keys,
		want: `Bearer realm="sallyport", error="invalid_token", DPoP algs="ES256 EdDSA", error="invalid_token"`,
	}, {
		name: "a bad proof of an API key",
		of:   flawProof, about: keys,
		want: `Bearer realm="sallyport", DPoP algs="ES256 EdDSA", error="invalid_dpop_proof"`,
	}, {
		name: "an API key that lacks its proof where tokens cannot be bound",
		of:   flawUnproved, about: plain,
		want: `Bearer realm="sallyport", error="invalid_token", ` + where + `, scope="mcp tools:read", DPoP realm="sallyport", error="invalid_token", ` + where + `, scope="mcp tools:read"`,
	}, {
		name: "a scope that lacks is told with all others that are needed",
		of:   flawScope, about: proved, scopes: []string{"sql:read", "sql:run"}, description: "Get more",
		want: `Bearer realm="sallyport", error="insufficient_scope", ` + where + `, scope="sql:read sql:run", error_description="Get more"`,
	}, {
		name: "without known scopes none are made up",
		of:   flawScope, about: plain,
		want: `Bearer realm="sallyport", error="insufficient_scope", ` + where,
	}, {
		name: "what would break the header is left out or replaced",
		of:   flawScope, about: plain, scopes: []string{"a b", `c"`, `d\\`, "e\r\nX: y", "", "ä", "fine"}, description: "say \"hi\" to C:\\ \r\nSet-Cookie: ä",
		want: `Bearer realm="sallyport", error="insufficient_scope", ` + where + `, scope="fine", error_description="say 'hi' to C:/ ??Set-Cookie: ?"`,
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := challenge(tt.of, described(t, tt.about), tt.scopes, tt.description); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestMetadataIsWhereTheResourceIs(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, resource, want string }{
		{"with the path of the endpoint", "https://a.example/mcp", "https://a.example/.well-known/oauth-protected-resource/mcp"},
		{"with a longer path", "https://a.example:8443/team/mcp", "https://a.example:8443/.well-known/oauth-protected-resource/team/mcp"},
		{"without a path", "https://a.example", "https://a.example/.well-known/oauth-protected-resource"},
		{"with a slash for a path", "https://a.example/", "https://a.example/.well-known/oauth-protected-resource"},
		{"in the clear on this machine", "http://127.0.0.1:8080/mcp", "http://127.0.0.1:8080/.well-known/oauth-protected-resource/mcp"},
		{"not of a name", "urn:example:mcp", ""},
		{"not without a host", "https:///mcp", ""},
		{"not of what would end the quotes", `https://a.example"x/mcp`, ""},
		{"not of another scheme", "javascript://a.example/mcp", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, err := newResource(&authv1.DescribeResourceResponse{Resource: tt.resource}, false)
			if got := r.metadataURL(); got != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("got %q and error %v, want %q", got, err, tt.want)
			}
		})
	}
}

// Whatever peers say, a challenge is one that clients can read.
func FuzzChallenge(f *testing.F) {
	f.Add(uint8(5), "sql:read sql:run", "The token lacks \"scopes\", error=\"x\"", "https://mcp.example.com/mcp", "ES256")
	f.Add(uint8(3), "", "", "https://mcp.example.com", "")
	f.Add(uint8(0), "a\\ b\" c\x7f", "\r\nSet-Cookie: x", "http://localhost/\"", "ES256\" EdDSA")
	f.Fuzz(func(t *testing.T, of uint8, scopes, description, uri, algorithm string) {
		said := &authv1.DescribeResourceResponse{Resource: uri, ChallengeScopes: strings.Split(scopes, " "), DpopAlgorithms: []string{algorithm}}
		about, err := newResource(said, false)
		if err != nil {
			about = nil
		}
		kind := flaw(of % 6)
		line := challenge(kind, about, strings.Split(scopes, " "), description)
		all, err := oauthex.ParseWWWAuthenticate([]string{line})
		if err != nil || len(all) < 1 || len(all) > 2 || all[0].Scheme != "bearer" || all[0].Params["realm"] != "sallyport" {
			t.Fatalf("%q: got %v, %v", line, all, err)
		}
		if got := all[0].Params["resource_metadata"]; got != about.metadataURL() {
			t.Fatalf("%q: got metadata at %q, want %q", line, got, about.metadataURL())
		}
		for i := range len(line) {
			if line[i] < ' ' || line[i] > '~' {
				t.Fatalf("%q has a byte that no header may have", line)
			}
		}
	})
}
