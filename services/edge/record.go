package edge

import (
	"context"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

// record puts a refusal on record, as a denial or, where the call had been
// allowed before, as its outcome. The request is refused whether that works or
// not, so a full recorder opens nothing here.
func (x *exchange) record(refused *refusal) {
	p := x.principal
	if p == nil && !x.s.anonymous.Allow() {
		// Calls are refused when the recorder is full, so whoever has no
		// credential must not be able to fill it.
		x.s.telemetry.suppressed.Add(x.ctx, 1)
		return
	}
	event := &auditv1.Event{
		DecisionId: refused.decision,
		Action:     x.action(),
		Target:     x.target,
		Actor: &auditv1.Actor{
			Principal: p.GetId(), CredentialId: p.GetCredentialId(), Tenant: p.GetTenant(), Roles: p.GetRoles(),
			Address: x.addressText(), Client: x.client, ContextId: x.context,
		},
	}
	if refused.verdict == auditv1.Verdict_VERDICT_ALLOW {
		event.What = &auditv1.Event_Outcome{Outcome: x.outcomeOf(refused.reason)}
	} else {
		decision := &auditv1.Decision{
			Verdict: auditv1.Verdict_VERDICT_DENY, Reason: refused.reason,
			Rule: refused.limit, Message: refused.message,
		}
		if x.digest != nil {
			decision.Arguments = &auditv1.Arguments{Sha256: x.digest, Shape: x.shape}
		}
		event.What = &auditv1.Event_Decision{Decision: decision}
	}

	// A client that has gone away does not take its record with it.
	if err := x.s.audit.Record(context.WithoutCancel(x.ctx), event); err != nil {
		if x.s.muteAudit.CompareAndSwap(false, true) {
			x.s.log.ErrorContext(x.ctx, "refusals cannot be recorded", "err", err)
		}
		return
	}
	x.s.muteAudit.Store(false)
}

// outcomeOf is for a call that was allowed, and of which the executor may not
// know how it ended for the caller.
func (x *exchange) outcomeOf(reason auditv1.Reason) *auditv1.Outcome {
	outcome := &auditv1.Outcome{Status: auditv1.Status_STATUS_FAILED, Reason: reason, Used: x.booking.spent}
	switch reason {
	case auditv1.Reason_REASON_TOOL_TIMEOUT, auditv1.Reason_REASON_INTERNAL:
		outcome.Status = auditv1.Status_STATUS_UNKNOWN
	}
	return outcome
}

// action is what was asked for, in words of the protocol and not the caller's.
func (x *exchange) action() string {
	if x.plain {
		if metadataPath(x.r.URL.Path) {
			return "GET " + wellKnown
		}
		return "GET /ping"
	}
	return x.spanMethod()
}
