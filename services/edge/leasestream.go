package edge

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/quotastream"
)

// leaseStream is a stream on which leases are asked for. They are good for as long
// as it is the one in use.
type leaseStream struct {
	*quotastream.Stream
	rules atomic.Uint64 // leases by rules with a lower number have ended
}

// returned gives back what was not used of a lease.
func (s *leaseStream) returned(id uint64, checks uint32) {
	if id != 0 {
		s.Return(&quotav1.LeaseReturn{Id: id, Checks: checks})
	}
}

// check asks quota: on the stream if a lease is wanted with it, and else, or when
// the stream is of no use, by itself. A check that was asked on a stream that is lost
// may then be charged twice, never less than once.
func (l *leases) check(ctx context.Context, x *exchange, req *quotav1.CheckRequest, w wish) (*quotav1.CheckResponse, error) {
	if w.checks == 0 {
		return x.s.quota.Check(ctx, req)
	}
	req.Lease = w.checks
	ctx, span := x.s.telemetry.tracer.Start(ctx, quotav1.QuotaService_CheckStream_FullMethodName[1:], trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	sent := l.now()
	resp, err := w.stream.Check(ctx, req)
	if errors.Is(err, quotastream.ErrBusy) || errors.Is(err, quotastream.ErrOver) {
		return x.s.quota.Check(ctx, req)
	}
	l.settle(x, req.GetCost(), sent, w, resp)
	return resp, err
}

const (
	// soonAgain and laterAgain bound how long to wait before another stream is opened.
	soonAgain, laterAgain = 50 * time.Millisecond, 5 * time.Second
	// lastReturns is how long the end may take, in which leases go back.
	lastReturns = time.Second
)

// follow keeps a stream open until ctx is done. Streams last longer, for what goes
// back then.
func (l *leases) follow(ctx context.Context, c quotastream.Client) {
	if l == nil {
		return
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	tick := time.NewTicker(leaseSettle)
	defer tick.Stop()
	for wait := soonAgain; ctx.Err() == nil; wait = min(2*wait, laterAgain) {
		if l.attend(ctx, life, c, tick.C) {
			wait = soonAgain
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// attend opens a stream and uses it until it is over, or ctx is done. It reports
// whether the stream was of use.
func (l *leases) attend(ctx, life context.Context, c quotastream.Client, tick <-chan time.Time) (good bool) {
	begun := time.Now()
	s := new(leaseStream)
	ready := make(chan struct{}) // news may come before s is whole
	var err error
	s.Stream, err = quotastream.Open(life, c, func(end *quotav1.LeasesEnd) {
		<-ready
		l.ended(s, end)
	})
	if err != nil {
		return false
	}
	close(ready)
	l.stream.Store(s)
	for {
		select {
		case <-tick:
			l.sweep(false)
		case <-s.Over():
			l.stream.CompareAndSwap(s, nil)
			l.sweep(true)
			return time.Since(begun) > laterAgain
		case <-ctx.Done():
			l.stream.CompareAndSwap(s, nil)
			l.sweep(true)
			s.Close()
			select {
			case <-s.Over():
			case <-time.After(lastReturns):
			}
			return true
		}
	}
}

// ended takes news of leases that end before their time.
func (l *leases) ended(s *leaseStream, end *quotav1.LeasesEnd) {
	s.rules.Store(end.GetRules()) // before the leases are looked through; see settle
	if end.GetStopping() {
		l.stream.CompareAndSwap(s, nil)
	}
	l.sweep(true)
	if end.GetStopping() {
		s.Close()
	}
}
