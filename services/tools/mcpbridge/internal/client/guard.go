package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/inet"
)

// The bounds of HTTP towards a server.
const (
	dialTimeout    = 10 * time.Second
	maxHeaderBytes = 64 << 10
	maxRedirects   = 3
)

// Target is where a server may be.
type Target struct {
	// URL of the server.
	URL *url.URL
	// AllowPrivate admits addresses that are not of the public internet.
	AllowPrivate bool
	// MaxConns bounds the connections.
	MaxConns int
	// Headers returns what to add to each request, such as credentials.
	Headers func() (http.Header, error)
	// TLS is what to trust; nil means what the system does.
	TLS *tls.Config
}

// ErrAddress says that a server's address is one that we do not connect to.
var ErrAddress = errors.New("the server's address is not an allowed one")

var errRedirect = errors.New("the server sends elsewhere, which is not followed")

// NewHTTPClient returns a client for one server. It connects to no other host and
// to no address that the target does not allow, looked at when the name has been
// resolved; it uses no proxy, and does not unpack what is compressed.
func NewHTTPClient(t Target) *http.Client {
	local := Loopback(t.URL.Hostname())
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	dialer.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err != nil || !allowed(a.Addr().Unmap(), t, local) {
			return ErrAddress
		}
		return nil
	}
	return &http.Client{
		Transport: &outward{headers: t.Headers, next: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        t.TLS,
			TLSHandshakeTimeout:    dialTimeout,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true,
			MaxConnsPerHost:        t.MaxConns,
			MaxIdleConnsPerHost:    4,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: maxHeaderBytes,
		}},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects || req.URL.Scheme != t.URL.Scheme || req.URL.Host != t.URL.Host || req.Method != via[0].Method {
				return errRedirect
			}
			return nil
		},
	}
}

// Loopback reports whether a host is this machine by its name alone.
func Loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// allowed fails closed: what is not known to be public is private. Addresses
// that are of one link only, as those of cloud metadata, are never allowed.
func allowed(a netip.Addr, t Target, local bool) bool {
	switch {
	case a.IsLoopback():
		return local || t.AllowPrivate
	case local, inet.Never(a):
		return false
	case inet.Public(a):
		return t.URL.Scheme == "https"
	}
	return t.AllowPrivate
}

// outward adds headers to each request.
type outward struct {
	headers func() (http.Header, error)
	next    http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (o *outward) RoundTrip(req *http.Request) (*http.Response, error) {
	if o.headers != nil {
		add, err := o.headers()
		if err != nil {
			return nil, fmt.Errorf("credentials: %w", err)
		}
		req = req.Clone(req.Context())
		for name, values := range add {
			req.Header[name] = values
		}
	}
	return o.next.RoundTrip(req)
}

// CloseIdleConnections lets [http.Client] close what is idle.
func (o *outward) CloseIdleConnections() {
	if c, ok := o.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
