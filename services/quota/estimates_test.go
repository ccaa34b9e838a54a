package quota_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/pkg/bus/bustest"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

const unitRules = `
rules:
  - {id: per-minute, match: {tool: "*"}, key: [user], limit: 5/minute}
  - {id: calls, match: {tool: "*"}, key: [user], quota: {amount: 5, per: day}}
  - {id: rows, match: {tool: query}, key: [user], quota: {amount: 100, per: day, unit: rows}}
  - {id: tokens, match: {plan: paid}, key: [user], quota: {amount: 1000, per: day, unit: llm_tokens}}
`

// A check says which units of its estimates a quota counts, so that nothing else
// need be reserved; and where one of these is used up it takes nothing.
func TestACheckForeseesWhatIsReserved(t *testing.T) {
	t.Parallel()
	c := client(t, durable(t, bustest.New(t), unitRules))
	estimated := func(tool, plan string) *quotav1.CheckRequest {
		req := check("user", "ann", "tool", tool, "plan", plan)
		req.Estimates = []*quotav1.Estimate{{Unit: "cents", Amount: 7}, {Unit: "rows", Amount: 60}, {Unit: "llm_tokens", Amount: 1000}}
		return req
	}
	for _, tt := range []struct {
		tool, plan string
		want       []string
	}{
		{"query", "paid", []string{"rows", "llm_tokens"}},
		{"query", "free", []string{"rows"}},
		{"echo", "paid", []string{"llm_tokens"}},
		{"echo", "free", nil},
	} {
		res := answers(t, c, costs(0, estimated(tt.tool, tt.plan)))
		if diff := cmp.Diff(tt.want, res.GetUnits()); diff != "" || !res.GetAllowed() || len(res.GetLimits()) != 2 {
			t.Errorf("%s, %s: got %v; units (-want +got):\n%s", tt.tool, tt.plan, res, diff)
		}
	}
	if res := answers(t, c, costs(0, check("user", "ann", "tool", "query", "plan", "paid"))); len(res.GetUnits()) > 0 {
		t.Errorf("without estimates: got units %v", res.GetUnits())
	}
	res, err := c.Reserve(t.Context(), &quotav1.ReserveRequest{Subject: subject("user", "ann", "tool", "query"), Estimate: 41, Unit: "rows", IdempotencyKey: "x"})
	if err != nil || !res.GetCheck().GetAllowed() {
		t.Fatalf("Reserve: %v, %v", res, err)
	}
	for range 3 {
		res := answers(t, c, estimated("query", "paid"))
		if res.GetAllowed() || res.GetRule() != "rows" || res.GetRefusal() != quotav1.RefusalKind_REFUSAL_KIND_QUOTA ||
			res.GetRetryAfter().AsDuration() <= 0 || len(res.GetUnits()) > 0 {
			t.Errorf("beyond: got %v, want a refusal by rows", res)
		}
		left := make(map[string]string)
		for _, l := range res.GetLimits() {
			left[l.GetName()] = fmt.Sprint(l.GetRemaining(), l.GetExceeded())
		}
		if diff := cmp.Diff(map[string]string{"per-minute": "5 false", "calls": "5 false", "rows": "59 true"}, left); diff != "" {
			t.Errorf("beyond: what is left (-want +got):\n%s", diff)
		}
	}
	if res := answers(t, c, estimated("echo", "free")); !res.GetAllowed() || res.GetLimits()[0].GetRemaining() != 4 {
		t.Errorf("another tool: got %v", res)
	}
}
