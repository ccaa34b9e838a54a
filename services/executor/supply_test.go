package executor_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/catalogue"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/joining"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tooltest"
)

// news reads an edge's watch until something holds.
func news(t *testing.T, watch grpc.ServerStreamingClient[executorv1.WatchResponse], holds func(*executorv1.WatchResponse) bool) *executorv1.WatchResponse {
	t.Helper()
	for {
		m, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if holds(m) {
			return m
		}
	}
}

// Edges hear of what there is, and of each change of it.
func TestWatch(t *testing.T) {
	t.Parallel()
	s := start(t)
	f := &fake{
		tools: []*providerv1.ToolDefinition{definition("t")}, resources: []*providerv1.Resource{{Uri: "x://a"}}, prompts: []*providerv1.Prompt{{Name: "p"}},
		templates: []*providerv1.ResourceTemplate{{UriTemplate: "y://{id}"}},
		has:       &providerv1.WatchResponse{HasCompletion: true},
	}
	s.provide("ev", "1", f, "t")
	s.provide("other", "1", &fake{tools: []*providerv1.ToolDefinition{definition("u")}, resources: []*providerv1.Resource{{Uri: "z://a"}}}, "t", "u")
	watch, err := s.client.Watch(t.Context(), &executorv1.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	first, err := watch.Recv()
	if err != nil {
		t.Fatal(err)
	}
	want := &executorv1.WatchResponse{HasResources: true, HasPrompts: true, HasCompletion: true}
	if diff := cmp.Diff(want, first, protocmp.Transform(), protocmp.IgnoreFields(want, "tools_version")); diff != "" || first.GetToolsVersion() == "" {
		t.Errorf("the first message = %v (-want +got):\n%s", first, diff)
	}

	f.change(&providerv1.WatchResponse{ResourcesChanged: true}, func() { f.resources = append(f.resources, &providerv1.Resource{Uri: "x://b"}) })
	m := news(t, watch, func(m *executorv1.WatchResponse) bool { return m.GetResourcesChanged() })
	if m.GetPromptsChanged() || m.GetToolsVersion() != first.GetToolsVersion() {
		t.Errorf("news = %v", m)
	}
	f.change(&providerv1.WatchResponse{PromptsChanged: true}, func() { f.prompts = nil })
	if m := news(t, watch, func(m *executorv1.WatchResponse) bool { return m.GetPromptsChanged() }); m.GetResourcesChanged() || m.GetHasPrompts() {
		t.Errorf("news = %v", m)
	}
	f.change(&providerv1.WatchResponse{ToolsChanged: true}, func() { f.tools = []*providerv1.ToolDefinition{definition("t2")} })
	if m := news(t, watch, func(m *executorv1.WatchResponse) bool { return m.GetToolsVersion() != first.GetToolsVersion() }); m.GetResourcesChanged() {
		t.Errorf("news = %v", m)
	}
	s.wait("t2", "u")

	// Only a resource's own provider can say that it has changed.
	f.change(&providerv1.WatchResponse{UpdatedUris: []string{"z://a", "x://a", "x://unlisted", "y://7", "nothing://a"}}, func() {})
	m = news(t, watch, func(m *executorv1.WatchResponse) bool { return len(m.GetUpdatedUris()) > 0 })
	if diff := cmp.Diff([]string{"x://a", "x://unlisted", "y://7"}, m.GetUpdatedUris()); diff != "" {
		t.Errorf("updated (-want +got):\n%s", diff)
	}
	// However many there are, a message has no more than it may.
	for range 3 {
		var many []string
		for i := range 200 {
			many = append(many, fmt.Sprintf("x://%d/%d", i, len(many)))
		}
		f.change(&providerv1.WatchResponse{UpdatedUris: many}, func() {})
	}
	if m := news(t, watch, func(m *executorv1.WatchResponse) bool { return len(m.GetUpdatedUris()) > 0 }); len(m.GetUpdatedUris()) > 256 {
		t.Errorf("%d URIs", len(m.GetUpdatedUris()))
	}
}

// A provider whose watch breaks is down until it is there again, by itself, and
// with what it has then.
func TestProviderDownAndUp(t *testing.T) {
	t.Parallel()
	s := start(t)
	f := &fake{tools: []*providerv1.ToolDefinition{definition("t")}, call: plays(resultEvent(textResult("x")))}
	w := s.provide("ev", "1", f, "t")
	w.cut()
	s.until(func() bool { return !s.wait("t")[0].GetAvailable() })
	got := s.last(t, granted(t, "t", `{}`)).GetResult()
	if got.GetRefusal().GetReason() != auditv1.Reason_REASON_TOOL_UNAVAILABLE || !got.GetRefusal().GetRetryable() {
		t.Errorf("Call = %v", got)
	}
	f.mu.Lock()
	f.tools = append(f.tools, definition("new"))
	f.mu.Unlock()
	w.mend()
	for _, tool := range s.wait("new", "t") {
		s.until(func() bool { return s.wait("new", "t")[0].GetAvailable() })
		if got := s.last(t, granted(t, tool.GetDefinition().GetName(), `{}`)).GetResult(); got.GetRefusal() != nil {
			t.Errorf("Call = %v", got)
		}
	}
}

// Equal replicas share the calls; one that has something else waits.
func TestProviderReplicas(t *testing.T) {
	t.Parallel()
	s := start(t)
	replica := func(name string, tools ...*providerv1.ToolDefinition) *fake {
		return &fake{tools: tools, call: plays(resultEvent(textResult(name)))}
	}
	first := s.provide("ev", "1", replica("1", definition("t")), "t")
	s.provide("ev", "2", replica("2", definition("t")), "t")
	third := replica("3", definition("t"), definition("u"))
	s.provide("ev", "3", third, "t")
	s.provide("other", "1", replica("other", definition("seen")), "seen", "t")
	heard := make(map[string]int)
	for heard["1"] < 10 || heard["2"] < 10 { // the second joins without anybody noticing
		heard[s.last(t, granted(t, "t", `{}`)).GetResult().GetResult().GetContent()[0].GetText()]++
	}
	if heard["3"] > 0 {
		t.Errorf("answers: %v", heard)
	}
	// The other takes over when one is cut off, without anybody noticing.
	first.cut()
	for range 10 {
		if got := s.last(t, granted(t, "t", `{}`)).GetResult(); got.GetRefusal() != nil && got.GetRefusal().GetReason() != auditv1.Reason_REASON_TOOL_UNAVAILABLE {
			t.Errorf("Call = %v", got)
		}
	}
	// When both are gone the third has its say.
	s.leave("ev", "1", "seen", "t")
	s.leave("ev", "2", "seen", "t", "u")
}

// Names are the operator's, and who comes first keeps one.
func TestJoining(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *executor.Config) {
		c.Joining = map[string]joining.Config{
			"b": {
				Prefix: "b_", Aliases: map[string]string{"long-name": "short", "missing": "x"},
				Default: joining.Options{Risk: "write", Tags: []string{"federated"}}, Tools: map[string]joining.Options{"look": {Risk: "read", Timeout: time.Second}},
			},
			"basics": {Prefix: "x."},
		}
	})
	unrated := func(name string) *providerv1.ToolDefinition {
		return definition(name, func(d *providerv1.ToolDefinition) { d.Options = nil })
	}
	names := make(chan string, 1)
	call := func(req *providerv1.CallToolRequest, stream grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
		names <- req.GetName()
		return stream.Send(resultEvent(textResult("x")))
	}
	s.provide("a", "1", &fake{tools: []*providerv1.ToolDefinition{unrated("look"), definition("short")}}, "look", "short")
	s.provide("b", "1", &fake{call: call, tools: []*providerv1.ToolDefinition{unrated("look"), unrated("long-name"), unrated("x")}}, "look", "short", "b_look", "b_x")
	s.provide("c", "1", &fake{tools: []*providerv1.ToolDefinition{unrated("look"), unrated("c")}}, "look", "short", "b_look", "b_x", "c")
	s.serve("basics:1", says("x"))
	all := []string{"look", "short", "b_look", "b_x", "c", "x.echo", "x.add_numbers"}
	s.announce("basics", "1", "basics:1", tooltest.Image(t, "basics"), all...)

	risks := make(map[string]string)
	for _, tool := range s.wait(all...) {
		o := tool.GetDefinition().GetOptions()
		risks[tool.GetDefinition().GetName()] = tool.GetService() + " " + o.GetRisk().String() + " " + strings.Join(o.GetTags(), ",")
	}
	want := map[string]string{
		"look": "a RISK_UNSPECIFIED ", "short": "a RISK_READ ", "c": "c RISK_UNSPECIFIED ",
		"b_look": "b RISK_READ federated", "b_x": "b RISK_WRITE federated",
		"x.echo": "basics RISK_READ demo", "x.add_numbers": "basics RISK_READ demo",
	}
	if diff := cmp.Diff(want, risks); diff != "" {
		t.Errorf("tools (-want +got):\n%s", diff)
	}
	s.last(t, granted(t, "b_look", `{}`))
	if got := <-names; got != "look" {
		t.Errorf("the provider is asked for %q", got)
	}
	if got := s.last(t, granted(t, "x.echo", `{"text":"x"}`)).GetResult(); string(got.GetResult().GetStructured()) != `{"text":"x"}` {
		t.Errorf("Call = %v", got)
	}
	for text, want := range map[string]int{
		`the tool \"look\" of the service \"c\" belongs to the service \"a\" already; set joining.c.prefix, or another name in joining.c.aliases`:  1,
		`the tool \"short\" of the service \"b\" belongs to the service \"a\" already; set joining.b.prefix, or another name in joining.b.aliases`: 1,
		`name=joining.aliases.missing`: 1,
	} {
		if got := s.logged(text); got != want {
			t.Errorf("%s: logged %d times, want %d", text, got, want)
		}
	}
}

// A provider in the configuration is followed like one that has announced
// itself.
func TestStaticProvider(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *executor.Config) {
		c.Services = []executor.ServiceConfig{{Name: "ev", Address: "ev:1", Provider: true}}
	})
	f := &fake{tools: []*providerv1.ToolDefinition{definition("t")}, call: plays(resultEvent(textResult("x")))}
	s.serve("ev:1", f.register) // it may come later than we do
	s.wait("t")
	if got := s.last(t, granted(t, "t", `{}`)).GetResult(); got.GetRefusal() != nil {
		t.Errorf("Call = %v", got)
	}
}

// hold withholds tools by name.
type hold struct {
	mu      sync.Mutex
	names   map[string]bool
	changed chan struct{}
	digests map[string][]byte
}

func (h *hold) Judge(o catalogue.Offer) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.digests[o.Service+"/"+o.Name] = o.Digest
	return h.names[o.Name]
}

func (h *hold) Use(catalogue.Offer) {}

func (h *hold) Changed() <-chan struct{} { return h.changed }

// What is held is neither listed nor called, and says so.
func TestWithheld(t *testing.T) {
	t.Parallel()
	h := &hold{names: map[string]bool{"new": true}, changed: make(chan struct{}, 1), digests: make(map[string][]byte)}
	s := startHeld(t, func(*system) catalogue.Hold { return h }, func(c *executor.Config) {
		c.Joining = map[string]joining.Config{"ev": {Default: joining.Options{Risk: "write"}}}
	})
	s.provide("ev", "1", &fake{
		tools: []*providerv1.ToolDefinition{definition("new"), definition("old")},
		call:  plays(resultEvent(textResult("x"))),
	}, "old")
	withheld := func() map[string]bool {
		all := make(map[string]bool)
		for _, o := range s.service.Offered() {
			if o.Service != "ev" || o.Definition.GetOptions().GetRisk() != toolv1.Risk_RISK_READ || !slices.Equal(o.Digest, h.digests["ev/"+o.Name]) {
				t.Errorf("offer = %v", o)
			}
			all[o.Name] = o.Withheld
		}
		return all
	}
	if diff := cmp.Diff(map[string]bool{"new": true, "old": false}, withheld()); diff != "" {
		t.Errorf("withheld (-want +got):\n%s", diff)
	}
	// Auth knows it, so that whoever may call it hears why he cannot.
	published := make(map[string][]byte)
	for len(published) != 2 {
		e, err := s.bus.Get(t.Context(), bus.Catalogue, "current")
		if err != nil {
			continue
		}
		c := &executorv1.Catalogue{}
		if err := proto.Unmarshal(e.Value, c); err != nil {
			t.Fatal(err)
		}
		for _, e := range c.GetEntries() {
			published[e.GetName()] = e.GetDigest()
		}
	}
	got := s.last(t, granted(t, "new", `{}`, func(g *authv1.Grant) { g.ToolDigest = published["new"] })).GetResult().GetRefusal()
	const text = "new was not called: it is not as it was when it was approved, or it is new, and an operator has to approve it first. Trying again will not help until then."
	if got.GetReason() != auditv1.Reason_REASON_TOOL_WITHHELD || got.GetMessage() != text || got.GetRetryable() {
		t.Errorf("Call refuses with %v", got)
	}
	if diff := cmp.Diff([]string{"outcome FAILED TOOL_WITHHELD"}, kinds(s.audit.take())); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	h.mu.Lock()
	h.names = nil
	h.mu.Unlock()
	h.changed <- struct{}{}
	s.wait("new", "old")
	if got := s.last(t, granted(t, "new", `{}`)).GetResult(); got.GetRefusal() != nil {
		t.Errorf("Call = %v", got)
	}
}

// Whatever a provider does, others are not touched.
func TestHostileProvider(t *testing.T) {
	t.Parallel()
	bad := func(name, schema string) *providerv1.ToolDefinition {
		return definition(name, func(d *providerv1.ToolDefinition) { d.InputSchema = []byte(schema) })
	}
	many := func(n int, size int) []*providerv1.ToolDefinition {
		var all []*providerv1.ToolDefinition
		for i := range n {
			all = append(all, definition(fmt.Sprintf("t%d", i), func(d *providerv1.ToolDefinition) { d.Description = strings.Repeat("x", size) }))
		}
		return all
	}
	tests := []struct {
		name string
		f    *fake
		want []string // of its tools
		log  string
	}{
		{"too many tools", &fake{tools: many(1001, 0)}, nil, "1001 tools: must be at most 1000"},
		{"too much of them", &fake{tools: many(400, 16000)}, nil, "list tools"},
		{"some that are bad", &fake{tools: []*providerv1.ToolDefinition{
			definition("good"), definition("good"), definition("not a name"), definition(""), bad("a", `{`), bad("b", `{"type":"string"}`),
			bad("c", `{"type":"object","$ref":"https://example.com/"}`), bad("d", `{"type":"object","pattern":"((("}`), bad("e", `{"$schema":"http://x/","type":"object"}`),
			bad("f", `{"type":"object","$ref":"#"}`), definition("g", func(d *providerv1.ToolDefinition) { d.OutputSchema = []byte(`7`) }),
			definition("h", func(d *providerv1.ToolDefinition) { d.Meta = []byte(`{}}`) }), definition("i", func(d *providerv1.ToolDefinition) { d.Options.Scopes = []string{"NO"} }),
		}}, []string{"good"}, "refused more"},
		{"what belongs to others", &fake{tools: []*providerv1.ToolDefinition{definition("mine"), definition("own")}}, []string{"own"}, `belongs to the service \"good\"`},
		{"resources and prompts that are bad", &fake{
			tools: []*providerv1.ToolDefinition{definition("own")}, resources: []*providerv1.Resource{{Uri: "x"}, {Uri: ""}, {Uri: "x://a\x00"}, {Uri: "good://b"}},
			templates: []*providerv1.ResourceTemplate{{UriTemplate: "{+all}"}, {UriTemplate: "x://{"}, {UriTemplate: "good://{+x}"}},
			prompts:   []*providerv1.Prompt{{Name: ""}, {Name: "a", Arguments: []*providerv1.PromptArgument{{Name: "x"}, {Name: "x"}}}},
		}, []string{"own"}, "refused"},
		{"a list that never comes", &fake{list: func(ctx context.Context) { <-ctx.Done() }}, nil, ""},
		{"news without end", &fake{tools: []*providerv1.ToolDefinition{definition("own")}}, []string{"own"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			s.provide("good", "1", &fake{
				tools: []*providerv1.ToolDefinition{definition("mine")}, call: plays(resultEvent(textResult("mine"))),
				resources: []*providerv1.Resource{{Uri: "good://a"}},
				read: func(context.Context, *providerv1.ReadResourceRequest) (*providerv1.ReadResourceResponse, error) {
					return &providerv1.ReadResourceResponse{Contents: contents("good://a", "mine")}, nil
				},
			}, "mine")
			s.serve("bad:1", tt.f.register)
			raw, err := proto.Marshal(&executorv1.Announcement{Service: "bad", Instance: "1", Address: "bad:1", Provider: true})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.bus.Put(t.Context(), bus.Tools, "bad.1", raw); err != nil {
				t.Fatal(err)
			}
			if tt.name == "news without end" {
				s.wait("mine", "own")
				for i := range 100 {
					tt.f.change(&providerv1.WatchResponse{ToolsChanged: true, UpdatedUris: []string{fmt.Sprintf("good://%d", i)}}, func() {})
				}
			}
			s.wait(append(tt.want, "mine")...)
			s.provide("late", "1", &fake{tools: []*providerv1.ToolDefinition{definition("late")}}, append(tt.want, "mine", "late")...)
			if tt.log != "" {
				s.untilLogged(tt.log)
			}
			if got := s.last(t, granted(t, "mine", `{}`)).GetResult().GetResult().GetContent()[0].GetText(); got != "mine" {
				t.Errorf("Call = %q", got)
			}
			if got, err := s.read(t, "good://a"); err != nil || got.GetResponse().GetContents()[0].GetText() != "mine" {
				t.Errorf("ReadResource = %v, %v", got, err)
			}
		})
	}
}

// What one service has cannot fill the catalogue.
func TestRoomOfOneService(t *testing.T) {
	t.Parallel()
	s := start(t)
	var all []*providerv1.ToolDefinition
	for i := range 500 {
		all = append(all, definition(fmt.Sprintf("t%d", i), func(d *providerv1.ToolDefinition) {
			for j := range 16 {
				d.Options.Scopes = append(d.Options.Scopes, fmt.Sprintf("%s%d", strings.Repeat("x", 60), j))
			}
		}))
	}
	s.serve("big:1", (&fake{tools: all}).register)
	raw, err := proto.Marshal(&executorv1.Announcement{Service: "big", Instance: "1", Address: "big:1", Provider: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.bus.Put(t.Context(), bus.Tools, "big.1", raw); err != nil {
		t.Fatal(err)
	}
	s.untilLogged("there is no room for the tool")
	s.untilLogged("refused more")
	var published int
	s.until(func() bool {
		resp, err := s.client.ListTools(t.Context(), &executorv1.ListToolsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		published = len(resp.GetTools())
		return published > 0
	})
	if published < 200 || published > 350 {
		t.Errorf("%d tools are listed", published)
	}
}

// A provider that does not speak the contract at all never joins.
func TestProviderThatIsNone(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.connect("none:1", rpctest.Serve(t, says("x"), rpctest.As("executor")))
	raw, err := proto.Marshal(&executorv1.Announcement{Service: "none", Instance: "1", Address: "none:1", Provider: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.bus.Put(t.Context(), bus.Tools, "none.1", raw); err != nil {
		t.Fatal(err)
	}
	s.provide("ev", "1", &fake{tools: []*providerv1.ToolDefinition{definition("t")}}, "t")
}
