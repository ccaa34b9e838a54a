package cluster_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// lined starts nodes with lines to each other, and waits for these.
func lined(t *testing.T, cfg cluster.Config, count int) (*world, []*member) {
	t.Helper()
	w := newWorld(t, 1)
	w.lines = true
	var members []*member
	for i := range count {
		members = append(members, w.start(string(rune('a'+i)), cfg, []limiter.Spec{{Max: 100, Window: time.Hour}}, nil))
	}
	settle(t, members...)
	time.Sleep(time.Second)
	for _, m := range members {
		if got := openLines(t, m); got != 2*(count-1) {
			t.Fatalf("%s has %d lines", m.name, got)
		}
	}
	return w, members
}

func openLines(t *testing.T, m *member) int {
	t.Helper()
	return int(figures(t, m.reader)["sallyport.quota.cluster.lines"])
}

// ofOther is a key that another node owns.
func ofOther(t *testing.T, m *member, rng *rand.Rand) limiter.Key {
	t.Helper()
	for {
		if key := randomKey(rng); !owns(m, key) {
			return key
		}
	}
}

func TestAsksAndCopiesTakeTheLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, members := lined(t, cluster.DefaultConfig(), 3)
		w.hold(func(_ string, q *quotav1.ClusterRequest) bool { return q.GetAsks() != nil || q.GetCopy() != nil })
		rng := rand.New(rand.NewPCG(1, 1))
		for range 100 {
			if ok, err := members[0].Take(t.Context(), ask(ofOther(t, members[0], rng))); err != nil || !ok {
				t.Fatalf("got %v, %v", ok, err)
			}
		}
		time.Sleep(100 * time.Millisecond)
		for _, m := range members[1:] { // who own them
			if got := figures(t, m.reader); got["sallyport.quota.cluster.uncopied"] != 0 || got["sallyport.quota.cluster.copy_lag"] == 0 {
				t.Errorf("%s: got %v", m.name, got)
			}
		}
	})
}

// What is on its way when a line breaks is lost; all else goes over the wire, until
// there are lines again.
func TestALineThatIsCutIsDoneWithout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := cluster.DefaultConfig()
		w, members := lined(t, cfg, 2)
		rng := rand.New(rand.NewPCG(1, 1))
		w.setLineCut("b", true)
		began := time.Now()
		if _, err := members[0].Take(t.Context(), ask(ofOther(t, members[0], rng))); err == nil {
			t.Error("nobody can have answered")
		}
		if took := time.Since(began); took > 2*cfg.Patience {
			t.Errorf("it took %v to know", took)
		}
		for range 1000 { // longer than it takes to give up dialling
			if ok, err := members[0].Take(t.Context(), ask(ofOther(t, members[0], rng))); err != nil || !ok {
				t.Fatalf("got %v, %v", ok, err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		if got := openLines(t, members[0]); got > 1 { // that for copies may not have been used
			t.Errorf("%d lines are open to a node without", got)
		}
		w.setLineCut("b", false)
		time.Sleep(20 * time.Second)
		if got := openLines(t, members[0]); got != 2 {
			t.Errorf("%d lines are open afterwards", got)
		}
	})
}

// What was not sent over a line is sent over the wire, at once.
func TestALineThatHasEndedCostsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, members := lined(t, cluster.DefaultConfig(), 2)
		key := ofOther(t, members[0], rand.New(rand.NewPCG(1, 1)))
		w.breakLines()
		began := time.Now()
		if ok, err := members[0].Take(t.Context(), ask(key)); err != nil || !ok {
			t.Fatalf("got %v, %v", ok, err)
		}
		if took := time.Since(began); took > 4*time.Millisecond { // four messages of at most one, by turns
			t.Errorf("it took %v", took)
		}
	})
}

// Whoever has no word from the store decides no longer than its lease, though others
// reach it.
func TestALineIsNoLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := cluster.DefaultConfig()
		w, members := lined(t, cfg, 3)
		rng := rand.New(rand.NewPCG(1, 1))
		key := ofOther(t, members[0], rng)
		owner := members[1]
		if !owns(owner, key) {
			owner = members[2]
		}
		take := func() (bool, error) { return members[0].Take(t.Context(), ask(key)) }
		admitted := 0
		for range 40 {
			if ok, err := take(); err != nil || !ok {
				t.Fatalf("got %v, %v", ok, err)
			}
			admitted++
		}
		w.spare(owner.name, true)
		w.setCut(owner.name, true)
		gap, last := time.Duration(0), time.Now()
		for began := time.Now(); time.Since(began) < 5*time.Second; time.Sleep(time.Millisecond) {
			ok, err := take()
			if err == nil {
				gap, last = max(gap, time.Since(last)), time.Now()
			}
			if ok {
				admitted++
			}
		}
		if admitted != 100 {
			t.Errorf("admitted %d of 100", admitted)
		}
		if gap == 0 || gap > 2*cfg.Lease {
			t.Errorf("nothing was decided for %v", gap)
		}
		if _, err := owner.Take(t.Context(), ask(key)); err == nil {
			t.Error("a node without a lease decides")
		}
	})
}

func TestALineIsForOneMember(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, members := lined(t, cluster.DefaultConfig(), 2)
		m := members[0]
		asks := &quotav1.ClusterRequest{Request: &quotav1.ClusterRequest_Asks{Asks: &quotav1.AskFrame{Verbs: make([]quotav1.AskVerb, 1)}}}
		if m.Answer(t.Context(), m.ID(), asks).GetAsks() == nil {
			t.Error("it does not answer")
		}
		for _, id := range []string{"", "another", members[1].ID()} {
			if m.Over(id) != nil || m.Answer(t.Context(), id, asks) != nil {
				t.Errorf("it answers for %q", id)
			}
		}
		id := m.ID()
		over := m.Over(id)
		m.stop()
		<-over
		if m.Answer(t.Context(), id, asks) != nil {
			t.Error("it answers for what it is no more")
		}
	})
}
