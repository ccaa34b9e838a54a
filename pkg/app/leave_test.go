package app_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/bus/embed"
	"github.com/sallyport-mcp/sallyport/pkg/devca"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// pair is two configurations: of a process that plays quota, and of one that may
// call it.
func pair(t *testing.T) (server, client app.Config) {
	t.Helper()
	certs := t.TempDir()
	if err := devca.Ensure(certs, "edge", "quota"); err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := lis.Addr().String()
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	server, client = load(t), load(t)
	server.TLS, client.TLS = devca.Files(certs), devca.Files(certs)
	server.Listen, client.Peers = map[string]string{"quota": address}, map[string]string{"quota": address}
	return server, client
}

// A role that has just started takes no calls before it is ready.
func TestCallsWaitUntilTheRoleIsReady(t *testing.T) {
	t.Parallel()
	server, client := pair(t)
	var asked, early atomic.Int32
	listens := make(chan struct{})
	role := quotaRole
	role.New = func(env *app.Env) (app.Service, error) {
		close(listens)
		env.Ready("slow", func(context.Context) error {
			if asked.Add(1) < 5 {
				return errors.New("not yet")
			}
			return nil
		})
		return heard{on: func() {
			if asked.Load() < 5 {
				early.Add(1)
			}
		}}, nil
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx, app.Options{Config: server, StartBus: embed.Start}, role) }()
	<-listens
	answer := make(chan string, 1)
	start(t, client, edgeRole(answer))
	<-answer
	if early.Load() > 0 {
		t.Error("the role was called before it was ready")
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// heard tells when it is called.
type heard struct {
	counted
	on func()
}

func (h heard) Register(r grpc.ServiceRegistrar) { quotav1.RegisterQuotaServiceServer(r, h) }

// Peek implements [quotav1.QuotaServiceServer].
func (h heard) Peek(ctx context.Context, req *quotav1.PeekRequest) (*quotav1.PeekResponse, error) {
	h.on()
	return h.counted.Peek(ctx, req)
}

// leaver is called by its own goodbye.
type leaver struct {
	counted
	leave func()
}

// Leave implements [app.Leaver].
func (l leaver) Leave(context.Context) { l.leave() }

// A service that says goodbye is called as before until its caller has hung up.
func TestAServiceThatLeavesIsCalledUntilItsCallersHaveHungUp(t *testing.T) {
	t.Parallel()
	server, client := pair(t)
	ctx, stop := context.WithCancel(t.Context())
	ready, done := make(chan app.Info, 1), make(chan error, 1)
	var conn app.Conn
	var calls atomic.Int32
	peek := func() error {
		_, err := quotav1.NewQuotaServiceClient(conn).Peek(t.Context(), &quotav1.PeekRequest{Subject: &quotav1.Subject{}})
		return err
	}
	role := quotaRole
	role.New = func(*app.Env) (app.Service, error) {
		return leaver{leave: func() {
			go func() { // when Leave has returned, as far as the process can tell
				for range 5 {
					if err := peek(); err != nil {
						t.Errorf("a call while the service leaves: %v", err)
					}
					calls.Add(1)
				}
				if err := conn.Close(); err != nil {
					t.Error(err)
				}
			}()
		}}, nil
	}
	go func() {
		done <- app.Run(ctx, app.Options{
			Config: server, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), StartBus: embed.Start, Ready: func(i app.Info) { ready <- i },
		}, role)
	}()
	<-ready
	info := start(t, client, app.Role{Name: "other", Allow: map[string][]string{"-": nil}, New: func(*app.Env) (app.Service, error) { return counted{}, nil }})
	var err error
	if conn, err = info.Env("edge").Conn("quota"); err != nil {
		t.Fatal(err)
	}
	if err := peek(); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if n := calls.Load(); n != 5 {
		t.Errorf("%d calls were answered while the service left, want 5", n)
	}
}
