package audit_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-mcp/sallyport/pkg/audit"
	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/bustest"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	service "github.com/sallyport-mcp/sallyport/services/audit"
)

// system is the audit service with a stream of its own.
type system struct {
	t      testing.TB
	bus    *bus.Bus
	dir    string
	tracer trace.Tracer

	svc    *service.Service
	client auditv1.AuditServiceClient
	stop   func() // ends the service and waits for it
}

func newSystem(t *testing.T) *system {
	t.Helper()
	t.Parallel()
	return begin(t)
}

func begin(t testing.TB) *system {
	t.Helper()
	s := &system{t: t, bus: bustest.New(t), dir: t.TempDir()}
	s.start()
	return s
}

// start runs the service with the index that is there.
func (s *system) start() {
	s.t.Helper()
	cfg := service.DefaultConfig()
	cfg.Dir = s.dir
	svc, err := service.New(service.Options{
		Config: cfg, Bus: s.bus, Tracer: s.tracer,
		Log: slog.New(slog.NewTextHandler(s.t.Output(), nil)),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(ctx) }()
	stopped := false
	s.svc = svc
	s.client = auditv1.NewAuditServiceClient(rpctest.Serve(s.t, svc.Register, rpctest.As("sallyport")))
	s.stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		if err := <-ended; err != nil {
			s.t.Errorf("Run: %v", err)
		}
	}
	s.t.Cleanup(s.stop)
	s.until("the index is open", func() bool {
		_, err := s.client.Query(s.t.Context(), &auditv1.QueryRequest{})
		return err == nil
	})
}

// until asks again and again for what no call can wait for.
func (s *system) until(what string, holds func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-ctx.Done():
			s.t.Fatalf("waited in vain until %s", what)
		}
	}
}

// record publishes events through a recorder, as services do.
func (s *system) record(events ...*auditv1.Event) {
	s.t.Helper()
	r, err := audit.NewRecorder(audit.Options{
		Publisher: s.bus.AuditPublisher(), Service: "executor", Node: "n1", Config: audit.DefaultConfig(),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	for _, e := range events {
		if err := r.Record(s.t.Context(), e); err != nil {
			s.t.Fatal(err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		s.t.Fatal(err)
	}
}

// publish puts bytes on the stream, as anybody with a connection could.
func (s *system) publish(data []byte) {
	s.t.Helper()
	if err := s.bus.AuditPublisher().Publish(s.t.Context(), data, audit.NewID()); err != nil {
		s.t.Fatal(err)
	}
}

// wait returns when as many events as this are indexed.
func (s *system) wait(events int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	tail, err := s.client.Tail(ctx, &auditv1.TailRequest{Backlog: 1000})
	if err != nil {
		s.t.Fatal(err)
	}
	for n := range events {
		if _, err := tail.Recv(); err != nil {
			s.t.Fatalf("waited for %d events, got %d: %v", events, n, err)
		}
	}
}

// query returns the targets of all that match, newest first.
func (s *system) query(f *auditv1.Filter) (targets []string) {
	s.t.Helper()
	resp, err := s.client.Query(s.t.Context(), &auditv1.QueryRequest{Filter: f, PageSize: 1000})
	if err != nil {
		s.t.Fatal(err)
	}
	return targetsOf(resp.GetEvents())
}

func (s *system) verify() *auditv1.VerifyResponse {
	s.t.Helper()
	stream, err := s.client.Verify(s.t.Context(), &auditv1.VerifyRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	for {
		resp, err := stream.Recv()
		if err != nil {
			s.t.Fatal(err)
		}
		if resp.GetDone() {
			return resp
		}
	}
}

func targetsOf(events []*auditv1.Event) (targets []string) {
	for _, e := range events {
		targets = append(targets, e.GetTarget())
	}
	return targets
}

// epoch is when the events of the tests happened, one each second.
func epoch(second int) *timestamppb.Timestamp {
	return timestamppb.New(time.Date(2026, 3, 1, 12, 0, second, 0, time.UTC))
}

// event returns an intent at a second of the epoch.
func event(second int, target string) *auditv1.Event {
	return &auditv1.Event{
		Id: fmt.Sprintf("01KJKZ%020d", second), Time: epoch(second), Service: "executor",
		DecisionId: fmt.Sprintf("d_%d", second), Actor: &auditv1.Actor{Principal: "key:a", Tenant: "acme"},
		Action: "tools/call", Target: target,
		What: &auditv1.Event_Intent{Intent: &auditv1.Intent{Service: "basics"}},
	}
}

// forge returns the bytes of a batch that follows previous.
func forge(t *testing.T, producer string, sequence uint64, previous []byte, events ...*auditv1.Event) []byte {
	t.Helper()
	b := &auditv1.Batch{Producer: producer, Sequence: sequence, Events: events}
	if previous != nil {
		sum := sha256.Sum256(previous)
		b.Previous = sum[:]
	}
	raw, err := proto.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
