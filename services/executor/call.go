package executor

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/catalogue"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/grant"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/isolate"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/provider"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
)

// call is one call on its way.
type call struct {
	service   *Service
	request   *executorv1.CallRequest
	grant     *authv1.Grant
	actor     *auditv1.Actor // who asked, from the grant
	entry     *catalogue.Entry
	arguments *auditv1.Arguments
	stream    grpc.ServerStreamingServer[executorv1.CallResponse]
	passed    bool // something was passed on
	sticky    bool // only one replica can go on with it
	released  bool // the context has the tool's label on record
	backend   tool.Call
	usage     *executorv1.Usage // nil until the tool was called, and if it uses nothing that it names
	check     *guard.Check      // nil until the arguments were decoded
}

// ending is how a call ended: with an answer, a refusal, or an error.
type ending struct {
	answer   tool.Answer
	repeated *executorv1.Result // of the first call with the same idempotency key
	message  proto.Message      // a provider's answer to something other than a call
	refusal  *executorv1.Refusal
	err      error
	status   auditv1.Status
	reason   auditv1.Reason
	duration time.Duration // in the tool service
	findings []*auditv1.GuardFinding
	used     []*auditv1.Used
	acted    []*executorv1.GuardActed // on the result
	said     string                   // by the tool, instead of a result
	from     *toolv1.Provenance
}

// Call implements [executorv1.ExecutorServiceServer].
func (s *Service) Call(req *executorv1.CallRequest, stream grpc.ServerStreamingServer[executorv1.CallResponse]) error {
	ctx := stream.Context()
	snap, err := s.snapshot()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(req.GetArguments())
	g, err := s.openCall(req, sum[:])
	if err != nil {
		return s.denyGrant(ctx, g, authv1.Action_ACTION_TOOLS_CALL, req.GetTool(), err)
	}
	c := &call{
		service: s, request: req, grant: g, actor: actor(g), entry: snap.Find(req.GetTool(), g.GetToolDigest()), stream: stream,
		arguments: &auditv1.Arguments{Sha256: sum[:], Shape: req.GetArgumentsShape()},
	}
	if c.entry == nil {
		c.record(ctx, ending{status: auditv1.Status_STATUS_FAILED, reason: auditv1.Reason_REASON_TOOL_UNKNOWN})
		return unknown("tool")
	}
	var end ending
	if c.entry.Withheld {
		end = refuse(withheld(req.GetTool())) // which uses up no grant
	} else if err := s.use(ctx, g, &c.entry.Face); errors.Is(err, grant.ErrUnclaimed) {
		end = unrecorded(ctx, err)
	} else if err != nil {
		return s.denyGrant(ctx, g, authv1.Action_ACTION_TOOLS_CALL, req.GetTool(), err)
	} else {
		end = c.release(ctx, c.run(ctx))
	}
	c.record(ctx, end)
	if end.err != nil {
		return end.err
	}
	response := end.response()
	response.Usage = c.spent()
	return stream.Send(response)
}

// run takes the call from its arguments to its end.
func (c *call) run(ctx context.Context) ending {
	s, t := c.service, c.entry
	msg, wrong, err := t.Decode(c.request.GetArguments())
	if err != nil {
		return ending{err: err, status: auditv1.Status_STATUS_FAILED, reason: auditv1.Reason_REASON_INTERNAL}
	}
	if len(wrong) > 0 {
		return refuse(invalidArguments(t.Name(), wrong))
	}
	if refusal := c.guardArguments(ctx); refusal != nil {
		return refuse(refusal)
	}
	c.backend = tool.Call{
		Request: c.request, Principal: c.grant.GetPrincipal(), Limit: s.cfg.MaxResultBytes, To: c,
		Key:     cmp.Or(c.request.GetIdempotencyKey(), c.grant.GetDecisionId()),
		Reports: len(t.Uses()) > 0,
	}
	timeout := s.cfg.DefaultTimeout
	if own := t.Timeout(); own > 0 {
		timeout = own
	}
	if asked := c.request.GetTimeout(); asked != nil {
		timeout = min(timeout, asked.AsDuration())
	}
	claim, end := c.claim(ctx, timeout)
	if end != nil {
		return *end
	}
	lease, refusal := c.lease(ctx)
	if refusal != nil {
		claim.free(ctx)
		if ctx.Err() != nil { // the caller went away while he waited
			return ending{err: ctx.Err(), status: auditv1.Status_STATUS_FAILED, reason: goneReason(ctx)}
		}
		return refuse(refusal)
	}
	defer lease.Release()
	if err := c.intend(ctx); err != nil {
		claim.free(ctx)
		return unrecorded(ctx, err)
	}
	origin := c.grant.GetOrigin()
	told := toolkit.Call{
		Chain:          toolkit.Chain{Context: origin.GetContextId(), Hops: origin.GetHops() + 1},
		IdempotencyKey: c.backend.Key, Caller: c.grant.GetPrincipal(),
	}
	calling, cancel := context.WithTimeout(told.With(ctx), timeout)
	defer cancel()
	ended := c.invoke(ctx, calling, lease, msg)
	claim.settle(ctx, ended)
	return ended
}

// lease takes a replica: any, or the one that has asked the client what it now
// answers.
func (c *call) lease(ctx context.Context) (*catalogue.Lease, *executorv1.Refusal) {
	name, round := c.entry.Name(), c.request.GetRound()
	if !c.entry.Provider {
		if len(round.GetState()) > 0 { // another service had the name when it was given
			return nil, gone(name)
		}
		round = nil
	}
	lease, own, err := take(ctx, c.entry.Pool, round)
	c.backend.Round, c.sticky = own, len(round.GetState()) > 0
	switch {
	case err == nil:
		return lease, nil
	case errors.Is(err, isolate.ErrBusy):
		return nil, busy(name)
	case errors.Is(err, isolate.ErrResting):
		return nil, resting(name, c.entry.Pool.Rest())
	case errors.Is(err, catalogue.ErrGone):
		return nil, gone(name)
	}
	return nil, unavailable(name)
}

// take takes a replica for a round, and returns the round as the replica knows
// it.
func take(ctx context.Context, pool *catalogue.Pool, round *providerv1.Round) (*catalogue.Lease, *providerv1.Round, error) {
	if len(round.GetState()) == 0 {
		lease, err := pool.Take(ctx)
		return lease, round, err
	}
	replica, state, err := provider.UnwrapState(round.GetState())
	if err != nil {
		return nil, nil, catalogue.ErrGone
	}
	lease, err := pool.TakeFrom(ctx, replica)
	return lease, &providerv1.Round{
		InputResponses: round.GetInputResponses(), State: state, ClientCapabilities: round.GetClientCapabilities(),
	}, err
}

// intend records that the tool is about to be called. It fails closed: what
// cannot be recorded is not done. For a destructive tool "recorded" means
// acknowledged by the stream, not merely queued.
func (c *call) intend(ctx context.Context) error {
	e := c.event()
	e.What = &auditv1.Event_Intent{Intent: &auditv1.Intent{
		Arguments: c.arguments, Service: c.entry.Service, Destructive: c.entry.Destructive(),
	}}
	var err error
	if c.entry.Destructive() {
		committing, cancel := context.WithTimeout(ctx, c.service.cfg.AuditTimeout)
		defer cancel()
		err = c.service.audit.Commit(committing, e)
	} else {
		err = c.service.audit.Record(ctx, e)
	}
	return err
}

// unrecorded is the end of a call that was not made, because the bus has not
// taken what must be kept of it.
func unrecorded(ctx context.Context, err error) ending {
	end := ending{status: auditv1.Status_STATUS_FAILED, reason: auditv1.Reason_REASON_AUDIT_UNAVAILABLE}
	end.err = fault.New(codes.Unavailable, executorv1.Reason_REASON_AUDIT_UNAVAILABLE,
		"the call could not be recorded, so it was not made").Because(err).After(time.Second)
	if ctx.Err() != nil { // the caller went away
		end.err, end.reason = ctx.Err(), goneReason(ctx)
	}
	return end
}

// invoke calls the tool, twice at most. ctx is the caller's, calling has the
// tool's deadline.
func (c *call) invoke(ctx, calling context.Context, lease *catalogue.Lease, msg proto.Message) ending {
	s, t := c.service, c.entry
	span := trace.SpanFromContext(context.Background()) // that records nothing
	if sc := trace.SpanContextFromContext(calling); !sc.IsValid() || sc.IsSampled() {
		calling, span = s.tracer.Start(calling, "execute_tool "+t.Name())
		defer span.End()
	}
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String("gen_ai.operation.name", "execute_tool"),
			attribute.String("gen_ai.tool.name", t.Name()),
			attribute.String("sallyport.decision.id", c.grant.GetDecisionId()),
		)
	}
	c.backend.Reads = lease
	start := time.Now()
	answer, err := t.Invoke(calling, lease.Conn(), msg, &c.backend)
	again := false
	if unreachable(err) {
		lease.Failed()
		// Whether the first replica has acted is known only if it was not sent
		// anything; else only what may be done twice is tried at another.
		if (t.Idempotent() || errors.Is(err, tool.ErrNotSent)) && !c.sticky && !c.passed && calling.Err() == nil && lease.Other() {
			again = !errors.Is(err, tool.ErrNotSent)
			answer, err = t.Invoke(calling, lease.Conn(), msg, &c.backend)
			if unreachable(err) {
				lease.Failed()
			}
		}
	}
	took := time.Since(start)
	c.usage = c.used(ctx, err, again)
	end := ending{answer: answer, status: auditv1.Status_STATUS_OK}
	tell(ctx, lease, err)
	if err == nil {
		c.guardAnswer(&end)
	}
	switch {
	case end.refusal != nil: // a guard's
		span.SetStatus(otelcodes.Error, reasonName(end.reason))
	case err == nil && answer.Result.GetIsError():
		end.status, end.reason = auditv1.Status_STATUS_FAILED, auditv1.Reason_REASON_TOOL_ERROR
		span.SetStatus(otelcodes.Error, reasonName(end.reason))
	case err == nil:
		wrap(answer.Question, lease)
	default:
		end = c.failed(ctx, err)
		span.SetStatus(otelcodes.Error, reasonName(end.reason))
		s.log.WarnContext(ctx, "tool call failed", "tool", t.Name(), "service", t.Service,
			"decision", c.grant.GetDecisionId(), "reason", reasonName(end.reason), "code", codeOf(err).String())
	}
	end.duration = took
	return end
}

// tell says whether the service did well, for its breaker: it did if it has
// answered, whatever that was, and within bounds. A caller who went away says
// nothing of it.
func tell(ctx context.Context, lease *catalogue.Lease, err error) {
	_, said := errors.AsType[*fault.Error](err)
	switch {
	case errors.Is(err, tool.ErrEndless):
		lease.Told(false)
	case err == nil, said, errors.Is(err, tool.ErrTooLarge), errors.Is(err, tool.ErrInvalid), oversized(err):
		lease.Told(true)
	case ctx.Err() == nil:
		lease.Told(false)
	}
}

// Send implements [tool.Caller].
func (c *call) Send(m *executorv1.CallResponse) error {
	c.passed = true
	if !c.guardEvent(m) || !c.releaseEvent(m) {
		return nil
	}
	return c.stream.Send(m)
}

// wrap writes into a question's state who has asked it.
func wrap(q *providerv1.InputRequired, lease *catalogue.Lease) {
	if state := q.GetState(); len(state) > 0 {
		q.State = provider.WrapState(lease.Replica(), state)
	}
}

// response is what the caller gets if there is no error.
func (e ending) response() *executorv1.CallResponse {
	if q := e.answer.Question; q != nil {
		return &executorv1.CallResponse{Event: &executorv1.CallResponse_InputRequired{InputRequired: q}}
	}
	return &executorv1.CallResponse{Event: &executorv1.CallResponse_Result{Result: enveloped(e.whole(), e.from)}}
}

// whole is the result that ends a call.
func (e ending) whole() *executorv1.Result {
	if e.repeated != nil {
		return e.repeated
	}
	result := &executorv1.Result{Result: e.answer.Result, Guards: e.acted}
	switch {
	case e.refusal != nil && result.Result != nil: // withheld
		result.Refusal = e.refusal
	case e.refusal != nil:
		result.Result, result.Refusal = &providerv1.ToolResult{IsError: true}, e.refusal
	case result.Result == nil:
		result.Result = &providerv1.ToolResult{Content: textContent(string(e.answer.JSON)), Structured: e.answer.JSON}
	}
	return result
}

func textContent(s string) []*providerv1.Content {
	return []*providerv1.Content{{Kind: &providerv1.Content_Text{Text: s}}}
}
