package edge

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
)

// maxProviderText bounds what a provider may say in an error.
const maxProviderText = 1024

// requestFailed answers a request other than a call that was allowed and that
// the executor answered with an error.
func (x *exchange) requestFailed(err error) *refusal {
	if x.era == eraModern && x.ctx.Err() != nil {
		return x.clientGone()
	}
	if x.cancelled() {
		return x.refuseCancelled(true)
	}
	switch {
	case fault.Is(err, executorv1.Reason_REASON_UNKNOWN):
		return x.unknownTarget()
	case fault.Is(err, executorv1.Reason_REASON_ARGUMENTS):
		refused := x.failed(auditv1.Reason_REASON_INVALID_PARAMS, said(err, "The arguments cannot be served"))
		refused.kind, refused.recorded = kindParams, true
		return refused
	case fault.Is(err, executorv1.Reason_REASON_GRANT):
		// Which check failed is for the record alone, and the executor's to write.
		refused := x.failed(auditv1.Reason_REASON_INTERNAL, "The permission for this did not hold until it was done")
		refused.recorded = true
		return refused
	case fault.Is(err, executorv1.Reason_REASON_AUDIT_UNAVAILABLE):
		return x.unavailable(auditv1.Reason_REASON_AUDIT_UNAVAILABLE, "This cannot be put on record just now, so it was not done")
	case fault.Is(err, executorv1.Reason_REASON_PROVIDER):
		refused := x.failed(auditv1.Reason_REASON_TOOL_UNAVAILABLE, capital(said(err, "The service behind this cannot be reached just now")))
		refused.kind, refused.retryable, refused.recorded = kindUnavailable, true, true
		return refused
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.ResourceExhausted:
		refused := x.peerFailed("executor", err)
		refused.decision = x.decision
		return refused
	case codes.DeadlineExceeded, codes.Canceled:
		return x.unavailable(auditv1.Reason_REASON_TOOL_TIMEOUT, "The service behind this did not answer in time")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return x.unavailable(auditv1.Reason_REASON_TOOL_TIMEOUT, "The service behind this did not answer in time")
	}
	x.s.log.ErrorContext(x.ctx, "a request failed", "method", x.method, "decision", x.decision, "err", err)
	return x.failed(auditv1.Reason_REASON_INTERNAL, internalMessage)
}

// said is what the executor wrote for the caller of why it failed.
func said(err error, fallback string) string {
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Message == "" {
		return fallback
	}
	return strings.TrimRight(printable(f.Message, maxProviderText), ". ")
}

// unknownTarget answers a request for what is not there, which the executor has
// recorded. The URI of a resource is repeated, as the protocol has it.
func (x *exchange) unknownTarget() *refusal {
	message := unknownPrompt
	refused := x.failed(auditv1.Reason_REASON_TOOL_UNKNOWN, "")
	refused.kind, refused.recorded = kindParams, true
	switch x.method {
	case "resources/read":
		message, refused.uri = unknownResource, x.asked
	case "completion/complete":
		message = "There is no such prompt or template, it has no such argument, or this credential may not know of it"
	}
	refused.message, x.target = message, ""
	return refused
}

// unavailable answers what may work a moment later.
func (x *exchange) unavailable(reason auditv1.Reason, message string) *refusal {
	refused := x.failed(reason, message+". Try again in a moment")
	refused.kind, refused.retryAfter, refused.retryable = kindUnavailable, time.Second, true
	return refused
}

// failed answers a request that was allowed and did not end well, and not by the
// caller's doing: a call so that the model can read it.
func (x *exchange) failed(reason auditv1.Reason, message string) *refusal {
	if x.method == toolsCall {
		return x.refusedCall(reason, message)
	}
	return &refusal{
		kind: kindInternal, reason: reason, message: message, decision: x.decision, verdict: auditv1.Verdict_VERDICT_ALLOW,
	}
}

// allowedMeta is the decision for programs, as a member of _meta, with the guards that
// have changed what is answered.
func (x *exchange) allowedMeta(guards ...*executorv1.GuardActed) []byte {
	b := append(make([]byte, 0, 96), `"dev.sallyport/decision":{"verdict":"ALLOW","decision_id":"`...)
	b = append(append(b, x.decision...), '"')
	return append(appendRedacted(b, guards), '}')
}
