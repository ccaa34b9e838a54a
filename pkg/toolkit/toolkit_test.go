package toolkit_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/bustest"
	"github.com/sallyport-mcp/sallyport/pkg/bus/embed"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	basicsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/basics/v1"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
)

type basics struct {
	basicsv1.UnimplementedBasicsServiceServer
}

func (b basics) Register(r grpc.ServiceRegistrar) { basicsv1.RegisterBasicsServiceServer(r, b) }

func (basics) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func image(t *testing.T) []byte {
	t.Helper()
	b, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{
		protodesc.ToFileDescriptorProto(basicsv1.File_sallyport_tools_basics_v1_basics_proto),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestServiceIsAnnouncedForAsLongAsItRuns(t *testing.T) {
	t.Parallel()
	role := toolkit.Role("basics", image(t), func(*app.Env) (app.Service, error) { return basics{}, nil })
	if got := role.Allow["sallyport.tools.basics.v1.BasicsService"]; !slices.Equal(got, []string{"executor"}) {
		t.Errorf("the service may be called by %v, want the executor alone", got)
	}

	entries := make(chan bus.Entry, 16)
	watcher := app.Role{Name: "watcher", Allow: map[string][]string{"-": nil}, New: func(env *app.Env) (app.Service, error) {
		return watching{env.Bus, entries}, nil
	}}
	cfg, err := app.Load("", "state_dir="+t.TempDir(), "bus.sync=2m")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- app.Run(ctx, app.Options{Config: cfg, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), StartBus: embed.Start}, watcher, role)
	}()
	first := <-entries
	a := new(executorv1.Announcement)
	if err := proto.Unmarshal(first.Value, a); err != nil {
		t.Fatal(err)
	}
	if a.GetService() != "basics" || a.GetAddress() != "inproc:basics" || first.Key != "basics."+a.GetInstance() || len(a.GetDescriptors().GetFile()) != 1 {
		t.Errorf("announced %s as %v", first.Key, a)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := bustest.Open(t, cfg.Bus.Dir).Get(t.Context(), bus.Tools, first.Key); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("after the end the announcement is still there (%v)", err)
	}
}

type watching struct {
	bus     *bus.Bus
	entries chan<- bus.Entry
}

func (watching) Register(grpc.ServiceRegistrar) {}

func (w watching) Run(ctx context.Context) error {
	return w.bus.Watch(ctx, bus.Tools, func(e bus.Entry) { w.entries <- e }, func(bool) {})
}

func TestBadImageIsAnErrorThatSaysWhatToDo(t *testing.T) {
	t.Parallel()
	cfg, err := app.Load("", "state_dir="+t.TempDir(), "bus.sync=2m")
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, []byte("nonsense")} {
		role := toolkit.Role("basics", bad, func(*app.Env) (app.Service, error) { return basics{}, nil })
		if err := app.Run(t.Context(), app.Options{Config: cfg, StartBus: embed.Start, CheckOnly: true}, role); err == nil {
			t.Errorf("image %q: no error", bad)
		}
	}
}
