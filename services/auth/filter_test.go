package auth_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

const (
	readResource = authv1.Action_ACTION_RESOURCES_READ
	getPrompt    = authv1.Action_ACTION_PROMPTS_GET
	complete     = authv1.Action_ACTION_COMPLETE
	subscribe    = authv1.Action_ACTION_SUBSCRIBE
)

// filter asks which targets can be read or got.
func filter(text string, action authv1.Action, targets ...string) *authv1.FilterTargetsRequest {
	return &authv1.FilterTargetsRequest{Credential: bearer(text), Origin: from("192.0.2.7"), Action: action, Targets: targets}
}

// about asks for something else than a call.
func about(text string, action authv1.Action, target string) *authv1.AuthorizeRequest {
	req := call(text, target, "{}")
	req.Action = action
	return req
}

func writePolicies(t testing.TB, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "own.cedar")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// allowed asks by Authorize and FilterTargets, which must agree, and returns
// what is allowed.
func (h *house) allowed(t *testing.T, text string, action authv1.Action, targets []string) (allowed []string) {
	t.Helper()
	for _, target := range targets {
		resp, err := h.auth.Authorize(t.Context(), about(text, action, target))
		if err != nil {
			if status.Code(err) != codes.InvalidArgument || len(target) <= 512 {
				t.Fatal(err)
			}
			continue
		}
		if resp.GetDecision().GetVerdict() == auditv1.Verdict_VERDICT_ALLOW {
			allowed = append(allowed, target)
		}
	}
	h.ledger.take()
	resp, err := h.auth.FilterTargets(t.Context(), filter(text, action, targets...))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(allowed, resp.GetAllowed()); diff != "" {
		t.Errorf("%v: FilterTargets and Authorize disagree (-Authorize +FilterTargets):\n%s", action, diff)
	}
	if resp.GetPrincipal() == nil {
		t.Errorf("%v: got no principal", action)
	}
	if events := h.ledger.take(); len(events) > 0 {
		t.Errorf("%v: FilterTargets was recorded: %v", action, events)
	}
	return allowed
}

func TestWhoMayReadWhat(t *testing.T) {
	t.Parallel()
	uris := []string{
		"docs://handbook", "docs://{chapter}/pages", "DOCS://x", "file:///public/a", "file:///public/../private",
		"urn:x:{id}", "docs://" + strings.Repeat("x", 600), "docs://" + strings.Repeat("é", 252) + "x",
	}
	readable := slices.Concat(uris[:4], uris[5:6], uris[7:])
	prompts := []string{"review", "git:commit", "docs://handbook", "Ask.me_a-question, please"}
	own := writePolicies(t, `
		@id("docs") permit (principal in Role::"reader", action == Action::"resources/read", resource is Resource) when { resource.scheme == "docs" };
		@id("public") permit (principal in Role::"reader", action == Action::"resources/read", resource is Resource) when { resource.uri like "file:///public/*" };
		@id("git") permit (principal in Role::"reader", action == Action::"prompts/get", resource is Prompt) when { resource.name like "git:*" };
		@id("office") @reason("Not from here.") forbid (principal in Role::"office", action, resource) unless { context has address && context.address.isInRange(ip("10.0.0.0/8")) };
		@id("office-all") permit (principal in Role::"office", action, resource);
		@id("careful") permit (principal in Role::"careful", action, resource) when { context.arguments.n == 1 };`)
	tests := []struct {
		name         string
		roles        []string
		own          bool // policies
		restrictions *authv1.KeyRestrictions
		uris         []string
		prompts      []string
	}{
		{name: "admins may read everything that does not climb", roles: []string{"admin"}, uris: readable, prompts: prompts},
		{name: "analysts too", roles: []string{"analyst"}, uris: readable, prompts: prompts},
		{name: "interns may read nothing", roles: []string{"intern"}},
		{name: "a key for some tools is for no resource or prompt", roles: []string{"admin"}, restrictions: &authv1.KeyRestrictions{Tools: []string{"echo"}}},
		{name: "a key from some networks is for all its policies allow", roles: []string{"admin"}, restrictions: &authv1.KeyRestrictions{Networks: []string{"192.0.2.0/24"}}, uris: readable, prompts: prompts},
		{
			name: "policies can speak of schemes, beginnings and names", own: true, roles: []string{"reader"},
			uris: slices.Concat(uris[:4], uris[7:]), prompts: prompts[1:2],
		},
		{name: "policies can speak of the caller's address", own: true, roles: []string{"office"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := open(t, newStore(t), func(c *auth.Config) {
				if tt.own {
					c.Policies = []string{own}
				}
			})
			_, text := h.key(t, &authv1.CreateKeyRequest{Name: "k", Roles: tt.roles, Restrictions: tt.restrictions})
			if diff := cmp.Diff(tt.uris, h.allowed(t, text, readResource, uris)); diff != "" {
				t.Errorf("resources (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.prompts, h.allowed(t, text, getPrompt, prompts)); diff != "" {
				t.Errorf("prompts (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("what depends on arguments is listed", func(t *testing.T) {
		t.Parallel()
		h := open(t, newStore(t), func(c *auth.Config) { c.Policies = []string{own} })
		resp, err := h.auth.FilterTargets(t.Context(), filter(h.roleKey(t, "careful"), getPrompt, "a", "b"))
		if err != nil || !slices.Equal(resp.GetAllowed(), []string{"a", "b"}) {
			t.Errorf("got %v, %v; want both", resp, err)
		}
	})
}

func TestFilterTargetsRefuses(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), nil)
	text := h.roleKey(t, "admin")
	h.ledger.take()
	for action, method := range map[authv1.Action]string{readResource: "resources/list", getPrompt: "prompts/list"} {
		req := filter(foreign, action, "a")
		req.Origin.Address = fmt.Sprintf("192.0.2.%d", action) // those from one are counted
		resp, err := h.auth.FilterTargets(t.Context(), req)
		if err != nil || resp.GetPrincipal() != nil || len(resp.GetAllowed()) > 0 {
			t.Errorf("a credential that is not good: got %v, %v; want nothing", resp, err)
		}
		if events := h.ledger.take(); len(events) != 1 || events[0].GetAction() != method {
			t.Errorf("got events %v, want one of %s", events, method)
		}
	}
	for _, action := range []authv1.Action{authv1.Action_ACTION_TOOLS_CALL, complete, authv1.Action_ACTION_UNSPECIFIED} {
		if _, err := h.auth.FilterTargets(t.Context(), filter(text, action, "a")); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: got error %v, want %v", action, err, codes.InvalidArgument)
		}
	}
	many := slices.Repeat([]string{"docs://x"}, 11000)
	resp, err := h.auth.FilterTargets(t.Context(), filter(text, readResource, many...))
	if err != nil || len(resp.GetAllowed()) != len(many) {
		t.Errorf("as many as the contract has room for: got %d, %v", len(resp.GetAllowed()), err)
	}
}

// TestListsAreForAll checks that who may use nothing still gets his empty lists,
// and hears when that changes.
func TestListsAreForAll(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), nil)
	_, restricted := h.key(t, &authv1.CreateKeyRequest{
		Name: "restricted", Roles: []string{"intern"}, Restrictions: &authv1.KeyRestrictions{Tools: []string{"echo"}},
	})
	for name, text := range map[string]string{"an intern": h.roleKey(t, "intern"), "a key for one tool": restricted} {
		for _, action := range []authv1.Action{
			authv1.Action_ACTION_TOOLS_LIST, authv1.Action_ACTION_RESOURCES_LIST, authv1.Action_ACTION_PROMPTS_LIST, subscribe,
		} {
			resp, err := h.auth.Authorize(t.Context(), about(text, action, ""))
			if err != nil || resp.GetDecision().GetVerdict() != auditv1.Verdict_VERDICT_ALLOW || len(resp.GetGrant()) == 0 {
				t.Errorf("%s, %v: got %v, %v; want allow", name, action, resp, err)
			}
		}
		for _, action := range []authv1.Action{readResource, getPrompt, complete} { // "" is no list here
			resp, err := h.auth.Authorize(t.Context(), about(text, action, ""))
			if err != nil || resp.GetDecision().GetVerdict() != auditv1.Verdict_VERDICT_DENY {
				t.Errorf("%s, %v: got %v, %v; want deny", name, action, resp, err)
			}
		}
		resp, err := h.auth.Authorize(t.Context(), about(text, subscribe, "file:///x"))
		if err != nil || resp.GetDecision().GetVerdict() != auditv1.Verdict_VERDICT_DENY {
			t.Errorf("%s, changes of a resource: got %v, %v; want deny", name, resp, err)
		}
	}
}

func TestCompletionIsOfATemplateOrOfAPrompt(t *testing.T) {
	t.Parallel()
	own := writePolicies(t, `
		@id("templates") permit (principal in Role::"templates", action == Action::"completion/complete", resource is Resource);
		@id("urns") permit (principal in Role::"urns", action == Action::"completion/complete", resource is Resource) when { resource.scheme == "urn" };
		@id("prompts") permit (principal in Role::"prompts", action == Action::"completion/complete", resource is Prompt);`)
	h := open(t, newStore(t), func(c *auth.Config) { c.Policies = []string{own} })
	keys := make(map[string]string)
	for _, role := range []string{"templates", "urns", "prompts"} {
		keys[role] = h.roleKey(t, role)
	}
	tests := []struct {
		name   string
		target string
		want   []string // roles that may
	}{
		{"a template with slashes", "docs://{chapter}", []string{"templates"}},
		{"a template without slashes", "urn:x:{id}", []string{"templates", "urns"}},
		{"a template that is a variable", "{+base}", []string{"templates"}},
		{"a prompt", "review", []string{"prompts"}},
		{"a prompt with a colon", "git:commit", []string{"prompts"}},
		{"a prompt that looks like a URI", "urn://review", []string{"prompts"}},
		{"a template that climbs", "docs://../{chapter}", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for role, text := range keys {
				resp, err := h.auth.Authorize(t.Context(), about(text, complete, tt.target))
				if err != nil {
					t.Fatal(err)
				}
				if resp.GetDecision().GetVerdict() == auditv1.Verdict_VERDICT_ALLOW {
					got = append(got, role)
				}
			}
			slices.Sort(got)
			want := slices.Sorted(slices.Values(tt.want))
			if !slices.Equal(got, want) {
				t.Errorf("got allowed for %q, want %q", got, want)
			}
		})
	}
}

// TestLongTargets checks the contract's bound: nothing that it takes makes a
// grant that the executor would not take.
func TestLongTargets(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), nil)
	_, text := h.key(t, &authv1.CreateKeyRequest{
		Name: strings.Repeat("n", 128), Owner: strings.Repeat("o", 128), Tenant: strings.Repeat("t", 63), Roles: []string{"admin", "analyst", "intern"},
	})
	tests := []struct {
		name   string
		target string
		code   codes.Code
	}{
		{"512 bytes", "file:///" + strings.Repeat("x", 504), codes.OK},
		{"512 characters of three bytes", "file:///" + strings.Repeat("€", 504), codes.InvalidArgument},
		{"513 bytes", "file:///" + strings.Repeat("x", 505), codes.InvalidArgument},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := about(text, readResource, tt.target)
			req.Origin.Client, req.Origin.ContextId = strings.Repeat("c", 256), strings.Repeat("i", 256)
			resp, err := h.auth.Authorize(t.Context(), req)
			if status.Code(err) != tt.code {
				t.Fatalf("got error %v, want %v", err, tt.code)
			}
			if err == nil && (resp.GetDecision().GetVerdict() != auditv1.Verdict_VERDICT_ALLOW || len(resp.GetGrant()) > 4096) {
				t.Errorf("got verdict %v and a grant of %d bytes, want allow and at most 4096", resp.GetDecision().GetVerdict(), len(resp.GetGrant()))
			}
			t.Logf("a grant of %d bytes", len(resp.GetGrant()))
		})
	}
}

// BenchmarkFilterTargets measures the longest list there can be, without gRPC
// and with all that is around a handler.
func BenchmarkFilterTargets(b *testing.B) {
	own := writePolicies(b, `@id("docs") permit (principal in Role::"admin", action, resource is Resource) when { resource.scheme == "docs" };`)
	uris := make([]string, 11000)
	for i := range uris {
		uris[i] = fmt.Sprintf("docs://handbook/chapter/%d/page.md", i)
	}
	for name, policies := range map[string][]string{"defaults": nil, "by scheme": {own}} {
		h := open(b, newStore(b), func(c *auth.Config) { c.Policies = policies })
		req := filter(h.roleKey(b, "admin"), readResource, uris...)
		ask := func(b *testing.B, ask func() (*authv1.FilterTargetsResponse, error)) {
			b.ReportAllocs()
			for b.Loop() {
				if resp, err := ask(); err != nil || len(resp.GetAllowed()) != len(uris) {
					b.Fatal(len(resp.GetAllowed()), err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(uris)), "ns/target")
		}
		b.Run(name+"/handler", func(b *testing.B) {
			ask(b, func() (*authv1.FilterTargetsResponse, error) { return h.service.FilterTargets(b.Context(), req) })
		})
		b.Run(name+"/rpc", func(b *testing.B) {
			ask(b, func() (*authv1.FilterTargetsResponse, error) { return h.auth.FilterTargets(b.Context(), req) })
		})
	}
}
