package edge

import (
	"crypto/sha256"
	"strings"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// arguments are what a request is for: one JSON value, which is hashed, decided
// about and passed on as it is.
type arguments struct {
	json   []byte
	shape  string
	digest []byte // SHA-256 of json; never written to
}

func newArguments(json []byte, shape string) arguments {
	digest := sha256.Sum256(json)
	return arguments{json: json, shape: shape, digest: digest[:]}
}

// noArguments stands for arguments where there are none.
func noArguments() arguments { return newArguments([]byte("{}"), "{}") }

// authorize asks auth for the decision and, on allow, the grant. It fails closed.
func (x *exchange) authorize(action authv1.Action, target string, asked arguments) (*authv1.AuthorizeResponse, *refusal) {
	resp, refused := x.consult(action, target, asked, nil)
	if refused == nil && resp.GetDecision().GetVerdict() != auditv1.Verdict_VERDICT_ALLOW {
		return nil, x.denied(resp)
	}
	return resp, refused
}

// about notes what the request is for.
func (x *exchange) about(target string, asked arguments) {
	x.asked, x.digest, x.shape = target, asked.digest, asked.shape
}

// consult asks auth for the decision, whatever that is. An answer of the client's
// user to the question for an approval may go with it.
func (x *exchange) consult(action authv1.Action, target string, asked arguments, answer *approvalAnswer) (*authv1.AuthorizeResponse, *refusal) {
	x.about(target, asked)
	req := &authv1.AuthorizeRequest{
		Credential: x.credential, Origin: x.origin(), Action: action,
		Target: target, ArgumentsSha256: x.digest, ArgumentsShape: x.shape,
	}
	if action == authv1.Action_ACTION_TOOLS_CALL {
		req.TaskTools = x.task
	}
	if answer != nil {
		req.Approval, req.ApprovalRefused = []byte(answer.id), answer.refused
	}
	ctx, cancel := x.peerContext()
	defer cancel()
	resp, err := x.s.auth.Authorize(ctx, req)
	// Arguments and steps may be wanted one after the other.
	for n := 0; n < 2 && err == nil && (resp.GetArgumentsNeeded() || resp.GetStepsNeeded()); n++ {
		var refused *refusal
		if req, refused = x.tellMore(ctx, req, resp, asked.json); refused != nil {
			return nil, refused
		}
		resp, err = x.s.auth.Authorize(ctx, req)
	}
	if err != nil {
		return nil, x.peerFailed("auth", err)
	}
	if x.s.mutePeers.CompareAndSwap(true, false) {
		x.s.log.InfoContext(x.ctx, "services answer again")
	}
	decision := resp.GetDecision()
	if decision == nil {
		return nil, x.badCredential(resp.GetChallenge(), resp.GetRetryAfter())
	}
	x.decision = decision.GetId()
	if decision.GetReason() != auditv1.Reason_REASON_TOOL_UNKNOWN {
		x.target = target
	}
	return resp, nil
}

// denied answers what auth has refused, and recorded.
func (x *exchange) denied(resp *authv1.AuthorizeResponse) *refusal {
	d := resp.GetDecision()
	refused := &refusal{
		kind: kindResult, reason: d.GetReason(), message: d.GetMessage(), policy: d.GetPolicy(),
		decision: d.GetId(), verdict: d.GetVerdict(), recorded: true, approval: x.approval,
	}
	if x.method != toolsCall {
		refused.kind = kindForbidden
	}
	if refused.message == "" {
		refused.message = "This is not allowed"
	}
	switch d.GetReason() {
	case auditv1.Reason_REASON_APPROVAL_REQUIRED:
		if d.GetVerdict() == auditv1.Verdict_VERDICT_DENY { // a person has said no
			refused.message, refused.complete = strings.TrimRight(refused.message, ". ")+". Do not make this call again", true
		}
	case auditv1.Reason_REASON_TOOL_UNKNOWN:
		refused.kind, refused.message, refused.policy = kindTool, unknownTool, ""
	case auditv1.Reason_REASON_INSUFFICIENT_SCOPE:
		refused.kind = kindScope
		if d.GetMessage() == "" {
			refused.message = "The token lacks scopes that this needs. Get one that has those in the challenge"
		}
		refused.challenge = challenge(flawScope, x.aboutResource(), resp.GetScopesNeeded(), refused.message)
	case auditv1.Reason_REASON_UNSPECIFIED:
		if refused.reason = auditv1.Reason_REASON_POLICY_DENIED; d.GetVerdict() == auditv1.Verdict_VERDICT_APPROVAL {
			refused.reason = auditv1.Reason_REASON_APPROVAL_REQUIRED
		}
	}
	return refused
}
