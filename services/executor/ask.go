package executor

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/pkg/taint"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/catalogue"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/isolate"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/provider"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
)

// asking is a request to a provider for something other than a tool.
type asking struct {
	action authv1.Action
	target string
	grant  []byte
	round  *providerv1.Round
	what   string // "resource"
	quiet  bool   // its outcome is not worth a record
}

// answer is a provider's answer that can be a question instead.
type answer interface {
	proto.Message
	GetInputRequired() *providerv1.InputRequired
}

// ask takes a request from its grant to its record, and returns how it ended: where
// the answer is from, and which guards have changed it. find says which provider is
// to be asked, nil for none; do asks it.
func (s *Service) ask(
	ctx context.Context, a asking,
	find func(*catalogue.Snapshot) (*catalogue.Source, error),
	do func(context.Context, provider.Client, *authv1.Principal, *providerv1.Round) (answer, error),
) (end ending, err error) {
	g, err := s.admit(ctx, a.grant, a.action, a.target)
	if err != nil {
		return ending{}, err
	}
	snap, err := s.snapshot()
	if err != nil {
		return ending{}, err
	}
	var read answer
	var blocked *guard.Blocked
	check := s.guards.For(ctx, guard.Call{Roles: g.GetPrincipal().GetRoles(), ReadOnly: true})
	source, err := find(snap)
	switch {
	case err != nil:
		end = ending{err: err, reason: auditv1.Reason_REASON_INVALID_PARAMS}
	case source == nil:
		end = ending{err: unknown(a.what), reason: auditv1.Reason_REASON_TOOL_UNKNOWN}
	default:
		end = s.askSource(ctx, a, source, func(ctx context.Context, lease *catalogue.Lease, round *providerv1.Round) (answer, error) {
			client := provider.Client{Conn: lease.Conn(), Check: s.catalogue.Checker(), Limit: s.cfg.MaxResultBytes}
			got, err := do(ctx, client, g.GetPrincipal(), round)
			if err == nil && got != nil {
				blocked, read = guardRead(check, got), got
			}
			return got, err
		})
	}
	if b := blocked; b != nil {
		end = ending{reason: auditv1.Reason_REASON_GUARD_BLOCKED, err: fault.New(codes.Unavailable, executorv1.Reason_REASON_PROVIDER,
			"the %s was read and is not passed on: %s; reading it again will not help", a.what, ground(b))}
	}
	if read != nil && end.err == nil {
		if end.from, err = s.releaseRead(ctx, a, g, source.Service, read); err != nil {
			end = ending{reason: auditv1.Reason_REASON_DEPENDENCY_UNAVAILABLE, err: err}
		}
	}
	if f, said := errors.AsType[*fault.Error](end.err); said && source != nil && fault.Is(f, executorv1.Reason_REASON_ARGUMENTS) {
		if err := s.releaseSaid(ctx, a, g, source.Service, f.Message); err != nil {
			end = ending{reason: auditv1.Reason_REASON_DEPENDENCY_UNAVAILABLE, err: err}
		}
	}
	end.findings = check.Findings()
	if end.err != nil {
		end.status = auditv1.Status_STATUS_FAILED
	}
	if !a.quiet {
		s.outcome(context.WithoutCancel(ctx), &auditv1.Event{
			DecisionId: g.GetDecisionId(), Actor: actor(g), Action: actions[a.action], Target: clip(a.target, 512),
		}, end)
	}
	end.acted = acted(end.findings)
	if end.from != nil && taint.Untrusted(end.from.GetLabel()) && s.cfg.Envelope.marksRead(source.Service, g.GetPrincipal().GetRoles()) {
		encloseRead(read, end.from) // after the record, whose hash is of what was given
	}
	return end, end.err
}

// askSource asks one replica, or another if the first cannot be reached: what is
// asked here changes nothing.
func (s *Service) askSource(ctx context.Context, a asking, from *catalogue.Source, do func(context.Context, *catalogue.Lease, *providerv1.Round) (answer, error)) ending {
	lease, round, err := take(ctx, from.Pool, a.round)
	if err != nil {
		return s.unanswered(ctx, a, err)
	}
	defer lease.Release()
	calling, cancel := context.WithTimeout(ctx, s.cfg.DefaultTimeout)
	defer cancel()
	start := time.Now()
	got, err := do(calling, lease, round)
	if unreachable(err) {
		lease.Failed()
		if len(a.round.GetState()) == 0 && calling.Err() == nil && lease.Other() {
			if got, err = do(calling, lease, round); unreachable(err) {
				lease.Failed()
			}
		}
	}
	end := ending{status: auditv1.Status_STATUS_OK}
	tell(ctx, lease, err)
	switch {
	case err != nil:
		end = s.unanswered(ctx, a, err)
	case got == nil:
	case got.GetInputRequired() != nil:
		wrap(got.GetInputRequired(), lease)
	default:
		end.message = got
	}
	end.duration = time.Since(start)
	return end
}

// unanswered makes what the caller is told of an error of a provider.
func (s *Service) unanswered(ctx context.Context, a asking, err error) ending {
	lost := func(reason auditv1.Reason, text string) ending {
		return ending{reason: reason, err: fault.New(codes.Unavailable, executorv1.Reason_REASON_PROVIDER, "%s", text).Because(err)}
	}
	f, _ := errors.AsType[*fault.Error](err)
	switch {
	case ctx.Err() != nil:
		return ending{err: ctx.Err(), reason: goneReason(ctx)}
	case errors.Is(err, isolate.ErrBusy), errors.Is(err, isolate.ErrResting):
		return ending{reason: auditv1.Reason_REASON_TOOL_UNAVAILABLE, err: fault.New(codes.Unavailable, executorv1.Reason_REASON_PROVIDER,
			"too many requests to the provider of this %s are in progress, or it fails too often", a.what).Because(err).After(time.Second)}
	case errors.Is(err, catalogue.ErrGone):
		return lost(auditv1.Reason_REASON_TOOL_UNAVAILABLE, goneText+" Start again without its state.")
	case errors.Is(err, provider.ErrEmpty), fault.Is(err, providerv1.Reason_REASON_UNKNOWN) && f.Code == codes.NotFound:
		return ending{reason: auditv1.Reason_REASON_TOOL_UNKNOWN, err: unknown(a.what)}
	case fault.Is(err, providerv1.Reason_REASON_ARGUMENTS):
		return ending{reason: auditv1.Reason_REASON_INVALID_PARAMS, err: badArguments(clip(f.Message, 4096))}
	case errors.Is(err, tool.ErrTooLarge), oversized(err):
		return lost(auditv1.Reason_REASON_RESULT_TOO_LARGE, "the answer of the provider is too large and is not passed on")
	case errors.Is(err, tool.ErrInvalid):
		s.log.ErrorContext(ctx, "provider broke its contract", "action", actions[a.action], "err", err)
		return lost(auditv1.Reason_REASON_RESULT_INVALID, "the answer of the provider breaks its contract and is not passed on")
	case codeOf(err) == codes.DeadlineExceeded:
		return lost(auditv1.Reason_REASON_TOOL_TIMEOUT, "the provider did not answer in time")
	case f == nil && codeOf(err) != codes.Unavailable && !errors.Is(err, catalogue.ErrDown):
		return lost(auditv1.Reason_REASON_TOOL_ERROR, "the provider failed")
	}
	return lost(auditv1.Reason_REASON_TOOL_UNAVAILABLE, "the provider cannot be reached just now")
}
