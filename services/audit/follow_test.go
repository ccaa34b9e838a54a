package audit_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/bustest"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

func TestARestartResumesWhereTheIndexEnds(t *testing.T) {
	s := newSystem(t)
	s.record(event(1, "a"))
	s.wait(1)
	s.stop()
	s.record(event(2, "b"), event(3, "c"))
	s.start()
	s.wait(3)
	if diff := cmp.Diff([]string{"c", "b", "a"}, s.query(nil)); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
}

func TestADeletedIndexIsMadeAgainFromTheStream(t *testing.T) {
	s := newSystem(t)
	s.record(event(1, "a"), event(2, "b"))
	s.wait(2)
	s.stop()
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.wait(2)
	if diff := cmp.Diff([]string{"b", "a"}, s.query(nil)); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
}

func TestADamagedIndexIsSetAsideAndMadeAgain(t *testing.T) {
	tests := []struct {
		name   string
		damage func(t *testing.T, path string)
	}{
		{"a file that is no database", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("garbage ", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"an index of a later version", func(t *testing.T, path string) { execute(t, path, "PRAGMA user_version = 99") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSystem(t)
			s.record(event(1, "a"))
			s.wait(1)
			s.stop()
			tt.damage(t, filepath.Join(s.dir, "index.db"))
			s.start()
			s.wait(1)
			old, err := filepath.Glob(filepath.Join(s.dir, "index.*Z.db"))
			if err != nil || len(old) != 1 {
				t.Errorf("got %q, %v, want the damaged file under another name", old, err)
			}
		})
	}
}

// execute changes an index behind the service's back.
func execute(t *testing.T, path, statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(statement, args...); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAnIndexOfAnotherStreamIsSetAside(t *testing.T) {
	s := newSystem(t)
	s.record(event(1, "old"), event(2, "old too"))
	s.wait(2)
	s.stop()
	s.bus = bustest.New(t)
	s.record(event(3, "new"))
	s.start()
	s.until("the new stream is indexed", func() bool {
		// Refused while the old index is set aside.
		resp, err := s.client.Query(t.Context(), &auditv1.QueryRequest{})
		return err == nil && len(resp.GetEvents()) == 1 && resp.GetEvents()[0].GetTarget() == "new"
	})
	old, err := filepath.Glob(filepath.Join(s.dir, "index.*Z.db"))
	if err != nil || len(old) != 1 {
		t.Errorf("got %q, %v, want the index of the lost stream kept under another name", old, err)
	}
}

func TestAStreamThatLostItsEndIsNotTakenForIndexed(t *testing.T) {
	s := newSystem(t)
	s.record(event(1, "a"))
	s.wait(1)
	s.stop()
	// As if a second message had been acknowledged, indexed, and lost, and
	// another had come in its place before anybody looked.
	execute(t, filepath.Join(s.dir, "index.db"), "UPDATE head SET sequence = 2")
	s.record(event(2, "b"))
	s.start()
	s.until("both are indexed", func() bool {
		resp, err := s.client.Query(t.Context(), &auditv1.QueryRequest{})
		return err == nil && len(resp.GetEvents()) == 2
	})
}

func TestTheIndexOutlivesTheServerAndFollowsItWhenItIsBack(t *testing.T) {
	t.Parallel()
	nats := t.TempDir()
	s := &system{t: t, bus: bustest.Open(t, nats), dir: t.TempDir()}
	s.start()
	s.record(event(1, "a"))
	s.wait(1)
	if err := s.svc.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	s.stop()

	cfg := bus.DefaultConfig()
	cfg.Embedded, cfg.URL = false, "nats://127.0.0.1:1" // nobody listens there
	away, err := bus.Open(cfg, "test", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(away.Close)
	stream := s.bus
	s.bus = away
	s.start()
	if diff := cmp.Diff([]string{"a"}, s.query(nil)); diff != "" {
		t.Errorf("targets without a server (-want +got):\n%s", diff)
	}
	if err := s.svc.Check(t.Context()); err == nil {
		t.Error("Check without a server: got nil, want it not ready")
	}
	s.stop()

	stream.Close()
	s.bus = bustest.Open(t, nats)
	s.start()
	s.record(event(2, "b"))
	s.wait(2)
	if old, _ := filepath.Glob(filepath.Join(s.dir, "index.*Z.db")); len(old) > 0 {
		t.Errorf("got %q, want the index still to belong to the stream of the restarted server", old)
	}
}

func TestAnEventIsIndexedOnceHoweverOftenItComes(t *testing.T) {
	s := newSystem(t)
	batch := forge(t, "p", 1, nil, event(1, "a"), event(2, "b"))
	s.publish(batch)
	s.publish(batch) // under another id, as after an outage longer than ids are remembered
	s.publish(forge(t, "q", 1, nil, event(2, "b"), event(3, "c")))
	s.wait(3)
	if diff := cmp.Diff([]string{"c", "b", "a"}, s.query(nil)); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
}

func TestMalformedMessagesDoNotHoldUpTheIndex(t *testing.T) {
	s := newSystem(t)
	noTime := event(1, "no time")
	noTime.Time = nil
	farTime := event(1, "far time")
	farTime.Time = &timestamppb.Timestamp{Seconds: 1 << 50}
	shortID := event(1, "short id")
	shortID.Id = "x"
	nothing := event(1, "nothing happened")
	nothing.What = nil
	var many []*auditv1.Event
	for range 1025 {
		many = append(many, event(1, "too many"))
	}
	messages := [][]byte{
		{},
		[]byte("\x00\xff not protobuf at all"),
		forge(t, "p", 1, nil),
		forge(t, "", 1, nil, event(1, "no producer")),
		forge(t, "p", 0, nil, event(1, "no sequence")),
		forge(t, strings.Repeat("p", 129), 1, nil, event(1, "long producer")),
		forge(t, "p", 1, nil, many...),
		append(forge(t, "p", 1, nil, event(1, "cut off")), 0x22, 0x7f),
		forge(t, "p", 1, nil, noTime, farTime, shortID, nothing, event(2, "good")),
	}
	for _, m := range messages {
		s.publish(m)
	}
	s.publish(forge(t, "p", 2, messages[len(messages)-1], event(3, "after")))
	s.wait(2)
	if diff := cmp.Diff([]string{"after", "good"}, s.query(nil)); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	resp, err := s.client.Query(t.Context(), &auditv1.QueryRequest{})
	if err != nil || resp.GetLag() != 0 {
		t.Errorf("got lag %d, %v, want none", resp.GetLag(), err)
	}
	v := s.verify()
	if v.GetFindingsTotal() != 12 {
		t.Errorf("Verify: got %d findings, want one for each of 8 messages and 4 events:\n%v", v.GetFindingsTotal(), v.GetFindings())
	}
}

// spans is a tracer that notes what is started.
type spans struct {
	noop.Tracer
	mu      sync.Mutex
	started []string
}

func (s *spans) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	cfg := trace.NewSpanStartConfig(opts...)
	parent := trace.SpanContextFromContext(ctx)
	count := int64(0)
	for _, a := range cfg.Attributes() {
		if a.Key == "messaging.batch.message_count" {
			count = a.Value.AsInt64()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = append(s.started, fmt.Sprintf("%s %v %d under %s/%s remote=%v", name, cfg.SpanKind(), count, parent.TraceID(), parent.SpanID(), parent.IsRemote()))
	return s.Tracer.Start(ctx, name, opts...)
}

func TestEachSampledCallHasASpanOfTheIndexInItsTrace(t *testing.T) {
	s := newSystem(t)
	s.stop()
	tracer := &spans{}
	s.tracer = tracer
	s.start()
	const sampled, other, dropped = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-01",
		"00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	var events []*auditv1.Event
	for i, parent := range []string{sampled, sampled, other, dropped, "", "00-" + strings.Repeat("z", 32) + "-00f067aa0ba902b7-01"} {
		e := event(i, "x")
		e.Traceparent = parent
		events = append(events, proto.CloneOf(e))
	}
	s.publish(forge(t, "p", 1, nil, events...))
	s.publish(forge(t, "q", 1, nil, event(10, "last")))
	s.wait(len(events) + 1)
	s.stop() // the span ends after the events are seen

	want := []string{
		"process sallyport.audit.events consumer 2 under 4bf92f3577b34da6a3ce929d0e0e4736/00f067aa0ba902b7 remote=true",
		"process sallyport.audit.events consumer 1 under 4bf92f3577b34da6a3ce929d0e0e4736/00f067aa0ba902b8 remote=true",
	}
	tracer.mu.Lock()
	defer tracer.mu.Unlock()
	got := map[string]bool{}
	for _, span := range tracer.started {
		got[span] = true
	}
	if len(tracer.started) != len(want) || !got[want[0]] || !got[want[1]] {
		t.Errorf("got spans %q, want %q", tracer.started, want)
	}
}
