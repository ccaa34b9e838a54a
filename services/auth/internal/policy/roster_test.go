package policy_test

import (
	"fmt"
	"os"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/alloctest"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// rosters are sets of policies that look at tools in different ways.
func rosters(t testing.TB) map[string]string {
	t.Helper()
	defaults, err := os.ReadFile("../../policies/default.cedar")
	if err != nil {
		t.Fatal(err)
	}
	const all = `@id("all") permit (principal, action, resource);`
	return map[string]string{
		"the default policies": string(defaults),
		"nothing for tools":    `@id("a") permit (principal, action, resource is Prompt);`,
		"a role":               `@id("a") permit (principal in Role::"b", action, resource);`,
		"a role as a condition": `@id("a") permit (principal, action, resource) when { principal in Role::"b" };
			@id("b") @reason("no") forbid (principal, action, resource in Service::"one") when { principal.owner != "anna" };`,
		"one tool":                     `@id("a") permit (principal, action, resource == Tool::"b");`,
		"a service":                    `@id("a") permit (principal, action, resource in Service::"two");`,
		"a risk, one service but":      `@id("a") permit (principal, action, resource is Tool) when { resource.risk == "read" } unless { resource in Service::"two" };`,
		"tags forbidden":               all + `@id("b") @reason("no") forbid (principal, action, resource is Tool) when { resource.tags.contains("x") };`,
		"a risk from afar":             all + `@id("b") @reason("no") forbid (principal, action, resource is Tool) when { context.hops > 1 && resource.risk == "write" };`,
		"a risk from afar, permitted":  `@id("a") permit (principal, action, resource is Tool) when { context.hops > 1 && resource.risk == "write" };`,
		"the client's own tools":       `@id("a") permit (principal, action, resource is Tool) when { context.client == resource.service };`,
		"all but the client's":         all + `@id("b") @reason("no") forbid (principal, action, resource is Tool) when { context.client == resource.service };`,
		"an address":                   `@id("a") permit (principal, action, resource is Tool) when { context has address && context.address.isInRange(ip("192.0.2.0/24")) };`,
		"no address":                   all + `@id("b") @reason("no") forbid (principal, action, resource is Tool) when { resource.risk == "read" } unless { context has address };`,
		"arguments":                    `@id("a") permit (principal, action, resource) when { context.arguments.n == 1 };`,
		"arguments of a risk":          `@id("a") permit (principal, action, resource is Tool) when { resource.risk == "read" && context.arguments.n == 1 };`,
		"arguments, then a risk":       `@id("a") permit (principal, action, resource is Tool) when { context.arguments.n == 1 && resource.risk == "read" };`,
		"arguments forbidden":          all + `@id("b") @reason("no") forbid (principal, action, resource) when { context.arguments.n == 1 };`,
		"steps":                        `@id("a") permit (principal, action, resource) when { context has steps && context.steps < 5 };`,
		"a forbid that breaks":         all + `@id("b") @reason("no") forbid (principal, action, resource is Tool) when { Tool::"b".risk == "read" };`,
		"a forbid that breaks later":   all + `@id("b") @reason("no") forbid (principal, action, resource is Tool) when { context.hops > 1 && Tool::"b".risk == "read" };`,
		"a forbid that breaks first":   all + `@id("b") @reason("no") forbid (principal, action, resource is Tool) when { context.hops * 9223372036854775807 > 0 && resource.risk == "read" };`,
		"a permit that breaks":         `@id("a") permit (principal, action, resource is Tool) when { context.hops > 1 && Tool::"b".risk == "read" };`,
		"a named tool and the context": `@id("a") permit (principal, action, resource is Tool) when { Tool::"b".service == context.client || context.hops > 5 };`,
		"approvals": all + `@id("b") @reason("ask") @approval("user") forbid (principal, action == Action::"tools/call", resource is Tool) when { resource.risk == "read" };
			@id("c") @reason("no") forbid (principal, action == Action::"tools/call", resource is Tool) when { resource.outbound };`,
		"what was seen":            all + `@id("b") @reason("no") forbid (principal, action == Action::"tools/call", resource is Tool) when { context.tainted && resource.outbound };`,
		"what was seen, permitted": `@id("a") permit (principal, action == Action::"tools/call", resource is Tool) when { context.tainted };`,
	}
}

// toolbox are tools that differ in what policies can read.
func toolbox() (tools []*policy.Object) {
	for i, options := range []*toolv1.Tool{
		nil,
		{Risk: toolv1.Risk_RISK_READ, Tags: []string{"x", "y"}},
		{Risk: toolv1.Risk_RISK_WRITE, Outbound: true},
		{Risk: toolv1.Risk_RISK_DESTRUCTIVE, Sensitivity: toolv1.Sensitivity_SENSITIVITY_PUBLIC},
		{Risk: toolv1.Risk_RISK_READ, Outbound: true},
		{Risk: toolv1.Risk_RISK_READ, Tags: []string{"x"}, Trust: toolv1.Trust_TRUST_TRUSTED},
	} {
		for _, service := range []string{"one", "two", "test/1"} {
			tools = append(tools, policy.NewTool(&executorv1.Catalogue_Entry{
				Name: string(rune('a' + len(tools))), Service: service, Options: options,
			}))
		}
		tools = append(tools, tools[i])
	}
	return tools
}

// situations are those that policies can tell apart.
func situations(t testing.TB) (all []policy.Situation) {
	t.Helper()
	s := situation(t, "")
	for _, edit := range []func(*policy.Situation, *authv1.Origin){
		func(*policy.Situation, *authv1.Origin) {},
		func(s *policy.Situation, o *authv1.Origin) { s.Seen, o.Steps = nil, nil },
		func(_ *policy.Situation, o *authv1.Origin) { o.Client, o.Hops = "one", 9 },
		func(_ *policy.Situation, o *authv1.Origin) { o.Address, o.Hops, o.Steps = "", 0, proto.Uint64(1) },
		func(s *policy.Situation, o *authv1.Origin) {
			s.Seen = &policy.Seen{Labels: []*toolv1.Label{{Source: "a", Trust: toolv1.Trust_TRUST_UNTRUSTED}}}
		},
	} {
		other := s
		other.Origin = proto.CloneOf(s.Origin)
		edit(&other, other.Origin)
		all = append(all, other)
	}
	return all
}

// inRoster asks about all tools by a roster that was made for another subject, if
// there is one with the same view.
func inRoster(t *testing.T, set *policy.Set, subjects []*policy.Subject) {
	t.Helper()
	tools, made := toolbox(), make(map[string]*policy.Roster)
	for _, subject := range subjects {
		view := set.View(subject, call)
		if made[view.Key()] == nil {
			made[view.Key()] = view.Roster(tools)
		}
		for n, s := range situations(t) {
			roll := made[view.Key()].In(subject, s)
			for i, o := range tools {
				want := set.Match(subject, call, o).Callable(s)
				if got := roll.Callable(i); got != want {
					t.Errorf("situation %d, tool %d: got %v by the roster and %v by itself", n, i, got, want)
				}
			}
		}
	}
}

func subjects() (all []*policy.Subject) {
	for _, role := range []string{"admin", "analyst", "intern", "b"} {
		all = append(all, caller(role))
	}
	return append(all, policy.NewSubject(&authv1.Principal{Id: "key:other", Owner: "berta", Roles: []string{"b"}}, nil))
}

// TestRosterAgreesWithMatch holds the two ways to one verdict.
func TestRosterAgreesWithMatch(t *testing.T) {
	t.Parallel()
	for name, text := range rosters(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inRoster(t, load(t, text), subjects())
		})
	}
}

// FuzzRoster looks for policies about which the two ways differ.
func FuzzRoster(f *testing.F) {
	for _, text := range rosters(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		set, err := policy.Load([]policy.File{{Name: "x.cedar", Text: []byte(text)}})
		if err != nil {
			return
		}
		inRoster(t, set, subjects())
	})
}

// TestRosterEvaluatesEachPolicyOnce counts allocations: they must not grow with tools
// of which policies say the same.
func TestRosterEvaluatesEachPolicyOnce(t *testing.T) {
	set := load(t, `@id("a") permit (principal, action, resource is Tool) when { resource.risk == "read" };
		@id("b") @reason("no") forbid (principal, action, resource is Tool) when { context.hops > 5 };
		@id("c") @reason("no") forbid (principal, action, resource is Tool) when { context.hops > 4 && resource.outbound };`)
	subject, s := caller("admin"), situation(t, "")
	var got []float64
	for _, n := range []int{2, 1000} {
		var tools []*policy.Object
		for i := range n {
			tools = append(tools, tool(fmt.Sprint(i), &toolv1.Tool{Risk: toolv1.Risk_RISK_READ, Outbound: i%2 == 0}))
		}
		roster := set.View(subject, call).Roster(tools)
		got = append(got, alloctest.Least(func() {
			roll := roster.In(subject, s)
			for i := range tools {
				if !roll.Callable(i) {
					t.Fatal("refused")
				}
			}
		}))
	}
	if got[0] != got[1] {
		t.Errorf("allocations of a list: got %v for 2 tools and %v for 1000, want the same", got[0], got[1])
	}
}
