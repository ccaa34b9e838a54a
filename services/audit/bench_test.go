package audit_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/audit"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

// BenchmarkFromRecordToIndex measures what an event costs altogether: recorder,
// stream and index, all in this process. The stream does not sync to disk.
func BenchmarkFromRecordToIndex(b *testing.B) {
	s := begin(b)
	r, err := audit.NewRecorder(audit.Options{Publisher: s.bus.AuditPublisher(), Service: "bench", Config: audit.DefaultConfig()})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	tail, err := s.client.Tail(b.Context(), &auditv1.TailRequest{Filter: &auditv1.Filter{Targets: []string{"last"}}, Backlog: 1})
	if err != nil {
		b.Fatal(err)
	}
	from := cpu(b)
	pace := time.NewTicker(time.Millisecond) // ten events each: ten thousand a second
	defer pace.Stop()
	for n := range b.N {
		if n%10 == 0 {
			<-pace.C
		}
		if err := r.Record(b.Context(), event(n, "echo")); err != nil {
			b.Fatal(err)
		}
	}
	if err := r.Record(b.Context(), event(b.N, "last")); err != nil {
		b.Fatal(err)
	}
	if _, err := tail.Recv(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64((cpu(b)-from).Microseconds())/float64(b.N), "cpu-us/event")
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

// cpu returns the time that this process has computed.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
