package policy_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		text string
		want string // in the error, which also names file and line
	}{
		{"a syntax error", "\n\npermit (principal, action resource);", `x.cedar:3: parse error at`},
		{"no policy", ` // nothing`, `no policy at all`},
		{"a policy without an id", `permit (principal, action, resource);`, `x.cedar:1: a policy without @id`},
		{"an id that is not a name", `@id("Über all") permit (principal, action, resource);`, `x.cedar:1: @id("Über all")`},
		{"the id of a built-in rule", `@id("task-tools") permit (principal, action, resource);`, `built-in`},
		{
			"one id twice", "@id(\"a\") permit (principal, action, resource);\n@id(\"a\") permit (principal, action, resource);",
			`x.cedar:2: @id("a") is also at x.cedar:1`,
		},
		{"a forbid without a reason", `@id("a") forbid (principal, action, resource);`, `x.cedar:1: a forbid without @reason`},
		{
			"an unknown attribute of a tool", "\n\n@id(\"a\") permit (principal, action == Action::\"tools/call\", resource) when { resource.risc == \"read\" };",
			`x.cedar:3: policy "a": attribute ` + "`risc`",
		},
		{"an unknown attribute of the context", `@id("a") permit (principal, action, resource) when { context.adress == "x" };`, "`adress`"},
		{"an attribute that may be absent, untested", `@id("a") permit (principal, action, resource) when { context.address.isLoopback() };`, `x.cedar:1`},
		{"an unknown action", `@id("a") permit (principal, action == Action::"tools/cal", resource);`, "`Action::\"tools/cal\"`"},
		{"an unknown type", `@id("a") permit (principal in Group::"x", action, resource);`, "`Group`"},
		{"a comparison of different types", `@id("a") permit (principal, action == Action::"tools/call", resource) when { resource.risk < 3 };`, `x.cedar:1`},
		{
			"an unknown attribute beside arguments", "@id(\"a\") permit (principal, action, resource)\nwhen { context.arguments.limit < 3 && context.adress == 1 && principal.name == \"x\" && principal.nam == \"y\" };",
			`x.cedar:1: context has no attribute "adress"`,
		},
		{"an unknown attribute of a resource", `@id("a") permit (principal, action, resource is Resource) when { resource.schema == "docs" };`, "`schema`"},
		{"an unknown attribute of a prompt", `@id("a") permit (principal, action == Action::"prompts/get", resource) when { resource.uri == "docs" };`, "`uri`"},
		{"an attribute that not all resources of the actions have", `@id("a") permit (principal, action == Action::"completion/complete", resource) when { resource.scheme == "docs" };`, "`scheme`"},
		{
			"an attribute of tools beside arguments, of a resource", `@id("a") permit (principal, action == Action::"resources/read", resource) when { context.arguments.x == 1 && resource.risk == "read" };`,
			`x.cedar:1: resource has no attribute "risk", it has scheme, uri`,
		},
		{
			"an attribute of resources beside arguments, of a prompt", `@id("a") permit (principal, action == Action::"completion/complete", resource is Prompt) when { context.arguments.x == 1 && resource.uri == "x" };`,
			`x.cedar:1: resource has no attribute "uri", it has name`,
		},
		{
			"an attribute beside arguments, of what has none", `@id("a") permit (principal, action in Action::"list", resource) when { context.arguments.x == 1 && resource has uri };`,
			`x.cedar:1: resource has no attribute "uri", it has none`,
		},
		{
			"a comparison of different types beside arguments", `@id("a") permit (principal, action == Action::"tools/call", resource) when { context.arguments.n == 1 && resource.risk < 3 };`,
			`x.cedar:1: policy "a"`,
		},
		{
			"the same in a choice", `@id("a") permit (principal, action == Action::"tools/call", resource) when { context.arguments.n == 1 || !(context.arguments.m == 2 || resource.risk < 3) };`,
			`x.cedar:1: policy "a"`,
		},
		{
			"the same in an unless", `@id("a") permit (principal, action, resource) unless { context.arguments.n == 1 || context.hops == "x" };`,
			`x.cedar:1: policy "a"`,
		},
		{
			"an unknown type beside arguments", `@id("a") permit (principal, action, resource) when { context.arguments.n == 1 && principal in Group::"x" };`,
			"Group",
		},
		{
			"an attribute that may be absent, untested, beside arguments", `@id("a") permit (principal, action, resource) when { context.arguments.n == 1 && context.address.isLoopback() };`,
			"address",
		},
		{"steps compared with a text", `@id("a") permit (principal, action, resource) when { context.steps < "x" };`, `x.cedar:1`},
		{"an action and a resource that do not go together", `@id("a") permit (principal, action == Action::"tools/call", resource is Prompt);`, `x.cedar:1`},
		{"the id of the rule for URIs", `@id("resource-uri") permit (principal, action, resource);`, `built-in`},
		{"a large file", `//` + strings.Repeat("x", 256<<10), `larger than`},
		{"bytes that are not UTF-8", "// \xff", `not UTF-8`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := policy.Load([]policy.File{{Name: "x.cedar", Text: []byte(tt.text)}})
			if err == nil {
				t.Fatal("got no error")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %q, want %q in it", err, tt.want)
			}
		})
	}
}

func TestLoadNamesEveryMistake(t *testing.T) {
	t.Parallel()
	_, err := policy.Load([]policy.File{
		{Name: "a.cedar", Text: []byte(`permit (principal, action, resource);`)},
		{Name: "b.cedar", Text: []byte(`forbid`)},
		{Name: "b.cedar", Text: []byte("\n@id(\"x\") forbid (principal, action, resource);")},
	})
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{"a.cedar:1", "b.cedar: two files", "b.cedar:1: parse error at", "b.cedar:2"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want %q in it", err, want)
		}
	}
}

func TestLoadTakesWhatReadsArguments(t *testing.T) {
	t.Parallel()
	for _, condition := range []string{
		`context has address && context.arguments.n == 1 && context.address.isLoopback()`,
		`context.arguments.n == 1 && context has address && context.address.isLoopback()`,
		`context.arguments.n == 1 || context has address && context.address.isLoopback()`,
		`(if context.arguments.n == 1 then context has address else false) && context.arguments.m == 1 && principal.name == "x"`,
		`context.arguments.a.b.c.contains(principal.name) && context.arguments has d.e`,
		`context.arguments has to && context.arguments.to like "*@example.com" && context.steps < 10`,
		`context.arguments == {}`,
	} {
		_ = load(t, `@id("a") permit (principal, action == Action::"tools/call", resource) when { `+condition+` };`)
		_ = load(t, `@id("a") permit (principal, action == Action::"tools/call", resource) when { context has address } unless { `+condition+` };`)
	}
}

func TestLoadFindsRoles(t *testing.T) {
	t.Parallel()
	set := load(t, `
		@id("a") permit (principal in Role::"scope", action, resource);
		@id("b") permit (principal is Principal in Role::"is-in", action, resource);
		@id("c") permit (principal, action, resource) when { principal in Role::"when" || principal in [Role::"one", Role::"two"] };
		@id("d") permit (principal, action, resource) unless { principal in Role::"unless" };`)
	want := []string{"is-in", "one", "scope", "two", "unless", "when"}
	if diff := cmp.Diff(want, set.Roles()); diff != "" {
		t.Errorf("roles (-want +got):\n%s", diff)
	}
	if set.KnowsRole("nobody") || !set.KnowsRole("when") {
		t.Error("KnowsRole does not agree with Roles")
	}
	if free := load(t, `@id("a") permit (principal, action, resource);`); !free.KnowsRole("any") {
		t.Error("a set that names no role does not accept any")
	}
}

func TestVersionIsThatOfTheFiles(t *testing.T) {
	t.Parallel()
	const a, b = `@id("a") permit (principal, action, resource);`, `@id("b") permit (principal, action, resource);`
	version := func(files ...policy.File) string {
		t.Helper()
		set, err := policy.Load(files)
		if err != nil {
			t.Fatal(err)
		}
		return set.Version()
	}
	file := func(name, text string) policy.File { return policy.File{Name: name, Text: []byte(text)} }
	want := version(file("1", a), file("2", b))
	if len(want) != 64 {
		t.Errorf("got version %q, want 64 characters, which the contract has room for", want)
	}
	if again := version(file("1", a), file("2", b)); again != want {
		t.Errorf("got versions %s and %s of the same files", want, again)
	}
	for name, other := range map[string]string{
		"another text":         version(file("1", a), file("2", b+" ")),
		"another name":         version(file("1", a), file("3", b)),
		"another order":        version(file("2", b), file("1", a)),
		"a file less":          version(file("1", a)),
		"other borders":        version(file("1", a+b)),
		"a name in the text":   version(file("1", a), file("", "//2\n"+b)),
		"the text in one file": version(file("12", a+b)),
	} {
		if other == want {
			t.Errorf("%s: got the same version", name)
		}
	}
}

func TestReadFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"b.cedar": "b", "a.cedar": "a", "notes.txt": "-", "sub/x.cedar": "-"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := policy.ReadFiles([]string{dir, filepath.Join(dir, "sub", "x.cedar")})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, f.Name+"="+string(f.Text))
	}
	if want := []string{"a.cedar=a", "b.cedar=b", "x.cedar=-"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, path := range []string{filepath.Join(dir, "none"), t.TempDir()} {
		if _, err := policy.ReadFiles([]string{path}); err == nil {
			t.Errorf("got no error for %s", path)
		}
	}
}

func load(t testing.TB, text string) *policy.Set {
	t.Helper()
	set, err := policy.Load([]policy.File{{Name: "test.cedar", Text: []byte(text)}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// FuzzLoad looks for policies that crash the loader, or that load and then
// crash a decision.
func FuzzLoad(f *testing.F) {
	text, err := os.ReadFile("../../policies/default.cedar")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add(`@id("a") permit (principal, action, resource) when { context.arguments.x.y[0] like "*a" };`)
	f.Add(`@id("a") @reason("r") forbid (principal, action, resource) unless { context has arguments.a.b && [1, {a: 2}].contains(context) };`)
	f.Add(`@id("a") permit (principal, action, resource) when { (if true then context else {}) == {} };`)
	f.Fuzz(func(t *testing.T, text string) {
		set, err := policy.Load([]policy.File{{Name: "x.cedar", Text: []byte(text)}})
		if err != nil {
			return
		}
		m := set.Match(caller("intern"), call, tool("delete", destructive))
		without, with := m.Decide(situation(t, "")), m.Decide(situation(t, `{"x":1}`))
		if with.Verdict == policy.Incomplete {
			t.Error("arguments are needed though they are there")
		}
		if without.Verdict != policy.Incomplete && without.Verdict != with.Verdict {
			t.Errorf("decided %v without arguments and %v with", without.Verdict, with.Verdict)
		}
		if with.Verdict == policy.Allow && !m.Callable(situation(t, "")) {
			t.Error("allowed, and not callable")
		}
	})
}
