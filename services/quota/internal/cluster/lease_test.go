package cluster_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// A starved machine makes every renewal late. A node whose lease nobody has ended goes
// on, and whoever would end it waits for as long as it has said.
func TestALeaseIsAsLongAsRenewalsTake(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed)
			specs := []limiter.Spec{{Max: 1_000_000, Window: time.Hour}}
			nodes := []*member{w.start("n0", syncConfig(), specs, nil)}
			settle(t, nodes...)
			if seed%2 == 1 {
				nodes = append(nodes, w.start("n1", syncConfig(), specs, nil))
				settle(t, nodes...)
			}
			w.mu.Lock()
			w.slow = 700 * time.Millisecond // twice for each renewal
			w.mu.Unlock()
			time.Sleep(20 * time.Second)
			key := randomKey(rand.New(rand.NewPCG(seed, 1)))
			before := figures(t, nodes[0].reader)["sallyport.quota.cluster.epoch"]
			for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(10 * time.Millisecond) {
				for _, m := range nodes {
					if ok, err := m.Take(t.Context(), ask(key)); !ok || err != nil {
						t.Fatalf("seed %d, after %v: %v, %v", seed, time.Since(began), ok, err)
					}
				}
			}
			if after := figures(t, nodes[0].reader)["sallyport.quota.cluster.epoch"]; after != before {
				t.Errorf("seed %d: the members have changed", seed)
			}
			// It is no longer than that when all is well again.
			w.mu.Lock()
			w.slow = 0
			w.mu.Unlock()
			time.Sleep(20 * time.Second)
			w.crash(nodes[0])
			fresh := w.start("fresh", syncConfig(), specs, nil)
			died := time.Now()
			settle(t, fresh)
			if took := time.Since(died); took > 3*time.Second {
				t.Errorf("seed %d: a takeover took %v", seed, took)
			}
		})
	}
}
