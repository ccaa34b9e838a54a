package guard_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	guardv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/guard/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard"
)

// judge is an external guard that takes "bad" for bad.
type judge struct {
	guardv1.UnimplementedGuardServiceServer
	verdict guardv1.Verdict
	fails   bool
	asked   []*guardv1.CheckRequest
}

// Check implements [guardv1.GuardServiceServer].
func (j *judge) Check(_ context.Context, req *guardv1.CheckRequest) (*guardv1.CheckResponse, error) {
	j.asked = append(j.asked, req)
	if j.fails {
		return nil, status.Error(codes.Internal, "no model")
	}
	resp := &guardv1.CheckResponse{Verdict: guardv1.Verdict_VERDICT_ALLOW}
	for i, p := range req.GetParts() {
		if at := strings.Index(p.GetText(), "bad"); at >= 0 {
			resp.Verdict, resp.Score = j.verdict, 0.5
			resp.Findings = append(resp.Findings, &guardv1.Finding{Rule: "bad-word", Part: uint32(i), Start: uint32(at), End: uint32(at + 3)})
		}
	}
	return resp, nil
}

// external returns a chain that asks j.
func external(t testing.TB, j *judge, configure ...func(*guard.Config)) *guard.Chain {
	t.Helper()
	cfg := guard.DefaultConfig()
	cfg.External.Address, cfg.External.Deadline = "guard", 10*time.Second
	for _, c := range configure {
		c(&cfg)
	}
	conn := rpctest.Serve(t, func(r grpc.ServiceRegistrar) { guardv1.RegisterGuardServiceServer(r, j) }, rpctest.As("executor"))
	c, err := guard.New(cfg, conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func modes(arguments, results guard.Mode) func(*guard.Config) {
	return func(c *guard.Config) {
		c.Defaults.External = guard.External{Modes: guard.Modes{Arguments: arguments, Results: results}}
	}
}

// What is done depends on the mode and the verdict.
func TestExternalVerdicts(t *testing.T) {
	t.Parallel()
	const observe, redact, block = guardv1.Verdict_VERDICT_OBSERVE, guardv1.Verdict_VERDICT_REDACT, guardv1.Verdict_VERDICT_BLOCK
	const stopped = "stopped"
	for _, tt := range []struct {
		mode      guard.Mode
		verdict   guardv1.Verdict
		arguments string // what is done: stopped or the text that is left
		results   string
	}{
		{guard.Off, block, "a bad day", "a bad day"},
		{guard.Observe, observe, "a bad day", "a bad day"},
		{guard.Observe, redact, "a bad day", "a bad day"},
		{guard.Observe, block, "a bad day", "a bad day"},
		{guard.Redact, observe, "a bad day", "a bad day"},
		{guard.Redact, redact, stopped, "a [removed: bad-word] day"},
		{guard.Redact, block, stopped, stopped},
		{guard.Block, observe, "a bad day", "a bad day"},
		{guard.Block, redact, stopped, stopped},
		{guard.Block, block, stopped, stopped},
	} {
		t.Run(string(tt.mode)+" "+tt.verdict.String(), func(t *testing.T) {
			t.Parallel()
			c := external(t, &judge{verdict: tt.verdict}, modes(tt.mode, tt.mode))
			got := "a bad day"
			if b := c.For(t.Context(), guard.Call{Tool: "t"}).Arguments([]byte(`{"x":"a bad day"}`)); b != nil {
				got = stopped
				if diff := cmp.Diff(&guard.Blocked{Guard: "external", Rule: "bad-word", Pointer: "/x"}, b); diff != "" {
					t.Error(diff)
				}
			}
			if got != tt.arguments {
				t.Errorf("arguments: %s, want %s", got, tt.arguments)
			}
			got, b := c.For(t.Context(), guard.Call{Tool: "t"}).Text("a bad day", "/y")
			if b != nil {
				got = stopped
			}
			if got != tt.results {
				t.Errorf("results: %s, want %s", got, tt.results)
			}
		})
	}
}

// A result is judged in one question, after the guards here have looked, and changed
// where the verdict says; names of members cannot be.
func TestExternalSeesAWholeResult(t *testing.T) {
	t.Parallel()
	result := func(structured string) *providerv1.ToolResult {
		return &providerv1.ToolResult{
			Content: []*providerv1.Content{
				{Kind: &providerv1.Content_Text{Text: "bad\u200b and " + token}},
				{Kind: &providerv1.Content_Text{Text: ""}},
				{Kind: &providerv1.Content_Resource{Resource: &providerv1.ResourceContents{Body: &providerv1.ResourceContents_Text{Text: "not bad"}}}},
			},
			Structured: []byte(structured),
		}
	}
	j := &judge{verdict: guardv1.Verdict_VERDICT_REDACT}
	c := external(t, j, modes(guard.Off, guard.Redact))
	r := result(`{"a":["good","bad"],"n":7}`)
	check := c.For(t.Context(), guard.Call{Tool: "t"})
	if b := check.Result(r); b != nil {
		t.Fatal(b)
	}
	if got := r.GetContent()[0].GetText() + "|" + r.GetContent()[2].GetResource().GetText() + "|" + string(r.GetStructured()); got !=
		`[removed: bad-word] and [removed: secret github-pat]|not [removed: bad-word]|{"a":["good","[removed: bad-word]"],"n":7}` {
		t.Errorf("got %s", got)
	}
	if diff := cmp.Diff([]string{
		"RESULT invisibles zero-width REDACT REDACTED ×1 /content/0/text",
		"RESULT secrets github-pat REDACT REDACTED ×1 /content/0/text",
		"RESULT external bad-word REDACT REDACTED ×3 /content/0/text",
	}, told(check.Findings())); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if check.Findings()[2].GetScore() != 0.5 {
		t.Errorf("score of %v", check.Findings()[2])
	}
	if len(j.asked) != 1 || strings.Contains(j.asked[0].String(), token) || j.asked[0].GetTool() != "t" || j.asked[0].GetSide() != guardv1.Side_SIDE_RESULT {
		t.Errorf("asked %v", j.asked)
	}
	check = c.For(t.Context(), guard.Call{Tool: "t"})
	if b := check.Result(result(`{"a":{"bad":1}}`)); b == nil || b.Pointer != "/structuredContent/a" {
		t.Errorf("a name: %v", b)
	}
}

// What was not judged is passed on or not as configured, and it is on record.
func TestExternalFailures(t *testing.T) {
	t.Parallel()
	set := func(f guard.OnFailure) guard.Set { return guard.Set{External: guard.External{OnFailure: f}} }
	for _, tt := range []struct {
		name      string
		configure func(*guard.Config)
		call      guard.Call
		blocked   bool
	}{
		{"closed for what writes", modes(guard.Redact, guard.Redact), guard.Call{Tool: "t"}, true},
		{"open for what reads", modes(guard.Redact, guard.Redact), guard.Call{Tool: "t", ReadOnly: true}, false},
		{"to observe stops nothing", modes(guard.Observe, guard.Observe), guard.Call{Tool: "t"}, false},
		{"open by default", func(c *guard.Config) { c.Defaults.External.OnFailure = guard.Open }, guard.Call{Tool: "t"}, false},
		{"closed by default", func(c *guard.Config) { c.Defaults.External.OnFailure = guard.Closed }, guard.Call{Tool: "t", ReadOnly: true}, true},
		{"open for a tool", func(c *guard.Config) { c.Tools = map[string]guard.Set{"t": set(guard.Open)} }, guard.Call{Tool: "t"}, false},
		{"open for another tool", func(c *guard.Config) { c.Tools = map[string]guard.Set{"u": set(guard.Open)} }, guard.Call{Tool: "t"}, true},
		{"the stricter of a tool and a role", func(c *guard.Config) {
			c.Tools, c.Roles = map[string]guard.Set{"t": set(guard.Open)}, map[string]guard.Set{"r": set(guard.Closed)}
		}, guard.Call{Tool: "t", Roles: []string{"x", "r"}, ReadOnly: true}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := external(t, &judge{fails: true}, modes(guard.Block, guard.Block), tt.configure)
			check := c.For(t.Context(), tt.call)
			b := check.Arguments([]byte(`{"x":"y"}`))
			if _, b2 := check.Text("z", ""); (b != nil) != tt.blocked || (b2 != nil) != tt.blocked {
				t.Errorf("blocked: %v, %v", b, b2)
			}
			action := map[bool]string{true: "BLOCKED", false: "OBSERVED"}[tt.blocked]
			want := []string{"ARGUMENTS external failed:unavailable " + action, "RESULT external failed:unavailable " + action}
			if tt.blocked {
				want[0], want[1] = want[1], want[0] // the last that has blocked is first
				if !b.Failed || b.Rule != "failed:unavailable" {
					t.Errorf("blocked: %+v", b)
				}
			}
			var got []string
			for _, f := range check.Findings() {
				got = append(got, f.GetSide().String()[11:]+" "+f.GetGuard()+" "+f.GetRule()+" "+f.GetAction().String()[13:])
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// More text than may be sent is judged as far as it was sent, and fails.
func TestExternalIsNotSentTooMuch(t *testing.T) {
	t.Parallel()
	j := &judge{verdict: guardv1.Verdict_VERDICT_REDACT}
	c := external(t, j, modes(guard.Off, guard.Redact), func(c *guard.Config) { c.External.MaxTextBytes = 1024 })
	text := "bad " + strings.Repeat("x", 2000) + " bad"
	if _, b := c.For(t.Context(), guard.Call{Tool: "t"}).Text(text, ""); b == nil || b.Rule != "failed:unsent" {
		t.Errorf("closed: %v", b)
	}
	check := c.For(t.Context(), guard.Call{Tool: "t", ReadOnly: true})
	left, b := check.Text(text, "")
	if b != nil || !strings.HasPrefix(left, "[removed: bad-word] x") || !strings.HasSuffix(left, " bad") {
		t.Errorf("open: %v, %.40q", b, left)
	}
	if diff := cmp.Diff([]string{"RESULT external bad-word REDACT REDACTED ×1 ", "RESULT external failed:unsent REDACT OBSERVED ×1 "}, told(check.Findings())); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

// An external guard that is to be asked must be somewhere.
func TestExternalConfig(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*guard.Config){
		"external.address: missing": modes(guard.Off, guard.Observe),
		"external.address: missing, and there": func(c *guard.Config) {
			c.Roles = map[string]guard.Set{"r": {External: guard.External{Modes: guard.Modes{Arguments: guard.Block}}}}
		},
		"external: deadline: 1m0s must be":             func(c *guard.Config) { c.External.Deadline = time.Minute },
		"external: max_text_bytes: 1 must be":          func(c *guard.Config) { c.External.MaxTextBytes = 1 },
		"external: max_in_flight: 0 must be":           func(c *guard.Config) { c.External.Isolation.MaxInFlight = 0 },
		`defaults.external.on_failure: "ajar" must be`: func(c *guard.Config) { c.Defaults.External.OnFailure = "ajar" },
		`tools.t.external.results: "maybe" must be off`: func(c *guard.Config) {
			c.Tools = map[string]guard.Set{"t": {External: guard.External{Modes: guard.Modes{Results: "maybe"}}}}
		},
		`defaults.external.arguments: "" must be off, observe`: modes("", guard.Off),
	} {
		cfg := guard.DefaultConfig()
		edit(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
