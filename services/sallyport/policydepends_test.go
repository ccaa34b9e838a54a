package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

func TestWhatAnAnswerDependsOn(t *testing.T) {
	t.Parallel()
	of := func(d *authv1.Dependency) []*authv1.Dependency {
		d.Policy, d.PolicySource = "p", "a.cedar:3"
		return []*authv1.Dependency{d}
	}
	tests := []struct {
		name string
		e    *authv1.Explanation
		want []string
		next string
	}{
		{
			"arguments", &authv1.Explanation{ArgumentsNeeded: true, DependsOn: of(&authv1.Dependency{Arguments: []string{"a", "b.c"}})},
			[]string{"the arguments a, b.c (p, a.cedar:3)"},
			"Say them with --arg or --args; in a test, with arguments and steps.",
		},
		{
			"arguments and steps, of one policy",
			&authv1.Explanation{ArgumentsNeeded: true, StepsNeeded: true, DependsOn: of(&authv1.Dependency{Arguments: []string{"*"}, Inputs: []string{"hops", "steps"}})},
			[]string{"all arguments and how many steps the context has taken, beside hops (p, a.cedar:3)"},
			"Say them with --arg or --args and --steps; in a test, with arguments and steps.",
		},
		{
			"arguments, where the steps are known", &authv1.Explanation{ArgumentsNeeded: true, DependsOn: of(&authv1.Dependency{Arguments: []string{"a"}, Inputs: []string{"steps"}})},
			[]string{"the arguments a, beside steps (p, a.cedar:3)"},
			"Say them with --arg or --args; in a test, with arguments and steps.",
		},
		{
			"that there are arguments", &authv1.Explanation{ArgumentsNeeded: true, DependsOn: of(&authv1.Dependency{})},
			[]string{"whether there are arguments (p, a.cedar:3)"},
			"Say them with --arg or --args; in a test, with arguments and steps.",
		},
		{
			"an approval", &authv1.Explanation{ArgumentsNeeded: true, DependsOn: of(&authv1.Dependency{Approval: true})},
			[]string{"the arguments, which whoever approves the call has to see (p, a.cedar:3)"},
			"Say them with --arg or --args; in a test, with arguments and steps.",
		},
		{
			"without the policies", &authv1.Explanation{ArgumentsNeeded: true, StepsNeeded: true, Inputs: map[string]string{"arguments": "a, b"}},
			[]string{"the arguments a, b", "how many steps the context has taken"},
			"Say them with --arg or --args and --steps; in a test, with arguments and steps.",
		},
		{name: "nothing", e: &authv1.Explanation{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := dependsOn(tt.e)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("depends on (-want +got):\n%s", diff)
			}
			if len(got) > 0 && askAgain(tt.e) != tt.next {
				t.Errorf("got %q, want %q", askAgain(tt.e), tt.next)
			}
		})
	}
}
