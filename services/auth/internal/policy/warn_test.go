package policy_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

func TestUnknownArguments(t *testing.T) {
	t.Parallel()
	const when = `permit (principal, action == Action::"tools/call", resource is Tool) when `
	tools := []policy.Signature{
		{Tool: tool("look", reader), Arguments: []string{"limit", "page"}, Known: true},
		{Tool: tool("wipe", destructive), Arguments: []string{"a.b", "id"}, Known: true},
	}
	open := policy.Signature{Tool: tool("open", reader), Arguments: []string{"x"}}
	tests := []struct {
		name   string
		policy string
		tools  []policy.Signature
		want   []string
	}{
		{"of some tool", when + `{ context.arguments has id && context.arguments.limit < 3 };`, tools, nil},
		{"of no tool", when + `{ context.arguments has limt && context.arguments.limt < 3 };`, tools, []string{
			`x.cedar:1: policy "p" reads the argument "limt", and none of the 2 tools that it is about takes it; known are: a.b, id, limit, page`,
		}},
		{
			"of another tool", `permit (principal, action, resource == Tool::"look") when { context.arguments.id == 3 || context.arguments.limit == 2 };`, tools,
			[]string{`x.cedar:1: policy "p" reads the argument "id", and the tool that it is about takes no such argument; known are: limit, page`},
		},
		{"in an argument", when + `{ context.arguments.page.size < 3 };`, tools, nil},
		{"in an argument that there is not", when + `{ context.arguments.pages.size < 3 };`, tools, []string{
			`x.cedar:1: policy "p" reads the argument "pages", and none of the 2 tools that it is about takes it; known are: a.b, id, limit, page`,
		}},
		{"with a dot in its name", when + `{ context.arguments["a.b"] == 3 };`, tools, nil},
		{"all at once", when + `{ (if true then context else {}) == {} };`, tools, nil},
		{"of tools that could take more", when + `{ context.arguments.limt < 3 };`, append(tools[:2:2], open), nil},
		{"beside a tool that could take more", `permit (principal, action, resource == Tool::"wipe") when { context.arguments.x < 3 };`, append(tools[:2:2], open), []string{
			`x.cedar:1: policy "p" reads the argument "x", and the tool that it is about takes no such argument; known are: a.b, id`,
		}},
		{"of no tool that there is", `permit (principal, action, resource == Tool::"gone") when { context.arguments.x < 3 };`, tools, nil},
		{"where there are no tools", when + `{ context.arguments.limt < 3 };`, nil, nil},
		{"none", when + `{ context.hops < 3 };`, tools, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set, err := policy.Load([]policy.File{{Name: "x.cedar", Text: []byte(`@id("p") ` + tt.policy)}})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range set.UnknownArguments(tt.tools) {
				if !p.Warning {
					t.Errorf("%v is not marked as a warning", p)
				}
				got = append(got, p.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}
