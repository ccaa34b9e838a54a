package edge_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/edge"
)

// raw opens a connection and writes to it.
func raw(t *testing.T, addr, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

func status(t *testing.T, conn net.Conn) int {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

const head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer good\r\n"

func TestTheBodyLimitHoldsWhateverIsAnnounced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	chunk := strings.Repeat("x", 1<<16)
	text := head + "Transfer-Encoding: chunked\r\n\r\n"
	for range 5 {
		text += fmt.Sprintf("%x\r\n%s\r\n", len(chunk), chunk)
	}
	if got := status(t, raw(t, w.edge.Addr(), text)); got != http.StatusRequestEntityTooLarge {
		t.Errorf("got status %d, want 413", got)
	}
}

func TestASlowBodyIsGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) { o.Config.BodyTimeout = 50 * time.Millisecond })
	conn := raw(t, w.edge.Addr(), head+"Content-Length: 100\r\n\r\n{")
	if got := status(t, conn); got != http.StatusRequestTimeout {
		t.Errorf("got status %d, want 408", got)
	}
}

// The time for the body is not the time for the call.
func TestACallMayTakeLongerThanItsBody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) {
		o.Config.BodyTimeout, o.Config.CallTimeout = 250*time.Millisecond, time.Second
	})
	w.executor.begun, w.executor.ended, w.executor.release = make(chan struct{}, 1), make(chan error, 1), make(chan struct{})
	a := w.send(t, request{params: `"name":"waits"`})
	if got := a.reason(t); a.status != http.StatusOK || got != "TOOL_TIMEOUT" {
		t.Errorf("got %d %s, want the timeout of the call", a.status, a.body)
	}
}

func TestTheCredentialIsCheckedBeforeTheBodyIsRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conn := raw(t, w.edge.Addr(), strings.Replace(head, "good", "bad", 1)+"Content-Length: 100\r\n\r\n")
	if got := status(t, conn); got != http.StatusUnauthorized {
		t.Errorf("got status %d, want 401 with no byte of the body sent", got)
	}
}

func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conn := raw(t, w.edge.Addr(), head+"X-Long: "+strings.Repeat("x", 32<<10)+"\r\n\r\n")
	if got := status(t, conn); got != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got status %d, want 431", got)
	}
}

func TestOneAddressHasSoManyConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) { o.Config.MaxConnectionsPerAddress = 2 })
	get := "GET /ping HTTP/1.1\r\nHost: localhost\r\nX-API-Key: good\r\n\r\n"
	first, second := raw(t, w.edge.Addr(), get), raw(t, w.edge.Addr(), get)
	if a, b := status(t, first), status(t, second); a != http.StatusOK || b != http.StatusOK {
		t.Fatalf("got %d and %d, want 200", a, b)
	}
	third := raw(t, w.edge.Addr(), "")
	if n, err := third.Read(make([]byte, 1)); err == nil {
		t.Errorf("a third connection got %d bytes, want it closed", n)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	// The place is free once the server has seen the end of the first.
	for {
		conn, err := net.Dial("tcp", w.edge.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, get) // may be closed already
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		_ = conn.Close()
		if err == nil {
			_ = resp.Body.Close()
			return
		}
		if t.Context().Err() != nil {
			t.Fatal("the place of a closed connection is not given back")
		}
	}
}

func TestATrustedProxyMayHoldManyConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) {
		o.Config.MaxConnectionsPerAddress, o.Config.TrustedProxies = 1, []string{"127.0.0.0/8"}
	})
	for range 3 {
		conn := raw(t, w.edge.Addr(), "GET /ping HTTP/1.1\r\nHost: localhost\r\nX-API-Key: good\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n")
		if got := status(t, conn); got != http.StatusOK {
			t.Fatalf("got %d, want 200", got)
		}
	}
	w.send(t, request{headers: map[string]string{"X-Forwarded-For": "6.6.6.6, 192.0.2.7"}})
	if got := w.auth.last().GetOrigin().GetAddress(); got != "192.0.2.7" {
		t.Errorf("got address %q, want the one the proxy wrote", got)
	}
}

func TestAnonymousCallersCannotFillTheRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) { o.Config.AnonymousRecords = 1 })
	for range 15 {
		if a := w.send(t, request{headers: map[string]string{"Authorization": ""}}); a.status != http.StatusUnauthorized {
			t.Fatalf("got %d, want 401", a.status)
		}
	}
	if n := len(w.audit.take()); n < 10 || n == 15 {
		t.Errorf("recorded %d of 15, want ten at once and no more than one a second", n)
	}
	w.send(t, request{method: "no/such"})
	if n := len(w.audit.take()); n != 1 {
		t.Errorf("recorded %d for a caller with a credential, want 1", n)
	}
}

func TestATakenPortIsAnErrorThatSaysWhatToDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := edge.DefaultConfig()
	cfg.Listen = w.edge.Addr()
	_, err := edge.New(edge.Options{Config: cfg, Audit: w.audit})
	if err == nil || !strings.Contains(err.Error(), cfg.Listen) || !strings.Contains(err.Error(), "roles.edge.listen") {
		t.Errorf("New: got error %v, want one that names the address and the setting", err)
	}
}

// What is in flight at shutdown is finished, and nothing new is accepted.
func TestDrain(t *testing.T) {
	t.Parallel()
	cfg := edge.DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	stubs := benchOptions(cfg)
	begun, release := make(chan struct{}), make(chan struct{})
	stubs.Executor = slowExecutor{stubs.Executor, begun, release}
	s, err := edge.New(stubs)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()

	answered := make(chan answer, 1)
	r := request{}.http(t, "http://"+s.Addr())
	go func() { answered <- do(t, r) }()
	<-begun
	stop()
	for s.Serving(t.Context()) == nil {
		if t.Context().Err() != nil {
			t.Fatal("still ready while draining")
		}
	}
	close(release)
	if a := <-answered; a.status != http.StatusOK {
		t.Errorf("got %d %s for a call in flight, want 200", a.status, a.body)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if conn, err := net.Dial("tcp", s.Addr()); err == nil {
		_ = conn.Close()
		t.Error("a connection is accepted after the end")
	}
}

func TestABugInOneRequestIsAnAnswer(t *testing.T) {
	t.Parallel()
	cfg := edge.DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	o := benchOptions(cfg)
	o.Quota, o.Config.QuotaLeases = nil, false // a nil interface is called
	s, err := edge.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	a := do(t, request{}.http(t, "http://"+s.Addr()))
	if a.status != http.StatusInternalServerError || a.decode(t).Error.Code != -32603 || strings.Contains(string(a.body), "nil") {
		t.Errorf("got %d %s, want a plain 500", a.status, a.body)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestConfigNamesAllMistakes(t *testing.T) {
	t.Parallel()
	if err := edge.DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults are not valid: %v", err)
	}
	bad := edge.Config{
		Listen: "nowhere", TLSCert: "cert.pem", AllowedHosts: []string{"http://x/"}, AllowedOrigins: []string{"example.com"},
		TrustedProxies: []string{"all"}, MaxBodyBytes: 2 << 20, AuthCacheTTL: time.Hour, ApprovalWait: -1, MaxApprovalWaits: -1, MaxApprovalWaitsPerKey: -1,
	}
	err := bad.Validate()
	if err == nil {
		t.Fatal("got no error")
	}
	for _, name := range []string{
		"listen", "tls_cert", "allowed_hosts", "allowed_origins", "trusted_proxies", "max_body_bytes", "max_connections_per_address",
		"anonymous_records", "page_size", "header_timeout", "body_timeout", "write_timeout", "peer_timeout", "call_timeout", "auth_cache_ttl", "approval_wait", "max_approval_waits", "max_approval_waits_per_key",
	} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in: %v", name, err)
		}
	}
	if _, err := edge.New(edge.Options{Config: bad}); err == nil || errors.Is(err, net.ErrClosed) {
		t.Errorf("New with a bad config: got error %v", err)
	}
}
