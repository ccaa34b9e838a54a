package executor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/once"
)

// claim is the right to make a call that bears an idempotency key. A nil one is
// of a call without, and does nothing.
type claim struct {
	*once.Claim

	call *call
}

// claim takes that right, where the tool changes anything. Else it returns how the
// call ends without being made.
func (c *call) claim(ctx context.Context, timeout time.Duration) (*claim, *ending) {
	key := c.request.GetIdempotencyKey()
	if key == "" || c.entry.ReadOnly() {
		return nil, nil
	}
	claiming, cancel := context.WithTimeout(ctx, c.service.cfg.AuditTimeout)
	defer cancel()
	got, first, err := c.service.once.Claim(claiming, &once.Call{
		Principal: c.grant.GetPrincipal().GetId(), Tool: c.request.GetTool(), Key: key, Arguments: [32]byte(c.arguments.GetSha256()),
		Decision: c.grant.GetDecisionId(), Timeout: timeout, Continues: len(c.request.GetRound().GetState()) > 0,
	})
	switch {
	case err == nil && first == nil:
		return &claim{got, c}, nil
	case err == nil:
		end := ending{repeated: first, status: auditv1.Status_STATUS_OK, reason: auditv1.Reason_REASON_REPEATED}
		if first.GetResult().GetIsError() {
			end.status = auditv1.Status_STATUS_FAILED
		}
		return nil, &end
	}
	if no := repeated(c.request.GetTool(), err); no != nil {
		end := refuse(no)
		return nil, &end
	}
	end := unrecorded(ctx, err)
	return nil, &end
}

// repeated tells why a call with a key that was used is not made.
func repeated(name string, err error) *executorv1.Refusal {
	r := &executorv1.Refusal{Reason: auditv1.Reason_REASON_REPEATED}
	switch {
	case errors.Is(err, once.ErrOther):
		r.Message = fmt.Sprintf("%s was not called: this idempotency key was used before with other arguments. A new call needs a new key.", name)
	case errors.Is(err, once.ErrRunning):
		r.Message = fmt.Sprintf("%s was not called again: the first call with this idempotency key is in progress. Ask again in a few seconds with the same key.", name)
		r.Retryable, r.RetryAfter = true, durationpb.New(2*time.Second)
	case errors.Is(err, once.ErrDoubt):
		r.Message = fmt.Sprintf("%s was not called again: a call with this idempotency key was made, and it is not known how it ended. "+
			"It may or may not have done it: find out before you call it with a new key.", name)
	case errors.Is(err, once.ErrForgotten):
		r.Message = fmt.Sprintf("%s was not called again: a call with this idempotency key has ended, and its result is not kept.", name)
	default:
		return nil
	}
	return r
}

// settle writes down how the call has ended. One that was not made can be made
// again; one that has asked the client goes on.
func (c *claim) settle(ctx context.Context, end ending) {
	if c == nil || end.answer.Question != nil {
		return
	}
	unsure := end.err != nil || end.status == auditv1.Status_STATUS_UNKNOWN
	switch {
	case unsure && !c.call.entry.Idempotent():
		c.note(ctx, "how it ended is not known", c.Doubt)
	case unsure, end.refusal.GetRetryable():
		c.free(ctx)
	default:
		c.note(ctx, "its result is not kept", func(ctx context.Context) error { return c.Settle(ctx, end.whole()) })
	}
}

// free says that the call was not made.
func (c *claim) free(ctx context.Context) {
	if c != nil {
		c.note(ctx, "it cannot be made again", c.Free)
	}
}

// note writes to the bus, too late to refuse anything.
func (c *claim) note(ctx context.Context, otherwise string, write func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.call.service.cfg.AuditTimeout)
	defer cancel()
	if err := write(ctx); err != nil {
		c.call.service.log.WarnContext(ctx, "of a call with an idempotency key "+otherwise,
			"tool", c.call.request.GetTool(), "decision", c.call.grant.GetDecisionId(), "err", err)
	}
}
