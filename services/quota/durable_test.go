package quota_test

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/bustest"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/quota"
)

const durableRules = `
rules:
  - {id: per-minute, match: {tool: "*"}, key: [user], limit: 5/minute}
  - {id: user-day, match: {tool: "*"}, key: [user], quota: {amount: 7, per: day, tz: Europe/Berlin}}
  - {id: ip-week, match: {tool: by-ip}, key: [ip], quota: {amount: 100, per: week}}
  - {id: burst, match: {tool: twice}, key: [user], limit: 1/second}
  - {id: watched, match: {tool: watched}, key: [tenant], quota: {amount: 1, per: day}, shadow: true}
  - id: tokens
    match: {tenant: "*"}
    key: [tenant]
    quota: {amount: 1_000, per: month, starts: 15, unit: llm_tokens, ttl: 5m}
    overrides:
      - {when: {plan: pro}, amount: 5_000}
      - {when: {plan: free}, unlimited: true}
`

// evening is on a Saturday, when it is Sunday already in Berlin.
var evening = time.Date(2026, 11, 28, 23, 30, 0, 0, time.UTC)

// durable makes a service with a ledger. The time stands still at evening.
func durable(t testing.TB, b *bus.Bus, text string) *quota.Service {
	t.Helper()
	svc := service(t, text)
	svc.WaitForLedger(time.Minute)
	svc.SetClock(func() time.Time { return evening })
	svc.KeepLedger(b, 10_000, 10_000, slog.New(slog.NewTextHandler(t.Output(), nil)))
	return svc
}

// answers calls Check, which must not fail.
func answers(t testing.TB, c quotav1.QuotaServiceClient, req *quotav1.CheckRequest) *quotav1.CheckResponse {
	t.Helper()
	res, err := c.Check(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestAQuotaOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	untilMidnight := seconds(23*3600 + 1800) // in Berlin
	state := func(left, cost uint64) *quotav1.LimitState {
		return &quotav1.LimitState{
			Name: "user-day", Limit: 7, Window: seconds(24 * 3600), Remaining: left, ResetAfter: untilMidnight,
			Kind: quotav1.RefusalKind_REFUSAL_KIND_QUOTA, Unit: "calls", Exceeded: cost > left,
		}
	}
	for i := range uint64(3) { // in another process each
		res := answers(t, client(t, durable(t, b, durableRules)), costs(2, check("user", "ann", "tool", "echo")))
		if diff := cmp.Diff(state(7-2*(i+1), 0), res.GetLimits()[1], protocmp.Transform()); !res.GetAllowed() || diff != "" {
			t.Errorf("process %d: got %v; the quota (-want +got):\n%s", i, res, diff)
		}
	}
	c := client(t, durable(t, b, durableRules))
	want := &quotav1.CheckResponse{
		Rule: "user-day", RetryAfter: untilMidnight, Refusal: quotav1.RefusalKind_REFUSAL_KIND_QUOTA,
		Limits: []*quotav1.LimitState{
			{
				Name: "per-minute", Limit: 5, Window: seconds(60), Remaining: 5, ResetAfter: seconds(0),
				Kind: quotav1.RefusalKind_REFUSAL_KIND_RATE,
			},
			state(1, 2),
		},
	}
	for range 2 { // a refusal takes nothing, of the rate neither
		if diff := cmp.Diff(want, answers(t, c, costs(2, check("user", "ann", "tool", "echo"))), protocmp.Transform()); diff != "" {
			t.Errorf("more than is left (-want +got):\n%s", diff)
		}
	}
	peek, err := c.Peek(t.Context(), &quotav1.PeekRequest{Subject: subject("user", "ann", "tool", "echo")})
	if err != nil || !peek.GetCheck().GetAllowed() || peek.GetCheck().GetLimits()[1].GetRemaining() != 1 {
		t.Errorf("Peek: got %v, %v, want allowed with 1 left", peek, err)
	}
	if res := answers(t, c, costs(0, check("user", "ann", "tool", "echo"))); !res.GetAllowed() || res.GetLimits()[1].GetRemaining() != 1 {
		t.Errorf("cost 0: got %v, want allowed and nothing taken", res)
	}
	if res := answers(t, c, costs(8, check("user", "bob", "tool", "echo"))); res.GetAllowed() || res.GetRetryAfter() != nil {
		t.Errorf("more than the limit: got %v, want a refusal for ever", res)
	}
	if res := answers(t, c, check("user", "ann", "tool", "echo")); !res.GetAllowed() {
		t.Errorf("the last one: got %v", res)
	}
	if res := answers(t, c, check("user", "ann", "tool", "echo")); res.GetAllowed() {
		t.Errorf("one more: got %v", res)
	}
	if res := answers(t, c, check("user", "bob", "tool", "echo")); !res.GetAllowed() {
		t.Errorf("another user: got %v", res)
	}
}

// What a rate refuses costs no quota.
func TestARateAndAQuotaAreAllOrNothing(t *testing.T) {
	t.Parallel()
	c := client(t, durable(t, bustest.New(t), durableRules))
	const callers = 20
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			res, err := c.Check(t.Context(), check("user", "ann", "tool", "echo"))
			if err != nil {
				t.Error(err)
			}
			if res.GetAllowed() {
				allowed.Add(1)
			} else if res.GetRule() != "per-minute" {
				t.Errorf("got a refusal by %q, want the rate", res.GetRule())
			}
		})
	}
	wg.Wait()
	usage, err := c.Usage(t.Context(), &quotav1.UsageRequest{Subject: subject("user", "ann", "tool", "echo")})
	if err != nil {
		t.Fatal(err)
	}
	if left := usage.GetLimits()[1].GetRemaining(); allowed.Load() != 5 || left != 2 {
		t.Errorf("allowed %d and %d left of the quota, want 5 and 2", allowed.Load(), left)
	}
}

func TestAShadowQuotaCountsAndNeverRefuses(t *testing.T) {
	t.Parallel()
	c := client(t, durable(t, bustest.New(t), durableRules))
	for i := range uint64(3) {
		res := answers(t, c, check("tenant", "acme", "user", "ann", "tool", "watched"))
		l := res.GetLimits()[2]
		if l.GetName() != "watched" || !res.GetAllowed() || l.GetExceeded() != (i > 0) {
			t.Errorf("check %d: got %v, want allowed, and over the limit after the first", i, res)
		}
	}
}

func TestReserveAndCommit(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	c := client(t, durable(t, b, durableRules))
	reserve := func(key string, estimate uint64, pairs ...string) *quotav1.ReserveResponse {
		t.Helper()
		res, err := c.Reserve(t.Context(), &quotav1.ReserveRequest{
			Subject: subject(pairs...), Estimate: estimate, Unit: "llm_tokens", IdempotencyKey: key, Ttl: durationpb.New(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	first := reserve("a", 600, "tenant", "acme")
	tokens := &quotav1.LimitState{
		Name: "tokens", Limit: 1000, Window: seconds(30 * 24 * 3600), Remaining: 400, Reserved: 600,
		ResetAfter: seconds(int64(time.Date(2026, 12, 15, 0, 0, 0, 0, time.UTC).Sub(evening).Seconds())),
		Kind:       quotav1.RefusalKind_REFUSAL_KIND_QUOTA, Unit: "llm_tokens",
	}
	if diff := cmp.Diff(&quotav1.CheckResponse{Allowed: true, Limits: []*quotav1.LimitState{tokens}}, first.GetCheck(), protocmp.Transform()); diff != "" {
		t.Errorf("Reserve (-want +got):\n%s", diff)
	}
	if got := first.GetExpires().AsTime(); !got.Equal(evening.Add(5 * time.Minute)) {
		t.Errorf("expires %v, want five minutes, as the rule says", got)
	}
	c = client(t, durable(t, b, durableRules)) // another process
	if again := reserve("a", 600, "tenant", "acme"); !cmp.Equal(first, again, protocmp.Transform()) {
		t.Errorf("with the same key: got %v, want %v", again, first)
	}
	for name, other := range map[string]*quotav1.ReserveResponse{
		"another estimate": reserve("a", 601, "tenant", "acme"), "another key": reserve("b", 401, "tenant", "acme"),
	} {
		if other.GetCheck().GetAllowed() || other.GetReservationId() != "" || other.GetCheck().GetRule() != "tokens" {
			t.Errorf("%s: got %v, want a refusal", name, other)
		}
	}
	if pro := reserve("c", 4000, "tenant", "acme", "plan", "pro"); !pro.GetCheck().GetAllowed() || pro.GetCheck().GetLimits()[0].GetRemaining() != 400 {
		t.Errorf("with a larger plan: got %v, want 400 left of 5000", pro)
	} else if _, err := c.Refund(t.Context(), &quotav1.RefundRequest{ReservationId: pro.GetReservationId()}); err != nil {
		t.Error(err)
	}
	if free := reserve("d", 1e6, "tenant", "acme", "plan", "free"); !free.GetCheck().GetAllowed() || free.GetReservationId() != "" {
		t.Errorf("without a limit: got %v, want allowed and no reservation", free)
	}
	for range 2 {
		res, err := c.Commit(t.Context(), &quotav1.CommitRequest{ReservationId: first.GetReservationId(), Actual: 1100})
		if err != nil || res.GetCharged() != 1100 || res.GetOverdraft() != 100 {
			t.Errorf("Commit: got %v, %v, want 1100 charged, of which 100 over", res, err)
		}
	}
	if res, err := c.Refund(t.Context(), &quotav1.RefundRequest{ReservationId: first.GetReservationId()}); err != nil || res.GetRefunded() != 0 {
		t.Errorf("Refund of what is committed: got %v, %v, want nothing", res, err)
	}
	for _, unknown := range []string{"r_AAAAAAAAAAAAAAAAAAAAAA", "p_x", "r_"} {
		_, err := c.Commit(t.Context(), &quotav1.CommitRequest{ReservationId: unknown, Actual: 1})
		if status.Code(err) != codes.NotFound || !fault.Is(err, quotav1.Reason_REASON_RESERVATION_UNKNOWN) {
			t.Errorf("Commit(%q): got %v, want NotFound", unknown, err)
		}
	}
}

func TestListUsage(t *testing.T) {
	t.Parallel()
	svc := durable(t, bustest.New(t), durableRules)
	c := client(t, svc)
	for i := range 3 {
		answers(t, c, costs(uint32(i+1), check("user", fmt.Sprint("user-", i), "tool", "by-ip", "ip", "2001:db8::1")))
	}
	usage := quotav1.NewQuotaAdminServiceClient(rpctest.Serve(t, svc.Register, rpctest.As("sallyport")))
	var got []string
	req := &quotav1.ListUsageRequest{PageSize: 2}
	for pages := 0; pages == 0 || req.GetPageToken() != ""; pages++ {
		res, err := usage.ListUsage(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range res.GetRows() {
			got = append(got, fmt.Sprint(r.GetRule(), r.GetKey(), r.GetUnit(), r.GetSpent(), "/", r.GetLimit(), " ", r.GetPeriodStart().AsTime().Format(time.RFC3339)))
		}
		req.PageToken = res.GetNextPageToken()
	}
	want := []string{
		"user-daymap[user:user-2]calls3/7 2026-11-28T23:00:00Z",
		"user-daymap[user:user-1]calls2/7 2026-11-28T23:00:00Z",
		"user-daymap[user:user-0]calls1/7 2026-11-28T23:00:00Z",
		"ip-weekmap[ip:2001:db8::/64]calls6/100 2026-11-23T00:00:00Z",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if _, err := usage.ListUsage(t.Context(), &quotav1.ListUsageRequest{Rule: "per-minute"}); status.Code(err) != codes.NotFound {
		t.Errorf("a rule without quota: got %v, want NotFound", err)
	}
}

func TestWithoutTheLedgerOnlyQuotasFail(t *testing.T) {
	t.Parallel()
	never := client(t, service(t, durableRules)) // KeepLedger was not called
	b := bustest.New(t)
	gone := durable(t, b, durableRules)
	answers(t, client(t, gone), check("user", "ann", "tool", "echo"))
	b.Close()
	gone.WaitForLedger(time.Millisecond)
	gone.KeepLedger(b, 100, 100, nil)
	for name, c := range map[string]quotav1.QuotaServiceClient{"never there": never, "gone": client(t, gone)} {
		_, err := c.Check(t.Context(), check("user", "ann", "tool", "echo"))
		if status.Code(err) != codes.Unavailable || !fault.Is(err, quotav1.Reason_REASON_LEDGER) {
			t.Errorf("%s, a check that a quota counts: got %v, want UNAVAILABLE", name, err)
		}
		_, err = c.Reserve(t.Context(), &quotav1.ReserveRequest{Subject: subject("tenant", "acme"), Estimate: 1, Unit: "llm_tokens", IdempotencyKey: "x"})
		if !fault.Is(err, quotav1.Reason_REASON_LEDGER) {
			t.Errorf("%s, a reservation: got %v, want UNAVAILABLE", name, err)
		}
		if res := answers(t, c, check("user", "ann")); !res.GetAllowed() {
			t.Errorf("%s, a check without quotas: got %v", name, res)
		}
	}
	watching := client(t, service(t, "rules: [{id: a, quota: {amount: 1, per: day}, shadow: true}]"))
	if res := answers(t, watching, check("user", "ann")); !res.GetAllowed() {
		t.Errorf("a quota that only watches: got %v", res)
	}
	res, err := watching.Reserve(t.Context(), &quotav1.ReserveRequest{Subject: subject(), Estimate: 1, IdempotencyKey: "x"})
	if err != nil || !res.GetCheck().GetAllowed() || res.GetReservationId() != "" {
		t.Errorf("a reservation of a quota that only watches: got %v, %v", res, err)
	}
}

func TestARepetitionAfterARestartIsNotChargedAgain(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	req := func(key string) *quotav1.CheckRequest {
		r := costs(5, check("user", "ann", "tool", "echo"))
		r.IdempotencyKey = key
		return r
	}
	for range 3 {
		res := answers(t, client(t, durable(t, b, durableRules)), req("k"))
		if got := res.GetLimits()[1].GetRemaining(); !res.GetAllowed() || got != 2 {
			t.Errorf("got %v, want allowed with 2 left", res)
		}
	}
	if res := answers(t, client(t, durable(t, b, durableRules)), req("other")); res.GetAllowed() {
		t.Errorf("with another key: got %v, want a refusal", res)
	}
}

func TestABatchIsChargedOnce(t *testing.T) {
	t.Parallel()
	c := client(t, durable(t, bustest.New(t), durableRules))
	batch := &quotav1.CheckBatchRequest{}
	for i := range 10 {
		batch.Checks = append(batch.Checks, check("user", fmt.Sprint("user-", i%2), "tool", "echo"))
	}
	res, err := c.CheckBatch(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range res.GetResults() {
		if !r.GetAllowed() {
			t.Errorf("check %d: got %v", i, r)
		}
	}
	if res := answers(t, c, costs(0, check("user", "user-0", "tool", "echo"))); res.GetLimits()[1].GetRemaining() != 2 {
		t.Errorf("after a batch: got %v, want 2 of 7 left", res)
	}
}

// What a quota refuses is given back to the rates, also when it is known late.
func TestAQuotaThatIsUsedUpCostsNoRate(t *testing.T) {
	t.Parallel()
	c := client(t, durable(t, bustest.New(t), strings.ReplaceAll(durableRules, "5/minute", "100/minute")))
	var wg sync.WaitGroup
	var allowed atomic.Int64
	for range 50 {
		wg.Go(func() {
			res, err := c.Check(t.Context(), check("user", "ann", "tool", "echo"))
			if err != nil {
				t.Error(err)
			}
			if res.GetAllowed() {
				allowed.Add(1)
			} else if res.GetRule() != "user-day" {
				t.Errorf("got a refusal by %q", res.GetRule())
			}
		})
	}
	wg.Wait()
	if res := answers(t, c, costs(0, check("user", "ann", "tool", "echo"))); allowed.Load() != 7 || res.GetLimits()[0].GetRemaining() != 93 {
		t.Errorf("allowed %d, and then %v; want 7, and 93 of the rate left", allowed.Load(), res)
	}
}

func TestAStreamOfChecksIsChargedOnce(t *testing.T) {
	t.Parallel()
	c := client(t, durable(t, bustest.New(t), durableRules))
	stream, err := c.CheckStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const checks = 30
	allowed := 0
	for i := range uint64(checks) {
		if err := stream.Send(&quotav1.CheckStreamRequest{Id: i, Check: check("user", fmt.Sprint("user-", i%10), "tool", "echo")}); err != nil {
			t.Fatal(err)
		}
	}
	for range checks {
		res, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if res.GetCheck().GetAllowed() {
			allowed++
		}
	}
	if res := answers(t, c, costs(0, check("user", "user-3", "tool", "echo"))); allowed != checks || res.GetLimits()[1].GetRemaining() != 4 {
		t.Errorf("allowed %d of %d, then %v; want all, and 4 of 7 left", allowed, checks, res)
	}
}

func TestAQuotaBeginsAnewWithItsPeriod(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	svc := service(t, durableRules)
	svc.WaitForLedger(time.Minute)
	svc.SetClock(func() time.Time { return evening.Add(time.Duration(ahead.Load())) })
	svc.KeepLedger(bustest.New(t), 10_000, 10_000, nil)
	c := client(t, svc)
	spend := func(want bool, left uint64) {
		t.Helper()
		res := answers(t, c, costs(4, check("user", "ann", "tool", "by-ip", "ip", "192.0.2.1")))
		if res.GetAllowed() != want || res.GetLimits()[1].GetRemaining() != left {
			t.Errorf("%v later: got %v, want allowed %t and %d left", time.Duration(ahead.Load()), res, want, left)
		}
	}
	spend(true, 3)
	ahead.Store(int64(23*time.Hour + 30*time.Minute - time.Nanosecond)) // the last moment before midnight in Berlin
	spend(false, 3)
	ahead.Add(1)
	res := answers(t, c, costs(0, check("user", "ann", "tool", "by-ip", "ip", "192.0.2.1")))
	if l := res.GetLimits(); l[1].GetRemaining() != 7 || l[2].GetRemaining() != 96 {
		t.Errorf("at midnight: got %v, want 7 left of the day and 96 of the week", res)
	}
}
