package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/mcp"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/scaffold"
)

// alone runs a command that needs no running system.
func alone(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"--state", t.TempDir()}, args...), strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestToolInit(t *testing.T) {
	t.Parallel()
	for _, language := range scaffold.Languages() {
		dir := filepath.Join(t.TempDir(), "x")
		code, out, errs := alone(t, "tool", "init", "order-status", "--lang", language, "--dir", dir)
		if code != exitOK || !strings.Contains(out, "sallyport tool serve order-status.proto -- ") {
			t.Fatalf("%s: exit %d, %q, %q", language, code, out, errs)
		}
		if code, out, errs := alone(t, "tool", "lint", filepath.Join(dir, "order-status.proto")); code != exitOK || out != "1 tools, 0 findings\n" {
			t.Errorf("%s: lint: exit %d, %q, %q", language, code, out, errs)
		}
		if s, err := readToolSuite(filepath.Join(dir, "cases.yaml")); err != nil || len(s.Cases) != 3 || s.Cases[0].Call != "get_order_status" {
			t.Errorf("%s: cases: %v, %v", language, s, err)
		}
		// It never writes over anything, and then writes nothing at all.
		if err := os.Remove(filepath.Join(dir, "cases.yaml")); err != nil {
			t.Fatal(err)
		}
		code, _, errs = alone(t, "tool", "init", "order-status", "--lang", language, "--dir", dir)
		if _, err := os.Stat(filepath.Join(dir, "cases.yaml")); code != exitNo || !strings.Contains(errs, "is there already; nothing was written") || err == nil {
			t.Errorf("%s: again: exit %d, %q, %v", language, code, errs, err)
		}
	}
}

func TestToolCommandsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	const header = "syntax = \"proto3\";\npackage a.v1;\nimport \"sallyport/tool/v1/tool.proto\";\nmessage A {}\n"
	none := write("none.proto", header+"service S { rpc Get(A) returns (A); }")
	vague := write("vague.proto", header+"service S { rpc Get(A) returns (A) { option (sallyport.tool.v1.tool) = {}; } }")
	refused := write("refused.proto", header+"service S { rpc Get(stream A) returns (A) { option (sallyport.tool.v1.tool) = {}; } }")
	tests := []struct {
		args []string
		code int
		want string // in what is printed
	}{
		{[]string{"init", "Weather"}, exitNo, `"Weather" is no name for a service`},
		{[]string{"init", "weather", "--lang", "cobol"}, exitNo, `there is no template for "cobol"; there are typescript, python, go`},
		{[]string{"lint", vague}, exitNo, vague + ":5:13: Get does not say its risk"},
		{[]string{"lint", refused}, exitNo, "a.v1.S.Get: a stream of requests cannot be a tool"},
		{[]string{"lint", vague, none, "--name", "x"}, exitUsage, "--name goes with one file"},
		{[]string{"lint", filepath.Join(dir, "nothing.proto")}, exitNo, "no such file"},
		{[]string{"serve", none, "--", "true"}, exitNo, "no RPC has the option (sallyport.tool.v1.tool)"},
		{[]string{"serve", refused, "--", "true"}, exitNo, "a stream of requests cannot be a tool"},
		{[]string{"serve", vague}, exitUsage, "say what serves the tools"},
		{[]string{"serve", vague, "--to", "127.0.0.1:1", "--", "true"}, exitUsage, "say what serves the tools"},
		{[]string{"serve", vague, "--name", "auth", "--", "true"}, exitUsage, `"auth" is a service of Sallyport itself`},
		{[]string{"serve", vague, "--name", "a b", "--", "true"}, exitUsage, `"a b" is no name for a service`},
		{[]string{"serve", vague, "--", "true"}, exitUnreachable, "sallyport dev"},
		{[]string{"test", write("a.yaml", "cases: []")}, exitUsage, "a.yaml: no cases"},
		{[]string{"test", write("b.yaml", "cases:\n- call: x\n  arg: {}")}, exitUsage, "line 3: field arg is not known here"},
		{[]string{"test", write("c.yaml", "cases:\n- name: y\n- {call: x, error: y, contains: z}")}, exitUsage, "c.yaml:2: call is missing"},
		{[]string{"test", filepath.Join(dir, "c.yaml")}, exitUsage, "c.yaml:3: error excludes result and contains"},
		{[]string{"test", write("d.yaml", "cases: [{call: x}]")}, exitUnreachable, "sallyport dev"},
	}
	for _, tt := range tests {
		code, out, errs := alone(t, append([]string{"tool"}, tt.args...)...)
		if code != tt.code || !strings.Contains(out+errs, tt.want) {
			t.Errorf("%v: exit %d, want %d; want %q in\n%s%s", tt.args, code, tt.code, tt.want, out, errs)
		}
	}
}

func TestToolCases(t *testing.T) {
	t.Parallel()
	result := func(text string, isError bool) *mcp.Result {
		return &mcp.Result{Content: []mcp.Content{{Type: "text", Text: text}}, Structured: json.RawMessage(text), IsError: isError}
	}
	tests := []struct {
		name string
		c    toolCase
		got  *mcp.Result
		want []string
	}{
		{"as it should be", toolCase{Result: map[string]any{"a": 1, "b": map[string]any{"c": []any{"x"}}}, Contains: `"a"`}, result(`{"a":1,"b":{"c":["x"],"more":1},"more":true}`, false), nil},
		{"other values", toolCase{Result: map[string]any{"a": 1, "b": map[string]any{"c": []any{"x"}, "d": nil}}}, result(`{"a":2,"b":{"c":["x","y"]}}`, false), []string{
			"/a: want 1, got 2", `/b/c: want ["x"], got ["x","y"]`, "/b/d: want null, and it is not there",
		}},
		{"no structure", toolCase{Result: map[string]any{"a": 1}}, result("a", false), []string{"want a structured result, got the text a"}},
		{"a part that is not there", toolCase{Contains: "b"}, result("a", false), []string{`want "b" in the text, got a`}},
		{"an error", toolCase{}, result("a", true), []string{"it has failed: a"}},
		{"no error", toolCase{Error: "a"}, result("a", false), []string{`it has not failed, want an error with "a"; got a`}},
		{"another error", toolCase{Error: "b"}, result("a", true), []string{`want an error with "b", got a`}},
		{"the error", toolCase{Error: "a"}, result("a", true), nil},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, tt.c.wrongs(tt.got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// A case names its key unless one in a file is for all.
func TestToolTestThroughTheSystem(t *testing.T) {
	t.Parallel()
	i, _ := dev(t, t.TempDir())
	file := filepath.Join(t.TempDir(), "cases.yaml")
	if err := os.WriteFile(file, []byte(`cases:
- {call: echo, arguments: {text: hello}, result: {text: hello}}
- {name: nobody knows it, call: nothing, error: no tool of this name}
- {call: delete_customer_account, arguments: {customer_id: 7}, as: intern, error: Decision d_}
- {call: echo, arguments: {text: hello}, result: {text: bye}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := sallyport(t, i, "tool", "test", file)
	if code != exitNo || !strings.Contains(out, "3 of 4 cases are as expected") || !strings.Contains(out, `/text: want "bye", got "hello"`) || !strings.Contains(out, file+":5") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
}
