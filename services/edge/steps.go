package edge

import (
	"context"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

const uncounted = "A policy reads how many steps this task has taken, and no step budget counts them. Ask the operator for a quota rule of kind steps"

// tellMore makes the question to auth again, with what its policies read and had
// not been sent: arguments go, and steps are counted, only where a policy cares.
func (x *exchange) tellMore(ctx context.Context, req *authv1.AuthorizeRequest, resp *authv1.AuthorizeResponse, arguments []byte) (*authv1.AuthorizeRequest, *refusal) {
	// A new one, for the peer may still hold the old.
	more := &authv1.AuthorizeRequest{
		Credential: req.GetCredential(), Origin: req.GetOrigin(), Action: req.GetAction(), Target: req.GetTarget(),
		ArgumentsSha256: req.GetArgumentsSha256(), ArgumentsShape: req.GetArgumentsShape(),
		TaskTools: req.GetTaskTools(), Approval: req.GetApproval(), ApprovalRefused: req.GetApprovalRefused(),
		Arguments: req.GetArguments(),
	}
	if resp.GetArgumentsNeeded() {
		more.Arguments = arguments
	}
	if resp.GetStepsNeeded() {
		taken, refused := x.stepsTaken(ctx)
		if refused != nil {
			return nil, refused
		}
		more.Origin = x.origin()
		more.Origin.Steps = &taken
	}
	return more, nil
}

// stepsTaken asks quota how far the context is: by its step budget, the one with
// the most taken if there are several.
func (x *exchange) stepsTaken(ctx context.Context) (uint64, *refusal) {
	all := x.attributes()
	if x.method == toolsCall { // auth knows the tool, or it would not ask
		all["tool"] = x.asked
	}
	resp, err := x.s.quota.Peek(ctx, &quotav1.PeekRequest{Subject: &quotav1.Subject{Attributes: all}})
	if err != nil {
		return 0, x.peerFailed("quota", err)
	}
	taken, counted := uint64(0), false
	for _, l := range resp.GetCheck().GetLimits() {
		if l.GetKind() == quotav1.RefusalKind_REFUSAL_KIND_STEP_BUDGET {
			taken, counted = max(taken, l.GetLimit()-min(l.GetLimit(), l.GetRemaining())), true
		}
	}
	if !counted { // in doubt, refuse
		return 0, &refusal{kind: kindResult, reason: auditv1.Reason_REASON_POLICY_DENIED, message: uncounted}
	}
	return taken, nil
}
