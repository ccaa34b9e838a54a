package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sallyport-mcp/sallyport/pkg/bus/bustest"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/edge"
	"github.com/sallyport-mcp/sallyport/services/quota"
)

// These tests run the edge and the quota service with its ledger as they are; auth
// says of every tool what it uses, and the executor ends calls as it is told.

type spendingAuth struct{ yesAuth }

func (a spendingAuth) Authorize(ctx context.Context, req *authv1.AuthorizeRequest, opts ...grpc.CallOption) (*authv1.AuthorizeResponse, error) {
	resp, err := a.yesAuth.Authorize(ctx, req, opts...)
	resp.Uses = []*toolv1.Use{{Unit: "rows", Estimate: 10}, {Unit: "nobodys", Estimate: 5}, {Unit: "cents", Estimate: 3}}
	return resp, err
}

// scripted ends a call as it is told to.
type scripted struct {
	executorv1.UnimplementedExecutorServiceServer
	end func(grpc.ServerStreamingServer[executorv1.CallResponse]) error
}

func (s scripted) Call(_ *executorv1.CallRequest, stream grpc.ServerStreamingServer[executorv1.CallResponse]) error {
	return s.end(stream)
}

func (scripted) Watch(_ *executorv1.WatchRequest, stream grpc.ServerStreamingServer[executorv1.WatchResponse]) error {
	<-stream.Context().Done()
	return stream.Context().Err()
}

// ledgered counts what is asked of the quota service, and can lose answers.
type ledgered struct {
	quotav1.QuotaServiceClient
	settled chan struct{} // for each Commit and Refund that was answered

	mu       sync.Mutex
	reserves []string
	lose     int                           // so many answers from now on
	others   func(*quotav1.ReserveRequest) // if set, what somebody else does before
}

func (l *ledgered) lost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose--
	return l.lose >= 0
}

var errLost = status.Error(codes.Unavailable, "the answer was lost")

func (l *ledgered) Reserve(ctx context.Context, req *quotav1.ReserveRequest, opts ...grpc.CallOption) (*quotav1.ReserveResponse, error) {
	l.mu.Lock()
	l.reserves = append(l.reserves, req.GetUnit())
	l.mu.Unlock()
	if l.others != nil {
		l.others(req)
	}
	resp, err := l.QuotaServiceClient.Reserve(ctx, req, opts...)
	if l.lost() {
		return nil, errLost
	}
	return resp, err
}

func (l *ledgered) Commit(ctx context.Context, req *quotav1.CommitRequest, opts ...grpc.CallOption) (*quotav1.CommitResponse, error) {
	if l.lost() { // before it was charged
		return nil, errLost
	}
	resp, err := l.QuotaServiceClient.Commit(ctx, req, opts...)
	l.settled <- struct{}{}
	return resp, err
}

func (l *ledgered) Refund(ctx context.Context, req *quotav1.RefundRequest, opts ...grpc.CallOption) (*quotav1.RefundResponse, error) {
	resp, err := l.QuotaServiceClient.Refund(ctx, req, opts...)
	if l.lost() { // after it was given back
		return nil, errLost
	}
	l.settled <- struct{}{}
	return resp, err
}

// keptRecord keeps what an edge records.
type keptRecord struct {
	mu     sync.Mutex
	events []*auditv1.Event
}

func (k *keptRecord) Record(_ context.Context, e *auditv1.Event) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events = append(k.events, proto.CloneOf(e))
	return nil
}

const spendingRules = `
rules:
  - {id: calls, key: [user], limit: 100/minute}
  - {id: rows, key: [user], quota: {amount: 25, per: month, unit: rows}}
  - {id: cents, key: [user], quota: {amount: 1_000, per: month, unit: cents}}
  - {id: others, key: [user], match: {tool: other}, quota: {amount: 1, per: month, unit: nobodys}}
`

// spending is an edge with a quota service.
type spending struct {
	t      *testing.T
	edge   *edge.Service
	quota  *ledgered
	record *keptRecord
	stop   func()
}

// executorOf is the executor, or one that cannot be reached.
func executorOf(t *testing.T, end func(grpc.ServerStreamingServer[executorv1.CallResponse]) error) executorv1.ExecutorServiceClient {
	if end == nil {
		return gone{}
	}
	return executorv1.NewExecutorServiceClient(rpctest.Serve(t, func(r grpc.ServiceRegistrar) {
		executorv1.RegisterExecutorServiceServer(r, scripted{end: end})
	}))
}

type gone struct{ yesExecutor }

func (gone) Call(context.Context, *executorv1.CallRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[executorv1.CallResponse], error) {
	return nil, status.Error(codes.Unavailable, "connection refused")
}

func newSpending(t *testing.T, executor executorv1.ExecutorServiceClient) *spending {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	cfg := quota.DefaultConfig()
	if err := yaml.Unmarshal([]byte(spendingRules), &cfg); err != nil {
		t.Fatal(err)
	}
	svc, err := quota.New(cfg, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.KeepLedger(bustest.New(t), 1000, 1000, log); err != nil {
		t.Fatal(err)
	}
	s := &spending{t: t, record: &keptRecord{}, quota: &ledgered{
		QuotaServiceClient: quotav1.NewQuotaServiceClient(rpctest.Serve(t, svc.Register)), settled: make(chan struct{}, 16),
	}}
	edgeConfig := edge.DefaultConfig()
	s.edge, err = edge.New(edge.Options{
		Config: edgeConfig, Auth: spendingAuth{}, Quota: s.quota, Executor: executor, Audit: s.record, Version: "1", Log: log,
		Listen: func(string) (net.Listener, error) { return &noListener{closed: make(chan struct{})}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{svc.Run, s.edge.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		})
	}
	s.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(s.stop)
	return s
}

// call makes one call and returns the answer.
func (s *spending) call(tool string) *httptest.ResponseRecorder {
	s.t.Helper()
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":{},"_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"tests","version":"1"},` +
		`"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}}}}`
	r := httptest.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://localhost/mcp", strings.NewReader(body))
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Authorization": "Bearer ann",
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool,
	} {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	s.edge.ServeHTTP(w, r)
	return w
}

// usage is what is spent and reserved of a quota, as "spent+reserved".
func (s *spending) usage() map[string]string {
	s.t.Helper()
	resp, err := s.quota.Usage(s.t.Context(), &quotav1.UsageRequest{Subject: &quotav1.Subject{Attributes: map[string]string{"user": "user:ann"}}})
	if err != nil {
		s.t.Fatal(err)
	}
	all := make(map[string]string)
	for _, l := range resp.GetLimits() {
		if l.GetUnit() != "" {
			all[l.GetUnit()] = fmt.Sprintf("%d+%d", l.GetLimit()-l.GetRemaining()-l.GetReserved(), l.GetReserved())
		}
	}
	return all
}

// answered ends a call with a result and what it has used.
func answered(usage *executorv1.Usage, result *executorv1.Result) func(grpc.ServerStreamingServer[executorv1.CallResponse]) error {
	return func(s grpc.ServerStreamingServer[executorv1.CallResponse]) error {
		return s.Send(&executorv1.CallResponse{Event: &executorv1.CallResponse_Result{Result: result}, Usage: usage})
	}
}

func failing(err error) func(grpc.ServerStreamingServer[executorv1.CallResponse]) error {
	return func(grpc.ServerStreamingServer[executorv1.CallResponse]) error { return err }
}

var done = &executorv1.Result{Result: &providerv1.ToolResult{Content: []*providerv1.Content{{Kind: &providerv1.Content_Text{Text: "done"}}}}}

// However a call ends, what it has used is charged, or the estimate if nobody knows,
// or nothing if it was not made; and nothing stays set aside.
func TestUnitsAreSettledHoweverACallEnds(t *testing.T) {
	t.Parallel()
	used := func(rows, cents uint64) *executorv1.Usage {
		return &executorv1.Usage{Used: []*auditv1.Used{{Unit: "rows", Amount: rows}, {Unit: "nobodys", Amount: 1}, {Unit: "cents", Amount: cents}}}
	}
	none := &executorv1.Usage{None: true}
	refused := func(reason executorv1.Reason, code codes.Code) error { return fault.New(code, reason, "no") }
	busy := &executorv1.Result{Result: &providerv1.ToolResult{IsError: true}, Refusal: &executorv1.Refusal{
		Reason: auditv1.Reason_REASON_TOOL_UNAVAILABLE, Message: "It is busy.", Retryable: true,
	}}
	estimate := []*auditv1.Used{{Unit: "rows", Amount: 10, Estimated: true}, {Unit: "cents", Amount: 3, Estimated: true}}
	const estimated = `"used":{"rows":10,"cents":3},"used_estimated":["rows","cents"]`
	tests := []struct {
		name        string
		end         func(grpc.ServerStreamingServer[executorv1.CallResponse]) error
		rows, cents string
		told        string          // in the answer; "" for nothing of it
		recorded    []*auditv1.Used // by the edge
	}{
		{"it reports", answered(used(7, 0), done), "7+0", "0+0", `"used":{"rows":7,"cents":0}`, nil},
		{"it has used more than was set aside", answered(used(24, 1), done), "24+0", "1+0", `"used":{"rows":24,"cents":1}`, nil},
		{"it says nothing", answered(nil, done), "10+0", "3+0", estimated, nil},
		{
			"it says something", answered(&executorv1.Usage{Used: []*auditv1.Used{{Unit: "rows", Amount: 1}, {Unit: "cents", Amount: 3, Estimated: true}}}, done),
			"1+0", "3+0", `"used":{"rows":1,"cents":3},"used_estimated":["cents"]`, nil,
		},
		{"it fails and reports", answered(used(2, 2), busy), "2+0", "2+0", `"used":{"rows":2,"cents":2}`, nil},
		{"it was not called", answered(none, busy), "0+0", "0+0", "", nil},
		{"it asks the user", func(s grpc.ServerStreamingServer[executorv1.CallResponse]) error {
			return s.Send(&executorv1.CallResponse{Usage: used(4, 0), Event: &executorv1.CallResponse_InputRequired{InputRequired: &providerv1.InputRequired{
				InputRequests: []byte(`{"a":{"method":"elicitation/create","params":{"message":"?","requestedSchema":{"type":"object","properties":{}}}}}`),
			}}})
		}, "4+0", "0+0", "", nil},
		{"the grant is no good", failing(refused(executorv1.Reason_REASON_GRANT, codes.PermissionDenied)), "0+0", "0+0", "", nil},
		{"the tool is gone", failing(refused(executorv1.Reason_REASON_UNKNOWN, codes.NotFound)), "0+0", "0+0", "", nil},
		{"it cannot be recorded", failing(refused(executorv1.Reason_REASON_AUDIT_UNAVAILABLE, codes.Unavailable)), "0+0", "0+0", "", nil},
		{"the executor dies", failing(status.Error(codes.Unavailable, "connection reset")), "10+0", "3+0", estimated, estimate},
		{"the executor ends it without a word", failing(nil), "10+0", "3+0", estimated, estimate},
		{"the executor panics", func(grpc.ServerStreamingServer[executorv1.CallResponse]) error { panic("a test") }, "10+0", "3+0", estimated, estimate},
		{"the executor cannot be reached", nil, "0+0", "0+0", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSpending(t, executorOf(t, tt.end))
			w := s.call("query")
			if diff := cmp.Diff(map[string]string{"rows": tt.rows, "cents": tt.cents}, s.usage()); diff != "" {
				t.Errorf("usage (-want +got):\n%s", diff)
			}
			if !strings.Contains(w.Body.String(), tt.told) || tt.told == "" && strings.Contains(w.Body.String(), `"used"`) {
				t.Errorf("got %d %s, want %s in it", w.Code, w.Body, tt.told)
			}
			if diff := cmp.Diff([]string{"rows", "cents"}, s.quota.reserves); diff != "" { // and not what nobody counts
				t.Errorf("reserved (-want +got):\n%s", diff)
			}
			var recorded []*auditv1.Used
			for _, e := range s.record.events {
				recorded = append(recorded, e.GetOutcome().GetUsed()...)
			}
			if diff := cmp.Diff(tt.recorded, recorded, protocmp.Transform()); diff != "" {
				t.Errorf("recorded (-want +got):\n%s", diff)
			}
		})
	}
}

// Beyond a quota a call is refused as by any other, before anything else is taken.
func TestUnitsBeyondAQuotaAreRefused(t *testing.T) {
	t.Parallel()
	s := newSpending(t, executorOf(t, answered(&executorv1.Usage{Used: []*auditv1.Used{{Unit: "rows", Amount: 16}, {Unit: "cents", Amount: 1}}}, done)))
	if w := s.call("query"); !strings.Contains(w.Header().Get("RateLimit"), `"rows";r=15;t=`) {
		t.Errorf("got RateLimit %s, want 15 rows left while 10 are set aside", w.Header().Get("RateLimit"))
	}
	for range 3 {
		w := s.call("query")
		for _, want := range []string{`"isError":true`, `"reason":"QUOTA_EXCEEDED"`, `"rule":"rows"`, `"retryable":true`, `"retry_after_seconds":`, "rows: 25 rows"} {
			if !bytes.Contains(w.Body.Bytes(), []byte(want)) {
				t.Errorf("got %s, want %s in it", w.Body, want)
			}
		}
		if limits := w.Header().Get("RateLimit"); !strings.Contains(limits, `"rows";r=9;t=`) || !strings.Contains(limits, `"calls";r=99;`) || w.Header().Get("Retry-After") == "" {
			t.Errorf("got RateLimit %s, Retry-After %q", limits, w.Header().Get("Retry-After"))
		}
	}
	if diff := cmp.Diff(map[string]string{"rows": "16+0", "cents": "1+0"}, s.usage()); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
	for _, e := range s.record.events {
		if d := e.GetDecision(); d.GetReason() != auditv1.Reason_REASON_QUOTA_EXCEEDED || d.GetRule() != "rows" {
			t.Errorf("recorded %v", e)
		}
	}
}

// Where somebody else was faster the reservation refuses, whatever the check has
// foreseen; and what was set aside of other units is given back.
func TestUnitsThatSomebodyElseReserves(t *testing.T) {
	t.Parallel()
	s := newSpending(t, executorOf(t, failing(status.Error(codes.Internal, "it was called"))))
	s.quota.others = func(req *quotav1.ReserveRequest) {
		if req.GetUnit() != "cents" {
			return
		}
		more := &quotav1.ReserveRequest{Subject: req.GetSubject(), Unit: "cents", Estimate: 998, IdempotencyKey: "another"}
		if resp, err := s.quota.QuotaServiceClient.Reserve(t.Context(), more); err != nil || !resp.GetCheck().GetAllowed() {
			t.Errorf("Reserve: %v, %v", resp, err)
		}
	}
	if w := s.call("query"); !strings.Contains(w.Body.String(), `"verdict":"DENY","reason":"QUOTA_EXCEEDED"`) || !strings.Contains(w.Body.String(), `"rule":"cents"`) {
		t.Errorf("got %s", w.Body)
	}
	if diff := cmp.Diff(map[string]string{"rows": "0+0", "cents": "0+998"}, s.usage()); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
}

// What quota has not answered is tried again until it is settled, once.
func TestUnitsAreSettledWhenAnswersAreLost(t *testing.T) {
	t.Parallel()
	usage := &executorv1.Usage{Used: []*auditv1.Used{{Unit: "rows", Amount: 7}, {Unit: "cents", Amount: 2}}}
	tests := []struct {
		name     string
		lose     int
		usage    *executorv1.Usage
		status   int
		settles  int
		row, cnt string
	}{
		{"of commits", 0, usage, http.StatusOK, 2, "7+0", "2+0"},
		{"of refunds", 0, &executorv1.Usage{None: true}, http.StatusOK, 2, "0+0", "0+0"},
		{"of a reservation", 1, usage, http.StatusServiceUnavailable, 1, "0+0", "0+0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var s *spending
			s = newSpending(t, executorOf(t, func(stream grpc.ServerStreamingServer[executorv1.CallResponse]) error {
				s.quota.mu.Lock()
				s.quota.lose = 3 // both, and one again
				s.quota.mu.Unlock()
				return answered(tt.usage, done)(stream)
			}))
			s.quota.lose = tt.lose
			if w := s.call("query"); w.Code != tt.status {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
			for range tt.settles {
				<-s.quota.settled
			}
			if diff := cmp.Diff(map[string]string{"rows": tt.row, "cents": tt.cnt}, s.usage()); diff != "" {
				t.Errorf("usage (-want +got):\n%s", diff)
			}
		})
	}
}
