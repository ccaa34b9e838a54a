//go:build cluster

package quota_test

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// spent is the CPU time of this process.
func spent(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkMember measures checks by one member of one and of several, all in
// this process, as is the NATS server: its CPU is part of the figures.
func BenchmarkMember(b *testing.B) {
	const oneRule = "rules: [{id: a, key: [ip], limit: 1000000000/second, algorithm: gcra}]"
	for _, rules := range []struct{ name, text string }{{"one rule", oneRule}, {"five rules", benchRules}} {
		for _, nodes := range []int{1, 2, 3} {
			for _, callers := range []int{1, 64} {
				b.Run(fmt.Sprintf("%s, %d nodes, %d callers", rules.name, nodes, callers), func(b *testing.B) {
					url := natsServer(b).URL()
					var members []*member
					for range nodes {
						members = append(members, join(b, url, rules.text))
					}
					for _, m := range members {
						await(b, "all to serve", func() bool { return m.svc.Ready(b.Context()) == nil })
					}
					reqs := make([]*quotav1.CheckRequest, 10_000)
					for i := range reqs {
						reqs[i] = benchCheck(i)
					}
					var next atomic.Int64
					b.SetParallelism(max(callers/runtime.GOMAXPROCS(0), 1))
					before := spent(b)
					b.ReportAllocs()
					b.ResetTimer()
					work := func() bool {
						res, err := members[0].svc.Check(b.Context(), reqs[next.Add(1)%int64(len(reqs))])
						return err == nil && res.GetAllowed()
					}
					if callers == 1 {
						for b.Loop() {
							if !work() {
								b.Fatal("refused")
							}
						}
					} else {
						b.RunParallel(func(pb *testing.PB) {
							for pb.Next() {
								if !work() {
									b.Error("refused")
									return
								}
							}
						})
					}
					b.ReportMetric(float64((spent(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
				})
			}
		}
	}
}
