package edge_test

import (
	"strings"
	"testing"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

// Before 2026-07-28 structured results were objects, and clients refuse a whole
// list over a schema that says otherwise.
func TestLegacyClientsSeeOnlyObjectsAsResults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, schema   string
		modern, legacy bool // whether they are shown it
	}{
		{"an object", `{"type":"object"}`, true, true},
		{"a list", `{"type":"array"}`, true, false},
		{"an object or nothing", `{"type":["object","null"]}`, true, false},
		{"whatever", `{}`, true, false},
		{"no schema at all", `true`, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			rows := tool("rows", toolv1.Risk_RISK_READ, func(d *providerv1.ToolDefinition) { d.OutputSchema = []byte(tt.schema) })
			w.executor.only.Store(&rows)
			for version, want := range map[string]bool{"2026-07-28": tt.modern, "2025-11-25": tt.legacy, "2025-06-18": tt.legacy} {
				a := w.send(t, request{method: "tools/list", version: version})
				if got := strings.Contains(string(a.body), `"outputSchema":`+tt.schema); got != want || !strings.Contains(string(a.body), `"rows"`) {
					t.Errorf("%s: got %s, want the schema shown: %t", version, a.body, want)
				}
			}
		})
	}
	w := newWorld(t)
	for version, want := range map[string]bool{"2026-07-28": true, "2025-11-25": false} {
		a := w.send(t, request{params: `"name":"rows"`, version: version})
		if got := strings.Contains(string(a.body), `"structuredContent":[1]`); got != want || !strings.Contains(string(a.body), `"text":"[1]"`) {
			t.Errorf("%s: got %s, want the list as structured content: %t", version, a.body, want)
		}
	}
}
