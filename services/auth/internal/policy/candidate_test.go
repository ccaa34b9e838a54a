package policy_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/pkg/alloctest"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// TestNearestOfMany checks that what is left out to save work is not near: the near
// misses of many policies are the nearest of those that each has alone.
func TestNearestOfMany(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2)) // the same each time
	conditions := []string{
		`resource.risk == "read"`, `resource.risk == "write"`, `resource.tags.contains("demo")`, `resource.name like "l*"`,
		`context.hops < 3`, `context.hops > 5`, `principal.owner == "anna"`, `principal.owner == "otto"`, `Principal::"key:7Xk2abcdef".name == "ci"`,
		`context.arguments.n < 3`, `context.arguments.n > 7`, `context.arguments.gone`, `9223372036854775807 + 1 > 0`, `context.hops * 9223372036854775807 > 0`,
	}
	object := tool("look", reader)
	for range 100 {
		arguments := []string{"", `{"n":5}`, `{"n":"x"}`}[random.IntN(3)]
		var all []string
		for i := range 1 + random.IntN(30) {
			scope := []string{`principal`, `principal in Role::"a"`, `principal in Role::"b"`}[random.IntN(3)]
			text := fmt.Sprintf(`@id("p%d") permit (%s, action == Action::"tools/call", resource is Tool)`, i, scope)
			for range random.IntN(4) {
				text += " " + []string{"when", "unless"}[random.IntN(2)] + " { " + conditions[random.IntN(len(conditions))] + " }"
			}
			all = append(all, text+";")
		}
		near := func(policies string) []policy.NearMiss {
			set, s := load(t, policies), situation(t, arguments)
			m := set.Match(caller("a"), call, object)
			return m.NearMisses(func() *policy.Candidates { return set.Candidates(call, object) }, s, policy.Outcome{})
		}
		var want []string
		for _, one := range all {
			for _, n := range near(one) {
				want = append(want, n.Rule.ID+": "+n.Missing)
			}
		}
		slices.SortStableFunc(want, func(a, b string) int {
			return cmp.Compare(strings.Count(a, " and the "), strings.Count(b, " and the "))
		})
		want = want[:min(len(want), 8)]
		var got []string
		for _, n := range near(strings.Join(all, "\n")) {
			got = append(got, n.Rule.ID+": "+n.Missing)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Fatalf("with arguments %q, of\n%s\nnear misses (-alone +together):\n%s", arguments, strings.Join(all, "\n"), diff)
		}
	}
}

// TestNearMissesOfManyCostLittle counts allocations, which do not depend on the
// machine: each evaluation of a policy makes some.
func TestNearMissesOfManyCostLittle(t *testing.T) {
	cost := func(n int) float64 {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, `@id("p%d") permit (principal in Role::"b", action, resource is Tool) when { context.hops < 3 && resource.name == "x" };`, i)
		}
		set, s, object := load(t, text.String()), situation(t, ""), tool("look", reader)
		m, c := set.Match(caller("a"), call, object), set.Candidates(call, object)
		return alloctest.Least(func() {
			if near := m.NearMisses(func() *policy.Candidates { return c }, s, policy.Outcome{}); len(near) != 8 {
				t.Fatal(near)
			}
		})
	}
	few, many := cost(10), cost(1000)
	if many > few+2 { // the runtime's own are counted too
		t.Errorf("got %v allocations with 1000 policies, want %v as with 10", many, few)
	}
}
