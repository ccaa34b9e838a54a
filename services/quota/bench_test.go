package quota_test

import (
	"fmt"
	"testing"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// benchRules are five limits that all match, and never refuse.
const benchRules = `
rules:
  - {id: per-ip-calls, match: {action: tools/call}, key: [ip], limit: 1000000/second}
  - {id: per-tool, match: {tool: echo}, key: [ip], limit: 1000000/second}
  - {id: per-key, match: {key: "*"}, key: [key], limit: 1000000/second}
  - {id: smooth, key: [tenant], limit: 1000000000/second, algorithm: gcra}
  - {id: steps, match: {context_source: [explicit, trace, session]}, key: [user, context], limit: 1000000/hour, kind: steps}
`

func benchCheck(n int) *quotav1.CheckRequest {
	return check("ip", fmt.Sprintf("2001:db8:0:%x::1", n), "key", fmt.Sprintf("k%d", n), "user", "ann", "tenant", "acme",
		"tool", "echo", "action", "tools/call", "context", fmt.Sprintf("4bf92f3577b34da6a3ce929d0e0e%04x", n),
		"context_source", "trace", "role", "analyst,intern", "client", "claude-code")
}

func BenchmarkCheck(b *testing.B) {
	svc := service(b, benchRules)
	reqs := make([]*quotav1.CheckRequest, 10_000)
	for i := range reqs {
		reqs[i] = benchCheck(i)
	}
	b.Run("handler", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if res, err := svc.Check(b.Context(), reqs[i%len(reqs)]); err != nil || !res.GetAllowed() {
				b.Fatal(res, err)
			}
		}
	})
	b.Run("handler in parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				if res, err := svc.Check(b.Context(), reqs[i%len(reqs)]); err != nil || !res.GetAllowed() {
					b.Fatal(res, err)
				}
			}
		})
	})
	b.Run("over gRPC in memory", func(b *testing.B) {
		c := client(b, svc)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if res, err := c.Check(b.Context(), reqs[i%len(reqs)]); err != nil || !res.GetAllowed() {
				b.Fatal(res, err)
			}
		}
	})
	b.Run("batch of 100 over gRPC in memory", func(b *testing.B) {
		c := client(b, svc)
		batch := &quotav1.CheckBatchRequest{Checks: reqs[:100]}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.CheckBatch(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
		}
	})
}
