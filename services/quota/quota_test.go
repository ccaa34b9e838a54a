package quota_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/quota"
)

// service makes a service for rules in YAML, or for the defaults.
func service(t testing.TB, text string) *quota.Service {
	t.Helper()
	cfg := quota.DefaultConfig()
	if text != "" {
		var err error
		if cfg, err = read(text); err != nil {
			t.Fatal(err)
		}
	}
	svc, err := quota.New(cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return svc
}

func client(t testing.TB, svc *quota.Service) quotav1.QuotaServiceClient {
	t.Helper()
	return quotav1.NewQuotaServiceClient(rpctest.Serve(t, svc.Register))
}

// subject makes a subject of names and values in turn.
func subject(pairs ...string) *quotav1.Subject {
	s := &quotav1.Subject{Attributes: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		s.Attributes[pairs[i]] = pairs[i+1]
	}
	return s
}

func check(pairs ...string) *quotav1.CheckRequest {
	return &quotav1.CheckRequest{Subject: subject(pairs...)}
}

func costs(n uint32, req *quotav1.CheckRequest) *quotav1.CheckRequest {
	req.Cost = &n
	return req
}

func seconds(n int64) *durationpb.Duration { return &durationpb.Duration{Seconds: n} }

const testRules = `
attributes: [region]
rules:
  - {id: per-ip, match: {action: tools/call}, key: [ip], limit: 3/minute}
  - {id: two, match: {tool: two}, key: [user], limit: 2/second;3/hour}
  - {id: heavy, match: {tool: heavy}, key: [user], limit: 10/minute}
  - {id: flat, match: {tool: flat}, key: [user], limit: 2/minute, cost: one}
  - {id: steps, match: {context: "*"}, key: [user, context], limit: 2/hour, kind: steps}
  - {id: loop, match: {call: "*"}, key: [user, context, call], limit: 2/minute, kind: loop, cost: one}
  - {id: watch, match: {tool: watched}, key: [user], limit: 1/minute, shadow: true}
  - id: plans
    match: {tool: planned}
    key: [tenant]
    limit: 1/minute
    overrides:
      - {when: {plan: pro}, limit: 2/minute}
      - {when: {role: admin}, unlimited: true}
  - {id: watch-ip, match: {tool: by-ip}, key: [ip], limit: 1/minute, shadow: true}
  - {id: eu, match: {region: eu-*}, limit: 1/minute}
`

func TestCheck(t *testing.T) {
	t.Parallel()
	minute, hour := seconds(60), seconds(3600)
	limit := func(name string, max, left uint64, window, reset *durationpb.Duration) *quotav1.LimitState {
		return &quotav1.LimitState{
			Name: name, Limit: max, Window: window, Remaining: left, ResetAfter: reset,
			Kind: quotav1.RefusalKind_REFUSAL_KIND_RATE,
		}
	}
	steps := func(l *quotav1.LimitState) *quotav1.LimitState {
		l.Kind = quotav1.RefusalKind_REFUSAL_KIND_STEP_BUDGET
		return l
	}
	loop := func(l *quotav1.LimitState) *quotav1.LimitState {
		l.Kind = quotav1.RefusalKind_REFUSAL_KIND_LOOP
		return l
	}
	over := func(l *quotav1.LimitState) *quotav1.LimitState { l.Exceeded = true; return l }
	shadow := func(l *quotav1.LimitState) *quotav1.LimitState { l.Shadow = true; return l }
	tests := []struct {
		name   string
		before []*quotav1.CheckRequest
		req    *quotav1.CheckRequest
		want   *quotav1.CheckResponse
	}{{
		name: "nothing matches: allowed",
		req:  check("ip", "192.0.2.1", "action", "tools/list"),
		want: &quotav1.CheckResponse{Allowed: true},
	}, {
		name: "the first of three",
		req:  check("ip", "192.0.2.1", "action", "tools/call"),
		want: &quotav1.CheckResponse{Allowed: true, Limits: []*quotav1.LimitState{limit("per-ip", 3, 2, minute, minute)}},
	}, {
		name:   "callers are counted apart",
		before: []*quotav1.CheckRequest{costs(3, check("ip", "192.0.2.2", "action", "tools/call"))},
		req:    check("ip", "192.0.2.1", "action", "tools/call"),
		want:   &quotav1.CheckResponse{Allowed: true, Limits: []*quotav1.LimitState{limit("per-ip", 3, 2, minute, minute)}},
	}, {
		name:   "one network is one caller",
		before: []*quotav1.CheckRequest{costs(2, check("ip", "2001:db8::1", "action", "tools/call"))},
		req:    check("ip", "2001:db8::ffff:2", "action", "tools/call"),
		want:   &quotav1.CheckResponse{Allowed: true, Limits: []*quotav1.LimitState{limit("per-ip", 3, 0, minute, minute)}},
	}, {
		name:   "over the limit is an answer with a wait, not an error",
		before: []*quotav1.CheckRequest{costs(3, check("ip", "192.0.2.1", "action", "tools/call"))},
		req:    check("ip", "::ffff:192.0.2.1", "action", "tools/call"),
		want: &quotav1.CheckResponse{
			Rule: "per-ip", RetryAfter: minute, Refusal: quotav1.RefusalKind_REFUSAL_KIND_RATE,
			Limits: []*quotav1.LimitState{over(limit("per-ip", 3, 0, minute, minute))},
		},
	}, {
		name:   "several limits of a rule, the longest wait of those exceeded",
		before: []*quotav1.CheckRequest{costs(2, check("user", "ann", "tool", "two"))},
		req:    costs(2, check("user", "ann", "tool", "two")),
		want: &quotav1.CheckResponse{
			Rule: "two", RetryAfter: hour, Refusal: quotav1.RefusalKind_REFUSAL_KIND_RATE,
			Limits: []*quotav1.LimitState{
				over(limit("two/1s", 2, 0, seconds(1), seconds(1))), over(limit("two/1h", 3, 1, hour, hour)),
			},
		},
	}, {
		name:   "several rules, in the order of the configuration, all or nothing",
		before: []*quotav1.CheckRequest{costs(3, check("ip", "192.0.2.1", "action", "tools/call"))},
		req:    check("ip", "192.0.2.1", "action", "tools/call", "user", "ann", "tool", "heavy"),
		want: &quotav1.CheckResponse{
			Rule: "per-ip", RetryAfter: minute, Refusal: quotav1.RefusalKind_REFUSAL_KIND_RATE,
			Limits: []*quotav1.LimitState{
				over(limit("per-ip", 3, 0, minute, minute)), limit("heavy", 10, 10, minute, seconds(0)),
			},
		},
	}, {
		name: "a cost is a weight",
		req:  costs(7, check("user", "ann", "tool", "heavy")),
		want: &quotav1.CheckResponse{Allowed: true, Limits: []*quotav1.LimitState{limit("heavy", 10, 3, minute, minute)}},
	}, {
		name: "a cost beyond the limit is refused for ever",
		req:  costs(11, check("user", "ann", "tool", "heavy")),
		want: &quotav1.CheckResponse{
			Rule: "heavy", Refusal: quotav1.RefusalKind_REFUSAL_KIND_RATE,
			Limits: []*quotav1.LimitState{over(limit("heavy", 10, 10, minute, seconds(0)))},
		},
	}, {
		name: "a rule that counts checks does not weigh them",
		req:  costs(7, check("user", "ann", "tool", "flat")),
		want: &quotav1.CheckResponse{Allowed: true, Limits: []*quotav1.LimitState{limit("flat", 2, 1, minute, minute)}},
	}, {
		name: "cost 0 takes nothing",
		req:  costs(0, check("user", "ann", "tool", "flat")),
		want: &quotav1.CheckResponse{Allowed: true, Limits: []*quotav1.LimitState{limit("flat", 2, 2, minute, seconds(0))}},
	}, {
		name:   "cost 0 tells that 1 would not pass",
		before: []*quotav1.CheckRequest{costs(10, check("user", "ann", "tool", "heavy"))},
		req:    costs(0, check("user", "ann", "tool", "heavy")),
		want: &quotav1.CheckResponse{
			Rule: "heavy", RetryAfter: minute, Refusal: quotav1.RefusalKind_REFUSAL_KIND_RATE,
			Limits: []*quotav1.LimitState{over(limit("heavy", 10, 0, minute, minute))},
		},
	}, {
		name:   "a context that has used up its steps is told so",
		before: []*quotav1.CheckRequest{costs(2, check("user", "ann", "context", "c1"))},
		req:    check("user", "ann", "context", "c1"),
		want: &quotav1.CheckResponse{
			Rule: "steps", RetryAfter: hour, Refusal: quotav1.RefusalKind_REFUSAL_KIND_STEP_BUDGET,
			Limits: []*quotav1.LimitState{over(steps(limit("steps", 2, 0, hour, hour)))},
		},
	}, {
		name:   "one call repeated too often is told to be a loop, whatever it costs",
		before: []*quotav1.CheckRequest{costs(9, check("user", "ann", "call", "a")), costs(9, check("user", "ann", "call", "a"))},
		req:    check("user", "ann", "call", "a"),
		want: &quotav1.CheckResponse{
			Rule: "loop", RetryAfter: minute, Refusal: quotav1.RefusalKind_REFUSAL_KIND_LOOP,
			Limits: []*quotav1.LimitState{over(loop(limit("loop", 2, 0, minute, minute)))},
		},
	}, {
		name:   "another call is no loop",
		before: []*quotav1.CheckRequest{check("user", "ann", "call", "a"), check("user", "ann", "call", "a")},
		req:    check("user", "ann", "call", "b"),
		want:   &quotav1.CheckResponse{Allowed: true, Limits: []*quotav1.LimitState{loop(limit("loop", 2, 1, minute, minute))}},
	}, {
		name:   "another context has its own steps",
		before: []*quotav1.CheckRequest{costs(2, check("user", "ann", "context", "c1"))},
		req:    check("user", "ann", "context", "c2"),
		want:   &quotav1.CheckResponse{Allowed: true, Limits: []*quotav1.LimitState{steps(limit("steps", 2, 1, hour, hour))}},
	}, {
		name:   "a shadow rule reports and does not refuse",
		before: []*quotav1.CheckRequest{check("user", "ann", "tool", "watched")},
		req:    check("user", "ann", "tool", "watched"),
		want:   &quotav1.CheckResponse{Allowed: true, Limits: []*quotav1.LimitState{shadow(over(limit("watch", 1, 0, minute, minute)))}},
	}, {
		name: "an override takes the place of the limit",
		req:  check("tenant", "acme", "plan", "pro", "tool", "planned"),
		want: &quotav1.CheckResponse{Allowed: true, Limits: []*quotav1.LimitState{limit("plans", 2, 1, minute, minute)}},
	}, {
		name: "the first override that matches holds",
		req:  check("tenant", "acme", "plan", "pro", "role", "intern,admin", "tool", "planned"),
		want: &quotav1.CheckResponse{Allowed: true, Limits: []*quotav1.LimitState{limit("plans", 2, 1, minute, minute)}},
	}, {
		name: "an override exempts",
		req:  check("tenant", "acme", "role", "intern,admin", "tool", "planned"),
		want: &quotav1.CheckResponse{Allowed: true},
	}, {
		name:   "who lacks the attribute shares one count",
		before: []*quotav1.CheckRequest{check("tool", "planned", "user", "ann")},
		req:    check("tool", "planned", "user", "bob"),
		want: &quotav1.CheckResponse{
			Rule: "plans", RetryAfter: minute, Refusal: quotav1.RefusalKind_REFUSAL_KIND_RATE,
			Limits: []*quotav1.LimitState{over(limit("plans", 1, 0, minute, minute))},
		},
	}, {
		name:   "a rule without key counts everybody, by an attribute of the file's own",
		before: []*quotav1.CheckRequest{check("region", "eu-west")},
		req:    check("region", "eu-north"),
		want: &quotav1.CheckResponse{
			Rule: "eu", RetryAfter: minute, Refusal: quotav1.RefusalKind_REFUSAL_KIND_RATE,
			Limits: []*quotav1.LimitState{over(limit("eu", 1, 0, minute, minute))},
		},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := client(t, service(t, testRules))
				for _, req := range tt.before {
					if res, err := c.Check(t.Context(), req); err != nil || !res.GetAllowed() {
						t.Fatalf("Check before: got %v, %v", res, err)
					}
				}
				got, err := c.Check(t.Context(), tt.req)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, got, protocmp.Transform()); diff != "" {
					t.Errorf("Check (-want +got):\n%s", diff)
				}
				// Peek foretells what Check says next.
				peeked, err := c.Peek(t.Context(), &quotav1.PeekRequest{Subject: tt.req.GetSubject(), Cost: tt.req.Cost})
				if err != nil {
					t.Fatal(err)
				}
				again, err := c.Check(t.Context(), tt.req)
				if err != nil {
					t.Fatal(err)
				}
				if peeked.GetCheck().GetAllowed() != again.GetAllowed() || peeked.GetCheck().GetRule() != again.GetRule() {
					t.Errorf("Peek said %v, Check %v", peeked.GetCheck(), again)
				}
			})
		})
	}
}

func TestCheckFails(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		req        *quotav1.CheckRequest
		wantCode   codes.Code
		wantReason fault.Reason
	}{
		{"an ip that is no address", check("ip", "localhost", "action", "tools/call"), codes.InvalidArgument, quotav1.Reason_REASON_ATTRIBUTE},
		{"an ip that only a shadow rule counts by does not matter", check("ip", "localhost", "tool", "by-ip"), codes.OK, nil},
		{"an ip that no rule counts by does not matter", check("ip", "localhost", "action", "ping"), codes.OK, nil},
		{"no subject", &quotav1.CheckRequest{}, codes.InvalidArgument, nil},
		{"a cost beyond the contract", costs(1_000_001, check()), codes.InvalidArgument, nil},
		{"an attribute without a name", check("", "x"), codes.InvalidArgument, nil},
		{"an attribute that no rule names does not matter", check("IP", "x"), codes.OK, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := client(t, service(t, testRules)).Check(t.Context(), tt.req)
			if status.Code(err) != tt.wantCode {
				t.Fatalf("Check: got error %v, want code %v", err, tt.wantCode)
			}
			if tt.wantReason != nil && !fault.Is(err, tt.wantReason) {
				t.Errorf("Check: got error %v, want reason %v", err, tt.wantReason)
			}
		})
	}
}

func TestTheSixthSummaryInAMinuteIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, service(t, ""))
		ask := func(ip string) *quotav1.CheckResponse {
			t.Helper()
			res, err := c.Check(t.Context(), check("ip", ip, "action", "tools/call", "tool", "summarize_logs",
				"key", "k1", "user", "ann", "context", "c1", "context_source", "session"))
			if err != nil {
				t.Fatal(err)
			}
			return res
		}
		for i := range 5 {
			if res := ask("192.0.2.1"); !res.GetAllowed() {
				t.Fatalf("call %d: got a refusal by %q", i+1, res.GetRule())
			}
			time.Sleep(7 * time.Second)
		}
		res := ask("192.0.2.1")
		if res.GetAllowed() || res.GetRule() != "summarize-logs-per-ip" || res.GetRetryAfter().AsDuration() != 25*time.Second {
			t.Fatalf("the sixth call after 35s: got %v, want a refusal for 25s", res)
		}
		if !ask("192.0.2.2").GetAllowed() {
			t.Error("another address: got a refusal")
		}
		time.Sleep(25*time.Second - time.Nanosecond)
		if ask("192.0.2.1").GetAllowed() {
			t.Error("a nanosecond before the time: got allowed")
		}
		time.Sleep(time.Nanosecond)
		if !ask("192.0.2.1").GetAllowed() {
			t.Error("when the time has come: got a refusal")
		}
	})
}

func TestAHundredCallersShareTen(t *testing.T) {
	t.Parallel()
	c := client(t, service(t, "rules: [{id: a, key: [ip], limit: 10/minute}, {id: b, key: [], limit: 600/minute}]"))
	var allowed atomic.Int32
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			res, err := c.Check(t.Context(), check("ip", "192.0.2.1"))
			if err != nil {
				t.Error(err)
			}
			if res.GetAllowed() {
				allowed.Add(1)
			}
		})
	}
	wg.Wait()
	if got := allowed.Load(); got != 10 {
		t.Errorf("100 at once with a limit of 10: got %d allowed", got)
	}
	usage, err := c.Usage(t.Context(), &quotav1.UsageRequest{Subject: subject("ip", "192.0.2.9")})
	if err != nil {
		t.Fatal(err)
	}
	if got := usage.GetLimits()[1].GetRemaining(); got != 590 {
		t.Errorf("the limit that refused nobody: got %d left, want 590: a refusal charges nothing", got)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, service(t, "max_keys: 4096\nrules: [{id: a, key: [user], limit: 1/minute}]"))
		var err error
		for i := 0; err == nil && i < 10_000; i++ {
			_, err = c.Check(t.Context(), check("user", fmt.Sprint(i)))
		}
		if status.Code(err) != codes.ResourceExhausted || !fault.Is(err, quotav1.Reason_REASON_TABLE_FULL) {
			t.Fatalf("10000 users: got error %v, want REASON_TABLE_FULL", err)
		}
		if res, err := c.Check(t.Context(), check("user", "0")); err != nil || res.GetAllowed() {
			t.Errorf("a user who has spent: got %v, %v, want a refusal as before", res, err)
		}
		time.Sleep(time.Minute)
		if res, err := c.Check(t.Context(), check("user", "new")); err != nil || !res.GetAllowed() {
			t.Errorf("when the others are idle: got %v, %v", res, err)
		}
	})
}

func TestCheckBatch(t *testing.T) {
	t.Parallel()
	c := client(t, service(t, testRules))
	call := func() *quotav1.CheckRequest { return check("ip", "192.0.2.1", "action", "tools/call") }
	res, err := c.CheckBatch(t.Context(), &quotav1.CheckBatchRequest{Checks: []*quotav1.CheckRequest{
		costs(2, call()), check("user", "ann"), costs(2, call()), costs(0, call()), call(), call(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	var got []bool
	for _, r := range res.GetResults() {
		got = append(got, r.GetAllowed())
	}
	if diff := cmp.Diff([]bool{true, true, false, true, true, false}, got); diff != "" {
		t.Errorf("allowed (-want +got):\n%s", diff)
	}

	_, err = c.CheckBatch(t.Context(), &quotav1.CheckBatchRequest{Checks: []*quotav1.CheckRequest{
		check("user", "ann", "tool", "heavy"), check("ip", "x", "action", "tools/call"),
	}})
	if !fault.Is(err, quotav1.Reason_REASON_ATTRIBUTE) {
		t.Errorf("one malformed check: got %v, want REASON_ATTRIBUTE", err)
	}
	usage, err := c.Usage(t.Context(), &quotav1.UsageRequest{Subject: subject("user", "ann", "tool", "heavy")})
	if err != nil {
		t.Fatal(err)
	}
	if got := usage.GetLimits()[0].GetRemaining(); got != 10 {
		t.Errorf("after a malformed batch: got %d left, want 10", got)
	}
}
