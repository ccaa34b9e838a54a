package rpc_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
)

// observed is an observer whose spans and measurements can be looked at.
func observed(t *testing.T) (*rpc.Observer, trace.Tracer, *tracetest.SpanRecorder, *sdkmetric.ManualReader) {
	t.Helper()
	spans, reader := tracetest.NewSpanRecorder(), sdkmetric.NewManualReader()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
	o, err := rpc.NewObserver(tracer, sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test"))
	if err != nil {
		t.Fatal(err)
	}
	return o, tracer, spans, reader
}

func codeOf(s sdktrace.ReadOnlySpan) string {
	set := attribute.NewSet(s.Attributes()...)
	code, _ := set.Value("rpc.response.status_code")
	return code.AsString()
}

func TestOneCallIsOneTraceWithASpanOnEachSide(t *testing.T) {
	t.Parallel()
	o, tracer, spans, reader := observed(t)
	srv := rpc.Server{Observe: o, Allow: map[string][]string{quotaService: {"edge"}}}
	client := quotav1.NewQuotaServiceClient(srv.Local("edge", o, func(r grpc.ServiceRegistrar) { quotav1.RegisterQuotaServiceServer(r, service{}) }))

	ctx, root := tracer.Start(t.Context(), "root")
	if _, err := client.Peek(ctx, peek("")); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Peek(ctx, peek("fail")); err == nil {
		t.Fatal("no error")
	}
	root.End()

	const method = "sallyport.quota.v1.QuotaService/Peek"
	var codes []string
	for _, s := range spans.Ended() {
		if s.SpanContext().TraceID() != root.SpanContext().TraceID() {
			t.Errorf("%s is in another trace", s.Name())
		}
		if s.Name() == "root" {
			continue
		}
		codes = append(codes, s.SpanKind().String()+" "+codeOf(s))
		if s.Name() != method || !s.Parent().IsValid() {
			t.Errorf("span %q with parent %v", s.Name(), s.Parent().SpanID())
		}
	}
	if want := []string{"server OK", "client OK", "server INTERNAL", "client INTERNAL"}; !slices.Equal(codes, want) {
		t.Errorf("spans %v, want %v", codes, want)
	}

	var m metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &m); err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]uint64)
	for _, s := range m.ScopeMetrics {
		for _, i := range s.Metrics {
			if h, ok := i.Data.(metricdata.Histogram[float64]); ok {
				for _, p := range h.DataPoints {
					counts[i.Name] += p.Count
				}
			}
		}
	}
	if counts["rpc.server.call.duration"] != 2 || counts["rpc.client.call.duration"] != 2 {
		t.Errorf("measurements %v, want 2 on each side", counts)
	}
}

func TestATraceThatNobodyRecordsGoesOnWithoutSpans(t *testing.T) {
	t.Parallel()
	o, _, spans, _ := observed(t)
	seen := make(chan context.Context, 1)
	srv := rpc.Server{Observe: o, Allow: map[string][]string{quotaService: {"edge"}}}
	client := quotav1.NewQuotaServiceClient(srv.Local("edge", o, func(r grpc.ServiceRegistrar) {
		quotav1.RegisterQuotaServiceServer(r, service{seen: seen})
	}))
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	if _, err := client.Peek(trace.ContextWithSpanContext(t.Context(), parent), peek("")); err != nil {
		t.Fatal(err)
	}
	if got := trace.SpanContextFromContext(<-seen); got.TraceID() != parent.TraceID() || got.IsSampled() {
		t.Errorf("the server is in trace %v, sampled %t", got.TraceID(), got.IsSampled())
	}
	if n := len(spans.Started()); n != 0 {
		t.Errorf("%d spans were started", n)
	}
}

func TestSpanOfAStreamEndsWithTheStream(t *testing.T) {
	t.Parallel()
	o, _, spans, _ := observed(t)
	srv := rpc.Server{Observe: o, Allow: map[string][]string{"sallyport.executor.v1.ExecutorService": {"edge"}}}
	gone := make(chan error, 1)
	client := executorv1.NewExecutorServiceClient(srv.Local("edge", o, func(r grpc.ServiceRegistrar) {
		executorv1.RegisterExecutorServiceServer(r, caller{gone: gone})
	}))
	s, err := client.Call(t.Context(), callOf("x"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = s.Recv()
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	for _, span := range spans.Ended() {
		if code := codeOf(span); code != "OK" {
			t.Errorf("the %s span of a stream that went well has the code %s", span.SpanKind(), code)
		}
	}
	if n := len(spans.Ended()); n != 2 {
		t.Errorf("%d spans have ended, want 2", n)
	}

	ctx, cancel := context.WithCancel(t.Context())
	if s, err = client.Call(ctx, callOf("wait")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel() // the client leaves without another word
	<-gone
}
