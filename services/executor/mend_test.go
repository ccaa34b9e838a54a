package executor_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/jsonschema"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tooltest"
)

// A result in which something was replaced keeps the output schema: what does not fit
// any more is left out, or all data is withheld. The text is passed on.
func TestRedactedResultsKeepTheSchema(t *testing.T) {
	t.Parallel()
	const schema = `{"type":"object","required":["name"],"properties":{
		"name":{"type":"string","maxLength":30},
		"mail":{"type":"string","pattern":"^[^ ]+@[^ ]+$"},
		"all":{"type":"array","items":{"type":"object","properties":{"m~/l":{"type":"string","maxLength":10}}}},
		"kinds":{"type":"array","items":{"enum":["a@b.co","x"]}}}}`
	const lacks = ": what guards have put there does not fit the tool's output schema. The text is whole.]"
	const withheld = "[t was called, but its structured result is withheld: with what guards have replaced in it, " +
		"it does not fit the tool's output schema. The text is whole; calling again will not help.]"
	for _, tt := range []struct {
		name, sent string
		want       string
		note       string
		withheld   bool
	}{
		{name: "nothing was replaced", sent: `{"name":"a", "mail":"none@all"}`, want: `{"name":"a", "mail":"none@all"}`},
		{name: "it fits all the same", sent: `{"name":"a", "other":"a@b.co"}`, want: `{"name":"a", "other":"[removed: personal data email]"}`},
		{
			name: "a member is left out", sent: `{"name":"a","mail":"a@b.co","n":1.50}`, want: `{"name":"a","n":1.50}`,
			note: "[The structured result lacks /mail" + lacks,
		},
		{
			name: "members within lists are", sent: `{"name":"a","all":[{"m~/l":"a@b.co","x":1},{"m~/l":"ok"},{"m~/l":"c@d.co"}]}`,
			want: `{"name":"a","all":[{"x":1},{"m~/l":"ok"},{}]}`,
			note: "[The structured result lacks /all/0/m~0~1l, /all/2/m~0~1l" + lacks,
		},
		{name: "a required member cannot be", sent: `{"name":"someone@example.com and more"}`, note: withheld, withheld: true},
		{name: "nor an element of a list", sent: `{"name":"a","kinds":["x","a@b.co"]}`, note: withheld, withheld: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(c *executor.Config) { c.Guards.Defaults.Personal.Results = guard.Redact })
			tool := definition("t", func(d *providerv1.ToolDefinition) { d.OutputSchema = []byte(schema) })
			s.provide("ev", "1", &fake{tools: []*providerv1.ToolDefinition{tool}, call: plays(resultEvent(&providerv1.ToolResult{
				Content: textResult("see data").GetContent(), Structured: []byte(tt.sent),
			}))}, "t")
			result, _, err := s.call(t.Context(), granted(t, "t", `{}`))
			if err != nil {
				t.Fatal(err)
			}
			r := result.GetResult()
			texts := make([]string, 0, 2)
			for _, c := range r.GetContent() {
				texts = append(texts, c.GetText())
			}
			want := []string{"see data"}
			if tt.note != "" {
				want = append(want, tt.note)
			}
			if diff := cmp.Diff(want, texts); diff != "" {
				t.Errorf("texts (-want +got):\n%s", diff)
			}
			if got := string(r.GetStructured()); got != tt.want || r.GetIsError() != tt.withheld {
				t.Errorf("structured = %s, error %v, want %s", got, r.GetIsError(), tt.want)
			}
			if got := result.GetRefusal().GetReason() == auditv1.Reason_REASON_RESULT_INVALID; got != tt.withheld || result.GetRefusal().GetMessage() != "" {
				t.Errorf("refusal = %v", result.GetRefusal())
			}
			ended := map[bool]string{false: "outcome OK UNSPECIFIED", true: "outcome FAILED RESULT_INVALID"}[tt.withheld]
			if diff := cmp.Diff([]string{"intent", ended}, kinds(s.audit.take())); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// The data of an RPC's result is its text as well, and that stays whole.
func TestRedactedAnswersKeepTheSchema(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *executor.Config) { c.Guards.Defaults.Personal.Results = guard.Redact })
	s.parrot()
	result, _, err := s.call(t.Context(), granted(t, "echo", `{"text":"`+strings.Repeat("a@b.co ", 1000)+`"}`)) // 10,000 characters are the most
	if err != nil {
		t.Fatal(err)
	}
	r := result.GetResult()
	whole := `{"text":"` + strings.Repeat("[removed: personal data email] ", 1000) + `"}`
	if len(r.GetContent()) != 2 || r.GetContent()[0].GetText() != whole || !strings.HasPrefix(r.GetContent()[1].GetText(), "[echo was called, but its structured result is withheld: ") {
		t.Errorf("content = %.300v", r.GetContent())
	}
	if len(r.GetStructured()) > 0 || !r.GetIsError() || result.GetRefusal().GetReason() != auditv1.Reason_REASON_RESULT_INVALID { // all members of an RPC's result are required
		t.Errorf("structured = %s, %v", r.GetStructured(), result.GetRefusal())
	}
}

// The client is told which guards have changed a result and how often, in the result
// and again where the call is repeated.
func TestResultsTellWhichGuardsHaveActed(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.parrot()
	result, _, err := s.call(t.Context(), granted(t, "echo", `{"text":"`+leaked+` a\u200bb `+strings.Replace(leaked, "x7", "y8", 1)+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range result.GetGuards() {
		got = append(got, g.String())
	}
	if diff := cmp.Diff([]string{`guard:"invisibles" redacted:1`, `guard:"secrets" redacted:2`}, despaced(got)); diff != "" {
		t.Errorf("guards (-want +got):\n%s", diff)
	}
	if result, _, err = s.call(t.Context(), granted(t, "echo", `{"text":"hello"}`)); err != nil || len(result.GetGuards()) > 0 {
		t.Errorf("nothing was replaced: %v, %v", result, err)
	}
}

// despaced makes one space of several: protobuf writes now one, now two.
func despaced(all []string) []string {
	for i, s := range all {
		all[i] = strings.Join(strings.Fields(s), " ")
	}
	return all
}

// The output schemas that are made of protos can be checked.
func TestOwnOutputSchemasCompile(t *testing.T) {
	t.Parallel()
	for _, service := range []string{"basics", "kitchen"} {
		for name, tool := range tooltest.Tools(t, service) {
			if _, err := jsonschema.Compile(tool.Definition.GetOutputSchema()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
