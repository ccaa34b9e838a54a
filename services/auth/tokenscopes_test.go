package auth_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

// TestPoliciesReadScopes follows the scopes of tokens into decisions, lists, the
// record and simulations.
func TestPoliciesReadScopes(t *testing.T) {
	t.Parallel()
	m := newMint(t)
	own := writePolicies(t, `@id("scoped") permit (principal, action in [Action::"tools/call", Action::"resources/read"], resource)
		when { principal.scopes.contains("use") };`)
	h := open(t, newStore(t), func(c *auth.Config) {
		m.config(c)
		c.Policies = []string{own}
	})
	tests := []struct {
		name   string
		token  string
		scopes []string
		inputs string
		want   auditv1.Verdict
	}{
		{
			"a token with the scope", m.token(t, map[string]any{"scope": "use tools:read"}),
			[]string{"use", "tools:read"},
			"tools:read use", auditv1.Verdict_VERDICT_ALLOW,
		},
		{ // of the same principal
			"a token without it", m.token(t, map[string]any{"scope": "tools:read"}),
			[]string{"tools:read"},
			"tools:read", auditv1.Verdict_VERDICT_DENY,
		},
		{"a key", h.roleKey(t, "analyst"), nil, "", auditv1.Verdict_VERDICT_DENY},
	}
	for _, tt := range tests {
		h.ledger.take()
		got, err := h.auth.Authorize(t.Context(), call(tt.token, "echo", "{}"))
		if err != nil || got.GetDecision().GetVerdict() != tt.want {
			t.Errorf("%s: got %v, %v, want %v", tt.name, got, err, tt.want)
			continue
		}
		record := h.ledger.take()[0].GetDecision()
		if diff := cmp.Diff(map[string]string{"principal.scopes": tt.inputs}, record.GetInputs()); diff != "" {
			t.Errorf("%s: inputs (-want +got):\n%s", tt.name, diff)
		}
		allowed := tt.want == auditv1.Verdict_VERDICT_ALLOW
		tools, err := h.auth.FilterTools(t.Context(), &authv1.FilterToolsRequest{Credential: bearer(tt.token), Origin: from("192.0.2.1"), Tools: []string{"echo"}})
		if err != nil || len(tools.GetAllowed()) == 1 != allowed {
			t.Errorf("%s: got tools %v, %v", tt.name, tools, err)
		}
		targets, err := h.auth.FilterTargets(t.Context(), &authv1.FilterTargetsRequest{
			Credential: bearer(tt.token), Origin: from("192.0.2.1"), Action: authv1.Action_ACTION_RESOURCES_READ, Targets: []string{"file:///a"},
		})
		if err != nil || len(targets.GetAllowed()) == 1 != allowed {
			t.Errorf("%s: got resources %v, %v", tt.name, targets, err)
		}
		one := &authv1.SimulatedCase{
			Subject: &authv1.SimulatedCase_Principal{Principal: got.GetPrincipal()}, Scopes: tt.scopes,
			Action: authv1.Action_ACTION_TOOLS_CALL, Target: "echo",
		}
		simulated, err := h.policies.Simulate(t.Context(), &authv1.SimulateRequest{Cases: []*authv1.SimulatedCase{one}})
		if err != nil {
			t.Fatal(err)
		}
		e := simulated.GetExplanations()[0]
		if diff := cmp.Diff(record.GetInputs(), e.GetInputs()); diff != "" || e.GetVerdict() != tt.want {
			t.Errorf("%s: simulated %v (-record +simulated):\n%s", tt.name, e.GetVerdict(), diff)
		}
		if diff := cmp.Diff(record.GetNearMisses(), e.GetNearMisses(), protocmp.Transform()); diff != "" {
			t.Errorf("%s: near misses (-record +simulated):\n%s", tt.name, diff)
		}
	}
}
