package line

import (
	"net"
	"syscall"
)

// watch returns what reports whether the other end has hung up, or has sent what
// nobody asked for. A line between two requests is read by nobody, and what is sent
// into one that has ended is lost without a trace.
func watch(conn net.Conn) func() bool {
	c, ok := beneath(conn).(syscall.Conn)
	if !ok {
		return func() bool { return false }
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return func() bool { return true }
	}
	var n int
	var failed error
	look := func(fd uintptr) bool {
		n, failed = peek(fd)
		return true
	}
	return func() bool {
		return raw.Read(look) != nil || failed != syscall.EAGAIN || n > 0
	}
}

// beneath is the connection that TLS goes over, or a connection without TLS.
func beneath(conn net.Conn) net.Conn {
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return over.NetConn()
	}
	return conn
}
