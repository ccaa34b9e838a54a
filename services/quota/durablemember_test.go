//go:build cluster

package quota_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/quota"
)

// durableMemberRules are patient and have periods that are nowhere near their end.
func durableMemberRules() string {
	return "cluster: {enabled: true, lease: 10s, patience: 5s}\n" + strings.TrimPrefix(strings.TrimSpace(killedRules()), "max_bookings: 5_000_000\n")
}

// A quota is one, however many members decide, and while one of them leaves.
func TestMembersKeepOneLedger(t *testing.T) {
	t.Parallel()
	oneLedger(t, onBus(natsServer(t).URL()))
}

// The same on servers that agree on what is written.
func TestMembersKeepOneLedgerOnACluster(t *testing.T) {
	t.Parallel()
	urls, _ := natsCluster(t)
	oneLedger(t, bus.Config{URL: urls, Sync: "always", Replicas: 3})
}

func oneLedger(t *testing.T, on bus.Config) {
	t.Helper()
	const amount, spends = 300, 500
	rules := strings.ReplaceAll(durableMemberRules(), "1_000_000_000_000", fmt.Sprint(amount))
	members := []*member{startOn(t, on, rules), startOn(t, on, rules), startOn(t, on, rules)}
	await(t, "all to serve", func() bool {
		for _, m := range members {
			if m.svc.Ready(t.Context()) != nil {
				return false
			}
		}
		return true
	})
	var allowed, next, repeated atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for n := next.Add(1); n <= spends; n = next.Add(1) {
				if n == spends/3 {
					members[2].leave() // and goes on taking checks for a while
				}
				req := check("user", "ann")
				req.IdempotencyKey = fmt.Sprint(n)
				for {
					res, err := members[rand.IntN(2+int(spends/2/max(n, spends/2)))].Check(t.Context(), req)
					if err == nil {
						if res.GetAllowed() {
							allowed.Add(1)
						}
						break
					}
					if status.Code(err) != codes.Unavailable {
						t.Error(err)
						return
					}
					repeated.Add(1)
				}
			}
		})
	}
	wg.Wait()
	<-members[2].stopped
	if allowed.Load() != amount {
		t.Errorf("allowed %d of %d, with %d repetitions", allowed.Load(), amount, repeated.Load())
	}

	first, err := members[0].Reserve(t.Context(), &quotav1.ReserveRequest{
		Subject: subject("tenant", "acme"), Estimate: amount, Unit: "llm_tokens", IdempotencyKey: "k",
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		m := members[i%2]
		res, err := m.Reserve(t.Context(), &quotav1.ReserveRequest{
			Subject: subject("tenant", "acme"), Estimate: 1, Unit: "llm_tokens", IdempotencyKey: fmt.Sprint(i),
		})
		if err != nil || res.GetCheck().GetAllowed() {
			t.Errorf("Reserve while all is reserved: got %v, %v", res, err)
		}
	}
	for i := range 4 {
		m := members[i%2]
		res, err := m.Commit(t.Context(), &quotav1.CommitRequest{ReservationId: first.GetReservationId(), Actual: uint64(10 + i)})
		if err != nil || res.GetCharged() != 10 {
			t.Errorf("Commit %d: got %v, %v, want the first", i, res, err)
		}
		rows, err := listUsage(t, m.svc)
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"tokens 10 0", fmt.Sprint("calls ", amount, " 0")}; fmt.Sprint(rows) != fmt.Sprint(want) {
			t.Errorf("usage: got %v, want %v", rows, want)
		}
	}
}

// The member that writes the ledger may not have the rule yet, or no longer.
func TestAMemberWithOtherRulesDoesNotBook(t *testing.T) {
	t.Parallel()
	on := onBus(natsServer(t).URL())
	others := strings.ReplaceAll(durableMemberRules(), "id: calls", "id: called")
	members := []*member{startOn(t, on, durableMemberRules()), startOn(t, on, others), startOn(t, on, others)}
	await(t, "all to serve", func() bool {
		for _, m := range members {
			if m.svc.Ready(t.Context()) != nil {
				return false
			}
		}
		return true
	})
	for i := range 5 {
		if res, err := members[0].Check(t.Context(), check("user", "ann")); err != nil || !res.GetAllowed() {
			t.Fatalf("check %d: got %v, %v", i, res, err)
		}
	}
	if rows, err := listUsage(t, members[0].svc); err != nil || fmt.Sprint(rows) != "[calls 5 0]" {
		t.Errorf("usage: got %v, %v, want 5 calls", rows, err)
	}
}

// listUsage is what an operator sees.
func listUsage(t testing.TB, svc *quota.Service) (rows []string, err error) {
	t.Helper()
	res, err := quotav1.NewQuotaAdminServiceClient(rpctest.Serve(t, svc.Register, rpctest.As("sallyport"))).ListUsage(t.Context(), &quotav1.ListUsageRequest{})
	for _, r := range res.GetRows() {
		rows = append(rows, fmt.Sprint(r.GetRule(), " ", r.GetSpent(), " ", r.GetReserved()))
	}
	return rows, err
}

// BenchmarkDurableMember measures checks that a quota counts by a member that
// does not write the ledger, and by one that does, on one NATS server of this
// process.
func BenchmarkDurableMember(b *testing.B) {
	on := onBus(natsServer(b).URL())
	members := []*member{startOn(b, on, durableMemberRules()), startOn(b, on, durableMemberRules())}
	await(b, "all to serve", func() bool {
		return members[0].svc.Ready(b.Context()) == nil && members[1].svc.Ready(b.Context()) == nil
	})
	for i, m := range members {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("member %d, writes %t, %d callers", i, m.svc.WritesLedger(), callers), func(b *testing.B) {
				before := cpu(b)
				defer func() { b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op") }()
				b.SetParallelism(max(callers/2, 1))
				var n atomic.Int64
				call := func() {
					if res, err := m.svc.Check(b.Context(), check("user", fmt.Sprint(n.Add(1)%1000))); err != nil || !res.GetAllowed() {
						b.Error(res, err)
					}
				}
				if callers == 1 {
					for b.Loop() {
						call()
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						call()
					}
				})
			})
		}
	}
}
