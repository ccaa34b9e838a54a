package edge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

const unknownTool = "There is no tool of this name, or none that this credential may know of. Use a name from tools/list"

// callTool takes a call through auth and quota to the executor. Each step may
// end it; none is skipped.
func (x *exchange) callTool() *refusal {
	m := &x.msg
	if m.Name.Kind != jsonrpc.String {
		return refuse(kindParams, "params.name has to be the name of a tool")
	}
	// The Go SDK's client writes null where there are none.
	given := m.Arguments.Present() && m.Arguments.Kind != jsonrpc.Null
	if given && m.Arguments.Kind != jsonrpc.Object {
		return refuse(kindParams, "params.arguments has to be an object. Leave it out if the tool takes none")
	}
	name := m.Text(m.Name)
	if !toolName(name) {
		return refuse(kindTool, unknownTool)
	}
	// The peers get a copy: this buffer is used again, and one in this process
	// may still be reading when the call was given up.
	arguments := []byte("{}")
	if given {
		arguments = bytes.Clone(m.Raw(m.Arguments))
	}
	sum := sha256.Sum256(arguments)
	x.digest, x.shape = sum[:], "{}"
	if given {
		x.shape = m.Shape()
	}

	allow, refused := x.authorize(name, arguments)
	if refused != nil {
		return refused
	}
	if x.era == eraModern {
		if refused := x.checkMirrored(name); refused != nil {
			return refused
		}
	}
	if refused := x.checkQuota(allow.GetCost()); refused != nil {
		return refused
	}
	return x.callRounds(name, arguments, allow)
}

// maxRounds is how often a provider may ask the client before it has to answer.
const maxRounds = 16

// callRounds calls the tool, and in the legacy era asks the client for what it
// needs, until it answers. Each round is allowed anew; the quota was charged for
// the whole.
func (x *exchange) callRounds(name string, arguments []byte, allow *authv1.AuthorizeResponse) *refusal {
	var round *providerv1.Round
	if x.era == eraLegacy {
		round = x.capabilityRound()
	}
	for range maxRounds {
		input, refused := x.execute(&executorv1.CallRequest{
			Grant: allow.GetGrant(), Tool: name, Arguments: arguments, ArgumentsShape: x.shape, Round: round,
		})
		if input == nil {
			return refused
		}
		if x.era == eraModern {
			return x.refusedCall(auditv1.Reason_REASON_RESULT_INVALID,
				"The tool asks for something from the user, which this server does not pass on")
		}
		if round, refused = x.askClient(input); refused != nil {
			return refused
		}
		if allow, refused = x.authorize(name, arguments); refused != nil {
			return refused
		}
	}
	return x.refusedCall(auditv1.Reason_REASON_RESULT_INVALID, "The tool asks the client again and again, so the call was given up")
}

// checkMirrored checks Mcp-Param-* headers, where the tool has some. Without a
// catalogue there is nothing to check by, and the call ends at the executor.
func (x *exchange) checkMirrored(name string) *refusal {
	all := x.s.tools.Fresh(x.start)
	if all == nil {
		ctx, cancel := x.peerContext()
		defer cancel()
		if all, _ = x.s.tools.Get(ctx, x.s.executor); all == nil {
			return nil
		}
	}
	refused := x.checkParams(all.params[name])
	if refused != nil {
		refused.decision = x.decision
	}
	return refused
}

// authorize asks auth for the decision and, on allow, the grant. It fails closed.
func (x *exchange) authorize(name string, arguments []byte) (*authv1.AuthorizeResponse, *refusal) {
	req := &authv1.AuthorizeRequest{
		Credential: x.credential, Origin: x.origin(), Action: authv1.Action_ACTION_TOOLS_CALL,
		Target: name, ArgumentsSha256: x.digest, ArgumentsShape: x.shape,
	}
	ctx, cancel := x.peerContext()
	defer cancel()
	resp, err := x.s.auth.Authorize(ctx, req)
	if err == nil && resp.GetArgumentsNeeded() {
		req = &authv1.AuthorizeRequest{
			Credential: req.Credential, Origin: req.Origin, Action: req.Action, Target: req.Target,
			ArgumentsSha256: req.ArgumentsSha256, ArgumentsShape: req.ArgumentsShape, Arguments: arguments,
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
		return nil, x.badCredential()
	}
	x.decision = decision.GetId()
	if decision.GetReason() != auditv1.Reason_REASON_TOOL_UNKNOWN {
		x.target = name
	}
	if decision.GetVerdict() != auditv1.Verdict_VERDICT_ALLOW {
		return nil, x.denied(resp)
	}
	return resp, nil
}

// denied answers what auth has refused, and recorded.
func (x *exchange) denied(resp *authv1.AuthorizeResponse) *refusal {
	d := resp.GetDecision()
	refused := &refusal{
		kind: kindResult, reason: d.GetReason(), message: d.GetMessage(), policy: d.GetPolicy(),
		decision: d.GetId(), verdict: d.GetVerdict(), recorded: true,
	}
	if refused.message == "" {
		refused.message = "This call is not allowed"
	}
	switch d.GetReason() {
	case auditv1.Reason_REASON_TOOL_UNKNOWN:
		refused.kind, refused.message, refused.policy = kindTool, unknownTool, ""
	case auditv1.Reason_REASON_INSUFFICIENT_SCOPE:
		refused.kind = kindScope
		refused.challenge = challenge("insufficient_scope", resp.GetScopesNeeded())
		if d.GetMessage() == "" {
			refused.message = "The token lacks scopes that this tool needs. Get one that has those in the challenge"
		}
	case auditv1.Reason_REASON_UNSPECIFIED:
		if refused.reason = auditv1.Reason_REASON_POLICY_DENIED; d.GetVerdict() == auditv1.Verdict_VERDICT_APPROVAL {
			refused.reason = auditv1.Reason_REASON_APPROVAL_REQUIRED
		}
	}
	return refused
}

// execute calls the tool with the grant, passes on what it says meanwhile, and
// answers with its result. When the tool needs something from the client first,
// that is returned instead.
func (x *exchange) execute(req *executorv1.CallRequest) (*providerv1.InputRequired, *refusal) {
	ctx, cancel := x.callContext()
	defer cancel()
	x.allowStream()
	req.WantsProgress = x.wantsProgress()
	if x.era == eraLegacy {
		req.LogLevel = x.legacyLevel()
	}
	stream, err := x.s.executor.Call(ctx, req)
	if err != nil {
		return nil, x.callFailed(err)
	}
	for {
		event, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil, x.callFailed(errors.New("the executor ended a call without a result"))
		case err != nil:
			return nil, x.callFailed(err)
		case event.GetProgress() != nil:
			x.tellProgress(event.GetProgress())
		case event.GetNotice() != nil:
			x.tellLegacyNotice(event.GetNotice())
		case event.GetInputRequired() != nil:
			_, _ = stream.Recv()
			return event.GetInputRequired(), nil
		case event.GetResult() != nil:
			// The end of the stream lets it finish in good order; whatever else
			// comes would be a mistake and is of no use.
			_, _ = stream.Recv()
			return nil, x.answerResult(event.GetResult())
		}
	}
}

// callContext bounds a call. A client that is gone has cancelled it, but for the
// legacy era: there a lost connection does not mean that it is not wanted.
func (x *exchange) callContext() (context.Context, context.CancelFunc) {
	base := x.ctx
	switch {
	case x.work != nil:
		base = x.work
	case x.era == eraLegacy:
		base = context.WithoutCancel(base)
	}
	return context.WithTimeout(base, x.s.cfg.CallTimeout)
}

// callFailed answers a call that ended with an error instead of a result.
func (x *exchange) callFailed(err error) *refusal {
	if x.era == eraModern && x.ctx.Err() != nil {
		return x.clientGone()
	}
	if x.cancelled() {
		return x.refuseCancelled(true)
	}
	switch {
	case fault.Is(err, executorv1.Reason_REASON_UNKNOWN):
		refused := refuse(kindTool, unknownTool)
		refused.decision = x.decision
		return refused
	case fault.Is(err, executorv1.Reason_REASON_GRANT):
		// Which check failed is for the record alone, and the executor's to write.
		refused := x.refusedCall(auditv1.Reason_REASON_INTERNAL, "The permission for this call did not hold until it was made")
		refused.recorded = true
		return refused
	case fault.Is(err, executorv1.Reason_REASON_AUDIT_UNAVAILABLE):
		return x.refusedCall(auditv1.Reason_REASON_AUDIT_UNAVAILABLE, "The call cannot be put on record just now, so it was not made")
	case fault.Is(err, executorv1.Reason_REASON_PROVIDER):
		refused := x.refusedCall(auditv1.Reason_REASON_TOOL_UNAVAILABLE, "The service behind this tool cannot be reached just now")
		refused.recorded = true
		return refused
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.ResourceExhausted:
		return x.refusedCall(auditv1.Reason_REASON_DEPENDENCY_UNAVAILABLE, "The service that makes calls is not available just now")
	case codes.DeadlineExceeded, codes.Canceled:
		return x.refusedCall(auditv1.Reason_REASON_TOOL_TIMEOUT, "The tool did not answer in time")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return x.refusedCall(auditv1.Reason_REASON_TOOL_TIMEOUT, "The tool did not answer in time")
	}
	x.s.log.ErrorContext(x.ctx, "a call failed", "tool", x.target, "decision", x.decision, "err", err)
	refused := refuse(kindInternal, internalMessage)
	refused.decision, refused.verdict = x.decision, auditv1.Verdict_VERDICT_ALLOW
	return refused
}

// refusedCall is a refusal that the model should read.
func (x *exchange) refusedCall(reason auditv1.Reason, message string) *refusal {
	refused := &refusal{
		kind: kindResult, reason: reason, message: message, decision: x.decision, verdict: auditv1.Verdict_VERDICT_ALLOW,
	}
	switch reason {
	case auditv1.Reason_REASON_DEPENDENCY_UNAVAILABLE, auditv1.Reason_REASON_TOOL_UNAVAILABLE,
		auditv1.Reason_REASON_AUDIT_UNAVAILABLE, auditv1.Reason_REASON_TOOL_TIMEOUT:
		refused.retryable = true
	}
	return refused
}
