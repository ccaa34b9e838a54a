package auth_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

func TestConfigNamesEveryMistake(t *testing.T) {
	t.Parallel()
	if err := auth.DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	err := auth.Config{
		Env: "Dev_1", ValidFor: -1, Policies: []string{""},
		OldPepperFiles: []string{"", "b", "c", "d", "e"}, BruteForce: auth.BruteForce{PerAddress: -1, PerKey: 1e7},
	}.Validate()
	if err == nil {
		t.Fatal("got no error")
	}
	for _, field := range []string{
		"env", "grant_life", "valid_for", "stale_after", "default_expiry", "max_expiry", "policies[0]", "approvals.pending_for", "approvals.usable_for", "approvals.max_pending",
		"old_pepper_files", "old_pepper_files[0]", "brute_force.window", "brute_force.per_address", "brute_force.per_key",
	} {
		if !strings.Contains(err.Error(), field+":") {
			t.Errorf("got %q, want %s in it", err, field)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.cedar")
	if err := os.WriteFile(bad, []byte("// a comment\npermit (principal, action, resource);"), 0o600); err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(dir, "short.key")
	if err := os.WriteFile(short, []byte("password"), 0o600); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(dir, "long.key")
	if err := os.WriteFile(long, []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		edit func(*auth.Config)
		want string
	}{
		{"policies with a mistake", func(c *auth.Config) { c.Policies = []string{bad} }, "bad.cedar:2: a policy without @id"},
		{"policies that are not there", func(c *auth.Config) { c.Policies = []string{filepath.Join(dir, "none")} }, "none"},
		{"a pepper that is not there", func(c *auth.Config) { c.PepperFile = filepath.Join(dir, "none") }, "pepper_file"},
		{"an old pepper that is too short", func(c *auth.Config) { c.OldPepperFiles = []string{short} }, "old_pepper_files[0]"},
		{"a next pepper that is not there", func(c *auth.Config) { c.NextPepperFile = filepath.Join(dir, "none") }, "next_pepper_file"},
		{"a pepper that is old and current", func(c *auth.Config) { c.PepperFile, c.OldPepperFiles = long, []string{long} }, "named twice"},
		{"a grant key that is too short", func(c *auth.Config) { c.GrantKeyFile = short }, "grant_key_file"},
		{"a configuration that is not valid", func(c *auth.Config) { c.Env = "" }, "env"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := auth.DefaultConfig()
			tt.edit(&cfg)
			_, err := auth.New(cfg, auth.Deps{StateDir: t.TempDir()})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want %q in it", err, tt.want)
			}
		})
	}
}

// BenchmarkAuthorize measures the service without gRPC.
func BenchmarkAuthorize(b *testing.B) {
	h := open(b, newStore(b), nil)
	h.ledger.discard = true
	for _, bb := range []struct{ role, tool string }{{"admin", "delete_customer_account"}, {"intern", "run_sql_query"}} {
		req := call(h.roleKey(b, bb.role), bb.tool, "{}")
		b.Run(bb.role, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				resp, err := h.service.Authorize(b.Context(), req)
				if err != nil || resp.GetDecision().GetVerdict() == auditv1.Verdict_VERDICT_UNSPECIFIED {
					b.Fatal(resp, err)
				}
			}
		})
	}
}

// BenchmarkFilterTools measures the list of this repository's tools.
func BenchmarkFilterTools(b *testing.B) {
	h := open(b, newStore(b), nil)
	req := &authv1.FilterToolsRequest{Credential: bearer(h.roleKey(b, "intern")), Origin: from("192.0.2.7")}
	for _, e := range catalogue().GetEntries() {
		req.Tools = append(req.Tools, e.GetName())
	}
	b.ReportAllocs()
	for b.Loop() {
		if resp, err := h.service.FilterTools(b.Context(), req); err != nil || len(resp.GetAllowed()) != 3 {
			b.Fatal(resp, err)
		}
	}
}
