package edge_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

// sourced is where the results of some tools are from.
func sourced() *toolv1.Provenance {
	return &toolv1.Provenance{
		Service: "mail", DecisionId: "d_01K00000000000000000000000", Envelope: "5f",
		Label: &toolv1.Label{
			Source: "read_mail", Trust: toolv1.Trust_TRUST_UNTRUSTED, Sensitivity: toolv1.Sensitivity_SENSITIVITY_CONFIDENTIAL, Tenant: "acme",
			Time: timestamppb.New(time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)),
		},
	}
}

// The tools that a client names for its task reach auth, with each call and with nothing
// else.
func TestTaskTools(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	names := []string{"echo", "add_numbers"}
	for range 65 {
		names = append(names, "x")
	}
	for _, tt := range []struct {
		name string
		task string
		want []string
		bad  bool
	}{
		{"none", ``, nil, false},
		{"some", `"dev.sallyport/task_tools":["echo","add_\u006eumbers"]`, names[:2], false},
		{"as many as there may be", `"dev.sallyport/task_tools":["` + strings.Join(names[:64], `","`) + `"]`, names[:64], false},
		{"too many", `"dev.sallyport/task_tools":["` + strings.Join(names[:65], `","`) + `"]`, nil, true},
		{"an empty list", `"dev.sallyport/task_tools":[]`, nil, true},
		{"no list", `"dev.sallyport/task_tools":"echo"`, nil, true},
		{"null", `"dev.sallyport/task_tools":null`, nil, true},
		{"what is no name", `"dev.sallyport/task_tools":["echo","a b"]`, nil, true},
		{"a number", `"dev.sallyport/task_tools":[1]`, nil, true},
		{"another spelling", `"dev.sallyport/TASK_tools":["echo"]`, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answer := string(w.send(t, request{meta: tt.task}).body)
			if bad := strings.Contains(answer, `"error"`); bad != tt.bad {
				t.Fatalf("got %s, want an error: %v", answer, tt.bad)
			}
			if tt.bad {
				return
			}
			if got := w.auth.last().GetTaskTools(); !slices.Equal(got, tt.want) {
				t.Errorf("auth was told %q, want %q", got, tt.want)
			}
		})
	}
}

// Where a result is from is in its _meta, also of what a tool says of its failure; what
// the tool itself says of that is not.
func TestProvenanceIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const want = `"dev.sallyport/provenance":{"source":"read_mail","service":"mail","trust":"untrusted","sensitivity":"confidential",` +
		`"tenant":"acme","decision_id":"d_01K00000000000000000000000","time":"2026-11-29T12:00:00Z","envelope":"5f"}`
	for _, tool := range []string{"sourced", "sourced_error"} {
		answer := string(w.send(t, request{params: `"name":"` + tool + `","arguments":{}`}).body)
		if strings.Count(answer, want) != 1 || strings.Count(answer, "dev.sallyport/provenance") != 1 {
			t.Errorf("%s: got %s, want %s", tool, answer, want)
		}
	}
}
