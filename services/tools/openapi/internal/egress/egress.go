// Package egress is the one way by which documents, tokens and calls go out: to
// hosts that are listed, at addresses that are allowed, and nowhere else.
//
// A name is resolved once for a connection, all that it leads to is judged, and what
// was judged is connected to, so that a name cannot lead to one place when it is
// looked at and to another when it is used. Proxies of the environment are not used.
package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/inet"
)

// The bounds of HTTP towards an API.
const (
	dialTimeout    = 10 * time.Second
	maxHeaderBytes = 64 << 10
	maxRedirects   = 3
	maxAddresses   = 16 // of one name
)

var (
	// ErrHost says that a host is not listed.
	ErrHost = errors.New("the host is not a listed one")
	// ErrAddress says that a host's address is one that is not connected to.
	ErrAddress = errors.New("the host's address is not an allowed one")
	// ErrNotConnected says that no connection was made, so that nothing was sent.
	ErrNotConnected = errors.New("not connected")
)

// Resolver finds the addresses of a name; [net.Resolver] is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Config says where a client may go.
type Config struct {
	// Origins are the hosts.
	Origins []Origin
	// Addresses are what their addresses must be of; with none, those of the public
	// internet. Plain HTTP goes nowhere without them.
	Addresses []netip.Prefix
	// TLS is what to trust; nil means what the system does.
	TLS *tls.Config
	// MaxConns bounds the connections to one host.
	MaxConns int
	// Resolver is that of the system when nil.
	Resolver Resolver
	// Prepare, if not nil, is given each request before it is sent, those after
	// redirects as well: a copy, to add credentials to.
	Prepare func(*http.Request) error
}

// New returns a client that goes only where cfg allows. It follows redirects of GET
// and HEAD within a host; any other it returns as the answer.
func New(cfg Config) *http.Client {
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	d := &dialer{cfg: cfg}
	d.net = net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second, ControlContext: d.control}
	return &http.Client{
		Transport: &guard{origins: cfg.Origins, prepare: cfg.Prepare, next: &http.Transport{
			DialContext:            d.dial,
			TLSClientConfig:        cfg.TLS,
			TLSHandshakeTimeout:    dialTimeout,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // a small answer stays small
			MaxConnsPerHost:        cfg.MaxConns,
			MaxIdleConnsPerHost:    4,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: maxHeaderBytes,
		}},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			first := via[0]
			plain := first.Method == http.MethodGet || first.Method == http.MethodHead
			if !plain || req.Method != first.Method || len(via) > maxRedirects || req.URL.User != nil ||
				req.URL.Scheme != first.URL.Scheme || !strings.EqualFold(req.URL.Host, first.URL.Host) {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
}

// guard looks at each request, and lets it be prepared.
type guard struct {
	origins []Origin
	prepare func(*http.Request) error
	next    http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	o, err := OriginOf(req.URL)
	if err != nil || !slices.Contains(g.origins, o) {
		return nil, fmt.Errorf("%w: %w", ErrNotConnected, ErrHost)
	}
	req = req.Clone(req.Context())
	req.Host = ""             // the URL's
	req.Header.Del("Referer") // of redirects: a URL with all arguments
	if g.prepare != nil {
		if err := g.prepare(req); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotConnected, err)
		}
	}
	return g.next.RoundTrip(req)
}

// CloseIdleConnections lets [http.Client] close what is idle.
func (g *guard) CloseIdleConnections() {
	if c, ok := g.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

type dialer struct {
	cfg Config
	net net.Dialer
}

// dial connects to an address that was looked at.
func (d *dialer) dial(ctx context.Context, network, hostPort string) (net.Conn, error) {
	conn, err := d.connect(ctx, network, hostPort)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	return conn, nil
}

func (d *dialer) connect(ctx context.Context, network, hostPort string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	secure := slices.Contains(d.cfg.Origins, Origin{"https", host, port})
	if !secure && !slices.Contains(d.cfg.Origins, Origin{"http", host, port}) {
		return nil, ErrHost
	}
	if !secure && len(d.cfg.Addresses) == 0 {
		return nil, ErrAddress
	}
	addresses, err := d.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	// A name that leads to a good address and to a bad one is not to be trusted.
	if len(addresses) == 0 || slices.ContainsFunc(addresses, func(a netip.Addr) bool { return !d.allowed(a) }) {
		return nil, ErrAddress
	}
	for _, a := range addresses[:min(len(addresses), maxAddresses)] {
		var conn net.Conn
		if conn, err = d.net.DialContext(ctx, network, net.JoinHostPort(a.String(), port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func (d *dialer) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	found, err := d.cfg.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, errors.New("the name of the host cannot be resolved") // the cause names who was asked
	}
	for i, a := range found {
		found[i] = a.Unmap()
	}
	return found, nil
}

// allowed fails closed.
func (d *dialer) allowed(a netip.Addr) bool {
	a = a.Unmap()
	if inet.Never(a) || a.Zone() != "" {
		return false
	}
	if len(d.cfg.Addresses) == 0 {
		return inet.Public(a)
	}
	return slices.ContainsFunc(d.cfg.Addresses, func(p netip.Prefix) bool { return p.Contains(a) })
}

// control has the last word, on what is really connected to.
func (d *dialer) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil || !d.allowed(a.Addr()) {
		return ErrAddress
	}
	return nil
}
