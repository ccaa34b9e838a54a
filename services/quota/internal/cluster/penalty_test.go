package cluster_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// Whoever keeps trying keeps being refused, whichever node is asked and whichever
// dies.
func TestPenaltyOverNodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		members := cluster3(t, w, []limiter.Spec{
			{Max: 2, Window: time.Minute, Penalty: true}, {Max: 1000, Window: time.Minute},
		}, nil)
		rng := rand.New(rand.NewPCG(9, 9))
		key := ownedBy(t, members[2], rng) // which spends both
		other := ownedBy(t, members[0], rng)
		// The last try but one keeps the next from passing for a minute after it; clocks
		// are up to a tenth fast.
		try := func(m *member, with ...limiter.Ask) {
			t.Helper()
			asks := append(ask(key), with...)
			ok, err := m.Take(t.Context(), asks)
			if err != nil || ok {
				t.Fatalf("admitted %v, %v", ok, err)
			}
			if wait := asks[0].State.Wait; wait < 59500*time.Millisecond || wait > time.Minute {
				t.Fatalf("wait %v, want nearly a minute", wait)
			}
			time.Sleep(400 * time.Millisecond)
		}
		elsewhere := limiter.Ask{Limit: 1, Key: other, Cost: 1}
		for i := range 200 { // whoever is asked
			try(members[i%3])
		}
		for range 200 { // the owner, together with a limit of another
			try(members[2], elsewhere)
		}
		for range 200 { // another, which could remember that the owner refuses
			try(members[1])
		}
		for range 200 { // the owner of the other limit
			try(members[0], elsewhere)
		}
		w.crash(members[2])
		time.Sleep(3 * time.Second)
		settle(t, members[:2]...)
		asks := ask(key)
		if ok, err := members[0].Peek(t.Context(), asks); ok || err != nil {
			t.Fatal(ok, err)
		}
		if wait := asks[0].State.Wait; wait < 50*time.Second {
			t.Errorf("wait after the owner has crashed: %v; the heir has not what was refused", wait)
		}
		time.Sleep(time.Minute)
		if ok, err := members[1].Take(t.Context(), ask(key)); !ok || err != nil {
			t.Errorf("after a quiet minute: %v, %v", ok, err)
		}
	})
}
