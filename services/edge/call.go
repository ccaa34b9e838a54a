package edge

import (
	"bytes"
	"context"
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
	key, refused := x.idempotencyKey()
	if refused != nil {
		return refused
	}
	if refused := x.findTask(); refused != nil {
		return refused
	}
	// The peers get a copy: this buffer is used again, and one in this process
	// may still be reading when the call was given up.
	var asked arguments
	if given {
		asked = newArguments(bytes.Clone(m.Raw(m.Arguments)), m.Shape())
	} else {
		asked = noArguments()
	}
	x.about(name, asked)
	if refused := x.takeApproval(); refused != nil {
		return refused
	}
	allow, refused := x.permit(name, asked, x.answer, true)
	if refused != nil || allow == nil { // or the client was asked
		return refused
	}
	defer x.settleUses()
	if refused := x.reserve(allow.GetUses()); refused != nil {
		return refused
	}
	return x.rounds(func(round *providerv1.Round) (*providerv1.InputRequired, *refusal) {
		if allow == nil { // each round is decided about anew
			if allow, refused = x.permit(name, asked, nil, false); refused != nil {
				return nil, refused
			}
		}
		grant := allow.GetGrant()
		allow = nil
		return x.execute(&executorv1.CallRequest{
			Grant: grant, Tool: name, Arguments: asked.json, ArgumentsShape: asked.shape, Round: round, IdempotencyKey: key,
		})
	})
}

// decide asks all services that have a say in a call. Where a person has one, too,
// that is the answer, and the call is charged: to ask people costs as much.
func (x *exchange) decide(name string, asked arguments, answer *approvalAnswer, first bool) (*authv1.AuthorizeResponse, *refusal) {
	// One bound for all of it: a context costs as much as some of the checks.
	ctx, cancel := x.peerContext()
	x.peers = ctx
	defer func() {
		x.peers = nil
		cancel()
	}()
	allow, refused := x.consultOnCall(name, asked, answer)
	if refused != nil || !first {
		return allow, refused
	}
	if x.era == eraModern {
		if refused := x.checkMirrored(name); refused != nil {
			return nil, refused
		}
	}
	if refused := x.checkQuota(allow.GetCost(), allow.GetUses()...); refused != nil {
		return nil, refused
	}
	if refused := x.checkHops(); refused != nil {
		return nil, refused
	}
	return allow, nil
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

// execute calls the tool with the grant, passes on what it says meanwhile, and
// answers with its result. When the tool needs something from the client first,
// that is returned instead.
func (x *exchange) execute(req *executorv1.CallRequest) (*providerv1.InputRequired, *refusal) {
	ctx, cancel := x.callContext()
	defer cancel()
	req.WantsProgress, req.LogLevel = x.wantsProgress(), x.wantsNotices()
	stream, err := x.s.executor.Call(ctx, req)
	if err != nil {
		return nil, x.endCall(err, maySent(err))
	}
	for {
		event, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil, x.endCall(errors.New("the executor ended a call without a result"), true)
		case err != nil:
			return nil, x.endCall(err, true)
		case event.GetProgress() != nil:
			x.tellProgress(event.GetProgress())
		case event.GetNotice() != nil:
			x.tellNotice(event.GetNotice())
		case event.GetInputRequired() != nil:
			_, _ = stream.Recv()
			x.noteUsage(event.GetUsage())
			return event.GetInputRequired(), nil
		case event.GetResult() != nil:
			// The end of the stream lets it finish in good order; whatever else
			// comes would be a mistake and is of no use.
			_, _ = stream.Recv()
			x.noteUsage(event.GetUsage())
			x.settleUses() // before the answer, which tells of it
			return nil, x.answerResult(event.GetResult())
		}
	}
}

// endCall ends a call without a result. sent says that the executor may have got it.
func (x *exchange) endCall(err error, sent bool) *refusal {
	x.noteUsage(usageAfter(err, sent))
	x.settleUses()
	return x.callFailed(err)
}

// callContext bounds a call. A client that is gone has cancelled it, but for the
// legacy era: there a lost connection does not mean that it is not wanted.
func (x *exchange) callContext() (context.Context, context.CancelFunc) {
	base := x.wanted()
	if x.era == eraLegacy && x.work == nil {
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

// refusedCall is a refusal of a tool call that the model should read.
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
