package executor

import (
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
	"github.com/sallyport-mcp/sallyport/services/executor/internal/catalogue"
)

// call is one call on its way.
type call struct {
	service   *Service
	request   *executorv1.CallRequest
	grant     *authv1.Grant
	entry     *catalogue.Entry
	arguments *auditv1.Arguments
	send      func(*executorv1.CallResponse) error
}

// ending is how a call ended: with a result, a refusal, or an error.
type ending struct {
	json     []byte
	refusal  *executorv1.Refusal
	err      error
	status   auditv1.Status
	reason   auditv1.Reason
	duration time.Duration // in the tool service
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
		service: s, request: req, grant: g, entry: snap.Find(req.GetTool()), send: stream.Send,
		arguments: &auditv1.Arguments{Sha256: sum[:], Shape: req.GetArgumentsShape()},
	}
	if c.entry == nil {
		c.record(ctx, ending{status: auditv1.Status_STATUS_FAILED, reason: auditv1.Reason_REASON_TOOL_UNKNOWN})
		return unknown("tool")
	}
	if err := s.use(g, c.entry.Tool); err != nil {
		return s.denyGrant(ctx, g, authv1.Action_ACTION_TOOLS_CALL, req.GetTool(), err)
	}
	end := c.run(ctx)
	c.record(ctx, end)
	if end.err != nil {
		return end.err
	}
	return stream.Send(&executorv1.CallResponse{Event: &executorv1.CallResponse_Result{Result: end.result()}})
}

// run takes the call from its arguments to its end.
func (c *call) run(ctx context.Context) ending {
	s, t := c.service, c.entry.Tool
	msg, wrong, err := t.Decode(c.request.GetArguments())
	if err != nil {
		return ending{err: err, status: auditv1.Status_STATUS_FAILED, reason: auditv1.Reason_REASON_INTERNAL}
	}
	if len(wrong) > 0 {
		return refuse(invalidArguments(t.Name(), wrong))
	}
	lease, err := c.entry.Pool.Take()
	if errors.Is(err, catalogue.ErrBusy) {
		return refuse(busy(t.Name()))
	}
	if err != nil {
		return refuse(unavailable(t.Name()))
	}
	defer lease.Release()
	if err := c.intend(ctx); err != nil {
		end := ending{err: err, status: auditv1.Status_STATUS_FAILED, reason: auditv1.Reason_REASON_AUDIT_UNAVAILABLE}
		if ctx.Err() != nil {
			end.reason = goneReason(ctx)
		}
		return end
	}
	timeout := s.cfg.DefaultTimeout
	if own := t.Timeout(); own > 0 {
		timeout = own
	}
	if asked := c.request.GetTimeout(); asked != nil {
		timeout = min(timeout, asked.AsDuration())
	}
	calling, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return c.invoke(ctx, calling, lease, msg)
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
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err() // the caller went away; nothing was called
	}
	return fault.New(codes.Unavailable, executorv1.Reason_REASON_AUDIT_UNAVAILABLE,
		"the call could not be recorded, so it was not made").Because(err).After(time.Second)
}

// invoke calls the tool, twice at most. ctx is the caller's, calling has the
// tool's deadline.
func (c *call) invoke(ctx, calling context.Context, lease *catalogue.Lease, msg proto.Message) ending {
	s, t := c.service, c.entry.Tool
	calling, span := s.tracer.Start(calling, "execute_tool "+t.Name(), trace.WithSpanKind(trace.SpanKindInternal))
	defer span.End()
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String("gen_ai.operation.name", "execute_tool"),
			attribute.String("gen_ai.tool.name", t.Name()),
			attribute.String("sallyport.decision.id", c.grant.GetDecisionId()),
		)
	}
	start := time.Now()
	out, err := t.Invoke(calling, lease.Conn(), msg, s.cfg.MaxResultBytes, c.progress)
	if unreachable(err) {
		lease.Failed()
		// Whether the first replica has acted is not always known, so only
		// what may be done twice is tried at another.
		if t.Idempotent() && calling.Err() == nil && lease.Other() {
			out, err = t.Invoke(calling, lease.Conn(), msg, s.cfg.MaxResultBytes, c.progress)
			if unreachable(err) {
				lease.Failed()
			}
		}
	}
	end := ending{json: out, status: auditv1.Status_STATUS_OK}
	if err != nil {
		end = c.failed(ctx, err)
		span.SetStatus(otelcodes.Error, reasonName(end.reason))
		s.log.WarnContext(ctx, "tool call failed", "tool", t.Name(), "service", t.Service,
			"decision", c.grant.GetDecisionId(), "reason", reasonName(end.reason), "code", codeOf(err).String())
	}
	end.duration = time.Since(start)
	return end
}

// progress passes on that a tool which streams is getting on.
func (c *call) progress(n int) error {
	if !c.request.GetWantsProgress() {
		return nil
	}
	return c.send(&executorv1.CallResponse{Event: &executorv1.CallResponse_Progress{
		Progress: &providerv1.Progress{Progress: float64(n)},
	}})
}

// result is what the caller gets if there is no error.
func (e ending) result() *executorv1.Result {
	if e.refusal != nil {
		return &executorv1.Result{Result: &providerv1.ToolResult{IsError: true}, Refusal: e.refusal}
	}
	return &executorv1.Result{Result: &providerv1.ToolResult{Content: textContent(string(e.json)), Structured: e.json}}
}

func textContent(s string) []*providerv1.Content {
	return []*providerv1.Content{{Kind: &providerv1.Content_Text{Text: s}}}
}
