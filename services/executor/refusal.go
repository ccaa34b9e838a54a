package executor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
)

// A refusal is read by a model: it says what did not happen, why, and what can
// be done. It never holds a value, an address or the text of an error that was
// not written for callers.

// maxTold is how many violations the sentence spells out; the list has more.
const maxTold = 5

// refuse ends a call that was not made.
func refuse(r *executorv1.Refusal) ending {
	return ending{refusal: r, status: auditv1.Status_STATUS_FAILED, reason: r.GetReason()}
}

func invalidArguments(name string, wrong []*executorv1.Violation) *executorv1.Refusal {
	var b strings.Builder
	fmt.Fprintf(&b, "The arguments of %s are not right, so it was not called: ", name)
	for i, v := range wrong {
		if i == maxTold {
			fmt.Fprintf(&b, "; and %d more", len(wrong)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		if at := v.GetPointer(); at != "" {
			b.WriteString(printable(clip(at, 128)) + " ")
		}
		b.WriteString(clip(v.GetMessage(), 256))
	}
	b.WriteString(". Correct them and call again.")
	return &executorv1.Refusal{
		Reason: auditv1.Reason_REASON_INVALID_ARGUMENTS, Message: clip(b.String(), 4096), Violations: wrong,
	}
}

// printable keeps line breaks and the like in a caller's names from looking
// like our words.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return '?'
		}
		return r
	}, s)
}

func busy(name string) *executorv1.Refusal {
	return &executorv1.Refusal{
		Reason:    auditv1.Reason_REASON_TOOL_UNAVAILABLE,
		Message:   fmt.Sprintf("%s was not called: too many calls of its service are in progress. Try again in a second.", name),
		Retryable: true, RetryAfter: durationpb.New(time.Second),
	}
}

// resting tells that a service is left alone.
func resting(name string, rest time.Duration) *executorv1.Refusal {
	rest = max(rest, time.Second)
	return &executorv1.Refusal{
		Reason:    auditv1.Reason_REASON_TOOL_UNAVAILABLE,
		Message:   fmt.Sprintf("%s was not called: its service has failed too often of late and is left alone for a while. Try again in %d seconds.", name, int(rest.Seconds()+0.999)),
		Retryable: true, RetryAfter: durationpb.New(rest),
	}
}

func unavailable(name string) *executorv1.Refusal {
	return &executorv1.Refusal{
		Reason:    auditv1.Reason_REASON_TOOL_UNAVAILABLE,
		Message:   fmt.Sprintf("The service of %s cannot be reached just now. Try again in a few seconds.", name),
		Retryable: true, RetryAfter: durationpb.New(5 * time.Second),
	}
}

// gone tells that nobody can go on with a call that has asked the client.
func gone(name string) *executorv1.Refusal {
	return &executorv1.Refusal{
		Reason:  auditv1.Reason_REASON_TOOL_UNAVAILABLE,
		Message: goneText + fmt.Sprintf(" %s did not go on; call it again from the start.", name),
	}
}

const goneText = "The service that asked is gone."

func withheld(name string) *executorv1.Refusal {
	return &executorv1.Refusal{
		Reason: auditv1.Reason_REASON_TOOL_WITHHELD,
		Message: fmt.Sprintf("%s was not called: it is not as it was when it was approved, or it is new, and an operator has to approve it first. "+
			"Trying again will not help until then.", name),
	}
}

// unreachable reports whether a replica did not answer at all, as opposed to
// saying that it cannot.
func unreachable(err error) bool {
	if err == nil {
		return false
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return false
	}
	return codeOf(err) == codes.Unavailable
}

// codeOf returns the gRPC code of an error, joined with others or not.
func codeOf(err error) codes.Code {
	if s, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err); ok {
		return s.GRPCStatus().Code()
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	}
	return codes.Unknown
}

// failed makes an ending of an error of a call. ctx is the caller's.
func (c *call) failed(ctx context.Context, err error) ending {
	name, sent := c.entry.Name(), !errors.Is(err, tool.ErrNotSent)
	end := ending{status: auditv1.Status_STATUS_FAILED}
	// It was called and did not tell how it ended.
	f, told := errors.AsType[*fault.Error](err)
	lost := sent && !told && !c.entry.ReadOnly()
	switch {
	case ctx.Err() != nil:
		end.err, end.reason = ctx.Err(), goneReason(ctx)
	case errors.Is(err, tool.ErrTooLarge), oversized(err):
		end.refusal = &executorv1.Refusal{
			Reason: auditv1.Reason_REASON_RESULT_TOO_LARGE,
			Message: fmt.Sprintf("%s was called, but its result is larger than %d bytes and is not passed on. Ask for less.",
				name, c.service.cfg.MaxResultBytes),
		}
		return end.because()
	case errors.Is(err, tool.ErrInvalid):
		c.service.log.ErrorContext(ctx, "tool broke its own contract", "tool", name, "err", err)
		end.refusal = &executorv1.Refusal{
			Reason:  auditv1.Reason_REASON_RESULT_INVALID,
			Message: fmt.Sprintf("%s was called, but its result is not what it promises and is not passed on. Trying again will not help.", name),
		}
		return end.because()
	case fault.Is(err, providerv1.Reason_REASON_UPSTREAM):
		// Only a provider that says when to come back knows that nothing was done.
		end.refusal = unavailable(name)
		if lost = f.RetryAfter == 0 && !c.entry.ReadOnly(); f.RetryAfter > 0 {
			end.refusal.RetryAfter = durationpb.New(f.RetryAfter)
		}
	case told && !fault.Is(err, faultv1.Reason_REASON_PEER_UNKNOWN) && !fault.Is(err, faultv1.Reason_REASON_NOT_READY):
		end.refusal, end.said = c.said(f)
		return end.because()
	case codeOf(err) == codes.Unavailable, !sent:
		end.refusal = unavailable(name)
	case codeOf(err) == codes.DeadlineExceeded:
		end.refusal = &executorv1.Refusal{
			Reason:  auditv1.Reason_REASON_TOOL_TIMEOUT,
			Message: name + " did not answer in time.", Retryable: true,
		}
	default:
		end.refusal = &executorv1.Refusal{
			Reason: auditv1.Reason_REASON_TOOL_ERROR, Message: name + ": the tool failed.",
		}
	}
	if lost {
		end.status = auditv1.Status_STATUS_UNKNOWN
		c.maybeDone(end.refusal)
	}
	return end.because()
}

// goneReason says why the caller of ctx no longer waits.
func goneReason(ctx context.Context) auditv1.Reason {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return auditv1.Reason_REASON_TOOL_TIMEOUT
	}
	return auditv1.Reason_REASON_CANCELLED
}

// maybeDone tells that the tool may have acted all the same.
func (c *call) maybeDone(r *executorv1.Refusal) {
	if r == nil || c.entry.Idempotent() {
		return
	}
	r.Retryable, r.RetryAfter = false, nil
	r.Message = fmt.Sprintf("%s was called and did not answer. It may or may not have done it: find out before you call it again.", c.entry.Name())
}

func (e ending) because() ending {
	if e.refusal != nil {
		e.reason = e.refusal.GetReason()
	}
	return e
}

// said passes on what a tool itself has said to its caller, and returns that alone too.
func (c *call) said(f *fault.Error) (*executorv1.Refusal, string) {
	text := c.guardText(f.Message, "/error")
	r := &executorv1.Refusal{
		Reason:  auditv1.Reason_REASON_TOOL_ERROR,
		Message: clip(c.entry.Name()+": "+text, 4096),
	}
	switch f.Code {
	case codes.InvalidArgument:
		r.Reason = auditv1.Reason_REASON_INVALID_ARGUMENTS
	case codes.PermissionDenied:
		r.Reason = auditv1.Reason_REASON_GUARD_BLOCKED
		if c.entry.HasTag("sql") {
			r.Reason = auditv1.Reason_REASON_QUERY_REFUSED
		}
	case codes.DeadlineExceeded:
		r.Reason, r.Retryable = auditv1.Reason_REASON_TOOL_TIMEOUT, true
	case codes.Unavailable, codes.ResourceExhausted, codes.Aborted:
		r.Retryable = true
	}
	if f.RetryAfter > 0 {
		r.Retryable, r.RetryAfter = true, durationpb.New(f.RetryAfter)
	}
	return r, text
}

// oversized reports whether gRPC itself has refused to read the answer.
func oversized(err error) bool {
	s, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err)
	return ok && s.GRPCStatus().Code() == codes.ResourceExhausted &&
		strings.Contains(s.GRPCStatus().Message(), "message larger than max")
}
