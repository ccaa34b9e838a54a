package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

func nearMisses(set *policy.Set, m *policy.Match, object *policy.Object, s policy.Situation) []policy.NearMiss {
	return m.NearMisses(func() *policy.Candidates { return set.Candidates(call, object) }, s, m.Decide(s))
}

func TestNearMisses(t *testing.T) {
	t.Parallel()
	const analysts = `@id("analysts") permit (principal in Role::"analyst", action == Action::"tools/call", resource is Tool)
		when { resource.risk == "read" && resource.sensitivity != "confidential" } unless { context.hops > 5 || context.client == "bad/1" };`
	tests := []struct {
		name      string
		policies  string
		roles     []string
		object    *policy.Object
		arguments string

		want []string // "rule: missing"
	}{
		{name: "only the role is missing", policies: analysts, roles: []string{"intern"}, want: []string{"analysts: the role analyst"}},
		{
			name: "one part of the conditions is false", policies: analysts, roles: []string{"analyst"}, object: tool("x", destructive),
			want: []string{`analysts: the condition resource.risk == "read"`},
		},
		{
			name: "one part of an unless is true", roles: []string{"a"},
			policies: `@id("p") permit (principal, action, resource) unless { context.hops > 5 || context.client == "test/1" };`,
			want:     []string{`p: the condition not (context.client == "test/1")`},
		},
		{
			name: "the role and a condition are missing", policies: analysts, roles: []string{"intern"}, object: tool("x", destructive),
			want: []string{`analysts: the role analyst and the condition resource.risk == "read"`},
		},
		{
			name: "the nearest comes first", roles: []string{"a"},
			policies: `@id("two") permit (principal in Role::"b", action, resource) when { context.hops == 9 };
				@id("one") permit (principal in Role::"c", action, resource);`,
			want: []string{"one: the role c", "two: the role b and the condition context.hops == 9"},
		},
		{
			name: "another tool or action is not near", roles: []string{"a"},
			policies: `@id("tool") permit (principal, action, resource == Tool::"other");
				@id("action") permit (principal, action == Action::"prompts/get", resource);`,
		},
		{
			name: "a permit that cannot be evaluated", roles: []string{"a"}, arguments: `{"n":"x"}`,
			policies: `@id("p") permit (principal, action == Action::"tools/call", resource) when { context.arguments.n < 3 };`,
			want:     []string{"p: the condition context.arguments.n < 3, which cannot be evaluated"},
		},
		{
			name: "what a false condition guards is not told", roles: []string{"a"}, arguments: `{}`,
			policies: `@id("p") permit (principal, action == Action::"tools/call", resource) when { context.arguments has n && context.arguments.n < 3 };`,
			want:     []string{"p: the condition context.arguments has n"},
		},
		{
			name: "conditions on what was not sent", roles: []string{"a"},
			policies: `@id("p") permit (principal in Role::"b", action == Action::"tools/call", resource) when { context.arguments.n < 3 };`,
			want:     []string{"p: the role b (its conditions on what was not sent were not looked at)"},
		},
		{
			name: "what a forbid has overruled", roles: []string{"a"},
			policies: `@id("p") permit (principal, action, resource); @id("q") permit (principal in Role::"b", action, resource);
				@id("no") @reason("no") forbid (principal, action, resource is Tool);`,
			want: []string{"p: an exception from the forbid no"},
		},
		{
			name: "what would have lifted a forbid", roles: []string{"a"},
			policies: `@id("p") permit (principal, action, resource);
				@id("far") @reason("no") forbid (principal, action, resource) when { context.hops > 1 && context.client like "test/*" } unless { context.steps < 3 || context.hops == 0 };`,
			want: []string{
				`far: the condition not (context.hops > 1) or the condition not (context.client like "test/*") or the condition context.steps < 3 or the condition context.hops == 0`,
				"p: an exception from the forbid far",
			},
		},
		{
			name: "several forbids", roles: []string{"a"},
			policies: `@id("p") permit (principal, action, resource); @id("b") @reason("no") forbid (principal, action, resource) when { context.hops > 1 };
				@id("a") @reason("no") forbid (principal, action, resource) when { context.hops < 9 }; @id("c") @reason("no") forbid (principal, action, resource) when { context.hops > 9 };`,
			want: []string{
				"b: the condition not (context.hops > 1) (and the other forbids lifted too)",
				"a: the condition not (context.hops < 9) (and the other forbids lifted too)",
				"p: an exception from the forbid b",
			},
		},
		{
			name: "a forbid of what nothing permits", roles: []string{"a"},
			policies: `@id("p") permit (principal in Role::"b", action, resource); @id("no") @reason("no") forbid (principal, action, resource) unless { resource == Tool::"x" };`,
			want:     []string{`no: the condition resource == Tool::"x" (and a policy that permits it)`},
		},
		{
			name: "a forbid that cannot be evaluated", roles: []string{"a"}, arguments: `{"n":"x"}`,
			policies: `@id("p") permit (principal, action, resource); @id("no") @reason("no") forbid (principal, action, resource) when { context.arguments.n > 3 };`,
			want:     []string{"no: the condition not (context.arguments.n > 3) (the forbid cannot be evaluated)", "p: an exception from the forbid no"},
		},
		{
			name: "a forbid that somebody could lift, beside one that nobody can", roles: []string{"a"},
			policies: `@id("p") permit (principal, action, resource); @id("ask") @approval("user") @reason("no") forbid (principal, action == Action::"tools/call", resource);
				@id("no") @reason("no") forbid (principal, action, resource) when { context.hops > 1 };`,
			want: []string{
				"ask: an approval (and the other forbids lifted too)",
				"no: the condition not (context.hops > 1) (and the other forbids lifted too)",
				"p: an exception from the forbid no",
			},
		},
		{name: "none where it is allowed", policies: `@id("p") permit (principal, action, resource); @id("q") permit (principal in Role::"b", action, resource);`},
		{
			name: "one principal", roles: []string{"a"},
			policies: `@id("p") permit (principal == Principal::"key:other", action, resource);`,
			want:     []string{"p: being key:other"},
		},
		{
			name: "a condition on a principal by his name", roles: []string{"a"},
			policies: `@id("p") permit (principal, action, resource) when { Principal::"key:7Xk2abcdef".owner == "anna" && context.hops > 5 };`,
			want:     []string{"p: the condition context.hops > 5"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set, object, s := load(t, tt.policies), tt.object, situation(t, tt.arguments)
			if object == nil {
				object = tool("look", reader)
			}
			m := set.Match(caller(tt.roles...), call, object)
			var got []string
			for _, n := range nearMisses(set, m, object, s) {
				got = append(got, n.Rule.ID+": "+n.Missing)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("near misses (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNearMissesHaveRoom(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for _, id := range strings.Split("abcdefghij", "") {
		text.WriteString(`@id("` + id + `") permit (principal in Role::"` + strings.Repeat(id, 300) + `", action, resource);`)
	}
	set, s, object := load(t, text.String()), situation(t, ""), tool("look", reader)
	near := nearMisses(set, set.Match(caller("intern"), call, object), object, s)
	if len(near) != 8 {
		t.Fatalf("got %d, want 8", len(near))
	}
	for _, n := range near {
		if len(n.Missing) > 256 {
			t.Errorf("got %d bytes, want at most 256", len(n.Missing))
		}
	}
}

// TestForbidsLeaveRoom checks that many forbids do not crowd out what they overrule,
// and that long ones keep to what the record has room for.
func TestForbidsLeaveRoom(t *testing.T) {
	t.Parallel()
	text := `@id("p") permit (principal, action, resource);`
	for _, id := range strings.Split("abcdefghij", "") {
		text += `@id("` + id + `") @reason("no") forbid (principal, action, resource) when { context.client != "` + strings.Repeat(id, 300) + `" };`
	}
	set, s, object := load(t, text), situation(t, ""), tool("look", reader)
	near := nearMisses(set, set.Match(caller("a"), call, object), object, s)
	if len(near) != 5 || near[4].Rule.ID != "p" {
		t.Fatalf("got %v, want four forbids and the permit", near)
	}
	for _, n := range near[:4] {
		if len(n.Missing) != 256 || !strings.HasSuffix(n.Missing, " (and the other forbids lifted too)") {
			t.Errorf("got %d bytes: %s", len(n.Missing), n.Missing)
		}
	}
}

func TestInputs(t *testing.T) {
	t.Parallel()
	everything := map[string]string{
		"address": "192.0.2.7", "client": "test/1", "protocol": "2026-07-28", "hops": "2", "context_source": "trace",
		"time": "2026-11-24T12:00:00Z", "steps": "7", "arguments": "*",
		"tainted": "false", "seen_sources": "", "seen_trust": "", "seen_sensitivity": "", "seen_tenants": "", "arguments_from_untrusted": "",
	}
	tests := []struct {
		name      string
		policies  string
		arguments string
		want      map[string]string
	}{
		{
			name:     "nothing where nothing is read that is not on record anyway",
			policies: `@id("a") permit (principal in Role::"intern", action == Action::"tools/call", resource is Tool) when { principal.tenant == "acme" && principal.credential != "x" && resource.risk == "read" };`,
		},
		{
			name: "what is read of the principal", policies: `@id("a") permit (principal, action, resource) when { principal.name == "ci" && principal.scopes.contains("read") };`,
			want: map[string]string{"principal.name": "ci", "principal.scopes": "read write"},
		},
		{
			name: "what is read of the principal by his name", policies: `@id("a") permit (principal, action, resource) when { Principal::"key:x".owner == "anna" };`,
			want: map[string]string{"principal.owner": "anna"},
		},
		{
			name: "who the principal is is on record anyway", policies: `@id("a") permit (principal, action, resource)
				when { principal in Role::"x" || principal == Principal::"y" || principal is Principal || [Principal::"z"].contains(principal) };`,
		},
		{
			name: "all of a principal who is read as a whole", policies: `@id("a") permit (principal, action, resource) when { (if true then principal else principal).name == "ci" };`,
			want: map[string]string{"principal.name": "ci", "principal.owner": "anna", "principal.scopes": "read write"},
		},
		{
			name: "what is read and what is tested", policies: `@id("a") permit (principal, action, resource) when { context has address && context.hops < 3 };`,
			want: map[string]string{"address": "192.0.2.7", "hops": "2"},
		},
		{
			name: "of arguments only the names", arguments: `{"to":"secret@example.com"}`,
			policies: `@id("a") permit (principal, action, resource) when { context has arguments && context.arguments has opts.deep || context.arguments.to like "*@example.com" };`,
			want:     map[string]string{"arguments": "opts, opts.deep, to"},
		},
		{
			name:     "nothing of policies that are for others",
			policies: `@id("a") permit (principal, action, resource); @id("b") permit (principal in Role::"x", action, resource) when { context.hops < 3 };`,
		},
		{
			name: "all where the context is read as a whole", arguments: `{}`, want: everything,
			policies: `@id("a") permit (principal, action, resource) when { (if true then context else {}) == {} };`,
		},
		{
			name:     "nothing of policies that had to wait for arguments and did not matter",
			policies: `@id("a") permit (principal, action, resource); @id("b") permit (principal, action, resource) when { context.arguments.n < context.hops };`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := load(t, tt.policies).Match(caller("intern"), call, tool("look", reader))
			if diff := cmp.Diff(tt.want, m.Inputs(situation(t, tt.arguments), nil)); diff != "" {
				t.Errorf("inputs (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("scopes without room are left out", func(t *testing.T) {
		t.Parallel()
		var scopes []string
		for i := range 50 {
			scopes = append(scopes, fmt.Sprintf("scope-%02d", i))
		}
		m := load(t, `@id("a") permit (principal, action, resource) when { principal.scopes.contains("x") };`).
			Match(policy.NewSubject(&authv1.Principal{Id: "user:a"}, scopes), call, tool("look", reader))
		want := strings.Join(scopes[:28], " ") + " " + policy.Cut
		if got := m.Inputs(situation(t, ""), nil)["principal.scopes"]; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("values are clipped", func(t *testing.T) {
		t.Parallel()
		s := situation(t, "")
		s.Origin.Client = strings.Repeat("é", 200)
		m := load(t, `@id("a") permit (principal, action, resource) when { context.client == "x" };`).Match(caller("a"), call, tool("look", reader))
		if got := m.Inputs(s, nil)["client"]; got != strings.Repeat("é", 128) {
			t.Errorf("got %d bytes", len(got))
		}
	})
}

func TestApplied(t *testing.T) {
	t.Parallel()
	m := load(t, `@id("p") permit (principal, action, resource);
		@id("other") permit (principal, action, resource) when { context.hops > 100 };
		@id("no") @reason("no") forbid (principal, action, resource);
		@id("broken") @reason("no") forbid (principal, action, resource) when { context.arguments.n };
		@id("lame") permit (principal, action, resource) when { context.arguments.n };`).Match(caller("a"), call, tool("look", reader))
	var got []string
	for _, r := range m.Applied(situation(t, `{}`)) {
		got = append(got, r.ID)
	}
	if diff := cmp.Diff([]string{"p", "no", "broken"}, got); diff != "" {
		t.Errorf("applied (-want +got):\n%s", diff)
	}
}

// TestNeeds checks that nothing is asked for that cannot turn the verdict.
func TestNeeds(t *testing.T) {
	t.Parallel()
	const (
		permit      = `@id("permit") permit (principal, action, resource);`
		permitSteps = `@id("permit-steps") permit (principal, action, resource) when { context.steps < 10 };`
		forbidSteps = `@id("forbid-steps") @reason("no") forbid (principal, action, resource) when { context.steps >= 10 };`
		permitArgs  = `@id("permit-args") permit (principal, action, resource) when { context.arguments.n == 1 };`
		forbidBoth  = `@id("forbid-both") @reason("no") forbid (principal, action, resource) when { context.arguments.n == 1 && context.steps > 3 };`
	)
	const both = policy.NeedArguments | policy.NeedSteps
	tests := []struct {
		name      string
		policies  string
		arguments string
		steps     *uint64
		verdict   policy.Verdict
		needs     policy.Needs
		callable  bool
	}{
		{name: "a permit that reads steps needs them", policies: permitSteps, verdict: policy.Incomplete, needs: policy.NeedSteps, callable: true},
		{name: "a permit that reads steps permits", policies: permitSteps, steps: proto.Uint64(9), verdict: policy.Allow, callable: true},
		{name: "no steps are a number", policies: permitSteps, steps: proto.Uint64(0), verdict: policy.Allow, callable: true},
		{name: "a permit that reads steps does not permit", policies: permitSteps, steps: proto.Uint64(10), verdict: policy.Deny},
		{name: "more steps than a Long holds are many", policies: permitSteps, steps: proto.Uint64(1<<64 - 1), verdict: policy.Deny},
		{name: "steps are not needed where another permit is enough", policies: permit + permitSteps, verdict: policy.Allow, callable: true},
		{name: "steps are not needed where nothing could permit", policies: forbidSteps, verdict: policy.Deny},
		{name: "a forbid that reads steps needs them", policies: permit + forbidSteps, verdict: policy.Incomplete, needs: policy.NeedSteps, callable: true},
		{name: "a forbid that reads steps forbids", policies: permit + forbidSteps, steps: proto.Uint64(10), verdict: policy.Deny},
		{name: "both are asked for at once", policies: permitArgs + forbidSteps, verdict: policy.Incomplete, needs: both, callable: true},
		{name: "what is there is not asked for", policies: permitArgs + forbidSteps, arguments: `{"n":1}`, verdict: policy.Incomplete, needs: policy.NeedSteps, callable: true},
		{name: "nor the other", policies: permitArgs + forbidSteps, steps: proto.Uint64(1), verdict: policy.Incomplete, needs: policy.NeedArguments, callable: true},
		{name: "a policy that reads both needs both", policies: permit + forbidBoth, verdict: policy.Incomplete, needs: both, callable: true},
		{name: "and decides with both", policies: permit + forbidBoth, arguments: `{"n":1}`, steps: proto.Uint64(4), verdict: policy.Deny, callable: true},
		{name: "a test for steps reads them", policies: `@id("a") permit (principal, action, resource) when { context has steps };`, verdict: policy.Incomplete, needs: policy.NeedSteps, callable: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := load(t, tt.policies).Match(caller("a"), call, tool("look", reader))
			s := situation(t, tt.arguments)
			s.Origin.Steps = tt.steps
			if got := m.Decide(s); got.Verdict != tt.verdict || got.Needs != tt.needs {
				t.Errorf("got %+v, want verdict %v and needs %b", got, tt.verdict, tt.needs)
			}
			var needs policy.Needs // of the policies that the verdict waits for
			for _, r := range m.Waiting(s) {
				needs |= r.Needs()
			}
			if tt.needs != 0 && needs&tt.needs != tt.needs {
				t.Errorf("got policies that need %b, want %b", needs, tt.needs)
			}
			if got := m.Callable(s); got != tt.callable {
				t.Errorf("got callable %v, want %v", got, tt.callable)
			}
		})
	}
	t.Run("without an origin steps are not known", func(t *testing.T) {
		t.Parallel()
		m := load(t, permitSteps).Match(caller("a"), call, tool("look", reader))
		if got := m.Decide(policy.Situation{}); got.Verdict != policy.Incomplete {
			t.Errorf("got %+v", got)
		}
	})
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		text string
		want []string
	}{
		{"nothing odd", `@id("a") permit (principal, action, resource) when { context.hops < 3 };`, nil},
		{"a condition that is false", `@id("a") permit (principal, action, resource) when { false };`, []string{`x.cedar:1: policy "a" can never apply: its conditions are false whatever is asked`}},
		{
			"a part of a condition that is false", "\n@id(\"a\") permit (principal, action, resource) when { context.hops < 3 } unless { 1 == 1 };",
			[]string{`x.cedar:2: policy "a" can never apply: its conditions are false whatever is asked`},
		},
		{
			"a forbid of everything", `@id("a") @reason("Closed.") forbid (principal, action, resource);`,
			[]string{`x.cedar:1: policy "a" forbids everything to everybody, so no permit has an effect`},
		},
		{"a forbid of everything at times", `@id("a") @reason("Closed.") forbid (principal, action, resource) when { context.hops > 3 };`, nil},
		{
			"a tool that there is not", `@id("a") permit (principal, action, resource == Tool::"gone"); @id("b") permit (principal, action, resource == Tool::"look");`,
			[]string{`x.cedar:1: policy "a" is about the tool "gone", and no tool is called so now`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set, err := policy.Load([]policy.File{{Name: "x.cedar", Text: []byte(tt.text)}})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range append(set.Warnings(), set.UnknownTools(func(name string) bool { return name == "look" })...) {
				if !p.Warning {
					t.Errorf("%v is not marked as a warning", p)
				}
				got = append(got, p.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

// TestArgumentsOfAnyTool checks that a policy can read arguments of tools that it
// knows nothing of.
func TestArgumentsOfAnyTool(t *testing.T) {
	t.Parallel()
	set := load(t, `@id("small") permit (principal, action == Action::"tools/call", resource is Tool)
		when { resource.risk == "read" || context.arguments has limit && context.arguments.limit <= 10 };`)
	for _, options := range []*toolv1.Tool{nil, reader, destructive, {Risk: toolv1.Risk_RISK_WRITE, Tags: []string{"x"}}} {
		m := set.Match(caller("a"), call, tool("any", options))
		for arguments, want := range map[string]policy.Verdict{`{"limit":10}`: policy.Allow, `{"limit":11}`: policy.Deny, `{"other":1}`: policy.Deny, `{"limit":"1"}`: policy.Deny} {
			if options == reader {
				want = policy.Allow
			}
			if got := m.Decide(situation(t, arguments)); got.Verdict != want {
				t.Errorf("%v with %s: got %+v, want %v", options, arguments, got, want)
			}
		}
	}
	if got := set.Match(caller("a"), call, tool("any", nil)).Decide(policy.Situation{Origin: new(authv1.Origin)}); got.Needs != policy.NeedArguments {
		t.Errorf("got %+v, want that arguments are needed", got)
	}
}
