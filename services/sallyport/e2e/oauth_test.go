//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/freeport"
	"github.com/sallyport-mcp/sallyport/pkg/oidctest"
	"github.com/sallyport-mcp/sallyport/services/sallyport/e2e/launch"
)

// oauthConfig takes the tokens of a provider, with as little tolerance for clocks
// as there is. The scope mcp is what every token needs; tools say what they need.
func oauthConfig(issuer, resource string) string {
	return fmt.Sprintf(`
roles:
  auth:
    oauth:
      resource: %q
      skew: 0s
      challenge_scopes: [mcp]
      scopes_supported: [mcp, "customers:read", "logs:read"]
      issuers:
        - issuer: %q
          default_roles: [analyst]
          dpop: optional
`, resource, issuer)
}

// oauthInstruction is one for client-oauth.mjs.
type oauthInstruction struct {
	Op        op             `json:"op"`
	URL       string         `json:"url,omitempty"`
	Version   string         `json:"version,omitempty"`
	Era       string         `json:"era,omitempty"`
	ClientID  string         `json:"clientId,omitempty"`
	Secret    string         `json:"secret,omitempty"`
	Issuer    string         `json:"issuer,omitempty"`
	DPoP      bool           `json:"dpop,omitempty"`
	Tool      string         `json:"tool,omitempty"`
	Arguments map[string]any `json:"arguments,omitempty"`
}

// oauthOutcome is what came of it. Visits are how often the person was sent to the
// provider; scope and type are of the token that the client has then.
type oauthOutcome struct {
	outcome
	Visits int    `json:"visits"`
	Scope  string `json:"scope"`
	Type   string `json:"type"`
}

// oauthDriver talks to client-oauth.mjs.
type oauthDriver struct {
	in  *json.Encoder
	out *json.Decoder
	who oauthInstruction
}

func startOAuth(t *testing.T, who oauthInstruction) *oauthDriver {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, node(t), "client-oauth.mjs")
	cmd.WaitDelay = 5 * time.Second
	errs := &limited{}
	cmd.Stderr = errs
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait() // the end of its input, or of the time, has ended it
		if t.Failed() {
			t.Logf("the client says:\n%s", errs)
		}
	})
	return &oauthDriver{json.NewEncoder(stdin), json.NewDecoder(stdout), who}
}

// do has the client do something, which must succeed unless fails says how not.
func (d *oauthDriver) do(t *testing.T, what string, in oauthInstruction, fails ...string) oauthOutcome {
	t.Helper()
	var got oauthOutcome
	if err := d.in.Encode(in); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if err := d.out.Decode(&got); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	switch {
	case len(fails) > 0:
		if got.Failure == nil || !strings.Contains(got.Failure.String(), fails[0]) {
			t.Fatalf("%s: got %+v, want it to fail with %s", what, got, fails[0])
		}
	case got.Failure != nil:
		t.Fatalf("%s: %s", what, got.Failure)
	case got.Result != nil && got.Result.IsError:
		t.Fatalf("%s: %+v", what, got.Result)
	}
	return got
}

func (d *oauthDriver) connect(t *testing.T, what, url string, fails ...string) oauthOutcome {
	t.Helper()
	in := d.who
	in.Op, in.URL = "connect", url
	return d.do(t, what, in, fails...)
}

// grants returns the grant types that the provider was asked for since.
func grants(provider *oidctest.Provider) (types []string) {
	for _, r := range provider.Requests() {
		if r.Path == "/oauth/token" {
			types = append(types, r.Form.Get("grant_type"))
		}
	}
	return types
}

// TestOAuth has clients that know only the URL get their tokens from a real OpenID
// provider by their own code: discovery, authorization code with PKCE or client
// credentials, the resource indicator, step-up, refresh, and DPoP.
func TestOAuth(t *testing.T) {
	for _, setup := range []struct {
		name string
		args []string
	}{
		{"one process", nil},
		{"processes", []string{"--processes"}},
	} {
		t.Run(setup.name, func(t *testing.T) {
			provider := oidctest.New(t)
			listen := "127.0.0.1:" + freeport.Port(t)
			url := "http://" + listen + "/mcp"
			start(t, launch.Options{Config: oauthConfig(provider.Issuer, url), Args: append(setup.args, "--listen", listen)})
			for name, who := range map[string]oauthInstruction{
				"v1":        {Version: "v1"},
				"v2 legacy": {Version: "v2", Era: "legacy"},
				"v2 auto":   {Version: "v2", Era: "auto"},
				"v2 pinned": {Version: "v2", Era: modern},
			} {
				// One after the other: they share the provider.
				t.Run(name, func(t *testing.T) {
					t.Run("person", func(t *testing.T) { oauthPerson(t, provider, url, who) })
					t.Run("machine", func(t *testing.T) { oauthMachine(t, provider, url, who) })
					if who.Version == "v2" {
						t.Run("proof", func(t *testing.T) { oauthProof(t, provider, url, who) })
					}
				})
			}
		})
	}
}

var (
	callEcho     = oauthInstruction{Op: opCall, Tool: "echo", Arguments: map[string]any{"text": "hi"}}
	callCustomer = oauthInstruction{Op: opCall, Tool: "get_customer", Arguments: map[string]any{"customer_id": 1}}
)

// oauthPerson is a client that acts for a person, who is asked only where nothing
// else helps.
func oauthPerson(t *testing.T, provider *oidctest.Provider, url string, who oauthInstruction) {
	who.ClientID = oidctest.PublicClient
	d := startOAuth(t, who)
	provider.Requests()

	if got := d.connect(t, "connect", url); got.Visits != 1 || !strings.Contains(got.Scope, "mcp") {
		t.Errorf("connect: got %d visits and scope %q, want one, for mcp", got.Visits, got.Scope)
	}
	for _, r := range provider.Requests() {
		if r.Form.Get("resource") != url {
			t.Errorf("%s: got a token for %q, want one for %s", r.Path, r.Form.Get("resource"), url)
		}
	}
	if got := d.do(t, "list", oauthInstruction{Op: opList}); got.Visits != 0 || !slices.Contains(got.Tools, "echo") || slices.Contains(got.Tools, "delete_customer_account") {
		t.Errorf("list: got %d visits and %v, want what analysts may call", got.Visits, got.Tools)
	}
	if got := d.do(t, "call", callEcho); got.Visits != 0 {
		t.Errorf("call: got %d visits", got.Visits)
	}
	if got := d.do(t, "step up", callCustomer); got.Visits != 1 || !strings.Contains(got.Scope, "customers:read") {
		t.Errorf("step up: got %d visits and scope %q, want one, for customers:read", got.Visits, got.Scope)
	}
	if got := d.do(t, "call again", callCustomer); got.Visits != 0 {
		t.Errorf("call again: got %d visits", got.Visits)
	}

	const life = 2 * time.Second
	provider.Last(life)
	defer provider.Last(time.Hour)
	d.connect(t, "connect with a short token", url)
	provider.Requests()
	<-time.After(life)
	provider.Last(time.Hour)
	// Version 1 does not ask for offline_access, without which there is nothing to
	// refresh with.
	grant, visits, refused := "refresh_token", 0, "401"
	if who.Version == "v1" {
		grant, visits, refused = "authorization_code", 1, "UnauthorizedError"
	}
	if got := d.do(t, "call with a token that has run out", callEcho); got.Visits != visits {
		t.Errorf("a token that has run out: got %d visits", got.Visits)
	}
	if got := grants(provider); !slices.Equal(got, []string{grant}) {
		t.Errorf("a token that has run out: the provider was asked for %v", got)
	}

	provider.Audience("https://other.example/mcp")
	defer provider.Audience("")
	d.connect(t, "connect with a token for another resource", url, refused)
}

// oauthMachine is a client that acts for itself.
func oauthMachine(t *testing.T, provider *oidctest.Provider, url string, who oauthInstruction) {
	who.ClientID, who.Secret, who.Issuer = oidctest.MachineClient, oidctest.MachineSecret, provider.Issuer
	d := startOAuth(t, who)
	provider.Requests()
	d.connect(t, "connect", url)
	d.do(t, "call", callEcho)
	if who.Version == "v1" { // it tries, without telling the provider which scopes
		d.do(t, "step up", callCustomer, "403 after trying upscoping")
	} else if got := d.do(t, "step up", callCustomer); !strings.Contains(got.Scope, "customers:read") {
		t.Errorf("step up: got scope %q, want customers:read", got.Scope)
	}
	if got := grants(provider); !slices.Equal(got, []string{"client_credentials", "client_credentials"}) {
		t.Errorf("the provider was asked for %v", got)
	}
}

// oauthProof is a client whose tokens are bound to its key, with a proof in each
// request.
func oauthProof(t *testing.T, provider *oidctest.Provider, url string, who oauthInstruction) {
	who.ClientID, who.DPoP = oidctest.PublicClient, true
	d := startOAuth(t, who)
	if got := d.connect(t, "connect", url); got.Type != "DPoP" {
		t.Errorf("got a token of type %q", got.Type)
	}
	d.do(t, "call", callEcho)
	if got := d.do(t, "step up", callCustomer); got.Visits != 1 {
		t.Errorf("step up: got %d visits", got.Visits)
	}
	d.do(t, "list", oauthInstruction{Op: opList})
}
