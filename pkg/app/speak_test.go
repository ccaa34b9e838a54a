package app_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/devca"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
)

// speaker says hello to edges besides gRPC.
type speaker struct{ counted }

func (speaker) Protocols() []rpc.Protocol {
	return []rpc.Protocol{{Name: "hello/1", Allow: []string{"edge"}, Serve: func(conn net.Conn) {
		_, _ = io.WriteString(conn, "hello") // whoever has hung up does not hear it
		_ = conn.Close()
	}}}
}

// listening dials addresses of quota once it runs, and sends what it heard there.
type listening struct {
	env   *app.Env
	dials []string
	heard chan<- string
}

func (listening) Register(grpc.ServiceRegistrar) {}

func (l listening) Run(ctx context.Context) error {
	for _, address := range l.dials {
		l.heard <- l.hear(ctx, address)
	}
	<-ctx.Done()
	return nil
}

func (l listening) hear(ctx context.Context, address string) string {
	conn, err := l.env.DialProtocol(ctx, "quota", address, "hello/1")
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err.Error()
	}
	said, err := io.ReadAll(conn)
	if err != nil {
		return err.Error()
	}
	return string(said)
}

func TestAServiceSpeaksMoreThanGRPC(t *testing.T) {
	t.Parallel()
	certs := t.TempDir()
	if err := devca.Ensure(certs, "edge", "quota"); err != nil {
		t.Fatal(err)
	}
	secured := func(set ...string) app.Config {
		tls := devca.Files(certs)
		return load(t, append(set, "tls.ca="+tls.CA, "tls.cert="+tls.Cert, "tls.key="+tls.Key)...)
	}
	quota := func(svc app.Service) string {
		role := quotaRole
		role.New = func(*app.Env) (app.Service, error) { return svc, nil }
		return start(t, secured("listen.quota=127.0.0.1:0"), role).Addresses["quota"]
	}
	hear := func(cfg app.Config, addresses ...string) <-chan string {
		heard := make(chan string, len(addresses))
		start(t, cfg, app.Role{Name: "edge", New: func(env *app.Env) (app.Service, error) {
			return listening{env, addresses, heard}, nil
		}})
		return heard
	}
	at := quota(speaker{})
	answer := make(chan string, 1)
	start(t, secured("peers.quota="+at), edgeRole(answer))
	if got := <-answer; got != "edge" {
		t.Errorf("over gRPC quota was called by %q", got)
	}
	heard := hear(secured(), at, "dns:///"+at, quota(counted{}))
	for _, want := range []string{"hello", "hello", "does not speak hello/1"} {
		if got := <-heard; !strings.Contains(got, want) {
			t.Errorf("heard %q, want %q", got, want)
		}
	}
	if got := <-hear(load(t), at); !strings.Contains(got, "tls: missing; quota at another process needs an identity") {
		t.Errorf("without an identity: %q", got)
	}
}
