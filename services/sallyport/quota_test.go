package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/devca"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/instance"
)

// explained is what `quota explain --json` prints.
type explained struct {
	Rules []struct {
		Name         string `json:"name"`
		Limit        int    `json:"limit"`
		MostAdmitted int    `json:"most_admitted"`
	} `json:"rules"`
	Nodes    int      `json:"nodes"`
	Problems []string `json:"problems"`
}

// explainer asks one quota node.
func explainer(t *testing.T, i instance.Instance, address string) quotav1.QuotaAdminServiceClient {
	t.Helper()
	creds, err := devca.Files(certsDir(i.StateDir)).Client(operatorRole, "quota")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := rpc.Dial(address, nil, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return quotav1.NewQuotaAdminServiceClient(conn)
}

// Rules in a file change while the system runs, in one process and in three quota
// nodes, and what was spent is not forgotten; a mistake changes nothing and is told.
func TestQuotaRulesChangeWhileTheSystemRuns(t *testing.T) {
	t.Parallel()
	for shape, args := range shapes {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			rules, config := filepath.Join(dir, "rules.yaml"), filepath.Join(dir, "sallyport.yaml")
			write := func(file, text string) {
				t.Helper()
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(rules, "rules: [{id: calls, match: {tool: echo}, key: [user], limit: 3/hour}]\n")
			write(config, "roles: {quota: {rules_files: "+rules+"}}\n")
			i, _ := dev(t, t.TempDir(), append([]string{"--config", config}, args...)...)
			// await waits until every node is so.
			await := func(what string, is func(*quotav1.ExplainRulesResponse) bool) {
				t.Helper()
				for _, address := range strings.Split(i.Peers["quota"], ",") {
					c := explainer(t, i, address)
					eventually(t, what, func() error {
						resp, err := c.ExplainRules(t.Context(), &quotav1.ExplainRulesRequest{})
						if err == nil && !is(resp) {
							err = fmt.Errorf("the rules are %v", resp)
						}
						return err
					})
				}
			}
			calls := func(n int) (allowed int) {
				t.Helper()
				for range n {
					switch code, stdout, stderr := sallyport(t, i, "call", "echo", "text=x"); {
					case code == exitOK:
						allowed++
					case !strings.Contains(stdout+stderr, "per hour"):
						t.Errorf("exit %d: %s%s", code, stdout, stderr)
					}
				}
				return allowed
			}
			limit := func(n uint64) func(*quotav1.ExplainRulesResponse) bool {
				return func(resp *quotav1.ExplainRulesResponse) bool {
					return len(resp.GetRules()) == 1 && resp.GetRules()[0].GetLimit() == n && len(resp.GetProblems()) == 0
				}
			}
			await("the first rules", limit(3))
			if got := calls(2); got != 2 {
				t.Errorf("with 3 an hour: %d of 2 calls", got)
			}
			write(rules, "rules: [{id: calls, match: {tool: echo}, key: [user], limit: 5/hour}]\n")
			await("a higher limit", limit(5))
			if got := calls(5); got != 3 {
				t.Errorf("with 5 an hour, of which 2 are spent: %d of 5 calls", got)
			}
			write(rules, "rules:\n  - {id: calls, key: [usr], limit: 9/hour}\n")
			await("a mistake", func(resp *quotav1.ExplainRulesResponse) bool {
				return len(resp.GetProblems()) == 1 && strings.Contains(resp.GetProblems()[0], "rules.yaml:2:22: rules[0].key: \"usr\" is no attribute") &&
					resp.GetRules()[0].GetLimit() == 5
			})
			var e explained
			code, stdout, _ := sallyport(t, i, "quota", "explain", "--json")
			if err := json.Unmarshal([]byte(stdout), &e); err != nil || code != exitNo || len(e.Problems) != 1 || e.Rules[0].MostAdmitted != 5 {
				t.Errorf("explain for programs: exit %d, %v: %s", code, err, stdout)
			}
			_, stdout, _ = sallyport(t, i, "quota", "explain")
			for _, want := range []string{"RULE", "calls", "5 in 1 hour", "For checks where tool is echo.", "Newer rules do not hold:", "rules.yaml:2:22"} {
				if !strings.Contains(stdout, want) {
					t.Errorf("explain does not say %q:\n%s", want, stdout)
				}
			}
			write(rules, "rules: [{id: calls, match: {tool: echo}, key: [user], limit: 5/hour}, {id: fleet, limit: 9000/second, mode: fast}]\n")
			await("a rule in fast mode", func(resp *quotav1.ExplainRulesResponse) bool {
				return len(resp.GetRules()) == 2 && resp.GetRules()[1].GetMode() == "fast" && len(resp.GetProblems()) == 0
			})
			if got := calls(1); got != 0 {
				t.Error("a call passed of a strict rule that is used up")
			}
			_, stdout, _ = sallyport(t, i, "quota", "explain")
			said := "this one counts alone, and the limit holds"
			if e.Nodes > 1 {
				said = "Each of 3 nodes decides by itself and tells the others within 2ms."
			}
			for _, want := range []string{"MODE", "fast", said} {
				if !strings.Contains(stdout, want) {
					t.Errorf("explain does not say %q:\n%s", want, stdout)
				}
			}
			write(rules, "rules:\n  - {id: calls, key: [usr], limit: 9/hour}\n")
			if code, stdout, stderr := sallyport(t, i, "config", "validate", config); code != exitUsage || !strings.Contains(stderr, "rules.yaml:2:22") {
				t.Errorf("config validate: exit %d: %s%s", code, stdout, stderr)
			}
		})
	}
}
