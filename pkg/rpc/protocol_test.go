package rpc_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/devca"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
)

// besides are protocols that say who they are to each line.
func besides() []rpc.Protocol {
	says := func(name string) func(net.Conn) {
		return func(conn net.Conn) {
			defer func() { _ = conn.Close() }()
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				if _, err := io.WriteString(conn, name+" "+lines.Text()+"\n"); err != nil {
					return
				}
			}
		}
	}
	return []rpc.Protocol{
		{Name: "one/1", Allow: []string{"edge"}, Serve: says("one")},
		{Name: "two/1", Allow: []string{"auth", "edge"}, Serve: says("two")},
		{Name: "none/1", Serve: says("none")},
	}
}

// speaking serves gRPC and other protocols as quota, and returns where.
func speaking(t *testing.T, dir string, besides ...rpc.Protocol) string {
	t.Helper()
	creds, err := devca.Files(dir).Server("quota", besides...)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := rpc.Server{Allow: map[string][]string{quotaService: {"edge"}}}.New(grpc.Creds(creds))
	quotav1.RegisterQuotaServiceServer(g, service{})
	go func() { _ = g.Serve(lis) }() // ends with Stop
	t.Cleanup(g.Stop)
	return lis.Addr().String()
}

// ask sends a line and returns the one that comes back.
func ask(t *testing.T, conn net.Conn, text string) (string, error) {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, text+"\n") // whoever has hung up is found when it is read
	return bufio.NewReader(conn).ReadString('\n')
}

func certificates(t *testing.T, roles ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := devca.Ensure(dir, roles...); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestOnePortSpeaksSeveralProtocols(t *testing.T) {
	t.Parallel()
	dir := certificates(t, "quota", "edge")
	at := speaking(t, dir, besides()...)
	creds, err := devca.Files(dir).Client("edge", "quota")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := rpc.Dial(at, nil, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	var open []net.Conn
	for _, name := range []string{"one", "two", "one"} {
		c, err := devca.Files(dir).Dial(t.Context(), "edge", "quota", at, name+"/1")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		open = append(open, c)
		if res, err := quotav1.NewQuotaServiceClient(conn).Peek(t.Context(), peek("")); err != nil || res.GetCheck().GetRule() != "edge" {
			t.Errorf("gRPC: %v, %v", res, err)
		}
	}
	for i, name := range []string{"one", "two", "one"} {
		if got, err := ask(t, open[i], "hello"); err != nil || got != name+" hello\n" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestOnlyRolesThatMaySpeakAreHeard(t *testing.T) {
	t.Parallel()
	dir := certificates(t, "quota", "edge", "auth")
	at := speaking(t, dir, besides()...)
	for _, test := range []struct{ role, protocol, want string }{
		{"edge", "one/1", "one x\n"},
		{"auth", "one/1", ""},
		{"quota", "one/1", ""},
		{"auth", "two/1", "two x\n"},
		{"edge", "none/1", ""},
	} {
		conn, err := devca.Files(dir).Dial(t.Context(), test.role, "quota", at, test.protocol)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if got, err := ask(t, conn, "x"); got != test.want || (err == nil) != (test.want != "") || isTimeout(err) {
			t.Errorf("%s speaks %s: got %q, %v", test.role, test.protocol, got, err)
		}
	}
}

func isTimeout(err error) bool {
	timed, ok := errors.AsType[net.Error](err)
	return ok && timed.Timeout()
}

func TestDialSaysWhatAPeerDoesNotSpeak(t *testing.T) {
	t.Parallel()
	dir := certificates(t, "quota", "edge")
	_, err := devca.Files(dir).Dial(t.Context(), "edge", "quota", speaking(t, dir), "one/1")
	if err == nil || !strings.Contains(err.Error(), "quota at 127.0.0.1:") || !strings.HasSuffix(err.Error(), "does not speak one/1: remote error: tls: no application protocol") {
		t.Errorf("a peer that speaks gRPC alone: %v", err)
	}
	_, err = devca.Files(dir).Dial(t.Context(), "edge", "quota", speaking(t, dir, besides()[1]), "one/1")
	if err == nil || !strings.Contains(err.Error(), "does not speak one/1: ") {
		t.Errorf("a peer that speaks others: %v", err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "quota.crt"), filepath.Join(dir, "quota.key"))
	if err != nil {
		t.Fatal(err)
	}
	lis, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() })
	go func() {
		for conn, err := lis.Accept(); err == nil; conn, err = lis.Accept() {
			_, _ = io.Copy(io.Discard, conn) // and so shakes hands
			_ = conn.Close()
		}
	}()
	if _, err := devca.Files(dir).Dial(t.Context(), "edge", "quota", lis.Addr().String(), "one/1"); err == nil || !strings.HasSuffix(err.Error(), "does not speak one/1") {
		t.Errorf("a peer that knows nothing of protocols: %v", err)
	}
}

func TestStrangersDoNotSpeak(t *testing.T) {
	t.Parallel()
	dir, others := certificates(t, "quota", "edge"), certificates(t, "quota", "edge")
	at := speaking(t, dir, besides()...)

	_, err := devca.Files(others).Dial(t.Context(), "edge", "quota", at, "one/1")
	if err == nil || !strings.Contains(err.Error(), "quota at "+at+": ") || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a peer of another authority: %v", err)
	}
	if _, err := devca.Files(dir).Dial(t.Context(), "edge", "auth", at, "one/1"); err == nil || !strings.Contains(err.Error(), "not auth") {
		t.Errorf("another peer than was meant: %v", err)
	}
	// Whoever believes the server, and whom it does not believe.
	mixed := devca.Files(dir)
	mixed.Cert, mixed.Key = devca.Files(others).Cert, devca.Files(others).Key
	conn, err := mixed.Dial(t.Context(), "edge", "quota", at, "one/1")
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
		_, err = ask(t, conn, "x")
	}
	if err == nil || isTimeout(err) {
		t.Errorf("a client of another authority: %v", err)
	}
	plain, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plain.Close() })
	if got, err := ask(t, plain, strings.Repeat("one/1 ", 100)); err == nil || isTimeout(err) || strings.Contains(got, "one") {
		t.Errorf("without TLS: got %q, %v", got, err)
	}
}
