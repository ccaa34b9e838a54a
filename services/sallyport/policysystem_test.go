package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/instance"
)

// The examples that are shipped say what they do, and need no running system.
func TestExamplesOfPolicies(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../deploy/examples/policies/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples (%v)", err)
	}
	i := nowhere(t)
	if code, stdout, stderr := sallyport(t, i, append([]string{"policy", "test"}, files...)...); code != exitOK {
		t.Errorf("policy test: exit %d\n%s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := sallyport(t, i, "policy", "check", "../auth/policies", "../../deploy/examples/policies"); code != exitOK {
		t.Errorf("policy check: exit %d\n%s%s", code, stdout, stderr)
	}
}

func TestPoliciesWithoutARunningSystem(t *testing.T) {
	t.Parallel()
	dir := folder(t, "a.cedar", "@id(\"a\")\npermit (principal, action, resource)\nwhen { resource.size > 7 };\n", "b.cedar", "@id(\"b\")\npermit (principal, action;\n",
		"t.yaml", "policies: [a.cedar]\ncases:\n  - {as: {roles: [x]}, call: y, expect: allow}\n")
	i := nowhere(t)
	code, stdout, _ := sallyport(t, i, "policy", "check", dir)
	if code != exitNo || !strings.Contains(stdout, dir+"/a.cedar:") || !strings.Contains(stdout, "size") || !strings.Contains(stdout, dir+"/b.cedar:") {
		t.Errorf("policy check: exit %d\n%s", code, stdout)
	}
	if code, _, stderr := sallyport(t, i, "policy", "test", dir+"/t.yaml"); code != exitUsage || !strings.Contains(stderr, dir+"/a.cedar:") {
		t.Errorf("policy test: exit %d, %s", code, stderr)
	}
	if code, _, stderr := sallyport(t, i, "policy", "test", dir+"/t.yaml", "--online"); code != exitUnreachable {
		t.Errorf("policy test --online: exit %d, %s", code, stderr)
	}
	// Another set can be put to the same tests.
	if code, stdout, stderr := sallyport(t, i, "policy", "test", "../../deploy/examples/policies/guide.yaml", "--policies", "../auth/policies", "--policies", "../../deploy/examples/policies/restrict.cedar"); code != exitNo ||
		!strings.Contains(stdout, "FAIL  analysts query") || !strings.Contains(stdout, "queries-from-inside (restrict.cedar:6)") {
		t.Errorf("policy test --policies: exit %d\n%s%s", code, stdout, stderr)
	}
}

// A denied call is explained by its id; policies that are pushed hold at once, in
// every process, and are compared with what was decided before; bad ones change
// nothing.
func TestPoliciesThatExplainThemselves(t *testing.T) {
	t.Parallel()
	for shape, args := range shapes {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			i, _ := dev(t, t.TempDir(), append([]string{"--config", unlimited(t)}, args...)...)
			check := func(name string, code int, want []string, args ...string) (stdout string) {
				t.Helper()
				got, stdout, stderr := sallyport(t, i, args...)
				if got != code {
					t.Errorf("%s: %v: got exit %d, want %d:\n%s%s", name, args, got, code, stdout, stderr)
				}
				for _, w := range want {
					if !strings.Contains(stdout+stderr, w) {
						t.Errorf("%s: %v: %q is not in\n%s%s", name, args, w, stdout, stderr)
					}
				}
				return stdout
			}

			denied := decisionOf(t, check("a call is denied", exitNo, nil, "call", "run_sql_query", "query=SELECT 1", "--as", "intern", "-o", "json"))
			check("and says why", exitOK, []string{
				"DENIED  POLICY_DENIED", "policy     none: no policy permits it", "would be allowed with: the role analyst (analysts-read, default.cedar:",
				"roles intern", "what       tools/call run_sql_query", "{query: string(8)}", "trace ",
			}, "why", denied, "--wait", "20s")
			var why struct {
				Reason   string
				Policies string
				InUse    string `json:"policies_in_use"`
			}
			if err := json.Unmarshal([]byte(check("for programs", exitOK, nil, "why", denied, "-o", "json")), &why); err != nil ||
				why.Reason != "POLICY_DENIED" || why.Policies == "" || why.Policies != why.InUse {
				t.Errorf("why -o json: got %+v, %v", why, err)
			}
			deleting := decisionOf(t, check("a policy forbids", exitNo, nil, "call", "delete_customer_account", "customer_id=7", "--as", "analyst", "-o", "json"))
			check("and its text is shown", exitOK, []string{"policy     destructive-admins-only (default.cedar:", "unless { principal in Role::\"admin\" };"}, "why", deleting, "--wait", "20s")
			allowed := decisionOf(t, check("a call is allowed", exitOK, nil, "call", "echo", "text=hello", "--as", "analyst", "-o", "json"))
			awaitEvents(t, i, allowed, "DECISION:VERDICT_ALLOW", "INTENT", "OUTCOME:STATUS_OK")
			check("and what followed is told", exitOK, []string{"DONE", "analysts-read", "INTENT", "OK"}, "why", allowed)
			wrong := decisionOf(t, check("arguments are wrong", exitNo, nil, "call", "echo", "loud=true", "--as", "analyst", "-o", "json"))
			awaitEvents(t, i, wrong, "OUTCOME:STATUS_FAILED:REASON_INVALID_ARGUMENTS")
			check("which is explained too", exitOK, []string{"FAILED  INVALID_ARGUMENTS", "break the tool's schema"}, "why", wrong)
			check("an id that nobody has", exitNo, []string{"is on record", "sallyport audit tail"}, "why", "d_01KB3ZJ5W8Q2V7N4XH6TTC9RDE", "--wait", "0s")

			check("who may", exitOK, []string{"yes  run_sql_query", "analysts-read"}, "can-i", "call", "run_sql_query", "--as", "analyst")
			check("who may not", exitNo, []string{"no  run_sql_query", "the role analyst"}, "can-i", "call", "run_sql_query", "--role", "intern")
			check("a tool that is not there", exitUsage, []string{`did you mean "run_sql_query"`}, "can-i", "call", "run_sql_qery", "--role", "intern")
			check("a resource", exitOK, []string{"yes  file:///x"}, "can-i", "read", "file:///x", "--role", "analyst")
			check("a prompt", exitNo, []string{"no  review"}, "can-i", "get", "review", "--role", "intern")
			check("all tools", exitOK, []string{"delete_customer_account", "destructive-admins-only", "interns-read-internal"}, "can-i", "list", "tools", "--as", "intern")
			check("tests on the running system", exitNo, []string{"1 of 2 cases"}, "policy", "test", folder(t, "t.yaml",
				"cases:\n  - {as: {key: demo intern}, call: echo, expect: allow}\n  - {as: {key: demo intern}, call: run_sql_query, arguments: {query: x}, expect: allow}\n")+"/t.yaml")

			check("what holds", exitOK, []string{"the default policies", "analysts-read", "default.cedar"}, "policy", "show")
			dir := filepath.Join(t.TempDir(), "policies")
			check("goes into files", exitOK, nil, "policy", "show", "--out", dir)
			check("and is the same", exitOK, []string{"no policy is added"}, "policy", "diff", dir)
			check("and would decide the same", exitOK, []string{" 0 otherwise"}, "policy", "diff", dir, "--replay", "1h")

			bad := folder(t, "bad.cedar", "@id(\"x\")\npermit (principal, action, resource)\nwhen { resource.size > 7 };\n")
			check("bad ones are refused with their place", exitNo, []string{bad + "/bad.cedar:", "size", "nothing was changed"}, "policy", "push", bad, "--yes")
			if err := os.WriteFile(filepath.Join(dir, "stop.cedar"), []byte("@id(\"no-echo\")\n@reason(\"Not today.\")\nforbid (principal in Role::\"analyst\", action, resource == Tool::\"echo\");\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			misread := folder(t, "misread.cedar", `@id("misread") permit (principal, action == Action::"tools/call", resource == Tool::"echo") when { context.arguments.txt == "x" };`)
			check("an argument that no tool takes", exitOK, []string{`reads the argument "txt", and the tool that it is about takes no such argument; known are: `}, "policy", "check", misread, "--online")
			check("what would change", exitNo, []string{"added    no-echo (stop.cedar:1)"}, "policy", "diff", dir)
			check("what would flip", exitNo, []string{"(demo analyst)", "echo", "allow -> deny", "no-echo stop.cedar:1"}, "policy", "diff", dir, "--replay", "1h")
			short := `@id("short") @reason("Too long.") forbid (principal in Role::"analyst", action == Action::"tools/call", resource == Tool::"run_sql_query")
				when { context.arguments.query like "*drop*" || context.hops > 7 };`
			if err := os.WriteFile(filepath.Join(dir, "short.cedar"), []byte(short), 0o600); err != nil {
				t.Fatal(err)
			}
			far := folder(t, "far.cedar", `@id("all") permit (principal, action, resource); @id("far") @reason("Too far.") forbid (principal, action, resource) when { context.hops > 7 };`)
			check("what cannot be told", exitOK, []string{" 0 as before, 0 otherwise", "cannot be told: needs hops: not on record"}, "policy", "diff", far, "--replay", "1h")
			if list := check("the list before", exitOK, nil, "tool", "list", "--as", "analyst"); !strings.Contains(list, "echo") {
				t.Errorf("the analyst is not shown echo:\n%s", list)
			}
			check("they are pushed", exitOK, []string{"2 added, 0 removed, 0 changed", "hold now"}, "policy", "push", dir, "--yes", "--author", "anna")
			eventually(t, "the call is denied", func() error {
				if code, stdout, _ := sallyport(t, i, "call", "echo", "text=hello", "--as", "analyst"); code != exitNo || !strings.Contains(stdout, "Not today.") {
					return fmt.Errorf("exit %d: %s", code, stdout)
				}
				return nil
			})
			eventually(t, "the list leaves it out", func() error {
				if _, stdout, _ := sallyport(t, i, "tool", "list", "--as", "analyst"); strings.Contains(stdout, "echo") {
					return fmt.Errorf("%s", stdout)
				}
				return nil
			})
			check("what depends", exitUsage, []string{"depends  run_sql_query", "on the arguments query, beside hops (short, short.cedar:1)"}, "can-i", "call", "run_sql_query", "--as", "analyst")
			check("where they come from", exitOK, []string{"the store, pushed by anna", "stop.cedar"}, "policy", "show")
			check("old decisions say that policies have changed", exitOK, []string{"they have changed since"}, "why", denied)
			check("they are removed", exitOK, []string{"hold now"}, "policy", "remove", "--yes", "--author", "anna")
			eventually(t, "the call is allowed again", func() error {
				if code, stdout, _ := sallyport(t, i, "call", "echo", "text=hello", "--as", "analyst"); code != exitOK {
					return fmt.Errorf("exit %d: %s", code, stdout)
				}
				return nil
			})
			check("nothing is left to remove", exitNo, []string{"nothing to remove"}, "policy", "remove", "--yes")
			eventually(t, "both changes are on record", func() error {
				_, stdout, _ := sallyport(t, i, "audit", "tail", "-n", "500")
				if !strings.Contains(stdout, "policy.put") || !strings.Contains(stdout, "policy.remove") {
					return fmt.Errorf("%s", stdout)
				}
				return nil
			})
		})
	}
}

// nowhere is an instance that does not run.
func nowhere(t *testing.T) instance.Instance {
	t.Helper()
	return instance.Instance{StateDir: t.TempDir()}
}
