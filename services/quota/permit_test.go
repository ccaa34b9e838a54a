package quota_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

const permitRules = `
rules:
  - {id: calls, key: [user], limit: 5/minute, concurrency: {max: 2, ttl: 30s}}
  - {id: tenant, match: {tenant: "*"}, key: [tenant], concurrency: {max: 1}}
  - {id: free, match: {user: root}, key: [user], concurrency: {max: 1}, limit: 1/s, overrides: [{when: {plan: pro}, unlimited: true}]}
`

func TestAcquire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, service(t, permitRules))
		acquire := func(ttl int64, pairs ...string) *quotav1.AcquireResponse {
			t.Helper()
			req := &quotav1.AcquireRequest{Subject: subject(pairs...)}
			if ttl > 0 {
				req.Ttl = seconds(ttl)
			}
			res, err := c.Acquire(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if res.GetCheck().GetAllowed() != (res.GetPermitId() != "") {
				t.Fatalf("Acquire: got %v, want a permit if and only if allowed", res)
			}
			return res
		}
		first := acquire(10, "user", "ann", "tenant", "acme")
		want := &quotav1.CheckResponse{Allowed: true, Limits: []*quotav1.LimitState{
			{Name: "calls/permits", Limit: 2, Remaining: 1, ResetAfter: seconds(10)},
			{Name: "tenant", Limit: 1, Remaining: 0, ResetAfter: seconds(10)},
		}}
		if diff := cmp.Diff(want, first.GetCheck(), protocmp.Transform()); diff != "" {
			t.Errorf("the first (-want +got):\n%s", diff)
		}

		refused := acquire(0, "user", "bob", "tenant", "acme")
		want = &quotav1.CheckResponse{
			Rule: "tenant", RetryAfter: seconds(10), Refusal: quotav1.RefusalKind_REFUSAL_KIND_CONCURRENCY,
			Limits: []*quotav1.LimitState{
				{Name: "calls/permits", Limit: 2, Remaining: 2, ResetAfter: seconds(0)},
				{Name: "tenant", Limit: 1, Remaining: 0, ResetAfter: seconds(10), Exceeded: true},
			},
		}
		if diff := cmp.Diff(want, refused.GetCheck(), protocmp.Transform()); diff != "" {
			t.Errorf("another user of the tenant (-want +got):\n%s", diff)
		}

		for range 2 { // the second time changes nothing
			if _, err := c.Release(t.Context(), &quotav1.ReleaseRequest{PermitId: first.GetPermitId()}); err != nil {
				t.Fatal(err)
			}
		}
		acquire(3600, "user", "bob", "tenant", "acme")
		time.Sleep(30 * time.Second)
		if got := acquire(0, "user", "bob").GetCheck().GetLimits()[0].GetRemaining(); got != 1 {
			t.Errorf("when the rule's ttl is over: got %d left, want 1", got)
		}
		if acquire(0, "tenant", "acme").GetCheck().GetAllowed() {
			t.Error("a rule with a longer ttl: got allowed")
		}
		time.Sleep(30 * time.Second)
		if !acquire(0, "tenant", "acme").GetCheck().GetAllowed() {
			t.Error("when its ttl is over too: got a refusal")
		}
	})
}

func TestAcquireWithoutALimit(t *testing.T) {
	t.Parallel()
	c := client(t, service(t, ""))
	res, err := c.Acquire(t.Context(), &quotav1.AcquireRequest{Subject: subject("user", "ann")})
	if err != nil {
		t.Fatal(err)
	}
	if !res.GetCheck().GetAllowed() || res.GetPermitId() != "" {
		t.Errorf("Acquire: got %v, want allowed and no permit", res)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, service(t, permitRules))
		if _, err := c.Check(t.Context(), costs(5, check("user", "ann"))); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Acquire(t.Context(), &quotav1.AcquireRequest{Subject: subject("user", "ann")}); err != nil {
			t.Fatal(err)
		}
		got, err := c.Usage(t.Context(), &quotav1.UsageRequest{Subject: subject("user", "ann", "tenant", "acme")})
		if err != nil {
			t.Fatal(err)
		}
		want := &quotav1.UsageResponse{Limits: []*quotav1.LimitState{
			{Name: "calls", Limit: 5, Window: seconds(60), ResetAfter: seconds(60), Exceeded: true},
			{Name: "calls/permits", Limit: 2, Remaining: 1, ResetAfter: seconds(30)},
			{Name: "tenant", Limit: 1, Remaining: 1, ResetAfter: seconds(0)},
		}}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("Usage (-want +got):\n%s", diff)
		}

		exempt, err := c.Usage(t.Context(), &quotav1.UsageRequest{Subject: subject("user", "root", "plan", "pro")})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range exempt.GetLimits() {
			if l.GetName() == "free" || l.GetName() == "free/permits" {
				t.Errorf("Usage of an exempt user: got %v", l)
			}
		}
	})
}
