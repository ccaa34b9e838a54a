package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

func cedar(name, text string) *authv1.PolicyFile {
	return &authv1.PolicyFile{Name: name, Text: []byte(text)}
}

func TestPoliciesAreCutOutOfFiles(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		text string
		want []statement // without text and bare
		last string      // text of the last one
	}{
		{name: "an empty file", text: ""},
		{name: "comments alone", text: "// one;\n\n// two;"},
		{
			name: "comments before and after are not of a policy",
			text: "// about a\n@id(\"a\")\npermit (principal, action, resource); // the end\n\n@id(\"b\") @reason(\"no; \\\"never\\\"\")\nforbid (principal, action, resource)\n  when { true }; // x",
			want: []statement{
				{id: "a", effect: "permit", source: "x.cedar:2", notes: map[string]string{"id": "a"}},
				{id: "b", effect: "forbid", source: "x.cedar:5", notes: map[string]string{"id": "b", "reason": `no; "never"`}},
			},
			last: "@id(\"b\") @reason(\"no; \\\"never\\\"\")\nforbid (principal, action, resource)\n  when { true };",
		},
		{
			name: "an annotation without a value",
			text: `@approval @id("a") permit (principal, action, resource);`,
			want: []statement{{id: "a", effect: "permit", source: "x.cedar:1", notes: map[string]string{"approval": "", "id": "a"}}},
			last: `@approval @id("a") permit (principal, action, resource);`,
		},
		{
			name: "a string that does not end",
			text: `@id("a`,
			want: []statement{{source: "x.cedar:1", notes: map[string]string{"id": ""}}},
			last: `@id("a`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := statements([]*authv1.PolicyFile{cedar("x.cedar", tt.text)})
			last := ""
			for i := range got {
				last = got[i].text
				got[i].text, got[i].bare = "", ""
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(statement{})); diff != "" {
				t.Errorf("policies (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.last, last); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
		})
	}
}

func TestChangesOfPolicies(t *testing.T) {
	t.Parallel()
	old := []*authv1.PolicyFile{
		cedar("a.cedar", `@id("stays") permit (principal, action, resource); @id("goes") permit (principal, action, resource);`),
		cedar("b.cedar", `@id("turns") permit (principal, action, resource); permit (principal, action, resource);`),
	}
	now := []*authv1.PolicyFile{
		cedar("c.cedar", "// moved\n@id(\"stays\")\npermit ( principal , action, resource ) ;"),
		cedar("b.cedar", `@id("turns") forbid (principal, action, resource); @id("comes") permit (principal, action, resource);`),
	}
	var got []string
	for _, c := range policyChanges(old, now) {
		got = append(got, c.what+" "+c.id)
	}
	want := []string{"removed b.cedar:1", "added comes", "removed goes", "changed turns"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if again := policyChanges(old, old); again != nil {
		t.Errorf("a set differs from itself: %v", again)
	}
}

// Whatever a file holds, all of it but comments and blanks is in some policy, and
// nothing is there twice.
func FuzzStatements(f *testing.F) {
	for _, seed := range []string{
		"", "permit(principal,action,resource);", "@id(\"a\") permit (principal, action, resource); // x", "\"", "\"\\", "@", "@a(", ";;", "//", "é;\n\x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := cutter{rest: text}
		for _, s := range statements([]*authv1.PolicyFile{cedar("x.cedar", text)}) {
			for c.rest != "" && c.blank() != "" {
			}
			if s.text == "" || !strings.HasPrefix(c.rest, s.text) {
				t.Fatalf("%q begins not with %q", c.rest, s.text)
			}
			c.take(len(s.text))
		}
		for c.rest != "" && c.blank() != "" {
		}
		if c.rest != "" {
			t.Fatalf("%q is lost", c.rest)
		}
	})
}
