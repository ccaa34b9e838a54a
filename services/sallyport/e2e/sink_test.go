//go:build e2e

package e2e_test

import (
	"context"
	"encoding/hex"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// span is what the test needs of a span.
type span struct {
	id, parent, trace string
	service, name     string
	start, end        time.Time
}

// sink is an OTLP receiver, as a collector would be, that keeps what it gets.
type sink struct {
	collectorv1.UnimplementedTraceServiceServer

	more chan struct{} // holds one token when there is something new

	mu    sync.Mutex
	spans []span
}

// startSink serves a sink on loopback for the test's time and returns its URL.
func startSink(t *testing.T) (*sink, string) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{more: make(chan struct{}, 1)}
	srv := grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(srv, s)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-served; err != nil {
			t.Errorf("sink: %v", err)
		}
	})
	return s, "http://" + lis.Addr().String()
}

// Export implements [collectorv1.TraceServiceServer].
func (s *sink) Export(_ context.Context, req *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range req.GetResourceSpans() {
		service := serviceName(of)
		for _, scope := range of.GetScopeSpans() {
			for _, sp := range scope.GetSpans() {
				s.spans = append(s.spans, span{
					id: hex.EncodeToString(sp.GetSpanId()), parent: hex.EncodeToString(sp.GetParentSpanId()),
					trace: hex.EncodeToString(sp.GetTraceId()), service: service, name: sp.GetName(),
					start: time.Unix(0, int64(sp.GetStartTimeUnixNano())), end: time.Unix(0, int64(sp.GetEndTimeUnixNano())),
				})
			}
		}
	}
	select {
	case s.more <- struct{}{}:
	default:
	}
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

func serviceName(of *tracev1.ResourceSpans) string {
	for _, a := range of.GetResource().GetAttributes() {
		if a.GetKey() == "service.name" {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// trace returns the spans of a trace, in the order in which they began.
func (s *sink) trace(id string) []span {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []span
	for _, sp := range s.spans {
		if sp.trace == id {
			out = append(out, sp)
		}
	}
	slices.SortStableFunc(out, func(a, b span) int { return a.start.Compare(b.start) })
	return out
}
