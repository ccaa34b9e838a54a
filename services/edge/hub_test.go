package edge

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHubTellsWhatIsOfInterest(t *testing.T) {
	t.Parallel()
	updated := func(uris ...string) map[string]bool {
		all := make(map[string]bool)
		for _, uri := range uris {
			all[uri] = true
		}
		return all
	}
	tests := []struct {
		name     string
		interest interest
		told     []news
		want     news
		wakes    bool
	}{
		{"nothing was told", interest{tools: true}, nil, news{}, false},
		{"what is not of interest", interest{tools: true}, []news{{prompts: true, resources: true, updated: updated("a"), anything: true}}, news{}, false},
		{"news gather", interest{tools: true, prompts: true}, []news{{tools: true}, {prompts: true}, {tools: true}}, news{tools: true, prompts: true}, true},
		{"policies and credentials are of interest to all", interest{}, []news{{policies: true}, {credentials: true}}, news{policies: true, credentials: true}, true},
		{"resources that were named", interest{uris: []string{"a", "c"}}, []news{{updated: updated("a", "b")}, {updated: updated("c", "d")}}, news{updated: updated("a", "c")}, true},
		{"resources that are named elsewhere", interest{all: true}, []news{{updated: updated("a")}, {updated: updated("b")}}, news{updated: updated("a", "b")}, true},
		{"anything is more than what is named", interest{uris: []string{"a"}}, []news{{updated: updated("a")}, {anything: true}, {updated: updated("a")}}, news{anything: true}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHub(10, 10)
			s := h.Add("key:anna", "", tt.interest)
			for _, n := range tt.told {
				h.Tell(n)
			}
			if wakes := len(s.wake) > 0; wakes != tt.wakes {
				t.Errorf("woken: got %v, want %v", wakes, tt.wakes)
			}
			if diff := cmp.Diff(tt.want, s.take(), cmp.AllowUnexported(news{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(news{}, s.take(), cmp.AllowUnexported(news{})); diff != "" {
				t.Errorf("taken twice (-want +got):\n%s", diff)
			}
		})
	}
}

// Whoever does not listen to what he is told costs a bounded amount, and nobody
// waits for him.
func TestAMailboxIsBounded(t *testing.T) {
	t.Parallel()
	h := newHub(10, 10)
	s := h.Add("key:anna", "session", interest{all: true})
	for i := range 5 * maxUpdated {
		h.Tell(news{updated: map[string]bool{fmt.Sprint(i): true}})
		if n := len(s.box.updated); n > maxUpdated {
			t.Fatalf("the mailbox holds %d resources, want at most %d", n, maxUpdated)
		}
	}
	if n := s.take(); !n.anything || n.updated != nil {
		t.Errorf("got %d resources and anything %v, want anything", len(n.updated), n.anything)
	}
}

func TestWhatTheNewestStreamHasNotToldIsForTheOneBefore(t *testing.T) {
	t.Parallel()
	h := newHub(10, 10)
	older := h.Add("key:anna", "session", interest{prompts: true})
	newer := h.Add("key:anna", "session", interest{prompts: true})
	h.Tell(news{prompts: true, credentials: true})
	if n := older.take(); n.prompts || !n.credentials {
		t.Errorf("the older got %+v, want nothing but that credentials are to be checked", n)
	}
	h.Remove(newer)
	if n := older.take(); !n.prompts || len(older.wake) == 0 {
		t.Errorf("after the newer went: got %+v, want what it had not told", n)
	}
	h.Remove(older)
	if len(h.all)+len(h.principals)+len(h.sessions) > 0 {
		t.Error("something is left when all are gone")
	}
}
