package edge

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport-mcp/sallyport/services/edge/internal/clientaddr"
)

const (
	idleTimeout = 60 * time.Second
	maxStreams  = 100 // per HTTP/2 connection
	// maxHeaderBytes leaves room for the longest token and a proof. Net/http adds
	// 4 KiB to it.
	maxHeaderBytes = maxToken + maxProof + 4<<10
)

func (s *Service) newServer(secure *tls.Config) *http.Server {
	// HTTP/2 only under TLS: without it, header timeouts do not hold while the
	// protocol is being guessed.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(secure != nil)
	srv := &http.Server{
		Handler:   s,
		Protocols: &protocols,
		// A stream's write deadline does not end a connection that takes nothing.
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams, WriteByteTimeout: s.cfg.WriteTimeout},
		ReadHeaderTimeout: s.cfg.HeaderTimeout,
		// The handler sets a tighter one before it reads; this is for bodies that
		// nobody reads: when it answers without, net/http still waits for the rest.
		ReadTimeout:    s.cfg.HeaderTimeout + s.cfg.BodyTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		// The handler sets a tighter one before it writes; this is for a handler
		// that never gets there.
		WriteTimeout: s.cfg.BodyTimeout + s.cfg.ApprovalWait + s.cfg.CallTimeout + s.cfg.WriteTimeout,
		ErrorLog:     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		// OPTIONS * is a request like any other.
		DisableGeneralOptionsHandler: true,
	}
	srv.TLSConfig = secure
	return srv
}

// cappedListener closes at once the connections of an address that has too many
// open already. It fails closed.
type cappedListener struct {
	net.Listener
	limit   int
	proxies *clientaddr.Resolver

	mu   sync.Mutex
	open map[netip.Prefix]int
}

func newCappedListener(lis net.Listener, limit int, proxies *clientaddr.Resolver) *cappedListener {
	return &cappedListener{Listener: lis, limit: limit, proxies: proxies, open: make(map[netip.Prefix]int)}
}

// Accept implements [net.Listener].
func (l *cappedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		// A proxy's connections are those of many clients.
		if l.proxies.Trusts(l.proxies.Resolve(conn.RemoteAddr().String(), nil)) {
			return conn, nil
		}
		from := network(conn.RemoteAddr())
		if l.take(from) {
			return &cappedConn{Conn: conn, release: sync.OnceFunc(func() { l.give(from) })}, nil
		}
		_ = conn.Close() // nothing was said on it yet
	}
}

func (l *cappedListener) take(from netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[from] >= l.limit {
		return false
	}
	l.open[from]++
	return true
}

func (l *cappedListener) give(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[from]--; l.open[from] <= 0 {
		delete(l.open, from)
	}
}

// network returns what counts as one client: an IPv4 address, or the IPv6
// network that one customer usually has.
func network(addr net.Addr) netip.Prefix {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := ap.Addr().Unmap().WithZone(""), 32
	if ip.Is6() {
		bits = 64
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

type cappedConn struct {
	net.Conn
	release func()
}

// CloseWrite lets net/http end its side first, so that a client that still sends
// can read why it was refused before the connection is reset.
func (c *cappedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close implements [net.Conn].
func (c *cappedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
