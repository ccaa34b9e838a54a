//go:build cluster

package quota_test

import (
	"context"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// wall stands between a node and its NATS server. While it is up nothing gets
// through, and nobody is told: what was sent arrives when it comes down.
type wall struct {
	url string

	mu    sync.Mutex
	down  chan struct{} // closed while everything passes
	delay time.Duration // of what passes
}

func newWall(t *testing.T, natsURL string) *wall {
	t.Helper()
	u, err := url.Parse(natsURL)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wall{url: "nats://" + lis.Addr().String(), down: make(chan struct{})}
	close(w.down)
	var served sync.WaitGroup
	served.Go(func() {
		for {
			client, err := lis.Accept()
			if err != nil {
				return // closed
			}
			served.Go(func() { w.pass(t.Context(), client, u.Host) })
		}
	})
	t.Cleanup(func() { // after the test's context has ended, and with it all connections
		_ = lis.Close()
		served.Wait()
	})
	return w
}

func (w *wall) pass(ctx context.Context, client net.Conn, host string) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", host)
	if err != nil {
		return // the node will try again
	}
	defer func() { _ = server.Close() }()
	defer context.AfterFunc(ctx, func() {
		_ = client.Close()
		_ = server.Close()
	})()
	var both sync.WaitGroup
	both.Go(func() { w.half(ctx, server, client) })
	both.Go(func() { w.half(ctx, client, server) })
	both.Wait()
}

// half copies from one side to the other, while it may.
func (w *wall) half(ctx context.Context, to, from net.Conn) {
	defer func() {
		_ = to.Close()
		_ = from.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			w.mu.Lock()
			late := time.NewTimer(w.delay)
			w.mu.Unlock()
			select {
			case <-late.C:
			case <-ctx.Done():
				return
			}
			w.mu.Lock()
			down := w.down
			w.mu.Unlock()
			select {
			case <-down:
			case <-ctx.Done():
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return // io.EOF, too
		}
	}
}

// slow makes whatever passes take as long besides.
func (w *wall) slow(delay time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delay = delay
}

// raise puts the wall up.
func (w *wall) raise() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = make(chan struct{})
}

// fall lets everything through again, what has waited first.
func (w *wall) fall() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.down)
}

func TestAPartitionAdmitsNothingTwice(t *testing.T) {
	server := natsServer(t).URL()
	w := newWall(t, server)
	all := nodes(t, mortalRules, 3, server, server, w.url)
	l := tally{counts: make([]atomic.Int32, 500)}
	for range 4 {
		for key := range l.counts {
			l.spend(t, all[key%3], key)
		}
	}
	// Both sides are asked all the time, before the cut, during it and after.
	stop := make(chan struct{})
	wait := l.load(t, stop, 12, all...)
	before := views(t, all[0])
	w.raise()
	l.settled(t, all[:2]...)
	most, _ := l.use(t, 10, all[:2]...)
	w.fall()
	await(t, "the node to take part again", all[2].ready)
	l.settled(t, all...)
	close(stop)
	wait()
	for key := range l.counts {
		l.spend(t, all[2], key)
		most = max(most, l.counts[key].Load())
	}
	if most > 10 {
		exceeded(t, views(t, all[0]), before+2, "admitted %d of 10", most)
	}
}

// Without waiting for copies it is the lease that ends what a node that is cut off
// admits to its own callers.
func TestANodeThatIsCutOffAdmitsNothingMore(t *testing.T) {
	server := natsServer(t).URL()
	w := newWall(t, server)
	all, l := halfSpent(t, 300, server, server, w.url)
	before := views(t, all[0])
	w.raise()
	defer w.fall()
	l.settled(t, all[:2]...)
	most, _ := l.use(t, 10, all[:2]...)
	if cut := l.spendAtOnce(t, all[2], func() {}); most > 10 || cut > 0 {
		exceeded(t, views(t, all[0]), before+1, "admitted %d of 10, and the node that is cut off %d more", most, cut)
	}
}
