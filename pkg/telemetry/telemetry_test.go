package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	colmetric "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/telemetry"
)

// sink is an OTLP receiver.
type sink struct {
	coltrace.UnimplementedTraceServiceServer
	got chan *coltrace.ExportTraceServiceRequest
}

func (s sink) Export(_ context.Context, req *coltrace.ExportTraceServiceRequest) (*coltrace.ExportTraceServiceResponse, error) {
	s.got <- req
	return &coltrace.ExportTraceServiceResponse{}, nil
}

func TestTracesOfEachRoleGoWhereTheEnvironmentSays(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	s := sink{got: make(chan *coltrace.ExportTraceServiceRequest, 16)}
	coltrace.RegisterTraceServiceServer(srv, s)
	go func() { _ = srv.Serve(lis) }() // ends with Stop
	t.Cleanup(srv.Stop)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+lis.Addr().String())
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	t.Setenv("OTEL_METRICS_EXPORTER", "none")

	tel, err := telemetry.Start(t.Context(), "1.2.3", "node-1", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, outer := tel.Tracer("edge").Start(t.Context(), "outer")
	_, inner := tel.Tracer("auth").Start(ctx, "inner")
	inner.End()
	outer.End()
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(s.got)
	services := make(map[string]string)
	for req := range s.got {
		for _, rs := range req.GetResourceSpans() {
			for _, a := range rs.GetResource().GetAttributes() {
				if a.GetKey() == "service.name" {
					for _, ss := range rs.GetScopeSpans() {
						for _, span := range ss.GetSpans() {
							services[a.GetValue().GetStringValue()] = span.GetName()
						}
					}
				}
			}
		}
	}
	if services["sallyport-edge"] != "outer" || services["sallyport-auth"] != "inner" {
		t.Errorf("received %v", services)
	}
}

// points is an OTLP receiver of metrics.
type points struct {
	colmetric.UnimplementedMetricsServiceServer
	got chan *colmetric.ExportMetricsServiceRequest
}

func (p points) Export(_ context.Context, req *colmetric.ExportMetricsServiceRequest) (*colmetric.ExportMetricsServiceResponse, error) {
	p.got <- req
	return &colmetric.ExportMetricsServiceResponse{}, nil
}

func TestMetricsGoWhereTheEnvironmentSays(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	p := points{got: make(chan *colmetric.ExportMetricsServiceRequest, 16)}
	colmetric.RegisterMetricsServiceServer(srv, p)
	go func() { _ = srv.Serve(lis) }() // ends with Stop
	t.Cleanup(srv.Stop)
	t.Setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://"+lis.Addr().String())
	t.Setenv("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc")

	tel, err := telemetry.Start(t.Context(), "1.2.3", "node-1", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	counter, err := tel.Meter("edge").Int64Counter("sallyport.test.things")
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(t.Context(), 1)
	if err := tel.Shutdown(t.Context()); err != nil { // sends what there is
		t.Fatal(err)
	}
	for _, rm := range (<-p.got).GetResourceMetrics() {
		for _, sm := range rm.GetScopeMetrics() {
			for _, m := range sm.GetMetrics() {
				if m.GetName() == "sallyport.test.things" {
					return
				}
			}
		}
	}
	t.Error("the counter was not received")
}

func TestUnknownProtocolIsAnError(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon")
	if _, err := telemetry.Start(t.Context(), "1", "n", slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "carrier-pigeon") {
		t.Errorf("got %v", err)
	}
}

func TestLogsCarryTheTraceAndMetricsAreServed(t *testing.T) {
	tel, err := telemetry.Start(t.Context(), "1.2.3", "node-1", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, span := tel.Tracer("edge").Start(t.Context(), "x")
	if span.IsRecording() || !span.SpanContext().IsValid() {
		t.Error("without an exporter a span has ids and records nothing")
	}
	var b bytes.Buffer
	slog.New(telemetry.Logs(slog.NewJSONHandler(&b, nil))).With("role", "edge").InfoContext(ctx, "hello")
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil || line["trace_id"] != span.SpanContext().TraceID().String() || line["role"] != "edge" {
		t.Errorf("logged %s (%v)", b.String(), err)
	}
	counter, err := tel.Meter("edge").Int64Counter("sallyport.test.things")
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(ctx, 3)
	w := httptest.NewRecorder()
	tel.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if !strings.Contains(w.Body.String(), "sallyport_test_things_total 3") {
		t.Errorf("metrics:\n%s", w.Body.String())
	}
}
