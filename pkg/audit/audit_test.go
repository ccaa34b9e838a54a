package audit_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/audit"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

// stream is an audit stream in memory. Each attempt is sent to attempts, if
// that is set, and waits for an answer on answers, if that is set.
type stream struct {
	attempts chan struct{}
	answers  chan error

	mu      sync.Mutex
	bytes   [][]byte
	ids     []string
	refused int
}

func (s *stream) Publish(ctx context.Context, batch []byte, id string) error {
	if s.attempts != nil {
		s.attempts <- struct{}{}
	}
	var err error
	if s.answers != nil {
		select {
		case err = <-s.answers:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes, s.ids = append(s.bytes, slices.Clone(batch)), append(s.ids, id)
	if err != nil {
		s.refused++
	}
	return err
}

func (s *stream) batches(t *testing.T) []*auditv1.Batch {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*auditv1.Batch
	for _, raw := range s.bytes {
		b := &auditv1.Batch{}
		if err := proto.Unmarshal(raw, b); err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

func targets(b *auditv1.Batch) (all []string) {
	for _, e := range b.GetEvents() {
		all = append(all, e.GetTarget())
	}
	return all
}

func newRecorder(t *testing.T, s audit.Publisher, cfg audit.Config) *audit.Recorder {
	t.Helper()
	r, err := audit.NewRecorder(audit.Options{Publisher: s, Service: "executor", Node: "n1", Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// start runs r and returns a function that stops it and returns what Run did.
func start(t *testing.T, r *audit.Recorder) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return func() error {
		cancel()
		return <-ended
	}
}

func event(target string) *auditv1.Event {
	return &auditv1.Event{Action: "tools/call", Target: target, What: &auditv1.Event_Intent{Intent: &auditv1.Intent{}}}
}

func TestAFullQueueRefuses(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 2000)
	tests := []struct {
		name string
		cfg  func(*audit.Config)
		fits int
	}{
		{"when there are as many events as may be", func(c *audit.Config) { c.Queue = 5 }, 5},
		{"when the events fill the memory allowed", func(c *audit.Config) { c.QueueBytes = audit.MaxEventBytes }, 30},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := audit.DefaultConfig()
			tt.cfg(&cfg)
			s := &stream{answers: make(chan error)}
			r := newRecorder(t, s, cfg)
			stop := start(t, r)
			fill := func() (n int, err error) {
				for ; err == nil; n++ {
					e := event("x")
					e.GetIntent().Arguments = audit.Arguments(make([]byte, 32), large)
					err = r.Record(t.Context(), e)
				}
				return n - 1, err
			}
			n, err := fill()
			if n != tt.fits {
				t.Errorf("took %d events, want %d", n, tt.fits)
			}
			wantRefusal(t, err, audit.ErrFull)
			close(s.answers) // all is acknowledged from now on
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			var published int
			for _, b := range s.batches(t) {
				published += len(b.GetEvents())
			}
			if published != n {
				t.Errorf("published %d events, want the %d that were taken", published, n)
			}
		})
	}
}

func TestAQueueThatWasFullTakesEventsAgainOnceTheStreamIsBack(t *testing.T) {
	t.Parallel()
	cfg := audit.DefaultConfig()
	cfg.Queue = 1
	s := &stream{attempts: make(chan struct{}), answers: make(chan error)}
	r := newRecorder(t, s, cfg)
	stop := start(t, r)
	ended := make(chan error, 1)
	go func() { ended <- r.Commit(t.Context(), event("a")) }()
	<-s.attempts
	wantRefusal(t, r.Record(t.Context(), event("b")), audit.ErrFull)
	s.answers <- nil
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := r.Record(t.Context(), event("c")); err != nil {
		t.Errorf("after the acknowledgement: %v", err)
	}
	<-s.attempts
	s.answers <- nil
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestCommitWaitsForTheAcknowledgement(t *testing.T) {
	t.Parallel()
	s := &stream{attempts: make(chan struct{}), answers: make(chan error)}
	r := newRecorder(t, s, audit.DefaultConfig())
	stop := start(t, r)

	done := make(chan error, 1)
	go func() { done <- r.Commit(t.Context(), event("a")) }()
	<-s.attempts
	select {
	case err := <-done:
		t.Fatalf("Commit returned %v before the acknowledgement", err)
	default:
	}
	s.answers <- nil
	if err := <-done; err != nil {
		t.Errorf("Commit: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- r.Commit(ctx, event("b")) }()
	<-s.attempts
	cancel()
	err := <-done
	wantRefusal(t, err, audit.ErrUnacknowledged)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it to say that the context ended", err)
	}
	s.answers <- nil // the event stayed queued all the same
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if b := s.batches(t); len(b) != 2 || targets(b[1])[0] != "b" {
		t.Errorf("got batches %v, want the event that nobody waited for too", b)
	}
}

func TestTheRecorderFillsInWhatItKnows(t *testing.T) {
	t.Parallel()
	s := &stream{}
	r := newRecorder(t, s, audit.DefaultConfig())
	stop := start(t, r)
	span := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID:    trace.TraceID{0x4b, 0xf9, 15: 0x36},
		SpanID:     trace.SpanID{0x00, 0xf0, 7: 0xb7},
		TraceFlags: trace.FlagsSampled,
	})
	if err := r.Record(trace.ContextWithSpanContext(t.Context(), span), event("x")); err != nil {
		t.Fatal(err)
	}
	given := event("y")
	given.Id, given.Service, given.Node, given.Traceparent = audit.NewID(), "cli", "laptop", "00-a"
	id := given.Id
	if err := r.Record(t.Context(), given); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	var events []*auditv1.Event
	for _, b := range s.batches(t) {
		events = append(events, b.GetEvents()...)
	}
	first, second := events[0], events[1]
	const parent = "00-4bf90000000000000000000000000036-00f00000000000b7-01"
	if first.GetTraceparent() != parent || first.GetService() != "executor" || first.GetNode() != "n1" ||
		len(first.GetId()) != 26 || time.Since(first.GetTime().AsTime()) > time.Minute {
		t.Errorf("got %v, want it filled in", first)
	}
	if second.GetId() != id || second.GetService() != "cli" || second.GetNode() != "laptop" || second.GetTraceparent() != "00-a" {
		t.Errorf("got %v, want it left as it was", second)
	}
}

// wantRefusal checks an error for callers and for this process.
func wantRefusal(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
	if status.Code(err) != codes.Unavailable || !fault.Is(err, auditv1.ErrorReason_ERROR_REASON_STREAM_UNAVAILABLE) {
		t.Errorf("got error %v, want UNAVAILABLE and STREAM_UNAVAILABLE", err)
	}
}

func BenchmarkRecord(b *testing.B) {
	cfg := audit.DefaultConfig()
	cfg.Queue, cfg.QueueBytes = 1<<20, 1<<30
	r, err := audit.NewRecorder(audit.Options{Publisher: &discard{}, Service: "executor", Node: "n1", Config: cfg})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: 1})
	traced := trace.ContextWithSpanContext(b.Context(), span)
	decision, hash := audit.NewDecisionID(), make([]byte, 32)
	actor := &auditv1.Actor{Principal: "key:7Xk2", CredentialId: "7Xk2", Tenant: "acme", Roles: []string{"analyst"}, Address: "192.0.2.1", Client: "claude-code/2.1", ContextId: "4bf92f3577b34da6a3ce929d0e0e4736"}
	b.ReportAllocs()
	for b.Loop() {
		e := &auditv1.Event{
			DecisionId: decision, Actor: actor, Action: "tools/call", Target: "run_sql_query",
			What: &auditv1.Event_Intent{Intent: &auditv1.Intent{
				Service:   "sqlquery",
				Arguments: audit.Arguments(hash, "{query: string(42)}"),
			}},
		}
		if err := r.Record(traced, e); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

type discard struct{}

func (*discard) Publish(context.Context, []byte, string) error { return nil }
