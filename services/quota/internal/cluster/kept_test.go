package cluster_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// A check that waits for the owner of one count keeps what it has of another: who
// asks meanwhile is refused, and it is not refused itself for that.
func TestWhatIsReservedIsKeptWhileAnotherOwnerIsAwaited(t *testing.T) {
	t.Parallel()
	for name, patience := range map[string]time.Duration{"until there is one": 5 * time.Second, "but not for ever": 100 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := cluster.DefaultConfig()
				cfg.Patience = patience
				w := newWorld(t, 1)
				var m []*member
				for _, name := range []string{"asked", "owner", "gone"} {
					m = append(m, w.start(name, cfg, []limiter.Spec{{Max: 1, Window: time.Hour}}, nil))
				}
				settle(t, m...)
				time.Sleep(time.Second)
				rng := rand.New(rand.NewPCG(1, 1))
				key := func(of *member) limiter.Key {
					for {
						if k := randomKey(rng); owns(of, k) {
							return k
						}
					}
				}
				mine, other := key(m[1]), key(m[2])
				w.setStoreCut("gone", true)
				for m[2].Ready(t.Context()) == nil { // until its lease is over; it is fenced a quarter of one later
					time.Sleep(time.Millisecond)
				}
				type outcome struct {
					ok  bool
					err error
				}
				over := make(chan outcome, 1)
				go func() {
					ok, err := m[0].Take(t.Context(), append(ask(mine), ask(other)...))
					over <- outcome{ok, err}
				}()
				for range 40 {
					time.Sleep(time.Millisecond)
					if ok, err := m[0].Take(t.Context(), ask(mine)); ok || err != nil {
						t.Fatalf("who asks meanwhile: got %v, %v", ok, err)
					}
				}
				got := <-over
				if patience < cfg.Lease/2 {
					if got.err == nil {
						t.Errorf("nobody can have decided: got %v", got.ok)
					}
					time.Sleep(2 * time.Second) // for which refusals are remembered, and the owner is fenced
					if ok, err := m[0].Take(t.Context(), ask(mine)); !ok || err != nil {
						t.Errorf("what was kept does not come back: got %v, %v", ok, err)
					}
					return
				}
				if !got.ok || got.err != nil {
					t.Errorf("who waits: got %v, %v", got.ok, got.err)
				}
			})
		})
	}
}
