package edge

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

// outcome is how a request ended, in metrics.
type outcome string

const (
	outcomeOK      outcome = "ok"
	outcomeTool    outcome = "tool_error" // the tool or its service said no
	outcomeRefused outcome = "refused"
	outcomeFailed  outcome = "failed" // our fault
	// outcomeCancelled means that the client did not want it any more.
	outcomeCancelled outcome = "cancelled"
)

// otherTool stands in metrics for every name that is not a tool, so that callers
// cannot make new series.
const otherTool = "_OTHER"

type telemetry struct {
	tracer   trace.Tracer
	duration metric.Float64Histogram
	// suppressed counts refusals of callers without a credential that were not
	// recorded one by one.
	suppressed metric.Int64Counter
	// streams counts the streams that are open for changes.
	streams metric.Int64UpDownCounter
	// options holds the attributes of each series, a few dozen, so that they are
	// not built for every request.
	options sync.Map // of series to []metric.RecordOption
	// served says what kind of span a request's is.
	served trace.SpanStartOption
}

type series struct {
	method, tool string
	outcome      outcome
}

func newTelemetry(tracer trace.Tracer, meter metric.Meter) (*telemetry, error) {
	duration, err := meter.Float64Histogram("mcp.server.operation.duration",
		metric.WithUnit("s"),
		metric.WithDescription("Time from the request's headers to the end of the answer."),
		metric.WithExplicitBucketBoundaries(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300))
	if err != nil {
		return nil, fmt.Errorf("make the duration metric: %w", err)
	}
	suppressed, err := meter.Int64Counter("sallyport.edge.records.suppressed",
		metric.WithDescription("Refusals of callers without a credential that came too fast to be recorded one by one."))
	if err != nil {
		return nil, fmt.Errorf("make the metric of suppressed records: %w", err)
	}
	streams, err := meter.Int64UpDownCounter("sallyport.edge.streams",
		metric.WithDescription("Open streams on which clients hear of changes."))
	if err != nil {
		return nil, fmt.Errorf("make the metric of streams: %w", err)
	}
	return &telemetry{tracer: tracer, duration: duration, suppressed: suppressed, streams: streams, served: trace.WithSpanKind(trace.SpanKindServer)}, nil
}

// listening counts a stream until done is called.
func (t *telemetry) listening(ctx context.Context, method string) (done func()) {
	attr := metric.WithAttributes(attribute.String("mcp.method.name", method))
	t.streams.Add(ctx, 1, attr)
	return func() { t.streams.Add(context.WithoutCancel(ctx), -1, attr) }
}

func (t *telemetry) optionsOf(k series) []metric.RecordOption {
	if o, ok := t.options.Load(k); ok {
		if o, ok := o.([]metric.RecordOption); ok {
			return o
		}
	}
	attrs := []attribute.KeyValue{
		attribute.String("mcp.method.name", k.method), attribute.String("sallyport.outcome", string(k.outcome)),
	}
	if k.tool != "" {
		attrs = append(attrs, attribute.String("gen_ai.tool.name", k.tool))
	}
	o := []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attrs...))}
	t.options.Store(k, o)
	return o
}

// earlySpan starts the span of the request before its body says which trace it
// is in, for what has to be asked before: under the trace of the HTTP request,
// if it has one.
func (x *exchange) earlySpan() {
	ctx := x.ctx
	if parent, ok := parseTraceparent(headerValue(x.r.Header, "Traceparent")); ok {
		ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	}
	x.startSpan(ctx)
	x.early = true
}

// ensureSpan makes sure that the request has a span that began when the request
// came: under the trace in _meta, else that of the HTTP request, else a new one.
// Where one was started early and _meta names another trace, the early one ends
// as the authentication, and the new one points to it. A request that is refused
// before its body was read has no _meta.
func (x *exchange) ensureSpan() {
	if x.span != nil && !x.early {
		return
	}
	m := &x.msg
	parent, named := parseTraceparent(m.Text(m.MetaTraceparent))
	if !named {
		if x.span == nil {
			x.earlySpan()
		}
		x.early = false
		x.span.SetName(x.spanMethod())
		return
	}
	if state, err := trace.ParseTraceState(m.Text(m.MetaTracestate)); err == nil {
		parent = parent.WithTraceState(state)
	}
	var links []trace.SpanStartOption
	if x.span != nil {
		links = append(links, trace.WithLinks(trace.Link{SpanContext: x.span.SpanContext()}))
		x.span.SetName("authenticate")
		x.span.End()
		x.early = false
	}
	x.startSpan(trace.ContextWithRemoteSpanContext(x.ctx, parent), links...)
}

func (x *exchange) startSpan(ctx context.Context, opts ...trace.SpanStartOption) {
	opts = append(opts, x.s.telemetry.served, trace.WithTimestamp(x.start))
	x.ctx, x.span = x.s.telemetry.tracer.Start(ctx, x.spanMethod(), opts...)
}

// spanMethod is the method for names and series: one that is served.
func (x *exchange) spanMethod() string {
	if x.method != "" {
		return x.method
	}
	if x.msg.Method.Kind != jsonrpc.String || x.era == eraUnknown {
		return "mcp"
	}
	if handlerFor(x.era, x.said) != nil {
		return x.said
	}
	return "_OTHER"
}

// finish ends the span and counts the request.
func (x *exchange) finish() {
	took := time.Since(x.start)
	x.ensureSpan()
	method := x.spanMethod()
	if x.span.IsRecording() {
		x.describe(method)
	}
	x.span.End()

	k := series{method: method, outcome: x.outcome}
	if method == toolsCall {
		if k.tool = x.tool(); k.tool == "" {
			k.tool = otherTool
		}
	}
	x.s.telemetry.duration.Record(x.ctx, took.Seconds(), x.s.telemetry.optionsOf(k)...)
}

func (x *exchange) describe(method string) {
	if tool := x.tool(); tool != "" {
		x.span.SetName(method + " " + tool)
		x.span.SetAttributes(attribute.String("gen_ai.tool.name", tool),
			attribute.String("gen_ai.operation.name", "execute_tool"))
	}
	x.span.SetAttributes(attribute.String("mcp.method.name", method),
		attribute.String("client.address", x.addressText()),
		attribute.String("network.transport", "tcp"))
	for name, value := range map[string]string{
		"mcp.protocol.version": x.version, "jsonrpc.request.id": x.idText(),
		"sallyport.decision.id": x.decision, "sallyport.key.id": x.principal.GetCredentialId(),
		"mcp.resource.uri": x.targetOf("resources/read"), "gen_ai.prompt.name": x.targetOf("prompts/get"),
	} {
		if value != "" {
			x.span.SetAttributes(attribute.String(name, value))
		}
	}
	if x.reason != auditv1.Reason_REASON_UNSPECIFIED {
		x.span.SetAttributes(attribute.String("sallyport.reason", reasonName(x.reason)))
	}
	if x.code != 0 {
		x.span.SetAttributes(attribute.String("rpc.response.status_code", strconv.Itoa(x.code)))
	}
	switch x.outcome {
	case outcomeTool:
		x.span.SetAttributes(attribute.String("error.type", "tool_error"))
	case outcomeRefused, outcomeCancelled:
		x.span.SetAttributes(attribute.String("error.type", reasonName(x.reason)))
	case outcomeFailed:
		x.span.SetAttributes(attribute.String("error.type", reasonName(x.reason)))
		x.span.SetStatus(otelcodes.Error, "")
	}
}

// tool is the tool that is called, once it is known to exist.
func (x *exchange) tool() string { return x.targetOf(toolsCall) }

// targetOf is what a request of this method is about, once it is known to exist,
// and "" for other methods.
func (x *exchange) targetOf(method string) string {
	if x.method != method {
		return ""
	}
	return x.target
}

// idText is the request's id as text, for the span.
func (x *exchange) idText() string {
	if x.id == nil {
		return ""
	}
	if text := x.msg.Text(x.msg.ID); text != "" {
		return printable(text, maxID)
	}
	return string(x.id)
}
