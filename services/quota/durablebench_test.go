package quota_test

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/embed"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// cpu is what this process has used so far.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDurable measures what a quota costs a check, with the NATS server in
// this process: written to disk before each answer, or given to the system.
func BenchmarkDurable(b *testing.B) {
	for _, sync := range []string{"always", "2m"} {
		cfg := bus.DefaultConfig()
		cfg.Dir, cfg.Sync = b.TempDir(), sync
		on, err := bus.Open(cfg, "bench", embed.Start, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(on.Close)
		svc := service(b, `
max_bookings: 100_000_000
rules:
  - {id: calls, match: {tool: "*"}, key: [user], quota: {amount: 1_000_000_000_000, per: month}}
  - {id: none, match: {action: none}, key: [user], quota: {amount: 1, per: month}}
  - {id: tokens, match: {tenant: "*"}, key: [tenant], quota: {amount: 1_000_000_000_000, per: month, unit: llm_tokens}}
`)
		svc.WaitForLedger(time.Minute)
		svc.KeepLedger(on, 1_000_000, 100_000_000, nil)
		var n atomic.Int64
		for _, callers := range []int{1, 64} {
			parallel := func(name string, call func(i int64)) {
				b.Run(fmt.Sprintf("%s, sync %s, %d callers", name, sync, callers), func(b *testing.B) {
					b.ReportAllocs()
					before := cpu(b)
					defer func() { b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op") }()
					b.SetParallelism(max(callers/2, 1)) // times GOMAXPROCS
					if callers == 1 {
						for b.Loop() {
							call(n.Add(1))
						}
						return
					}
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							call(n.Add(1))
						}
					})
				})
			}
			parallel("check", func(i int64) {
				if res, err := svc.Check(b.Context(), check("user", fmt.Sprint(i%1000), "tool", "echo")); err != nil || !res.GetAllowed() {
					b.Fatal(res, err)
				}
			})
			parallel("refusal", func(int64) {
				if _, err := svc.Check(b.Context(), check("user", "ann", "action", "none")); err != nil {
					b.Fatal(err)
				}
			})
			parallel("reserve and commit", func(i int64) {
				res, err := svc.Reserve(b.Context(), &quotav1.ReserveRequest{
					Subject: subject("tenant", fmt.Sprint(i%100)), Estimate: 100, Unit: "llm_tokens", IdempotencyKey: fmt.Sprint(sync, i),
				})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := svc.Commit(b.Context(), &quotav1.CommitRequest{ReservationId: res.GetReservationId(), Actual: 80}); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
