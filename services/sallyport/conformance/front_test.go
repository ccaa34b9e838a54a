//go:build conformance

package conformance_test

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// front spreads connections over back ends in turn, as a load balancer of layer 4
// does: it knows nothing of HTTP, and sends each request elsewhere only if its
// client uses a connection for each.
type front struct {
	address  string
	backends []string
	taken    []atomic.Int64 // connections, by back end
}

// startFront serves a front for the test's time.
func startFront(t *testing.T, backends []string) *front {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{address: lis.Addr().String(), backends: backends, taken: make([]atomic.Int64, len(backends))}
	var served sync.WaitGroup
	served.Go(func() {
		for i := 0; ; i++ {
			conn, err := lis.Accept()
			if err != nil {
				return // closed
			}
			served.Go(func() { f.pass(t, conn, i%len(backends)) })
		}
	})
	t.Cleanup(func() { // after the test's context has ended, and with it all connections
		_ = lis.Close()
		served.Wait()
	})
	return f
}

// pass copies both ways until both sides have said all.
func (f *front) pass(t *testing.T, client net.Conn, i int) {
	defer func() { _ = client.Close() }()
	defer context.AfterFunc(t.Context(), func() { _ = client.Close() })()
	server, err := net.Dial("tcp", f.backends[i])
	if err != nil {
		t.Errorf("back end %d: %v", i, err)
		return
	}
	defer func() { _ = server.Close() }()
	defer context.AfterFunc(t.Context(), func() { _ = server.Close() })()
	f.taken[i].Add(1)
	var both sync.WaitGroup
	both.Go(func() { half(server, client) })
	both.Go(func() {
		half(client, server)
		_ = client.SetReadDeadline(time.Unix(1, 0)) // a server that has ended takes no more requests
	})
	both.Wait()
}

// half copies from one side to the other, and tells the other when that was all.
func half(to, from net.Conn) {
	_, _ = io.Copy(to, from) // either side may go away at any time
	if c, ok := to.(*net.TCPConn); ok {
		_ = c.CloseWrite()
	}
}
