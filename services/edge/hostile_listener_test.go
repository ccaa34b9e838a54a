package edge_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/edge"
)

// watchedListener tells how many connections the edge has open and how much it
// has read from all of them.
type watchedListener struct {
	net.Listener
	buffer  int // of what is sent, in bytes; 0 leaves it alone
	mu      sync.Mutex
	open    int
	read    int
	changed chan struct{}
}

// watch makes an edge listen on a listener that is watched.
func (l *watchedListener) watch(o *edge.Options) {
	l.changed = make(chan struct{}, 1)
	o.Listen = func(address string) (_ net.Listener, err error) {
		l.Listener, err = net.Listen("tcp", address)
		return l, err
	}
}

func (l *watchedListener) add(open, read int) {
	l.mu.Lock()
	l.open += open
	l.read += read
	l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// bytes returns how much was read so far.
func (l *watchedListener) bytes() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.read
}

// wait waits until what is open and was read is as it should be.
func (l *watchedListener) wait(t *testing.T, limit time.Duration, reached func(open, read int) bool) {
	t.Helper()
	timeout := time.After(limit)
	for {
		l.mu.Lock()
		open, read := l.open, l.read
		l.mu.Unlock()
		if reached(open, read) {
			return
		}
		select {
		case <-l.changed:
		case <-timeout:
			t.Fatalf("after %v %d connections are open and %d bytes were read", limit, open, read)
		}
	}
}

func (l *watchedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok && l.buffer > 0 {
		if err := tcp.SetWriteBuffer(l.buffer); err != nil {
			return nil, err
		}
	}
	l.add(1, 0)
	return &watchedConn{Conn: conn, l: l}, nil
}

type watchedConn struct {
	net.Conn
	l    *watchedListener
	once sync.Once
}

func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.l.add(0, n)
	return n, err
}

func (c *watchedConn) Close() error {
	defer c.once.Do(func() { c.l.add(-1, 0) })
	return c.Conn.Close()
}
