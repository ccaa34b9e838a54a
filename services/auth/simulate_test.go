package auth_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

const callTool = authv1.Action_ACTION_TOOLS_CALL

// simulation asks whether a key may call a tool.
func simulation(key, tool string) *authv1.SimulateRequest {
	return &authv1.SimulateRequest{Cases: []*authv1.SimulatedCase{{
		Subject: &authv1.SimulatedCase_KeyName{KeyName: key}, Action: callTool, Target: tool, Origin: from("192.0.2.7"),
	}}}
}

// TestSimulateAgreesWithAuthorize holds the two to one verdict, and to one record.
func TestSimulateAgreesWithAuthorize(t *testing.T) {
	t.Parallel()
	own := writePolicies(t, `
		@id("lookers") permit (principal in Role::"looker", action == Action::"tools/call", resource is Tool) when { resource.risk == "read" && context.hops < 3 };
		@id("counted") permit (principal in Role::"counted", action, resource) when { context.steps < 3 };
		@id("small") permit (principal in Role::"small", action == Action::"tools/call", resource) when { context.arguments.n == 1 };
		@id("night") @reason("Not at night.") @owner("ops") forbid (principal in Role::"day", action, resource) when { context.time < datetime("2100-01-01") };`)
	for name, policies := range map[string][]string{"defaults": nil, "own": {own}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t, newStore(t), func(c *auth.Config) { c.Policies = policies })
			for _, role := range h.inUse(t).GetRoles() {
				text := h.roleKey(t, role)
				for _, tool := range []string{"echo", "delete_customer_account", "run_sql_query", "none"} {
					for _, arguments := range []string{"", `{"n":1}`, `{"n":2}`, `[]`} {
						h.ledger.take()
						req := call(text, tool, arguments)
						sim := simulation(role, tool)
						if arguments != "" {
							req = withArguments(text, tool, arguments)
							sim.Cases[0].Arguments = []byte(arguments)
						}
						got, err := h.auth.Authorize(t.Context(), req)
						if err != nil {
							t.Fatal(err)
						}
						events := h.ledger.take()
						all, err := h.policies.Simulate(t.Context(), sim)
						if err != nil {
							t.Fatal(err)
						}
						e, d := all.GetExplanations()[0], got.GetDecision()
						if e.GetVerdict() != d.GetVerdict() || e.GetReason() != d.GetReason() || e.GetPolicy() != d.GetPolicy() || e.GetMessage() != d.GetMessage() ||
							e.GetArgumentsNeeded() != got.GetArgumentsNeeded() || e.GetStepsNeeded() != got.GetStepsNeeded() {
							t.Errorf("%s, %s, %s: got %v simulated and %v decided", role, tool, arguments, e, got)
						}
						if more := h.ledger.take(); len(more) > 0 {
							t.Errorf("a simulation was recorded: %v", more)
						}
						if len(events) == 0 {
							continue
						}
						record := events[0].GetDecision()
						if diff := cmp.Diff(record.GetNearMisses(), e.GetNearMisses(), protocmp.Transform()); diff != "" {
							t.Errorf("%s, %s, %s: near misses (-record +simulated):\n%s", role, tool, arguments, diff)
						}
						if record.GetPolicies() != all.GetVersion() || record.GetRuleSource() != e.GetPolicySource() || len(record.GetInputs()) != len(e.GetInputs()) {
							t.Errorf("%s, %s, %s: got record %v and explanation %v", role, tool, arguments, record, e)
						}
					}
				}
			}
		})
	}
}

func TestStepsAreAskedFor(t *testing.T) {
	t.Parallel()
	own := writePolicies(t, `@id("few") permit (principal in Role::"a", action, resource) when { context.steps < 3 };`)
	h := open(t, newStore(t), func(c *auth.Config) { c.Policies = []string{own} })
	text := h.roleKey(t, "a")
	h.ledger.take()
	for _, tt := range []struct {
		name  string
		steps *uint64
		want  auditv1.Verdict
		input string
	}{
		{"not sent", nil, auditv1.Verdict_VERDICT_UNSPECIFIED, ""},
		{"few", proto.Uint64(2), auditv1.Verdict_VERDICT_ALLOW, "2"},
		{"too many", proto.Uint64(3), auditv1.Verdict_VERDICT_DENY, "3"},
	} {
		req := call(text, "echo", "{}")
		req.Origin.Steps = tt.steps
		resp, err := h.auth.Authorize(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.GetStepsNeeded() != (tt.steps == nil) || resp.GetArgumentsNeeded() || resp.GetDecision().GetVerdict() != tt.want {
			t.Errorf("%s: got %v", tt.name, resp)
		}
		events := h.ledger.take()
		if tt.steps == nil {
			if len(events) > 0 {
				t.Errorf("%s: got events %v, want none", tt.name, events)
			}
			continue
		}
		if in := events[0].GetDecision().GetInputs(); len(in) != 1 || in["steps"] != tt.input {
			t.Errorf("%s: got inputs %v", tt.name, in)
		}
	}
}

func TestExplanation(t *testing.T) {
	t.Parallel()
	s, err := auth.NewSimulator()
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Simulate(t.Context(), &authv1.SimulateRequest{
		Candidates: []*authv1.PolicyFile{{Name: "a.cedar", Text: []byte(`
@id("all") permit (principal in Role::"a", action, resource);
@id("late") @reason("Too late.") @owner("ops") forbid (principal, action, resource is Tool) when { context.time > datetime("2026-01-01") && resource.risk == "write" };`)}},
		Tools: []*authv1.SimulatedTool{{Name: "save", Risk: "write"}, {Name: "look", Risk: "read"}, {Name: "unsaid"}},
		Cases: []*authv1.SimulatedCase{
			{
				Subject: &authv1.SimulatedCase_Principal{Principal: &authv1.Principal{Id: "user:anna", Roles: []string{"a"}}}, Action: callTool, Target: "save",
				Time: timestamppb.New(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)),
			},
			{
				Subject: &authv1.SimulatedCase_Principal{Principal: &authv1.Principal{Id: "user:anna", Roles: []string{"a"}}}, Action: callTool, Target: "save",
				Time: timestamppb.New(time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)),
			},
			{Subject: &authv1.SimulatedCase_Principal{Principal: &authv1.Principal{Id: "user:bert"}}, Action: callTool, Target: "look"},
			{Subject: &authv1.SimulatedCase_Principal{Principal: &authv1.Principal{Id: "user:bert"}}, Action: callTool, Target: "none"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []*authv1.Explanation{
		{
			Verdict: auditv1.Verdict_VERDICT_DENY, Reason: auditv1.Reason_REASON_POLICY_DENIED, Policy: "late", PolicySource: "a.cedar:3",
			Annotations: map[string]string{"id": "late", "reason": "Too late.", "owner": "ops"}, Message: "Too late.",
			Policies: []string{"all", "late"}, Inputs: map[string]string{"time": "2026-06-01T00:00:00Z"},
			NearMisses: []*auditv1.NearMiss{
				{
					Rule: "late", RuleSource: "a.cedar:3",
					Missing: `the condition not (context.time > datetime("2026-01-01")) or the condition not (resource.risk == "write")`,
				},
				{Rule: "all", RuleSource: "a.cedar:2", Missing: "an exception from the forbid late"},
			},
		},
		{
			Verdict: auditv1.Verdict_VERDICT_ALLOW, Policy: "all", PolicySource: "a.cedar:2", Annotations: map[string]string{"id": "all"},
			Policies: []string{"all"}, Inputs: map[string]string{"time": "2025-06-01T00:00:00Z"},
		},
		{
			Verdict: auditv1.Verdict_VERDICT_DENY, Reason: auditv1.Reason_REASON_POLICY_DENIED,
			NearMisses: []*auditv1.NearMiss{{Rule: "all", RuleSource: "a.cedar:2", Missing: "the role a"}},
		},
		{Verdict: auditv1.Verdict_VERDICT_DENY, Reason: auditv1.Reason_REASON_TOOL_UNKNOWN},
	}
	for _, e := range resp.GetExplanations()[2:] { // these words and this time are not the subject
		e.Message = ""
		delete(e.Inputs, "time")
		if len(e.Inputs) == 0 {
			e.Inputs = nil
		}
	}
	if diff := cmp.Diff(want, resp.GetExplanations(), protocmp.Transform()); diff != "" {
		t.Errorf("explanations (-want +got):\n%s", diff)
	}
}

func TestSimulateOfKeys(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), nil)
	id, _ := h.key(t, &authv1.CreateKeyRequest{
		Name: "office", Roles: []string{"admin"}, Restrictions: &authv1.KeyRestrictions{Tools: []string{"echo"}, Networks: []string{"192.0.2.0/24"}},
	})
	dead, _ := h.key(t, &authv1.CreateKeyRequest{Name: "twice", Roles: []string{"admin"}})
	if _, err := h.keys.RevokeKey(t.Context(), &authv1.RevokeKeyRequest{Id: dead}); err != nil {
		t.Fatal(err)
	}
	h.key(t, &authv1.CreateKeyRequest{Name: "twice", Roles: []string{"intern"}})
	byID := func(id string) *authv1.SimulateRequest {
		req := simulation("", "echo")
		req.Cases[0].Subject = &authv1.SimulatedCase_KeyId{KeyId: id}
		return req
	}
	away := simulation("office", "echo")
	away.Cases[0].Origin = from("198.51.100.1")
	later := simulation("office", "echo")
	later.Cases[0].Time = timestamppb.New(time.Now().Add(1000 * 24 * time.Hour))
	own := simulation("office", "echo")
	own.Candidates = []*authv1.PolicyFile{{Name: "a", Text: []byte(closedAll)}}
	unknownTool := simulation("office", "mine")
	described := simulation("twice", "mine")
	described.Tools = []*authv1.SimulatedTool{{Name: "mine", Risk: "read", Sensitivity: "public"}}
	for name, tt := range map[string]struct {
		req    *authv1.SimulateRequest
		reason auditv1.Reason
		policy string
	}{
		"a key by its name":             {simulation("office", "echo"), auditv1.Reason_REASON_UNSPECIFIED, "admins-all"},
		"a key by its id":               {byID(id), auditv1.Reason_REASON_UNSPECIFIED, "admins-all"},
		"a tool it is not for":          {simulation("office", "run_sql_query"), auditv1.Reason_REASON_CREDENTIAL_RESTRICTED, "key-restrictions"},
		"a place it is not for":         {away, auditv1.Reason_REASON_CREDENTIAL_RESTRICTED, ""},
		"after its end":                 {later, auditv1.Reason_REASON_CREDENTIAL_EXPIRED, ""},
		"a revoked key":                 {byID(dead), auditv1.Reason_REASON_CREDENTIAL_REVOKED, ""},
		"of two with a name the live":   {simulation("twice", "echo"), auditv1.Reason_REASON_UNSPECIFIED, "interns-read-internal"},
		"candidates":                    {own, auditv1.Reason_REASON_POLICY_DENIED, "closed"},
		"a tool that is not there":      {unknownTool, auditv1.Reason_REASON_TOOL_UNKNOWN, ""},
		"a tool that is only described": {described, auditv1.Reason_REASON_UNSPECIFIED, "interns-read-internal"},
	} {
		resp, err := h.policies.Simulate(t.Context(), tt.req)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if e := resp.GetExplanations()[0]; e.GetReason() != tt.reason || e.GetPolicy() != tt.policy || e.GetVerdict() == auditv1.Verdict_VERDICT_UNSPECIFIED {
			t.Errorf("%s: got %v, want %v by %q", name, e, tt.reason, tt.policy)
		}
	}
	if _, err := h.policies.Simulate(t.Context(), simulation("nobody", "echo")); !fault.Is(fault.Receive(err), authv1.Reason_REASON_KEY_UNKNOWN) {
		t.Errorf("a key that is not there: got %v", err)
	}
	own.Candidates[0].Text = []byte("permit")
	if _, err := h.policies.Simulate(t.Context(), own); !fault.Is(fault.Receive(err), authv1.Reason_REASON_POLICY) || !strings.Contains(status.Convert(err).Message(), "a:1: ") {
		t.Errorf("candidates with a mistake: got %v", err)
	}
}

func TestCheckPolicies(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), nil)
	alone, err := auth.NewSimulator()
	if err != nil {
		t.Fatal(err)
	}
	check := func(text string) *authv1.CheckPoliciesRequest {
		return &authv1.CheckPoliciesRequest{Files: []*authv1.PolicyFile{{Name: "a.cedar", Text: []byte(text)}}}
	}
	const gone = `@id("a") permit (principal, action, resource == Tool::"gone");`
	for name, tt := range map[string]struct {
		text        string
		want, alone []string
	}{
		"nothing":                               {text: openAll},
		"mistakes":                              {text: "\n@id(\"a\") permit (principal, action, resource) when { context.hop < 1 };\nforbid (principal, action, resource);", want: []string{"2", "3", "3"}},
		"a syntax slip":                         {text: "\n\npermit (principal;", want: []string{"3"}},
		"a missing tool, where tools are known": {text: gone, want: []string{"1w"}, alone: []string{}},
		"an argument that the tool does not take, where tools are known": {
			text: `@id("a") permit (principal, action, resource == Tool::"echo") when { context.arguments.text == "x" || context.arguments.txt == "x" };`,
			want: []string{"1w"}, alone: []string{},
		},
		"a policy that never applies": {text: `@id("a") permit (principal, action, resource) when { false };`, want: []string{"1w"}},
	} {
		resp, err := h.policies.CheckPolicies(t.Context(), check(tt.text))
		if err != nil {
			t.Fatal(err)
		}
		offline, err := alone.CheckPolicies(t.Context(), check(tt.text))
		if err != nil {
			t.Fatal(err)
		}
		if tt.alone == nil {
			tt.alone = tt.want
		}
		if got := lines(resp); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got problems %v, want %q", name, resp, tt.want)
		}
		if got := lines(offline); !slices.Equal(got, tt.alone) || offline.GetVersion() != resp.GetVersion() || len(resp.GetVersion()) != 64 {
			t.Errorf("%s, offline: got %v, want %q", name, offline, tt.alone)
		}
	}
	many := check(strings.Repeat("@id(\"a\") permit (principal, action, resource);\n", 300))
	if resp, err := h.policies.CheckPolicies(t.Context(), many); err != nil || len(resp.GetProblems()) != 256 {
		t.Errorf("got %d problems, %v; want as many as there is room for", len(resp.GetProblems()), err)
	}
	if h.inUse(t).GetSource() != authv1.PolicySource_POLICY_SOURCE_DEFAULT {
		t.Error("checking has changed something")
	}
	for name, err := range map[string]error{
		"put":    second(alone.PutPolicies(t.Context(), nil)),
		"remove": second(alone.RemovePolicies(t.Context(), nil)),
	} {
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("%s, offline: got %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// lines are those of problems, with a w for a warning.
func lines(resp *authv1.CheckPoliciesResponse) (all []string) {
	for _, p := range resp.GetProblems() {
		text := string(rune('0' + p.GetLine()))
		if p.GetWarning() {
			text += "w"
		}
		all = append(all, text)
	}
	return all
}
