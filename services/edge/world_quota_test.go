package edge_test

import (
	"context"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// Peek tells four steps, and seven where the client is far into its task.
func (q *fakeQuota) Peek(_ context.Context, req *quotav1.PeekRequest) (*quotav1.PeekResponse, error) {
	attr := req.GetSubject().GetAttributes()
	limits := []*quotav1.LimitState{{Name: "key-calls", Limit: 100, Remaining: 50, Kind: quotav1.RefusalKind_REFUSAL_KIND_RATE}}
	if attr["tool"] == "reads_steps" {
		left := uint64(16)
		if attr["client"] == "far/1" {
			left = 13
		}
		limits = append(limits, &quotav1.LimitState{Name: "steps", Limit: 20, Remaining: left, Kind: quotav1.RefusalKind_REFUSAL_KIND_STEP_BUDGET})
	}
	return &quotav1.PeekResponse{Check: &quotav1.CheckResponse{Allowed: true, Limits: limits}}, nil
}
