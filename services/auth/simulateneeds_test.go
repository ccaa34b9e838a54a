package auth_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

// TestExplanationOfWhatIsNeeded checks that an answer which depends on something
// names the policies, and what they read.
func TestExplanationOfWhatIsNeeded(t *testing.T) {
	t.Parallel()
	s, err := auth.NewSimulator()
	if err != nil {
		t.Fatal(err)
	}
	const few = `
@id("few") permit (principal in Role::"few", action == Action::"tools/call", resource is Tool)
when { context.arguments has page && context.arguments.page.size < 10 && context.hops < 3 && principal.scopes.contains("x") };
`
	const budget = `@id("budget") @reason("Enough.") forbid (principal, action == Action::"tools/call", resource is Tool) when { context.steps > 10 };
`
	const rest = `@id("all") permit (principal in Role::"all", action, resource);
@id("shown") @approval("operator") @reason("Ask.") forbid (principal in Role::"asked", action == Action::"tools/call", resource is Tool);`
	tests := []struct {
		name      string
		roles     []string
		arguments []byte
		steps     *uint64
		want      *authv1.Explanation
	}{
		{
			"arguments and steps",
			[]string{"few"},
			nil, nil,
			&authv1.Explanation{
				ArgumentsNeeded: true, StepsNeeded: true,
				Inputs: map[string]string{"arguments": "page, page.size", "hops": "0", "principal.scopes": "x"},
				DependsOn: []*authv1.Dependency{
					{Policy: "few", PolicySource: "a.cedar:2", Arguments: []string{"page", "page.size"}, Inputs: []string{"hops", "principal.scopes"}},
					{Policy: "budget", PolicySource: "a.cedar:4", Inputs: []string{"steps"}},
				},
			},
		},
		{
			"arguments, with steps that are known",
			[]string{"few"},
			nil, proto.Uint64(7),
			&authv1.Explanation{
				ArgumentsNeeded: true,
				Inputs:          map[string]string{"arguments": "page, page.size", "hops": "0", "principal.scopes": "x", "steps": "7"},
				DependsOn: []*authv1.Dependency{
					{Policy: "few", PolicySource: "a.cedar:2", Arguments: []string{"page", "page.size"}, Inputs: []string{"hops", "principal.scopes"}},
				},
			},
		},
		{
			"steps where another policy permits",
			[]string{"all", "few"},
			nil, nil,
			&authv1.Explanation{
				StepsNeeded: true,
				DependsOn:   []*authv1.Dependency{{Policy: "budget", PolicySource: "a.cedar:4", Inputs: []string{"steps"}}},
			},
		},
		{
			"arguments that whoever approves must see",
			[]string{"all", "asked"},
			nil, proto.Uint64(7),
			&authv1.Explanation{
				ArgumentsNeeded: true, Inputs: map[string]string{"steps": "7"},
				DependsOn: []*authv1.Dependency{{Policy: "shown", PolicySource: "a.cedar:6", Approval: true}},
			},
		},
		{
			"nothing",
			[]string{"all"},
			nil, proto.Uint64(7),
			&authv1.Explanation{
				Verdict: auditv1.Verdict_VERDICT_ALLOW, Policy: "all", PolicySource: "a.cedar:5",
				Annotations: map[string]string{"id": "all"}, Policies: []string{"all"}, Inputs: map[string]string{"steps": "7"},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			resp, err := s.Simulate(t.Context(), &authv1.SimulateRequest{
				Candidates: []*authv1.PolicyFile{{Name: "a.cedar", Text: []byte(few + budget + rest)}},
				Tools:      []*authv1.SimulatedTool{{Name: "look", Risk: "read"}},
				Cases: []*authv1.SimulatedCase{{
					Subject: &authv1.SimulatedCase_Principal{Principal: &authv1.Principal{Id: "user:anna", Roles: tt.roles}}, Action: callTool, Target: "look",
					Time: timestamppb.New(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)), Arguments: tt.arguments, Scopes: []string{"x"},
					Origin: &authv1.Origin{Steps: tt.steps},
				}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, resp.GetExplanations()[0], protocmp.Transform()); diff != "" {
				t.Errorf("explanation (-want +got):\n%s", diff)
			}
		})
	}
}
