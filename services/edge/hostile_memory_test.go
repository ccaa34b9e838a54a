package edge_test

import (
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/edge"
)

// footprint is what the process holds just now.
type footprint struct {
	bytes      int64
	goroutines int
}

func takeFootprint() footprint {
	runtime.GC()
	runtime.GC() // pools are emptied in two steps
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return footprint{int64(m.HeapAlloc + m.StackInuse), runtime.NumGoroutine()}
}

// slowRequest is how far a client gets with its request.
type slowRequest struct {
	name  string
	count int
	sent  string
}

// Two thousand clients that have stopped within their requests cost little, keep
// nobody from being served, and are gone when their time is over.
func TestHostileSlowClientsCostLittle(t *testing.T) {
	const (
		timeout = 5 * time.Second // for all to get as far as they do, and then of waiting
		most    = 64 << 20        // of all, with the sockets of the clients, which are in this process too
		// What a connection may take of goroutines: its own.
		goroutinesEach = 1
	)
	slow := []slowRequest{
		{"within the headers", 1000, head[:len(head)-20]},
		{"within the headers, as large as they may be", 100, head + strings.Repeat("x: y\r\n", 2500)},
		{"within the body", 600, legacyHead + "Content-Length: 100\r\n\r\n" + pingBody},
		{"within a body as large as it may be", 100, legacyHead + "Content-Length: 262144\r\n\r\n" + pingBody},
		{"within chunks", 200, chunks("", chunk(pingBody))},
	}
	listener := &watchedListener{}
	w := newWorld(t, func(o *edge.Options) {
		o.Config.HeaderTimeout, o.Config.BodyTimeout = timeout, timeout
		listener.watch(o)
	})
	honest(t, w)
	http.DefaultClient.CloseIdleConnections()
	listener.wait(t, patience, func(open, _ int) bool { return open == 0 })
	before := takeFootprint()

	var conns []net.Conn
	last, total, sent := before, 0, listener.bytes()
	for i, s := range slow {
		// A machine of its own for each kind: an address may have 1024.
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i+1))}}
		for range s.count {
			conn, err := dialer.DialContext(t.Context(), "tcp", w.edge.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			conns = append(conns, conn)
			if _, err := io.WriteString(conn, s.sent); err != nil {
				t.Fatal(err)
			}
		}
		total += s.count
		sent += s.count * len(s.sent)
		listener.wait(t, patience, func(open, read int) bool { return open == total && read == sent })
		now := takeFootprint()
		t.Logf("%s: %d bytes for each", s.name, (now.bytes-last.bytes)/int64(s.count))
		last = now
	}
	grown, more := last.bytes-before.bytes, last.goroutines-before.goroutines
	t.Logf("%d slow clients: %d bytes and %.2f goroutines for each", total, grown/int64(total), float64(more)/float64(total))
	if grown > most {
		t.Errorf("%d slow clients take %d bytes, want at most %d", total, grown, most)
	}
	if more > goroutinesEach*total+10 {
		t.Errorf("%d slow clients take %d goroutines, want one each", total, more)
	}
	honest(t, w)
	listener.wait(t, 0, func(open, _ int) bool { return open >= total })

	http.DefaultClient.CloseIdleConnections()
	listener.wait(t, timeout+patience, func(open, _ int) bool { return open == 0 })
	for _, conn := range conns {
		_ = conn.Close()
	}
	after := takeFootprint()
	for limit := time.Now().Add(patience); after.goroutines > before.goroutines && time.Now().Before(limit); {
		after = takeFootprint()
	}
	if after.goroutines > before.goroutines {
		t.Errorf("%d goroutines are left of them", after.goroutines-before.goroutines)
	}
	if left := after.bytes - before.bytes; left > most/8 {
		t.Errorf("%d bytes are left of them", left)
	}
}

// honest sees that clients are served, in reasonable time.
func honest(t *testing.T, w *world) {
	t.Helper()
	for i := range 20 {
		begin := time.Now()
		a := w.send(t, request{params: `"name":"echo","arguments":{"n":` + strconv.Itoa(i) + `}`})
		if took := time.Since(begin); a.status != http.StatusOK || took > time.Second {
			t.Fatalf("an honest client got %d after %v", a.status, took)
		}
	}
}
