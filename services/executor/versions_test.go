package executor_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/approval"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/catalogue"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tooltest"
)

var basicTools = []string{"add_numbers", "echo"}

// release is a version of the service "basics" whose echo has other options.
func release(t testing.TB, edit func(*toolv1.Tool)) *descriptorpb.FileDescriptorSet {
	t.Helper()
	set := tooltest.Image(t, "basics")
	echo := set.GetFile()[0].GetService()[0].GetMethod()[0]
	options := proto.CloneOf(proto.GetExtension(echo.GetOptions(), toolv1.E_Tool).(*toolv1.Tool))
	edit(options)
	proto.SetExtension(echo.GetOptions(), toolv1.E_Tool, options)
	return set
}

func titled(title string) func(*toolv1.Tool) { return func(o *toolv1.Tool) { o.Title = title } }

// untilEcho returns echo as it is listed when that is as wanted.
func (s *system) untilEcho(want func(*executorv1.Tool) bool) *executorv1.Tool {
	s.t.Helper()
	for {
		for _, tool := range s.wait(basicTools...) {
			if tool.GetDefinition().GetName() == "echo" && want(tool) {
				return tool
			}
		}
		if _, err := s.watch.Recv(); err != nil {
			s.t.Fatal(err)
		}
	}
}

func anyEcho(*executorv1.Tool) bool { return true }

func hasTitle(title string) func(*executorv1.Tool) bool {
	return func(t *executorv1.Tool) bool { return t.GetDefinition().GetTitle() == title }
}

// as calls echo with a grant for a definition, and returns what it says.
func (s *system) as(digest []byte) (string, error) {
	s.t.Helper()
	got, _, err := s.call(s.t.Context(), granted(s.t, "echo", `{"text":"x"}`, func(g *authv1.Grant) { g.ToolDigest = digest }))
	if no := got.GetRefusal(); no != nil {
		return "", fmt.Errorf("refused: %v", no)
	}
	return string(got.GetResult().GetStructured()), err
}

// barrier returns when all that was announced before has been taken in.
func (s *system) barrier(t *testing.T) {
	t.Helper()
	s.serve("logs:1", func(grpc.ServiceRegistrar) {})
	s.announce("logs", "1", "logs:1", tooltest.Image(t, "logs"), append([]string{"summarize_logs"}, basicTools...)...)
	s.leave("logs", "1", basicTools...)
}

// While two versions are there, and when the older one leaves, a call goes to the
// version that it was granted for.
func TestACallGoesToTheVersionItWasGrantedFor(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.basics(says("old"))
	before := s.untilEcho(anyEcho).GetDigest()
	s.serve("basics:2", says("new"))
	s.announce("basics", "2", "basics:2", release(t, titled("New")), basicTools...)
	s.barrier(t)
	if got := s.untilEcho(anyEcho); got.GetDefinition().GetTitle() == "New" {
		t.Errorf("the new version is listed while the old one is there")
	}
	want := func(digest []byte, text string) {
		t.Helper()
		if got, err := s.as(digest); err != nil || got != `{"text":"`+text+`"}` {
			t.Errorf("Call = %q, %v; want %q", got, err, text)
		}
	}
	for range 4 {
		want(before, "old")
		want(nil, "old")
	}
	if err := s.bus.Delete(t.Context(), bus.Tools, "basics.1"); err != nil {
		t.Fatal(err)
	}
	after := s.untilEcho(hasTitle("New")).GetDigest()
	for range 4 {
		want(before, "old")
		want(after, "new")
		want(nil, "new")
	}
	if _, err := s.as(slices.Repeat([]byte{1}, 32)); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a grant for a definition that nobody has: %v", err)
	}
	// The old one is gone for good after a while. Who has found it just before is told
	// that it cannot be reached.
	for err := error(nil); status.Code(err) != codes.PermissionDenied; _, err = s.as(before) {
		if err != nil && !strings.Contains(err.Error(), "REASON_TOOL_UNAVAILABLE") {
			t.Fatal(err)
		}
	}
	want(after, "new")
}

// What is listed is what replicas have that answer.
func TestAVersionThatDoesNotAnswerGivesWay(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.serve("basics:1", says("old"))
	w := newWire(s.conns["basics:1"])
	s.connect("basics:1", w)
	s.announce("basics", "1", "basics:1", tooltest.Image(t, "basics"), basicTools...)
	s.serve("basics:2", says("new"))
	s.announce("basics", "2", "basics:2", release(t, titled("New")), basicTools...)
	s.barrier(t)
	s.echo("old")
	w.cut()
	_, _ = s.as(nil) // nobody may have noticed yet
	s.untilEcho(hasTitle("New"))
	s.echo("new")
	w.mend() // and it does not change back
	s.barrier(t)
	for range 4 {
		s.echo("new")
	}
}

// A replica that says it is not ready is left out until it says that it is.
func TestHealth(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *executor.Config) { c.HealthInterval = 100 * time.Millisecond })
	health1 := health.NewServer()
	s.serve("basics:1", func(r grpc.ServiceRegistrar) {
		says("1")(r)
		healthv1.RegisterHealthServer(r, health1)
	})
	s.announce("basics", "1", "basics:1", tooltest.Image(t, "basics"), basicTools...)
	s.echo("1")
	available := func(is bool) func(*executorv1.Tool) bool {
		return func(t *executorv1.Tool) bool { return t.GetAvailable() == is }
	}
	health1.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	s.untilEcho(available(false))
	got, _, err := s.call(t.Context(), granted(t, "echo", `{"text":"x"}`))
	if no := got.GetRefusal(); err != nil || no.GetReason() != auditv1.Reason_REASON_TOOL_UNAVAILABLE || !no.GetRetryable() || no.GetRetryAfter().AsDuration() <= 0 {
		t.Errorf("Call = %v, %v", got, err)
	}
	s.serve("basics:2", says("2"))
	s.announce("basics", "2", "basics:2", tooltest.Image(t, "basics"), basicTools...)
	s.untilEcho(available(true))
	for range 10 {
		s.echo("2")
	}
	health1.SetServingStatus("", healthv1.HealthCheckResponse_SERVING)
	for heard := ""; heard != `{"text":"1"}`; {
		if heard, err = s.as(nil); err != nil {
			t.Fatal(err)
		}
	}
}

// refusing is a replica that takes no connections, though nobody has noticed.
type refusing struct {
	grpc.ClientConnInterface
	tries *atomic.Int32
}

func (r refusing) Invoke(_ context.Context, method string, _, _ any, _ ...grpc.CallOption) error {
	if method == healthv1.Health_Check_FullMethodName {
		return status.Error(codes.Unimplemented, "")
	}
	r.tries.Add(1)
	return status.Error(codes.Unavailable, "connection refused")
}

// What was never sent can be sent to another replica, whatever it does.
func TestWhatWasNotSentIsSentToAnother(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *executor.Config) { c.AuditTimeout = time.Minute })
	var deleted atomic.Int32
	s.customers(func(context.Context) error { deleted.Add(1); return nil })
	r := refusing{tries: new(atomic.Int32)}
	s.connect("customers:2", r)
	s.announce("customers", "2", "customers:2", tooltest.Image(t, "customers"), "delete_customer_account", "get_customer")
	n := int32(0)
	for ; r.tries.Load() < 2; n++ {
		id := fmt.Sprintf("d_01JDKZ5R9GQ0V4T4M5N6P%05d", n)
		got, _, err := s.call(t.Context(), granted(t, "delete_customer_account", `{"customer_id":7}`, func(g *authv1.Grant) { g.DecisionId = id }))
		if err != nil || got.GetRefusal() != nil {
			t.Fatalf("Call = %v, %v", got, err)
		}
	}
	if deleted.Load() != n {
		t.Errorf("%d calls have deleted %d times", n, deleted.Load())
	}
}

// startApproving is start with a store of approvals, and its clerk.
func startApproving(t *testing.T, mode approval.Config) (*system, executorv1.ApprovalServiceClient) {
	t.Helper()
	var store *approval.Store
	s := startHeld(t, func(s *system) catalogue.Hold {
		var err error
		if store, err = approval.New(approval.Options{Config: mode, Bucket: s.bus, Audit: s.audit}); err != nil {
			t.Fatal(err)
		}
		return executor.Hold{Store: store}
	})
	approvals := executor.NewApprovals(store, s.service, s.audit, nil)
	ctx, cancel := context.WithCancel(context.Background())
	var task sync.WaitGroup
	task.Go(func() { _ = approvals.Run(ctx) }) // it ends with ctx
	t.Cleanup(func() { cancel(); task.Wait() })
	return s, executorv1.NewApprovalServiceClient(rpctest.Serve(t, approvals.Register, rpctest.As("sallyport")))
}

// changesOf waits for the record of a change of a tool, and returns its details.
func (s *system) changesOf(operation, object string) map[string]string {
	s.t.Helper()
	for {
		for _, e := range s.audit.all() {
			if e.GetAdmin().GetOperation() == operation && e.GetAdmin().GetObject() == object {
				return e.GetAdmin().GetDetails()
			}
		}
		if err := s.t.Context().Err(); err != nil {
			s.t.Fatalf("no record of %s of %s", operation, object)
		}
		runtime.Gosched()
	}
}

// By default a new version of a service with descriptors is used at once, on
// record with what has changed; not if a tool is less restricted in it.
func TestALooserVersionWaitsForAPerson(t *testing.T) {
	t.Parallel()
	s, clerk := startApproving(t, nil)
	s.basics(says("1"))
	s.changesOf("tool.approve", "basics.echo")
	s.serve("basics:2", says("2"))
	s.announce("basics", "2", "basics:2", release(t, titled("Other")), basicTools...)
	s.leave("basics", "1", basicTools...)
	s.untilEcho(hasTitle("Other"))
	s.echo("2")
	details := s.changesOf("tool.change", "basics.echo")
	if details["changes"] != "title, options" || details["by"] != approval.Covered || details["old"] == "" || details["old"] == details["new"] {
		t.Errorf("the record of the change: %v", details)
	}
	passed, err := clerk.ListDefinitions(t.Context(), &executorv1.ListDefinitionsRequest{Tool: "echo"})
	if err != nil || len(passed.GetDefinitions()) != 1 {
		t.Fatalf("ListDefinitions = %v, %v; want one", passed, err)
	}
	if a := passed.GetDefinitions()[0].GetApproved(); a.GetBy() != approval.Covered || a.GetDefinition().GetTitle() != "Other" ||
		a.GetReplaced().GetBy() != approval.FirstUse || a.GetReplaced().GetDefinition().GetTitle() == "Other" || a.GetReplaced().GetDefinition().GetDescription() == "" {
		t.Errorf("what has passed is told as %v", a)
	}

	// The looser version waits while the one before it is there, and can be seen.
	s.serve("basics:3", says("3"))
	looser := func(o *toolv1.Tool) { o.Title, o.Trust, o.Tags = "Other", toolv1.Trust_TRUST_TRUSTED, nil }
	s.announce("basics", "3", "basics:3", release(t, looser), basicTools...)
	s.barrier(t)
	for range 4 {
		s.echo("2")
	}
	resp, err := clerk.ListDefinitions(t.Context(), &executorv1.ListDefinitionsRequest{Withheld: true})
	if err != nil || len(resp.GetDefinitions()) != 1 {
		t.Fatalf("ListDefinitions = %v, %v; want one", resp, err)
	}
	d := resp.GetDefinitions()[0]
	if d.GetTool() != "echo" || d.GetState() != executorv1.DefinitionState_DEFINITION_STATE_CHANGED ||
		d.GetOffered().GetOptions().GetTrust() != toolv1.Trust_TRUST_TRUSTED || d.GetApproved().GetDefinition().GetTitle() != "Other" {
		t.Errorf("ListDefinitions = %v", d)
	}
	// Without the one before it, the tool is refused. Others of the service are not.
	s.leave("basics", "2", "add_numbers")
	got, _, err := s.call(t.Context(), granted(t, "echo", `{"text":"x"}`))
	if err != nil || got.GetRefusal().GetReason() != auditv1.Reason_REASON_TOOL_WITHHELD || got.GetRefusal().GetRetryable() {
		t.Errorf("Call = %v, %v; want it withheld", got, err)
	}
	// An older version that comes back is used.
	s.announce("basics", "2", "basics:2", release(t, titled("Other")), basicTools...)
	s.echo("2")
	if _, err := clerk.Approve(t.Context(), &executorv1.ApproveRequest{Tool: "echo", Digest: d.GetDigest(), By: "anna"}); err != nil {
		t.Fatal(err)
	}
	s.untilEcho(func(t *executorv1.Tool) bool {
		return t.GetDefinition().GetOptions().GetTrust() == toolv1.Trust_TRUST_TRUSTED
	})
	s.echo("3")
}

// A service whose definitions are held by name is held like a provider.
func TestAnyChangeOfAServiceCanBeHeld(t *testing.T) {
	t.Parallel()
	s, clerk := startApproving(t, approval.Config{"basics": approval.ModeChanges})
	s.basics(says("1"))
	before := s.untilEcho(anyEcho).GetDigest()
	s.serve("basics:2", says("2"))
	s.announce("basics", "2", "basics:2", release(t, titled("Other")), basicTools...)
	s.barrier(t)
	for range 4 {
		s.echo("1")
	}
	resp, err := clerk.ListDefinitions(t.Context(), &executorv1.ListDefinitionsRequest{Tool: "echo"})
	if err != nil || len(resp.GetDefinitions()) != 1 || resp.GetDefinitions()[0].GetOffered().GetTitle() != "Other" {
		t.Fatalf("ListDefinitions = %v, %v", resp, err)
	}
	digest := resp.GetDefinitions()[0].GetDigest()
	if _, err := clerk.Approve(t.Context(), &executorv1.ApproveRequest{Tool: "echo", Digest: digest, By: "anna"}); err != nil {
		t.Fatal(err)
	}
	s.untilEcho(hasTitle("Other")) // which replica 2 has, and 1 has not
	s.echo("2")
	if got, err := s.as(before); err != nil || got != `{"text":"1"}` {
		t.Errorf("a call that was granted before the approval = %q, %v", got, err)
	}
}
