package rpc

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Observer makes a span and a measurement of each call, by the semantic
// conventions for RPC (https://opentelemetry.io/docs/specs/semconv/rpc/): spans
// named by the full method, the histograms rpc.server.call.duration and
// rpc.client.call.duration in seconds. The trace context crosses in the W3C
// headers. A nil Observer observes nothing.
//
// It takes the place of otelgrpc's handlers because of their price: see decision
// 8.
type Observer struct {
	tracer         trace.Tracer
	server, client metric.Float64Histogram
	sets           sync.Map // call to metric.MeasurementOption
}

// call is what measurements tell apart.
type call struct {
	method string
	code   codes.Code
}

var propagator = propagation.TraceContext{}

// buckets are those the conventions ask for, in seconds.
var buckets = metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

// NewObserver returns an observer that uses tracer and meter.
func NewObserver(tracer trace.Tracer, meter metric.Meter) (*Observer, error) {
	server, err1 := meter.Float64Histogram("rpc.server.call.duration", metric.WithUnit("s"), metric.WithDescription("Duration of the calls served."), buckets)
	client, err2 := meter.Float64Histogram("rpc.client.call.duration", metric.WithUnit("s"), metric.WithDescription("Duration of the calls made."), buckets)
	return &Observer{tracer: tracer, server: server, client: client}, errors.Join(err1, err2)
}

// worthless are calls that would fill traces and say nothing.
func worthless(method string) bool { return strings.HasPrefix(method, "/grpc.health.") }

func (o *Observer) unaryServer(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if o == nil || worthless(info.FullMethod) {
		return next(ctx, req)
	}
	ctx, end := o.serve(ctx, info.FullMethod)
	resp, err := next(ctx, req)
	end(err)
	return resp, err
}

func (o *Observer) streamServer(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if o == nil || worthless(info.FullMethod) {
		return next(srv, ss)
	}
	ctx, end := o.serve(ss.Context(), info.FullMethod)
	err := next(srv, contextStream{ss, ctx})
	end(err)
	return err
}

func (o *Observer) unaryClient(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if o == nil || worthless(method) {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	ctx, end := o.ask(ctx, method)
	err := invoke(ctx, method, req, reply, cc, opts...)
	end(err)
	return err
}

func (o *Observer) streamClient(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if o == nil || worthless(method) {
		return open(ctx, desc, cc, method, opts...)
	}
	life := ctx
	ctx, end := o.ask(ctx, method)
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		end(err)
		return nil, err
	}
	out := &observedStream{ClientStream: s}
	var once sync.Once
	out.done = func(err error) { once.Do(func() { end(err) }) }
	out.stop = context.AfterFunc(life, func() { out.done(status.FromContextError(life.Err()).Err()) })
	return out, nil
}

// serve starts the span of a call that is served; end must be called once.
func (o *Observer) serve(ctx context.Context, method string) (context.Context, func(error)) {
	ctx = propagator.Extract(ctx, incoming{ctx})
	return o.start(ctx, method, trace.SpanKindServer, o.server)
}

// ask starts the span of a call that is made, and sends its context along.
func (o *Observer) ask(ctx context.Context, method string) (context.Context, func(error)) {
	ctx, end := o.start(ctx, method, trace.SpanKindClient, o.client)
	out := outgoing{}
	propagator.Inject(ctx, &out)
	if len(out.pairs) > 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, out.pairs...)
	}
	return ctx, end
}

func (o *Observer) start(ctx context.Context, method string, kind trace.SpanKind, h metric.Float64Histogram) (context.Context, func(error)) {
	began := time.Now()
	name := strings.TrimPrefix(method, "/")
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() && !sc.IsSampled() {
		// Nobody records this trace, and nothing below decides otherwise. The
		// caller's ids go on, for logs and the audit record.
		return ctx, func(err error) { h.Record(ctx, time.Since(began).Seconds(), o.set(name, codeOf(err))) }
	}
	ctx, span := o.tracer.Start(ctx, name, trace.WithSpanKind(kind))
	return ctx, func(err error) {
		code := codeOf(err)
		h.Record(ctx, time.Since(began).Seconds(), o.set(name, code))
		if span.IsRecording() {
			span.SetAttributes(attribute.String("rpc.system.name", "grpc"), attribute.String("rpc.method", name),
				attribute.String("rpc.response.status_code", codeName(code)))
			if ours(code) || kind == trace.SpanKindClient && code != codes.OK {
				span.SetStatus(otelcodes.Error, "")
				span.SetAttributes(attribute.String("error.type", codeName(code)))
			}
		}
		span.End()
	}
}

// codeOf is the code of a call's end; a stream that has ended well ends with
// io.EOF.
func codeOf(err error) codes.Code {
	if errors.Is(err, io.EOF) {
		return codes.OK
	}
	return status.Code(err)
}

// set returns the attributes of a measurement, made once for each method and
// code.
func (o *Observer) set(name string, code codes.Code) metric.MeasurementOption {
	key := call{name, code}
	if s, ok := o.sets.Load(key); ok {
		return s.(metric.MeasurementOption)
	}
	s, _ := o.sets.LoadOrStore(key, metric.WithAttributeSet(attribute.NewSet(
		attribute.String("rpc.system.name", "grpc"), attribute.String("rpc.method", name), attribute.String("rpc.response.status_code", codeName(code)),
	)))
	return s.(metric.MeasurementOption)
}

// ours reports whether a code is the server's failure rather than an answer.
func ours(c codes.Code) bool {
	switch c {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		return true
	}
	return false
}

// codeName is the name of a code as the gRPC specification writes it.
func codeName(c codes.Code) string {
	switch c {
	case codes.OK:
		return "OK"
	case codes.Canceled:
		return "CANCELLED"
	}
	var b strings.Builder
	for i, r := range c.String() {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToUpper(b.String())
}

// incoming reads the metadata of a call without copying all of it.
type incoming struct{ ctx context.Context }

// Get implements [propagation.TextMapCarrier].
func (c incoming) Get(key string) string {
	if v := metadata.ValueFromIncomingContext(c.ctx, key); len(v) > 0 {
		return v[0]
	}
	return ""
}

// Set implements [propagation.TextMapCarrier]; nothing is sent this way.
func (incoming) Set(string, string) {}

// Keys implements [propagation.TextMapCarrier].
func (incoming) Keys() []string { return nil }

// outgoing collects what is to be sent.
type outgoing struct{ pairs []string }

// Get implements [propagation.TextMapCarrier].
func (*outgoing) Get(string) string { return "" }

// Set implements [propagation.TextMapCarrier].
func (c *outgoing) Set(key, value string) { c.pairs = append(c.pairs, key, value) }

// Keys implements [propagation.TextMapCarrier].
func (*outgoing) Keys() []string { return nil }

// observedStream ends its span with its last message, or with its context.
type observedStream struct {
	grpc.ClientStream
	done func(error)
	stop func() bool
}

// RecvMsg implements [grpc.ClientStream].
func (s *observedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err != nil {
		s.stop()
		s.done(err)
	}
	return err
}
