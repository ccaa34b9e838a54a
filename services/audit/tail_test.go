package audit_test

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

func receive(t *testing.T, tail grpc.ServerStreamingClient[auditv1.TailResponse]) string {
	t.Helper()
	resp, err := tail.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetEvent().GetTarget()
}

func TestTailSendsTheBacklogAndThenWhatComes(t *testing.T) {
	tests := []struct {
		name    string
		backlog uint32
		filter  *auditv1.Filter
		want    []string // of the past; after it come "a9" and "b9"
	}{
		{"without a backlog only what comes", 0, nil, nil},
		{"the newest of the backlog, oldest first", 2, nil, []string{"b1", "a2"}},
		{"all if there are not so many", 100, nil, []string{"a1", "b1", "a2"}},
		{"only what matches", 2, &auditv1.Filter{Targets: []string{"a*"}}, []string{"a1", "a2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSystem(t)
			s.record(event(1, "a1"), event(2, "b1"), event(3, "a2"))
			s.wait(3)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			tail, err := s.client.Tail(ctx, &auditv1.TailRequest{Backlog: tt.backlog, Filter: tt.filter})
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range tt.want {
				if got := receive(t, tail); got != want {
					t.Errorf("got %s of the backlog, want %s", got, want)
				}
			}
			if len(tt.want) == 0 {
				// Nothing tells when a tail without a backlog has begun, so
				// something new comes until it is seen.
				seen := make(chan string, 1)
				go func() {
					if resp, err := tail.Recv(); err == nil {
						seen <- resp.GetEvent().GetTarget()
					}
				}()
				n := 10
				s.until("the tail has begun", func() bool {
					select {
					case got := <-seen:
						if got[0] != 'n' {
							t.Errorf("got %s of the past, want only what is new", got)
						}
						return true
					default:
						s.record(event(n, "n"))
						n++
						return false
					}
				})
				return
			}
			s.record(event(0, "a9"), event(9, "b9")) // one is older by its time, and new all the same
			want := []string{"a9", "b9"}
			if tt.filter != nil {
				want = want[:1]
			}
			for _, want := range want {
				if got := receive(t, tail); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
		})
	}
}

func TestASlowTailLosesNothing(t *testing.T) {
	s := newSystem(t)
	tail, err := s.client.Tail(t.Context(), &auditv1.TailRequest{Backlog: 1000})
	if err != nil {
		t.Fatal(err)
	}
	s.record(event(0, "first"))
	receive(t, tail)
	const events = 3000
	var all []*auditv1.Event
	for i := range events {
		all = append(all, event(i+1, fmt.Sprint(i)))
	}
	s.record(all...)
	s.until("all are indexed", func() bool { return len(s.query(&auditv1.Filter{Since: epoch(events)})) == 1 })
	for i := range events {
		if got := receive(t, tail); got != fmt.Sprint(i) {
			t.Fatalf("got event %s, want %d", got, i)
		}
	}
}

func TestTailEndsWithTheServiceAndWithItsClient(t *testing.T) {
	s := newSystem(t)
	s.record(event(1, "a"))
	s.wait(1)
	ctx, cancel := context.WithCancel(t.Context())
	gone, err := s.client.Tail(ctx, &auditv1.TailRequest{Backlog: 1})
	if err != nil {
		t.Fatal(err)
	}
	receive(t, gone)
	cancel()
	if _, err := gone.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("after the client went away: got error %v, want CANCELED", err)
	}

	tail, err := s.client.Tail(t.Context(), &auditv1.TailRequest{Backlog: 1})
	if err != nil {
		t.Fatal(err)
	}
	receive(t, tail)
	s.stop()
	_, err = tail.Recv()
	if status.Code(err) != codes.Unavailable || !fault.Is(err, auditv1.ErrorReason_ERROR_REASON_INDEX_UNAVAILABLE) {
		t.Errorf("after the service stopped: got error %v, want UNAVAILABLE", err)
	}
}
