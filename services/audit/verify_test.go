package audit_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/bustest"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

func TestVerifyFindsNothingWhereAllIsWell(t *testing.T) {
	s := newSystem(t)
	s.record(event(1, "a"), event(2, "b"))
	s.record(event(3, "c"))
	once := forge(t, "p", 1, nil, event(4, "d"))
	s.publish(once)
	s.publish(once) // again after a lost acknowledgement
	s.publish(forge(t, "p", 2, once, event(5, "e")))
	s.wait(5)
	got := s.verify()
	want := &auditv1.VerifyResponse{Done: true, Batches: 5, Events: 5, Producers: 3}
	// What a recorder packs together is its affair.
	got.Batches = min(got.Batches, want.Batches)
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("Verify (-want +got):\n%s", diff)
	}
}

func TestVerifyFindsNothingInAnEmptyStream(t *testing.T) {
	s := newSystem(t)
	s.until("the stream is there", func() bool { return s.svc.Check(t.Context()) == nil })
	want := &auditv1.VerifyResponse{Done: true}
	if diff := cmp.Diff(want, s.verify(), protocmp.Transform()); diff != "" {
		t.Errorf("Verify (-want +got):\n%s", diff)
	}
}

func TestVerifyFindsWhatWasDoneToTheStream(t *testing.T) {
	one := forge(t, "p", 1, nil, event(1, "a"))
	two := forge(t, "p", 2, one, event(2, "b"))
	three := forge(t, "p", 3, two, event(3, "c"))
	changed := forge(t, "p", 2, one, event(2, "x"))
	tests := []struct {
		name     string
		messages [][]byte
		want     []string
	}{
		{"a batch is missing within", [][]byte{one, three}, []string{"batch 2 is missing"}},
		{"the first batches are missing", [][]byte{three}, []string{"batch 1 to 2 are missing"}},
		{"a batch was changed", [][]byte{one, changed, three}, []string{"batch 3 does not follow batch 2 as it stands here: one of them was changed"}},
		{"batches were swapped", [][]byte{two, one, three}, []string{"batch 1 is missing", "batch 1 stands after batch 2"}},
		{"a batch was forged behind the true one", [][]byte{one, two, changed, three}, []string{"batch 2 stands after batch 2", `event "01KJKZ00000000000000000002" is another one in the index`}},
		{"a batch hides that one was before it", [][]byte{one, forge(t, "p", 2, nil, event(2, "b"))}, []string{"batch 2 does not name the batch before it"}},
		{"a chain was cut short and begun anew", [][]byte{forge(t, "p", 1, two, event(2, "b"))}, []string{"batch 1 names a batch before it"}},
		{"one id stands for two events", [][]byte{one, forge(t, "q", 1, nil, event(1, "z"))}, []string{`event "01KJKZ00000000000000000001" is another one in the index`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSystem(t)
			for _, m := range tt.messages {
				s.publish(m)
			}
			s.publish(forge(t, "end", 1, nil, event(99, "end")))
			s.until("all is indexed", func() bool { return slices.Contains(s.query(nil), "end") })
			var got []string
			resp := s.verify()
			for _, f := range resp.GetFindings() {
				got = append(got, f.GetProblem())
				if f.GetStreamSequence() == 0 != strings.Contains(f.GetProblem(), "missing") {
					t.Errorf("got finding %v, want it to name the message unless something is missing", f)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if resp.GetFindingsTotal() != uint64(len(tt.want)) || resp.GetEvents() != uint64(len(tt.messages)+1) {
				t.Errorf("got %v", resp)
			}
		})
	}
}

func TestVerifyFindsWhatWasDoneToTheIndex(t *testing.T) {
	const id = "01KJKZ00000000000000000002"
	tests := []struct {
		name      string
		statement string
		want      []string
	}{
		{
			"an event was deleted", "DELETE FROM events WHERE target = 'b'",
			[]string{`event "` + id + `" of message 1 is missing from the index`},
		},
		{
			"an event was changed", "UPDATE events SET event = (SELECT event FROM events WHERE target = 'a') WHERE target = 'b'",
			[]string{`event "` + id + `" is another one in the index`},
		},
		{
			"an event was added", "INSERT INTO events SELECT 90, time + 1, 'X', sequence, kind, verdict, reason, decision, principal, tenant, action, target, trace, event FROM events WHERE target = 'b'",
			[]string{`the index has an event "X" of message 1 that the stream does not have`},
		},
		{
			"all were deleted", "DELETE FROM events",
			[]string{
				`event "01KJKZ00000000000000000001" of message 1 is missing from the index`,
				`event "` + id + `" of message 1 is missing from the index`,
				`event "01KJKZ00000000000000000003" of message 2 is missing from the index`,
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSystem(t)
			first := forge(t, "p", 1, nil, event(1, "a"), event(2, "b"))
			s.publish(first)
			s.publish(forge(t, "p", 2, first, event(3, "c")))
			s.wait(3)
			s.stop()
			execute(t, filepath.Join(s.dir, "index.db"), tt.statement)
			s.start()
			var got []string
			for _, f := range s.verify().GetFindings() {
				got = append(got, f.GetProblem())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVerifyReportsOnceThatTheBeginningOfTheStreamIsGone(t *testing.T) {
	s := newSystem(t)
	s.stop()
	s.bus = bustest.New(t)
	// The stream of the system refuses to be cut; this one begins at message 5.
	_, err := s.bus.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{
		Name: bus.AuditStream, Subjects: []string{bus.SubjectAudit}, FirstSeq: 5, Discard: jetstream.DiscardNew,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.start()
	late := forge(t, "p", 7, []byte("some batch"), event(1, "a"))
	s.publish(late)
	s.publish(forge(t, "q", 3, []byte("some batch"), event(2, "b")))
	s.publish(forge(t, "p", 8, late, event(3, "c")))
	s.publish(forge(t, "q", 5, []byte("some batch"), event(4, "d")))
	s.wait(4)
	var got []string
	for _, f := range s.verify().GetFindings() {
		got = append(got, f.GetProblem())
	}
	if diff := cmp.Diff([]string{"message 1 to 4 are missing", "batch 4 is missing"}, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestVerifyCountsAllFindingsAndShowsAHundred(t *testing.T) {
	s := newSystem(t)
	for range 120 {
		s.publish([]byte("x"))
	}
	s.publish(forge(t, "end", 1, nil, event(1, "end")))
	s.wait(1)
	resp := s.verify()
	if len(resp.GetFindings()) != 100 || resp.GetFindingsTotal() != 120 {
		t.Errorf("got %d findings of %d, want 100 of 120", len(resp.GetFindings()), resp.GetFindingsTotal())
	}
}
