package policy_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// sweepers are sets of policies that look at objects in different ways.
func sweepers(t testing.TB) map[string]string {
	t.Helper()
	defaults, err := os.ReadFile("../../policies/default.cedar")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"the default policies":  string(defaults),
		"one object":            `@id("a") permit (principal, action, resource == Resource::"docs://1");`,
		"one object as a group": `@id("a") permit (principal, action, resource in Prompt::"docs://1");`,
		"one object, as it is":  `@id("a") permit (principal, action, resource is Resource) when { Resource::"docs://1".scheme == "docs" };`,
		"a scheme":              `@id("a") permit (principal, action, resource is Resource) when { resource.scheme == "docs" };`,
		"a name":                `@id("a") permit (principal, action, resource is Prompt) when { resource.name like "docs*" };`,
		"another type":          `@id("a") permit (principal, action, resource is Tool);`,
		"other types forbidden": `@id("a") permit (principal, action, resource);
			@id("b") @reason("no") forbid (principal, action, resource is Tool) when { resource.risk == "read" };`,
		"all but a scheme": `@id("a") permit (principal, action, resource);
			@id("b") @reason("no") forbid (principal, action, resource is Resource) unless { resource.scheme == "file" };`,
		"a permit for others": `@id("a") permit (principal in Role::"b", action, resource);`,
		"only forbids":        `@id("a") @reason("no") forbid (principal, action, resource is Resource) when { resource.uri like "x*" };`,
		"the address":         `@id("a") permit (principal, action, resource) when { context has address && context.address.isInRange(ip("192.0.2.0/24")) };`,
		"another address":     `@id("a") permit (principal, action, resource) when { context has address && context.address.isLoopback() };`,
		"arguments":           `@id("a") permit (principal, action, resource) when { context.arguments.n == 1 };`,
		"arguments forbidden": `@id("a") permit (principal, action, resource);
			@id("b") @reason("no") forbid (principal, action, resource) when { context.arguments.n == 1 };`,
		"arguments and the object": `@id("a") permit (principal, action, resource is Resource) when { context.arguments.n == 1 && resource.uri like "*1" };`,
		"a forbid that breaks": `@id("a") permit (principal, action, resource);
			@id("b") @reason("no") forbid (principal, action, resource is Resource) when { resource == Resource::"docs://1" && context.arguments.n };`,
	}
}

// TestSweepAgreesWithMatch holds the two ways to one verdict.
func TestSweepAgreesWithMatch(t *testing.T) {
	t.Parallel()
	targets := []string{"docs://1", "docs://2", "file:///a", "file:///a/../b", "DOCS://{id}", "docs", "x", "", "docs://1"}
	for name, text := range sweepers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := load(t, text)
			for _, role := range []string{"admin", "analyst", "intern", "b"} {
				agree(t, set, caller(role), targets)
			}
		})
	}
}

func agree(t *testing.T, set *policy.Set, subject *policy.Subject, targets []string) {
	t.Helper()
	s := situation(t, "")
	for method, object := range map[string]func(string) *policy.Object{
		"resources/read": policy.NewResource,
		"prompts/get":    policy.NewPrompt,
	} {
		sweep := set.NewSweep(subject, policy.NewAction(method), object, s)
		for _, target := range targets {
			want := set.Match(subject, policy.NewAction(method), object(target)).Callable(s)
			if got := sweep.Callable(target); got != want {
				t.Errorf("%s of %q: got %v by the sweep and %v by itself", method, target, got, want)
			}
		}
	}
}

// FuzzSweep looks for policies and targets about which the two ways differ.
func FuzzSweep(f *testing.F) {
	for _, text := range sweepers(f) {
		f.Add(text, "docs://1", "file:///{a}")
	}
	f.Add(`@id("a") permit (principal, action, resource) when { [resource].contains(Resource::"docs://1") };`, "docs://1", "")
	f.Add(`@id("a") permit (principal, action, resource) when { {"r": resource}["r"] == Resource::"x" || principal has tags };`, "x", "..")
	f.Fuzz(func(t *testing.T, text, one, other string) {
		set, err := policy.Load([]policy.File{{Name: "x.cedar", Text: []byte(text)}})
		if err != nil {
			return
		}
		agree(t, set, caller("analyst"), []string{one, other, one})
	})
}

// BenchmarkSweep measures what one of many resources costs.
func BenchmarkSweep(b *testing.B) {
	const targets = 11000
	uris := make([]string, targets)
	for i := range uris {
		uris[i] = fmt.Sprintf("docs://handbook/chapter/%d/page.md", i)
	}
	s := situation(b, "")
	for _, name := range []string{"the default policies", "a scheme", "all but a scheme", "a permit for others", "arguments and the object"} {
		set := load(b, sweepers(b)[name])
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sweep := set.NewSweep(caller("analyst"), policy.NewAction("resources/read"), policy.NewResource, s)
				for _, uri := range uris {
					sweep.Callable(uri)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*targets), "ns/target")
		})
	}
}
