package executor_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tooltest"
)

func (s *system) leave(service, instance string, want ...string) {
	s.t.Helper()
	if err := s.bus.Delete(s.t.Context(), bus.Tools, service+"."+instance); err != nil {
		s.t.Fatal(err)
	}
	s.wait(want...)
}

func (s *system) echo(want string) {
	s.t.Helper()
	got, _, err := s.call(s.t.Context(), granted(s.t, "echo", `{"text":"x"}`))
	if err != nil || got.GetRefusal() != nil || string(got.GetResult().GetStructured()) != `{"text":"`+want+`"}` {
		s.t.Errorf("Call = %v, %v; want %q", got, err, want)
	}
}

func says(text string) func(grpc.ServiceRegistrar) {
	return basics{echo: func(context.Context, string) (string, error) { return text, nil }}.register
}

// Tool services come and go while the executor runs.
func TestCatalogueChanges(t *testing.T) {
	t.Parallel()
	s := start(t)
	first := s.wait()
	if len(first) != 0 {
		t.Errorf("there are tools: %v", first)
	}
	s.basics(says("x"))
	s.echo("x")

	resp, err := s.client.ListTools(t.Context(), &executorv1.ListToolsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.client.ListTools(t.Context(), &executorv1.ListToolsRequest{KnownVersion: resp.GetVersion()})
	if err != nil || again.GetVersion() != resp.GetVersion() || len(again.GetTools()) != 0 {
		t.Errorf("ListTools with the known version = %v, %v", again, err)
	}
	for _, tool := range resp.GetTools() {
		if tool.GetService() != "basics" || len(tool.GetDigest()) != 32 || !tool.GetAvailable() ||
			tool.GetDefinition().GetDescription() == "" || tool.GetDefinition().GetOptions().GetRisk() != toolv1.Risk_RISK_READ {
			t.Errorf("tool = %v", tool)
		}
	}

	s.leave("basics", "1")
	if _, _, err := s.call(t.Context(), granted(t, "echo", `{"text":"x"}`)); status.Code(err) != codes.NotFound {
		t.Errorf("Call of a tool that has left: %v", err)
	}
}

// Auth reads what there is from the bus.
func TestCatalogueIsPublished(t *testing.T) {
	t.Parallel()
	s := start(t)
	published := make(chan *executorv1.Catalogue)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.bus.Watch(ctx, bus.Catalogue, func(e bus.Entry) { // ends with ctx
			c := &executorv1.Catalogue{}
			if err := proto.Unmarshal(e.Value, c); err != nil || e.Key != "current" {
				t.Errorf("entry %q: %v", e.Key, err)
			}
			select {
			case published <- c:
			case <-ctx.Done():
			}
		}, func(bool) {})
	}()
	defer func() { cancel(); <-done }()
	if c := <-published; len(c.GetEntries()) != 0 || c.GetVersion() == "" {
		t.Errorf("the first catalogue = %v", c)
	}
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		s.basics(says("x"))
	}()
	c := <-published
	<-joined
	var names []string
	for _, e := range c.GetEntries() {
		names = append(names, e.GetService()+"/"+e.GetName()+" "+e.GetOptions().GetRisk().String()+" "+strings.Join(e.GetArguments(), ","))
		if !e.GetArgumentsKnown() {
			t.Errorf("the arguments of %s are not known", e.GetName())
		}
		if len(e.GetDigest()) != 32 {
			t.Errorf("digest of %s = %x", e.GetName(), e.GetDigest())
		}
	}
	if diff := cmp.Diff([]string{"basics/add_numbers RISK_READ a,b", "basics/echo RISK_READ text"}, names); diff != "" {
		t.Errorf("catalogue (-want +got):\n%s", diff)
	}
	s.wait("add_numbers", "echo")
	resp, err := s.client.ListTools(t.Context(), &executorv1.ListToolsRequest{})
	if err != nil || resp.GetVersion() != c.GetVersion() {
		t.Errorf("ListTools has version %q, the bus %q: %v", resp.GetVersion(), c.GetVersion(), err)
	}
}

// A service cannot take a tool's name from another, however it is called.
func TestCollision(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.basics(says("mine"))
	s.serve("alpha:1", says("stolen"))
	s.announce("alpha", "1", "alpha:1", tooltest.Image(t, "basics"), "add_numbers", "echo")
	for range 4 {
		s.echo("mine")
	}
	for _, tool := range s.wait("add_numbers", "echo") {
		if tool.GetService() != "basics" {
			t.Errorf("%s is %q's", tool.GetDefinition().GetName(), tool.GetService())
		}
	}
	// The name is free when its owner has left.
	if err := s.bus.Delete(t.Context(), bus.Tools, "basics.1"); err != nil {
		t.Fatal(err)
	}
	for s.wait("add_numbers", "echo")[0].GetService() != "alpha" {
		if _, err := s.watch.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	s.echo("stolen")
}

// Not even a service that was there before takes a name that has an owner.
func TestCollisionWithAnOlderService(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.serve("alpha:1", says("stolen"))
	s.announce("alpha", "1", "alpha:1", tooltest.Image(t, "customers"), "delete_customer_account", "get_customer")
	s.serve("basics:1", says("mine"))
	s.announce("basics", "1", "basics:1", tooltest.Image(t, "basics"), "add_numbers", "delete_customer_account", "echo", "get_customer")
	s.announce("alpha", "1", "alpha:1", tooltest.Image(t, "basics"), "add_numbers", "echo")
	s.echo("mine")
}

// The oldest replica is as free to describe its tools differently as others,
// and has to wait like them.
func TestReplicaChangesItsMind(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.basics(says("1"))
	s.serve("basics:2", says("2"))
	s.announce("basics", "2", "basics:2", tooltest.Image(t, "basics"), "add_numbers", "echo")
	other := tooltest.Image(t, "basics")
	other.File[0].Service[0].Method = other.File[0].Service[0].Method[:1]
	s.announce("basics", "1", "basics:1", other, "add_numbers", "echo")
	s.serve("logs:1", func(grpc.ServiceRegistrar) {})
	s.announce("logs", "1", "logs:1", tooltest.Image(t, "logs"), "add_numbers", "echo", "summarize_logs")
	for range 4 {
		s.echo("2")
	}
	s.leave("basics", "2", "echo", "summarize_logs")
	s.echo("1")
}

// Equal replicas share the calls. One that describes its tools differently is
// not called until the others are gone.
func TestReplicas(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.basics(says("1"))
	s.serve("basics:2", says("2"))
	s.serve("basics:3", says("3"))
	both := []string{"add_numbers", "echo"}
	s.announce("basics", "2", "basics:2", tooltest.Image(t, "basics"), both...)
	newer := tooltest.Image(t, "basics")
	method := newer.GetFile()[0].GetService()[0].GetMethod()[0]
	options := proto.CloneOf(proto.GetExtension(method.GetOptions(), toolv1.E_Tool).(*toolv1.Tool))
	options.Title = "Echo, improved"
	proto.SetExtension(method.GetOptions(), toolv1.E_Tool, options)
	s.announce("basics", "3", "basics:3", newer, both...)
	// News of the bus come in order: a fourth service shows that all before it
	// have been taken in.
	s.announce("logs", "1", "basics:1", tooltest.Image(t, "logs"), append(both, "summarize_logs")...)

	heard := make(map[string]int)
	for range 10 {
		got, _, err := s.call(t.Context(), granted(t, "echo", `{"text":"x"}`))
		if err != nil {
			t.Fatal(err)
		}
		heard[string(got.GetResult().GetStructured())]++
	}
	if diff := cmp.Diff(map[string]int{`{"text":"1"}`: 5, `{"text":"2"}`: 5}, heard); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	all := append(both, "summarize_logs")
	s.leave("basics", "1", all...)
	s.leave("basics", "2", all...)
	for title := ""; title != "Echo, improved"; {
		for _, tool := range s.wait(all...) {
			if tool.GetDefinition().GetName() == "echo" {
				title = tool.GetDefinition().GetTitle()
			}
		}
		if title != "Echo, improved" {
			if _, err := s.watch.Recv(); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.echo("3")
}

// down is a replica that cannot be reached until it is told to answer.
type down struct {
	grpc.ClientConnInterface
	up chan struct{}
}

func (d down) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	select {
	case <-d.up:
		return d.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
	default:
		return status.Error(codes.Unavailable, "connection refused")
	}
}

// A replica that cannot be reached is passed over; a tool of which none can be
// reached stays listed, and comes back by itself.
func TestReplicaDownAndUp(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.serve("basics:1", says("1"))
	d := down{s.conns["basics:1"], make(chan struct{})}
	s.connect("basics:1", d)
	s.announce("basics", "1", "basics:1", tooltest.Image(t, "basics"), "add_numbers", "echo")

	got, _, err := s.call(t.Context(), granted(t, "echo", `{"text":"x"}`))
	if err != nil || got.GetRefusal().GetReason() != auditv1.Reason_REASON_TOOL_UNAVAILABLE || !got.GetRefusal().GetRetryable() {
		t.Errorf("Call = %v, %v", got, err)
	}
	available := func(want bool) {
		t.Helper()
		for s.wait("add_numbers", "echo")[0].GetAvailable() != want {
			if _, err := s.watch.Recv(); err != nil {
				t.Fatal(err)
			}
		}
	}
	available(false)

	// A second replica takes over for an idempotent tool within the same call.
	s.serve("basics:2", says("2"))
	s.announce("basics", "2", "basics:2", tooltest.Image(t, "basics"), "add_numbers", "echo")
	available(true)
	for range 3 {
		s.echo("2")
	}
	if err := s.bus.Delete(t.Context(), bus.Tools, "basics.2"); err != nil {
		t.Fatal(err)
	}
	available(false)
	close(d.up)
	available(true)
	s.echo("1")
}

// A server that does not announce itself is asked what it has.
func TestReflection(t *testing.T) {
	t.Parallel()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	says("reflected")(srv)
	reflection.Register(srv)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	real, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = real.Close() }) // the server is gone
	// The address is known before there is anybody: it is asked until there is.
	s := start(t, func(c *executor.Config) {
		c.Services = []executor.ServiceConfig{{Name: "foreign", Address: "foreign:1"}}
	})
	s.connect("foreign:1", real)
	for _, tool := range s.wait("add_numbers", "echo") {
		if tool.GetService() != "foreign" {
			t.Errorf("tool = %v", tool)
		}
	}
	s.echo("reflected")
	// An announcement without descriptors is the same.
	s.announce("other", "1", "foreign:1", nil, "add_numbers", "echo")
}

// What is announced may be anything.
func TestBadAnnouncements(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.basics(says("x"))
	good := func(edit func(*executorv1.Announcement)) []byte {
		a := &executorv1.Announcement{Service: "bad", Instance: "1", Address: "basics:1", Descriptors: tooltest.Image(t, "customers")}
		edit(a)
		raw, err := proto.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for name, raw := range map[string][]byte{
		"noise":            []byte("noise"),
		"nothing":          good(func(a *executorv1.Announcement) { proto.Reset(a) }),
		"another's key":    good(func(a *executorv1.Announcement) { a.Service = "basics" }),
		"nobody there":     good(func(a *executorv1.Announcement) { a.Address = "nowhere" }),
		"missing imports":  good(func(a *executorv1.Announcement) { a.Descriptors.File[0].Dependency = []string{"x.proto"} }),
		"no tools":         good(func(a *executorv1.Announcement) { a.Descriptors.File[0].Service = nil }),
		"a file that is a": good(func(a *executorv1.Announcement) { a.Descriptors.File[0].MessageType[0].Name = new("") }),
	} {
		if _, err := s.bus.Put(t.Context(), bus.Tools, "bad.1", raw); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	s.serve("logs:1", func(grpc.ServiceRegistrar) {})
	s.announce("logs", "1", "logs:1", tooltest.Image(t, "logs"), "add_numbers", "echo", "summarize_logs")
	s.echo("x")
}
