package auth_test

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

// call asks for a call of a tool with some arguments, which are not sent.
func call(text, tool, arguments string) *authv1.AuthorizeRequest {
	sum := sha256.Sum256([]byte(arguments))
	return &authv1.AuthorizeRequest{
		Credential: bearer(text), Origin: from("192.0.2.7"),
		Action: authv1.Action_ACTION_TOOLS_CALL, Target: tool,
		ArgumentsSha256: sum[:], ArgumentsShape: "{…}",
	}
}

// withArguments is call with arguments that are sent.
func withArguments(text, tool, arguments string) *authv1.AuthorizeRequest {
	req := call(text, tool, arguments)
	req.Arguments = []byte(arguments)
	return req
}

// TestWhoMayCallWhat is the table of the README: by asking for each call, and by
// asking for the list.
func TestWhoMayCallWhat(t *testing.T) {
	t.Parallel()
	tests := []struct {
		role string
		may  []string
	}{
		{"admin", []string{"add_numbers", "delete_customer_account", "echo", "get_customer", "run_sql_query", "summarize_logs"}},
		{"analyst", []string{"add_numbers", "echo", "get_customer", "run_sql_query", "summarize_logs"}},
		{"intern", []string{"add_numbers", "echo", "summarize_logs"}},
	}
	h := open(t, newStore(t), nil)
	var all []string
	for _, e := range catalogue().GetEntries() {
		all = append(all, e.GetName())
	}
	slices.Sort(all)
	for _, tt := range tests {
		t.Run(tt.role, func(t *testing.T) {
			text := h.roleKey(t, tt.role)
			var called []string
			for _, tool := range all {
				resp, err := h.auth.Authorize(t.Context(), call(text, tool, "{}"))
				if err != nil {
					t.Fatal(err)
				}
				allowed := resp.GetDecision().GetVerdict() == auditv1.Verdict_VERDICT_ALLOW
				if allowed != (len(resp.GetGrant()) > 0) {
					t.Errorf("%s: got verdict %v and a grant of %d bytes", tool, resp.GetDecision().GetVerdict(), len(resp.GetGrant()))
				}
				if allowed {
					called = append(called, tool)
				}
			}
			if diff := cmp.Diff(tt.may, called); diff != "" {
				t.Errorf("may call (-want +got):\n%s", diff)
			}
			resp, err := h.auth.FilterTools(t.Context(), &authv1.FilterToolsRequest{
				Credential: bearer(text), Origin: from("192.0.2.7"), Tools: append(slices.Clone(all), "no_such_tool"),
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.may, resp.GetAllowed()); diff != "" {
				t.Errorf("may see (-want +got):\n%s", diff)
			}
			if resp.GetPrincipal().GetName() != tt.role {
				t.Errorf("got principal %v, want %s", resp.GetPrincipal(), tt.role)
			}
		})
	}
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	policies := filepath.Join(t.TempDir(), "own.cedar")
	err := os.WriteFile(policies, []byte(`@id("team") @reason("The team may do this.")
permit (principal in Role::"team", action, resource);

@id("small")
@reason("Only up to a hundred.")
forbid (principal, action == Action::"tools/call", resource == Tool::"add_numbers")
when { context.arguments.a > 100 };`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	h := open(t, newStore(t), func(c *auth.Config) { c.Policies = []string{policies} })
	text := h.roleKey(t, "team")
	_, narrow := h.key(t, &authv1.CreateKeyRequest{
		Name: "narrow", Roles: []string{"team"}, Restrictions: &authv1.KeyRestrictions{Tools: []string{"echo"}},
	})
	task := call(text, "echo", "{}")
	task.TaskTools = []string{"add_numbers"}
	declared := call(text, "echo", "{}")
	declared.TaskTools = []string{"add_numbers", "echo"}
	read := call(narrow, "", "{}")
	read.Action, read.Target = authv1.Action_ACTION_RESOURCES_READ, "file:///x"
	list := call(narrow, "", "{}")
	list.Action = authv1.Action_ACTION_TOOLS_LIST

	tests := []struct {
		name    string
		req     *authv1.AuthorizeRequest
		reason  auditv1.Reason
		rule    string
		source  string
		message string // part of it
		cost    uint32
		needed  bool
	}{
		{name: "a permit allows and is named", req: call(text, "echo", "{}"), rule: "team", source: "own.cedar:1", message: "The team may do this.", cost: 1},
		{name: "cost comes from the catalogue", req: call(text, "delete_customer_account", "{}"), rule: "team", source: "own.cedar:1", cost: 5},
		{name: "arguments are asked for", req: call(text, "add_numbers", `{"a":1}`), needed: true, cost: 1},
		{name: "arguments are read", req: withArguments(text, "add_numbers", `{"a":100}`), rule: "team", source: "own.cedar:1", cost: 1},
		{
			name: "arguments are a ground to refuse", req: withArguments(text, "add_numbers", `{"a":1.01e2}`),
			reason: auditv1.Reason_REASON_POLICY_DENIED, rule: "small", source: "own.cedar:4", message: "Only up to a hundred.", cost: 1,
		},
		{
			name: "arguments that a forbid cannot read are refused", req: withArguments(text, "add_numbers", `{"a":"x"}`),
			reason: auditv1.Reason_REASON_POLICY_DENIED, rule: "small", source: "own.cedar:4", message: "cannot be evaluated", cost: 1,
		},
		{
			name: "arguments that are no object are refused", req: withArguments(text, "add_numbers", `[7]`),
			reason: auditv1.Reason_REASON_INVALID_ARGUMENTS, rule: "arguments-object", message: "not one JSON object", cost: 1,
		},
		{
			name: "an unknown tool is unknown", req: call(text, "no_such_tool", "{}"),
			reason: auditv1.Reason_REASON_TOOL_UNKNOWN, message: `No tool is called "no_such_tool"`,
		},
		{
			name: "a key for one tool is for no other", req: call(narrow, "add_numbers", "{}"),
			reason: auditv1.Reason_REASON_CREDENTIAL_RESTRICTED, rule: "key-restrictions", source: "key ", message: `"add_numbers"`, cost: 1,
		},
		{name: "a key for one tool is for that", req: call(narrow, "echo", "{}"), rule: "team", source: "own.cedar:1", cost: 1},
		{
			name: "a key for one tool is for no resource", req: read,
			reason: auditv1.Reason_REASON_CREDENTIAL_RESTRICTED, rule: "key-restrictions", source: "key ", message: `"file:///x"`,
		},
		{name: "a key for one tool sees lists", req: list, rule: "team", source: "own.cedar:1"},
		{
			name: "a tool that the task does not need is refused", req: task,
			reason: auditv1.Reason_REASON_POLICY_DENIED, rule: "task-tools", message: `"echo" is not among the tools`, cost: 1,
		},
		{name: "a tool that the task needs is allowed", req: declared, rule: "team", source: "own.cedar:1", cost: 1},
	}
	h.ledger.take()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, err := h.auth.Authorize(t.Context(), tt.req)
			if err != nil {
				t.Fatal(err)
			}
			d := resp.GetDecision()
			if resp.GetArgumentsNeeded() != tt.needed || resp.GetCost() != tt.cost || resp.GetPrincipal() == nil {
				t.Errorf("got %v, want arguments needed %v, cost %d and a principal", resp, tt.needed, tt.cost)
			}
			events := h.ledger.take()
			if tt.needed {
				if d != nil || len(events) > 0 || len(resp.GetGrant()) > 0 {
					t.Errorf("got decision %v and %d events, want none", d, len(events))
				}
				return
			}
			if d.GetReason() != tt.reason || d.GetPolicy() != tt.rule || !strings.Contains(d.GetMessage(), tt.message) {
				t.Errorf("got decision %v, want %v by %q saying %q", d, tt.reason, tt.rule, tt.message)
			}
			if len(events) != 1 {
				t.Fatalf("got %d events, want 1", len(events))
			}
			e := events[0]
			if e.GetDecisionId() != d.GetId() || !strings.HasPrefix(d.GetId(), "d_") || !strings.HasPrefix(e.GetDecision().GetRuleSource(), tt.source) ||
				e.GetDecision().GetReason() != tt.reason || e.GetDecision().GetVerdict() != d.GetVerdict() {
				t.Errorf("got event %v, want that of %v with source %q", e, d, tt.source)
			}
		})
	}
}

func TestDefaultDenySaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), nil)
	resp, err := h.auth.Authorize(t.Context(), call(h.roleKey(t, "intern"), "run_sql_query", "{}"))
	if err != nil {
		t.Fatal(err)
	}
	want := `No policy permits tools/call of "run_sql_query" with the roles of this key (intern). Trying again will not help; ask the operator for access.`
	if d := resp.GetDecision(); d.GetMessage() != want || d.GetPolicy() != "" || d.GetReason() != auditv1.Reason_REASON_POLICY_DENIED {
		t.Errorf("got %v, want %q", d, want)
	}
}

func TestDecisionIsRecordedInFull(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), nil)
	id, text := h.key(t, &authv1.CreateKeyRequest{Name: "ci", Owner: "anna", Tenant: "acme", Roles: []string{"intern", "analyst"}})
	h.ledger.take()
	req := call(text, "delete_customer_account", `{"customer_id":"c_1"}`)
	resp, err := h.auth.Authorize(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	want := []*auditv1.Event{{
		DecisionId: resp.GetDecision().GetId(),
		Actor: &auditv1.Actor{
			Principal: "key:" + id, CredentialId: id, Tenant: "acme", Roles: []string{"analyst", "intern"},
			Address: "192.0.2.7", Client: "test/1", ContextId: "c1",
		},
		Action: "tools/call",
		Target: "delete_customer_account",
		What: &auditv1.Event_Decision{Decision: &auditv1.Decision{
			Verdict: auditv1.Verdict_VERDICT_DENY, Reason: auditv1.Reason_REASON_POLICY_DENIED,
			Rule: "destructive-admins-only", RuleSource: h.ruleSource(t, "destructive-admins-only"),
			Message:   "This tool destroys data, which only admins may do. Trying again will not help; ask an admin.",
			Arguments: &auditv1.Arguments{Sha256: req.GetArgumentsSha256(), Shape: "{…}"},
			Policies:  h.version(t),
			NearMisses: []*auditv1.NearMiss{{
				Rule: "destructive-admins-only", RuleSource: h.ruleSource(t, "destructive-admins-only"),
				Missing: `the condition not (resource.risk == "destructive") or the condition principal in Role::"admin" (and a policy that permits it)`,
			}},
		}},
	}}
	if diff := cmp.Diff(want, h.ledger.take(), protocmp.Transform()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// version is that of the policies in use.
func (h *house) version(t *testing.T) string {
	t.Helper()
	resp, err := h.policies.GetPolicies(t.Context(), &authv1.GetPoliciesRequest{})
	if err != nil || len(resp.GetVersion()) != 64 {
		t.Fatalf("got %v, %v; want a hash", resp, err)
	}
	return resp.GetVersion()
}

// ruleSource finds a policy of the default set in its file, by eye as it were.
func (h *house) ruleSource(t *testing.T, id string) string {
	t.Helper()
	text, err := os.ReadFile("policies/default.cedar")
	if err != nil {
		t.Fatal(err)
	}
	before, _, ok := strings.Cut(string(text), `@id("`+id+`")`)
	if !ok {
		t.Fatalf("no policy %s", id)
	}
	line := []byte{}
	for n := strings.Count(before, "\n") + 1; n > 0; n /= 10 {
		line = append(line, byte('0'+n%10))
	}
	slices.Reverse(line)
	return "default.cedar:" + string(line)
}

func TestGrantIsForThisCallOnly(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), nil)
	req := call(h.roleKey(t, "admin"), "delete_customer_account", `{"customer_id":"c_1"}`)
	resp, err := h.auth.Authorize(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	sealed := resp.GetGrant()
	g := new(authv1.Grant)
	if err := proto.Unmarshal(sealed[2+int(sealed[1]):len(sealed)-32], g); err != nil {
		t.Fatal(err)
	}
	want := &authv1.Grant{
		DecisionId: resp.GetDecision().GetId(), Principal: resp.GetPrincipal(),
		Action: req.GetAction(), Target: req.GetTarget(), ArgumentsSha256: req.GetArgumentsSha256(), Origin: req.GetOrigin(),
		Expires: resp.GetGrantExpires(), ToolDigest: g.GetToolDigest(),
	}
	if diff := cmp.Diff(want, g, protocmp.Transform()); diff != "" || len(g.GetToolDigest()) != 32 {
		t.Errorf("grant (-want +got):\n%s", diff)
	}
}

func TestArgumentsMustHaveTheirHash(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), nil)
	req := call(h.roleKey(t, "admin"), "echo", `{"text":"a"}`)
	req.Arguments = []byte(`{"text":"b"}`)
	_, err := h.auth.Authorize(t.Context(), req)
	if !fault.Is(err, authv1.Reason_REASON_ARGUMENTS_HASH) {
		t.Errorf("got error %v, want %v", err, authv1.Reason_REASON_ARGUMENTS_HASH)
	}
}
