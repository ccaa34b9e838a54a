package cluster

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// What is taken from whom is decided by a function of its own, since the failures
// that lead to the rarer cases do not happen at a test's word.
func TestPlan(t *testing.T) {
	t.Parallel()
	const part, copied, owned = quotav1.HoldingKind_HOLDING_KIND_PART, quotav1.HoldingKind_HOLDING_KIND_COPY, quotav1.HoldingKind_HOLDING_KIND_OWNED
	holds := func(from string, reign, seen uint64, kind quotav1.HoldingKind) source {
		return source{from, &quotav1.Holding{Slot: 7, Reign: reign, Seen: seen, Kind: kind}}
	}
	for _, test := range []struct {
		name     string
		sources  []source
		want     []string // what is loaded, in order
		outdated bool
	}{
		{"nobody has anything", nil, nil, true},
		{"the owner who lost it has the best", []source{holds("", 4, 5, copied), holds("a", 4, 4, owned), holds("b", 2, 3, copied)}, []string{"a on top"}, true},
		{"the heir has all that the dead owner had", []source{holds("", 4, 5, copied), holds("a", 3, 3, owned)}, nil, false},
		{"a later reign is better, though a copy", []source{holds("a", 3, 3, owned), holds("b", 4, 4, copied)}, []string{"b on top"}, true},
		{"a later copy is better", []source{holds("a", 4, 6, copied), holds("b", 4, 5, copied)}, []string{"a on top"}, true},
		{"a part goes on top of the whole", []source{holds("a", 4, 6, part), holds("b", 3, 3, owned)}, []string{"b on top", "a on top"}, true},
		{"our own part stays on top", []source{holds("", 4, 6, part), holds("b", 3, 3, owned), holds("c", 4, 5, part)}, []string{"c below", "b below"}, false},
		{"our own part lies between", []source{holds("", 4, 6, part), holds("b", 3, 3, owned), holds("c", 4, 7, part)}, []string{"b below", "c on top"}, false},
		{"parts are better than nothing", []source{holds("a", 4, 6, part), holds("b", 4, 5, part)}, []string{"b on top", "a on top"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			steps, outdated := plan(map[int][]source{7: test.sources}, []int{7})
			var got []string
			for _, l := range slices.Concat(steps...) {
				how := "on top"
				if l.keep {
					how = "below"
				}
				if !l.slots.has(7) || l.slots.has(8) {
					t.Errorf("%s: wrong slots", l.from)
				}
				got = append(got, fmt.Sprint(l.from, " ", how))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("loads (-want +got):\n%s", diff)
			}
			if outdated.has(7) != test.outdated {
				t.Errorf("own state outdated: got %v, want %v", outdated.has(7), test.outdated)
			}
		})
	}
}

func TestSlotsAreSharedEvenlyAndMoveToHeirs(t *testing.T) {
	t.Parallel()
	members := []string{"a", "b", "c", "d"}
	before, after := newView(1, 1, members, nil), newView(2, 2, members[:3], nil)
	owned := make(map[string]int)
	for s := range slotCount {
		owned[before.owner(s)]++
		want := before.owner(s)
		if want == "d" {
			want = before.heir(s)
		}
		if got := after.owner(s); got != want {
			t.Errorf("slot %d moved from %s to %s, want %s", s, before.owner(s), got, want)
		}
		if before.owner(s) == before.heir(s) || before.heir(s) == "" {
			t.Errorf("slot %d has the heir %q of %q", s, before.heir(s), before.owner(s))
		}
	}
	for _, m := range members {
		if n := owned[m]; n < slotCount/4*7/10 || n > slotCount/4*13/10 {
			t.Errorf("%s owns %d of %d slots", m, n, slotCount)
		}
	}
}
