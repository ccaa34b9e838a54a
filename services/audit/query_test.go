package audit_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	service "github.com/sallyport-mcp/sallyport/services/audit"
)

func TestQueryFindsWhatWasRecorded(t *testing.T) {
	s := newSystem(t)
	const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	decision := event(1, "run_sql_query")
	decision.Actor = &auditv1.Actor{Principal: "user:anna", Tenant: "globex"}
	decision.Traceparent = "00-" + traceID + "-00f067aa0ba902b7-00"
	decision.What = &auditv1.Event_Decision{Decision: &auditv1.Decision{
		Verdict: auditv1.Verdict_VERDICT_DENY, Reason: auditv1.Reason_REASON_POLICY_DENIED,
	}}
	outcome := event(2, "run_sql_other")
	outcome.What = &auditv1.Event_Outcome{Outcome: &auditv1.Outcome{
		Status: auditv1.Status_STATUS_FAILED, Reason: auditv1.Reason_REASON_TOOL_TIMEOUT,
	}}
	admin := event(3, "100%_sure")
	admin.Action = "sallyport.auth.v1.KeyService/CreateKey"
	admin.What = &auditv1.Event_Admin{Admin: &auditv1.AdminChange{Operation: "key.create"}}
	intent := event(4, "echo")
	s.record(decision, outcome, admin, intent)
	s.wait(4)

	tests := []struct {
		name   string
		filter *auditv1.Filter
		want   []string
	}{
		{"no filter finds all, the newest first", nil, []string{"echo", "100%_sure", "run_sql_other", "run_sql_query"}},
		{"by decision", &auditv1.Filter{DecisionIds: []string{"d_4"}}, []string{"echo"}},
		{"by one of several decisions", &auditv1.Filter{DecisionIds: []string{"d_4", "d_1", "d_9"}}, []string{"echo", "run_sql_query"}},
		{"by principal", &auditv1.Filter{Principals: []string{"user:anna"}}, []string{"run_sql_query"}},
		{"by target", &auditv1.Filter{Targets: []string{"echo"}}, []string{"echo"}},
		{"by the beginning of a target", &auditv1.Filter{Targets: []string{"run_sql_*"}}, []string{"run_sql_other", "run_sql_query"}},
		{"by targets and beginnings", &auditv1.Filter{Targets: []string{"echo", "100*", "nothing*", "other"}}, []string{"echo", "100%_sure"}},
		{"by any target", &auditv1.Filter{Targets: []string{"*"}}, []string{"echo", "100%_sure", "run_sql_other", "run_sql_query"}},
		{"the wildcards of SQL are none", &auditv1.Filter{Targets: []string{"run%*", "run_sql_quer_", "RUN*"}}, nil},
		{"an asterisk within is no wildcard", &auditv1.Filter{Targets: []string{"run*query"}}, nil},
		{"by verdict", &auditv1.Filter{Verdicts: []auditv1.Verdict{auditv1.Verdict_VERDICT_DENY}}, []string{"run_sql_query"}},
		{"by reason of a decision or an outcome", &auditv1.Filter{Reasons: []auditv1.Reason{
			auditv1.Reason_REASON_POLICY_DENIED, auditv1.Reason_REASON_TOOL_TIMEOUT,
		}}, []string{"run_sql_other", "run_sql_query"}},
		{"by kind", &auditv1.Filter{Kinds: []auditv1.Kind{auditv1.Kind_KIND_ADMIN, auditv1.Kind_KIND_INTENT}}, []string{"echo", "100%_sure"}},
		{"since is inclusive", &auditv1.Filter{Since: epoch(3)}, []string{"echo", "100%_sure"}},
		{"until is exclusive", &auditv1.Filter{Until: epoch(3)}, []string{"run_sql_other", "run_sql_query"}},
		{"by trace", &auditv1.Filter{TraceId: strings.ToUpper(traceID)}, []string{"run_sql_query"}},
		{"by tenant", &auditv1.Filter{Tenant: "globex"}, []string{"run_sql_query"}},
		{"by action", &auditv1.Filter{Actions: []string{"sallyport.auth.v1.KeyService/CreateKey"}}, []string{"100%_sure"}},
		{"all that is set must match", &auditv1.Filter{Tenant: "globex", Principals: []string{"key:a"}}, nil},
		{"quotes are text", &auditv1.Filter{Tenant: "' OR 1=1 --"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, s.query(tt.filter)); diff != "" {
				t.Errorf("targets (-want +got):\n%s", diff)
			}
		})
	}

	resp, err := s.client.Query(t.Context(), &auditv1.QueryRequest{Filter: &auditv1.Filter{DecisionIds: []string{"d_1"}}})
	if err != nil {
		t.Fatal(err)
	}
	decision.Node = "n1" // the recorder filled it in
	want := &auditv1.QueryResponse{Events: []*auditv1.Event{decision}}
	if diff := cmp.Diff(want, resp, protocmp.Transform()); diff != "" {
		t.Errorf("an event comes back as it was written (-want +got):\n%s", diff)
	}
}

func TestPagesCoverAllEventsOnceInBothOrders(t *testing.T) {
	s := newSystem(t)
	const events = 25
	var want []string
	var all []*auditv1.Event
	for i := range events {
		target := fmt.Sprintf("tool-%02d", i)
		e := event(i/3, target) // three at a time
		e.Id = fmt.Sprintf("01KJKZ%020d", i)
		all, want = append(all, e), append(want, target)
	}
	s.record(all...)
	s.wait(events)
	for _, oldestFirst := range []bool{true, false} {
		for _, size := range []uint32{1, 7, 24, 25, 26} {
			t.Run(fmt.Sprintf("oldest first %v, %d on a page", oldestFirst, size), func(t *testing.T) {
				var got []string
				req := &auditv1.QueryRequest{PageSize: size, OldestFirst: oldestFirst, Filter: &auditv1.Filter{Targets: []string{"tool*"}}}
				for {
					resp, err := s.client.Query(t.Context(), req)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, targetsOf(resp.GetEvents())...)
					if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
						break
					}
				}
				if !oldestFirst {
					slices.Reverse(got)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("targets (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestAPageTokenIsRefusedUnlessItIsOursAndForThisQuestion(t *testing.T) {
	s := newSystem(t)
	s.record(event(1, "a"), event(2, "b"))
	s.wait(2)
	first, err := s.client.Query(t.Context(), &auditv1.QueryRequest{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	token := first.GetNextPageToken()
	tests := []struct {
		name string
		req  *auditv1.QueryRequest
		want codes.Code
	}{
		{"the same question with another page size is fine", &auditv1.QueryRequest{PageToken: token, PageSize: 9}, codes.OK},
		{"an empty filter is no filter", &auditv1.QueryRequest{PageToken: token, Filter: &auditv1.Filter{}}, codes.OK},
		{"nonsense", &auditv1.QueryRequest{PageToken: "nonsense"}, codes.InvalidArgument},
		{"a changed token", &auditv1.QueryRequest{PageToken: "B" + token[1:]}, codes.InvalidArgument},
		{"a token and more", &auditv1.QueryRequest{PageToken: token + "AAAA"}, codes.InvalidArgument},
		{"another filter", &auditv1.QueryRequest{PageToken: token, Filter: &auditv1.Filter{Tenant: "acme"}}, codes.InvalidArgument},
		{"another order", &auditv1.QueryRequest{PageToken: token, OldestFirst: true}, codes.InvalidArgument},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.client.Query(t.Context(), tt.req)
			if status.Code(err) != tt.want {
				t.Fatalf("got error %v, want %v", err, tt.want)
			}
			if tt.want != codes.OK && !fault.Is(err, auditv1.ErrorReason_ERROR_REASON_CURSOR) {
				t.Errorf("got error %v, want the reason CURSOR", err)
			}
		})
	}
}

func TestExportSendsAllThatMatchesOldestFirst(t *testing.T) {
	s := newSystem(t)
	const events = 1201 // several chunks
	var all []*auditv1.Event
	for i := range events {
		all = append(all, event(i, fmt.Sprintf("tool-%d", i%2)))
	}
	s.record(all...)
	s.until("all are indexed", func() bool { return len(s.query(&auditv1.Filter{Since: epoch(events - 1)})) == 1 })
	stream, err := s.client.Export(t.Context(), &auditv1.ExportRequest{Filter: &auditv1.Filter{Targets: []string{"tool-0"}}})
	if err != nil {
		t.Fatal(err)
	}
	next := 0
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range resp.GetEvents() {
			if want := fmt.Sprintf("d_%d", next); e.GetDecisionId() != want {
				t.Fatalf("got event %s, want %s", e.GetDecisionId(), want)
			}
			next += 2
		}
	}
	if next != events+1 {
		t.Errorf("got events up to %d, want %d", next-2, events-1)
	}
}

func TestQuestionsAreRefusedWhileThereIsNoIndex(t *testing.T) {
	s := newSystem(t)
	s.stop()
	ctx := t.Context()
	tests := []struct {
		name string
		ask  func() error
	}{
		{"Query", func() error { _, err := s.client.Query(ctx, &auditv1.QueryRequest{}); return err }},
		{"Tail", func() error {
			stream, err := s.client.Tail(ctx, &auditv1.TailRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}},
		{"Export", func() error {
			stream, err := s.client.Export(ctx, &auditv1.ExportRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}},
		{"Verify", func() error {
			stream, err := s.client.Verify(ctx, &auditv1.VerifyRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.ask()
			if status.Code(err) != codes.Unavailable || !fault.Is(err, auditv1.ErrorReason_ERROR_REASON_INDEX_UNAVAILABLE) {
				t.Errorf("got error %v, want UNAVAILABLE and INDEX_UNAVAILABLE", err)
			}
		})
	}
	if err := s.svc.Check(ctx); err == nil {
		t.Error("Check: got nil, want it not ready")
	}
}

func TestConfigReportsMistakes(t *testing.T) {
	t.Parallel()
	if err := service.DefaultConfig().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	_, err := service.New(service.Options{Config: service.Config{CommitInterval: -1}})
	for _, field := range []string{"commit_interval:", "dir:"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("got %v, want it to name %s", err, field)
		}
	}
}
