package toollint_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/toollint"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/toolproto"
)

// lint looks at a file.
func lint(t *testing.T, file string, taken map[string]string, include ...string) (all []string) {
	t.Helper()
	image, err := toolproto.Load(t.Context(), file, include...)
	if err != nil {
		t.Fatal(err)
	}
	tools, refused, err := executor.Define("x", image.Files)
	if err != nil || len(refused) > 0 {
		t.Fatal(err, refused)
	}
	definitions := make(map[string]*providerv1.ToolDefinition)
	for _, tool := range tools {
		definitions[tool.Method] = tool.Definition
	}
	for _, f := range toollint.Lint(image.Services, definitions, func(tool string) string { return taken[tool] }) {
		all = append(all, f.String())
	}
	return all
}

const head = `syntax = "proto3";
package a.v1;
import "buf/validate/validate.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/wrappers.proto";
import "sallyport/tool/v1/tool.proto";
`

func TestFindings(t *testing.T) {
	t.Parallel()
	service := func(fields string) string {
		return `service S {
  // Does it.
  rpc GetIt(A) returns (B) { option (sallyport.tool.v1.tool) = {risk: RISK_READ}; }
}
message B {}
message A {
` + fields + "\n}"
	}
	field := func(declaration string) string { return service("  // It.\n  " + declaration) }
	tests := []struct {
		name, text string
		want       []string // part of each finding, in order
	}{
		{"nothing", service(""), nil},
		{"no comments", "service S {\n  rpc GetIt(A) returns (A) { option (sallyport.tool.v1.tool) = {risk: RISK_READ}; }\n}\nmessage A { bool x = 1; E e = 2; }\nenum E { E_NONE = 0; E_SOME = 1; }", []string{
			"a.proto:8:3: the RPC GetIt has no comment", "a.proto:10:13: the field x of A has no comment", "a.proto:10:25: the field e of A has no comment", "a.proto:11:22: the value E_SOME has no comment",
		}},
		{"an RPC that is no tool", "service S {\n  rpc Other(A) returns (A);\n}\nmessage A { string x = 1; }", nil},
		{"no risk", "service S {\n  // Does it.\n  rpc GetIt(A) returns (A) { option (sallyport.tool.v1.tool) = {}; }\n}\nmessage A {}", []string{"does not say its risk and counts as destructive"}},
		{"a verb alone", "service S {\n  // Does it.\n  rpc Search(A) returns (A) { option (sallyport.tool.v1.tool) = {risk: RISK_READ}; }\n}\nmessage A {}", []string{`the name "search" does not say what`}},
		{"one name twice", "service S {\n  // Does it.\n  rpc GetIt(A) returns (A) { option (sallyport.tool.v1.tool) = {risk: RISK_READ}; }\n  // Does it.\n  rpc Get(A) returns (A) { option (sallyport.tool.v1.tool) = {name: \"get_it\" risk: RISK_READ}; }\n}\nmessage A {}", []string{`the tool "get_it" is also a.v1.S.GetIt`}},
		{"a long description", strings.Replace(service(""), "Does it.", strings.Repeat("å", 1025), 1), []string{"has 1025 characters"}},

		{"uses without a bound", strings.Replace(service(""), "RISK_READ", "RISK_READ uses: {unit: \"rows\" estimate: 5} uses: {unit: \"cents\" estimate: 5 most: 5}", 1), []string{"any amount of rows"}},

		{"a vague field", field("bool data = 1;"), []string{"the field name data of A says nothing"}},
		{"a string", field("string x = 1;"), []string{"string.max_len"}},
		{"a string with a length", field("string x = 1 [(buf.validate.field).string.max_len = 3];"), nil},
		{"a string of a format", field("string x = 1 [(buf.validate.field).string.uuid = true];"), nil},
		{"a string of a list", field(`string x = 1 [(buf.validate.field).string = {in: ["a", "b"]}];`), nil},
		{"a pattern that ends", field(`string x = 1 [(buf.validate.field).string.pattern = "^[a-z]{1,3}(x|y)?$"];`), nil},
		{"a pattern without end", field(`string x = 1 [(buf.validate.field).string.pattern = "^[a-z]+$"];`), []string{"string.max_len"}},
		{"a pattern of a part", field(`string x = 1 [(buf.validate.field).string.pattern = "^[a-z]{3}"];`), []string{"string.max_len"}},
		{"a wrapped string", field("google.protobuf.StringValue x = 1;"), []string{"string.max_len"}},
		{"bytes", field("bytes x = 1;"), []string{"bytes.max_len"}},
		{"a list", field("repeated bool x = 1;"), []string{"repeated.max_items"}},
		{"a list of strings", field("repeated string x = 1 [(buf.validate.field).repeated.max_items = 3];"), []string{"repeated.items.string.max_len"}},
		{"a map", field("map<int32, bool> x = 1;"), []string{"map.max_pairs"}},
		{"a map of strings", field("map<int32, string> x = 1 [(buf.validate.field).map.max_pairs = 3];"), []string{"map.values.string.max_len"}},
		{"a map by strings", field("map<string, bool> x = 1 [(buf.validate.field).map.max_pairs = 3];"), []string{"map.keys.string.max_len"}},
		{"any JSON", field("google.protobuf.Struct x = 1;"), []string{"any JSON fits into it"}},
		{"JSON with a rule", field(`google.protobuf.Value x = 1 [(buf.validate.field).cel = {id: "x", expression: "type(this) == bool"}];`), nil},
		{"within", field("A x = 1; // It.\n message C { string y = 1; }\n // It.\n C c = 2;"), []string{"the field y of C has no comment", "the field y of C has no bound"}},
		{"what comes back needs no bound", strings.Replace(service(""), "message B {}", "message B {\n// It.\nstring x = 1; }", 1), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "a.proto")
			if err := os.WriteFile(file, []byte(head+tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got := lint(t, file, nil)
			for i, part := range tt.want {
				if i >= len(got) || !strings.Contains(got[i], part) {
					t.Errorf("finding %d: want %q in it", i, part)
				}
			}
			if len(got) != len(tt.want) {
				t.Errorf("got %d findings, want %d:\n%s", len(got), len(tt.want), strings.Join(got, "\n"))
			}
		})
	}
}

// Options that are out of bounds make no tool, and it is said why.
func TestUsesThatAreOutOfBounds(t *testing.T) {
	t.Parallel()
	tests := []struct{ uses, want string }{
		{`uses: {unit: "rows"}`, "/options/uses/0/estimate"},
		{`uses: {unit: "rows" estimate: 1000000000001}`, "/options/uses/0/estimate"},
		{`uses: {unit: "rows" estimate: 1 most: 1000000000001}`, "/options/uses/0/most"},
		{`uses: {unit: "rows" estimate: 2 most: 1}`, "most must not be less than estimate"},
		{`uses: {unit: "calls" estimate: 1}`, "/options/uses/0/unit"},
		{`uses: {unit: "Rows" estimate: 1}`, "/options/uses/0/unit"},
		{`uses: {unit: "rows" estimate: 1} uses: {unit: "rows" estimate: 2}`, "names a unit twice"},
		{strings.Repeat(`uses: {unit: "rows" estimate: 1} `, 9), "/options/uses"},
	}
	for _, tt := range tests {
		file := filepath.Join(t.TempDir(), "a.proto")
		text := "service S {\n  // Does it.\n  rpc GetIt(A) returns (A) { option (sallyport.tool.v1.tool) = {risk: RISK_READ " + tt.uses + "}; }\n}\nmessage A {}"
		if err := os.WriteFile(file, []byte(head+text), 0o600); err != nil {
			t.Fatal(err)
		}
		image, err := toolproto.Load(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		tools, refused, err := executor.Define("x", image.Files)
		if err != nil || len(tools) > 0 || len(refused) != 1 || !strings.Contains(refused[0].Error(), tt.want) {
			t.Errorf("%s: got %d tools, refused %v, want %q", tt.uses, len(tools), refused, tt.want)
		}
	}
}

func TestSchemaThatIsTooLarge(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(head + "service S {\n// Does it.\nrpc GetIt(A) returns (A) { option (sallyport.tool.v1.tool) = {risk: RISK_READ}; }\n}\nmessage A {\n")
	for i := range 200 {
		fmt.Fprintf(&b, "// %s\nbool x%d = %d;\n", strings.Repeat("long ", 20), i, i+1)
	}
	b.WriteString("}")
	file := filepath.Join(t.TempDir(), "a.proto")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := lint(t, file, nil); len(got) != 1 || !strings.Contains(got[0], "[size]") {
		t.Errorf("got %q", got)
	}
}

func TestNameThatIsTaken(t *testing.T) {
	t.Parallel()
	got := lint(t, "../../../tools/basics/descriptor.binpb", map[string]string{"echo": "other"})
	want := []string{`sallyport/tools/basics/v1/basics.proto:13:3: the tool "echo" belongs to the service "other" already; give it another name, or a prefix with joining in the executor's configuration [twice]`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

// What we ask of others holds for our own.
func TestOurOwnTools(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../../tools/*/descriptor.binpb")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Glob("../../../../deploy/examples/*/*.proto")
	if err != nil {
		t.Fatal(err)
	}
	if files = append(files, examples...); len(files) < 6 {
		t.Fatalf("only %d files", len(files))
	}
	for _, file := range files {
		for _, finding := range lint(t, file, nil) {
			t.Error(finding)
		}
	}
}
