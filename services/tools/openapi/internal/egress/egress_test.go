package egress_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/egress"
)

func TestOrigins(t *testing.T) {
	t.Parallel()
	good := map[string]string{
		"api.example.com": "https://api.example.com:443", "API.Example.com:8443": "https://api.example.com:8443",
		"http://10.0.0.5:8080": "http://10.0.0.5:8080", "https://[::1]": "https://[::1]:443", "https://[0:0:0:0:0:0:0:1]:1": "https://[::1]:1",
		"xn--bcher-kva.example": "https://xn--bcher-kva.example:443", "localhost": "https://localhost:443", "a_b.example": "https://a_b.example:443",
	}
	for text, want := range good {
		if got, err := egress.ParseOrigin(text); err != nil || got.String() != want {
			t.Errorf("%s: got %s, %v, want %s", text, got, err, want)
		}
	}
	for _, bad := range []string{
		"", "api.example.com/", "api.example.com/x", "api.example.com?x", "api.example.com#x", "user@api.example.com", "https://user:pw@api.example.com",
		"ftp://api.example.com", "file:///etc/passwd", "gopher://x", "javascript:x", "api.example.com.", ".example.com", "a..b", "a b", "a\r\nb", "*",
		"0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "2130706433", "127.1", "127.0.1", "017700000001", "127.0.0.1.", "1.2.3.4.5", "256.1.1.1", "example.0x7f",
		"①②⑦.⓪.⓪.①", "bücher.example", "ｌocalhost", "127。0。0。1", "[::1%25eth0]", "[fe80::1%eth0]", "[::1", "::1", "a:0", "a:70000", "a:080", "a:http", "a:",
		"api.example.com\\@evil.example", "api.example.com%2eevil.example", "api.example.com%00.evil.example", "https://https://x",
	} {
		if got, err := egress.ParseOrigin(bad); err == nil {
			t.Errorf("%q: got %v, want it refused", bad, got)
		}
	}
}

// names resolves as a test wants, and counts.
type names struct {
	answers [][]string // of one question after another; the last for all that follow
	asked   atomic.Int32
}

func (n *names) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	i := min(int(n.asked.Add(1)), len(n.answers)) - 1
	var out []netip.Addr
	for _, s := range n.answers[i] {
		out = append(out, netip.MustParseAddr(s))
	}
	return out, nil
}

// trusting returns what to trust for a server that names itself api.example.com.
func trusting(srv *httptest.Server) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	return &tls.Config{RootCAs: pool, ServerName: "example.com", MinVersion: tls.VersionTLS12}
}

// serve runs a server over TLS that counts connections, too.
func serve(t *testing.T, h http.HandlerFunc) (srv *httptest.Server, port string, connections *atomic.Int32) {
	t.Helper()
	connections = new(atomic.Int32)
	srv = httptest.NewUnstartedServer(h)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return srv, port, connections
}

func origin(t *testing.T, s string) egress.Origin {
	t.Helper()
	o, err := egress.ParseOrigin(s)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestNothingIsConnectedTo is about names that lead where nobody wants to go. What
// counts is that the server, which is there, sees no connection.
func TestNothingIsConnectedTo(t *testing.T) {
	t.Parallel()
	srv, port, connections := serve(t, func(http.ResponseWriter, *http.Request) {})
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	tests := []struct {
		name      string
		addresses []netip.Prefix
		answers   [][]string
	}{
		{"this machine", nil, [][]string{{"127.0.0.1"}}},
		{"this machine in IPv6 clothes", nil, [][]string{{"::ffff:127.0.0.1"}}},
		{"this machine by IPv6", nil, [][]string{{"::1"}}},
		{"no address in particular", nil, [][]string{{"0.0.0.0"}}},
		{"a private network", nil, [][]string{{"10.0.0.1"}}},
		{"a unique local address", nil, [][]string{{"fd00::1"}}},
		{"a carrier's", nil, [][]string{{"100.64.0.1"}}},
		{"cloud metadata", nil, [][]string{{"169.254.169.254"}}},
		{"cloud metadata, though all is listed", []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, [][]string{{"169.254.169.254"}}},
		{"an address that stands for another", nil, [][]string{{"64:ff9b::7f00:1"}}},
		{"6to4", nil, [][]string{{"2002:7f00:1::"}}},
		{"a good address and a bad one", nil, [][]string{{"93.184.216.34", "127.0.0.1"}}},
		{"an address that is not listed", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, [][]string{{"127.0.0.1"}}},
		{"a listed one and one that is not", loopback, [][]string{{"127.0.0.1", "10.0.0.1"}}},
		{"a public one, where private ones are listed", loopback, [][]string{{"93.184.216.34"}}},
		{"nowhere", loopback, [][]string{{}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client := egress.New(egress.Config{
				Origins: []egress.Origin{origin(t, "api.example.com:"+port)}, Addresses: tt.addresses, TLS: trusting(srv), Resolver: &names{answers: tt.answers},
			})
			resp, err := client.Get("https://api.example.com:" + port + "/")
			if err == nil {
				_ = resp.Body.Close()
			}
			if !errors.Is(err, egress.ErrAddress) || !errors.Is(err, egress.ErrNotConnected) {
				t.Errorf("got error %v, want ErrAddress", err)
			}
		})
	}
	t.Run("hosts that are not listed", func(t *testing.T) {
		t.Parallel()
		client := egress.New(egress.Config{Origins: []egress.Origin{origin(t, "api.example.com:"+port)}, Addresses: loopback, TLS: trusting(srv), Resolver: &names{answers: [][]string{{"127.0.0.1"}}}})
		for _, u := range []string{
			"https://127.0.0.1:" + port, "https://localhost:" + port, "http://api.example.com:" + port, "https://api.example.com", "https://api.example.com:1" + port,
			"https://api.example.com.evil.example:" + port, "https://evil.example:" + port, "https://2130706433:" + port, "https://0177.0.0.1:" + port,
			"https://0x7f.1:" + port, "https://[::ffff:7f00:1]:" + port, "https://[::1]:" + port, "https://api.example.com.:" + port, "https://api.example.com@evil.example:" + port,
		} {
			resp, err := client.Get(u)
			if err == nil {
				_ = resp.Body.Close()
			}
			if !errors.Is(err, egress.ErrHost) {
				t.Errorf("%s: got error %v, want ErrHost", u, err)
			}
		}
	})
	t.Run("http without addresses", func(t *testing.T) {
		t.Parallel()
		client := egress.New(egress.Config{Origins: []egress.Origin{origin(t, "http://api.example.com:"+port)}, Resolver: &names{answers: [][]string{{"93.184.216.34"}}}})
		if _, err := client.Get("http://api.example.com:" + port); !errors.Is(err, egress.ErrAddress) { //nolint:bodyclose // there is none
			t.Errorf("got error %v, want ErrAddress", err)
		}
	})
	t.Cleanup(func() {
		if n := connections.Load(); n != 0 {
			t.Errorf("%d connections were made", n)
		}
	})
}

// A name that leads to a good address when it is looked at, and to this machine when
// it is asked for again, is asked for once.
func TestNamesThatChange(t *testing.T) {
	t.Parallel()
	srv, port, connections := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	n := &names{answers: [][]string{{"127.0.0.1"}, {"10.0.0.1"}}}
	client := egress.New(egress.Config{
		Origins: []egress.Origin{origin(t, "api.example.com:"+port)}, Addresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, TLS: trusting(srv), Resolver: n,
	})
	get := func() error {
		resp, err := client.Get("https://api.example.com:" + port + "/")
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		_, err = io.ReadAll(resp.Body)
		return err
	}
	if err := get(); err != nil || n.asked.Load() != 1 || connections.Load() != 1 {
		t.Errorf("got error %v, asked %d times, %d connections", err, n.asked.Load(), connections.Load())
	}
	client.CloseIdleConnections()
	if err := get(); !errors.Is(err, egress.ErrAddress) || connections.Load() != 1 {
		t.Errorf("changed: got error %v, %d connections", err, connections.Load())
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	stolen := make(chan string, 10)
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { stolen <- r.URL.String() }))
	t.Cleanup(thief.Close)
	var port string
	srv, port, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Referer") != "" {
			t.Error("a referer was sent")
		}
		if to, ok := strings.CutPrefix(r.URL.Path, "/to/"); ok {
			code := http.StatusFound
			if r.Method != http.MethodGet {
				code = http.StatusTemporaryRedirect
			}
			target := map[string]string{
				"here": "/end", "loop": "/to/loop", "away": thief.URL + "/x", "down": "http://" + r.Host + "/end", "user": "https://a:b@" + r.Host + "/end",
				"port": "https://api.example.com:1/", "sub": "https://x." + r.Host + "/end", "scheme": "//" + strings.TrimPrefix(thief.URL, "http://"), "file": "file:///etc/passwd",
			}[to]
			http.Redirect(w, r, target, code)
			return
		}
		_, _ = io.WriteString(w, r.Method+" "+r.Header.Get("X-Key")+r.URL.RawQuery)
	})
	client := egress.New(egress.Config{
		Origins:   []egress.Origin{origin(t, "api.example.com:"+port)},
		Addresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, TLS: trusting(srv), Resolver: &names{answers: [][]string{{"127.0.0.1"}}},
		Prepare: func(r *http.Request) error {
			r.Header.Set("X-Key", "secret")
			return nil
		},
	})
	tests := []struct {
		method, to string
		code       int
		body       string
	}{
		{http.MethodGet, "here", 200, "GET secret"},
		{http.MethodHead, "here", 200, ""},
		{http.MethodPost, "here", 307, ""},
		{http.MethodDelete, "here", 307, ""},
		{http.MethodGet, "loop", 302, ""},
		{http.MethodGet, "away", 302, ""},
		{http.MethodGet, "down", 302, ""},
		{http.MethodGet, "user", 302, ""},
		{http.MethodGet, "port", 302, ""},
		{http.MethodGet, "sub", 302, ""},
		{http.MethodGet, "scheme", 302, ""},
		{http.MethodGet, "file", 302, ""},
	}
	for _, tt := range tests {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, "https://api.example.com:"+port+"/to/"+tt.to, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("%s %s: %v", tt.method, tt.to, err)
			continue
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != tt.code || tt.body != "" && string(b) != tt.body {
			t.Errorf("%s %s: got %d %q, %v, want %d %q", tt.method, tt.to, resp.StatusCode, b, err, tt.code, tt.body)
		}
	}
	select {
	case u := <-stolen:
		t.Errorf("another server was asked for %s", u)
	default:
	}
}

func TestProxiesAreNotUsed(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the proxy was used") }))
	t.Cleanup(proxy.Close)
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	client := egress.New(egress.Config{Origins: []egress.Origin{origin(t, "api.example.com")}, Resolver: &names{answers: [][]string{{"127.0.0.1"}}}})
	u := &url.URL{Scheme: "https", Host: "api.example.com"}
	if _, err := client.Get(u.String()); !errors.Is(err, egress.ErrAddress) { //nolint:bodyclose // there is none
		t.Errorf("got error %v, want ErrAddress", err)
	}
}
