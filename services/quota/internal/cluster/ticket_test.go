package cluster_test

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// While the heir of a slot changes, nothing is acknowledged that only its owner has:
// neither what was on its way to the heir before, nor what the next has no base for.
func TestNothingIsAcknowledgedWhileTheHeirChanges(t *testing.T) {
	t.Parallel()
	for name, kept := range map[string]func(subject, before string, q *quotav1.ClusterRequest) bool{
		"the heir before answers": func(subject, before string, q *quotav1.ClusterRequest) bool {
			return q.GetCopy() != nil && subject != before
		},
		"only what slots there are is late": func(_, _ string, q *quotav1.ClusterRequest) bool {
			return len(q.GetCopy().GetSlots()) > 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := syncConfig()
				cfg.Patience = 5 * time.Second
				specs := []limiter.Spec{{Max: 10, Window: time.Hour}}
				w := newWorld(t, 1)
				owner := w.start("owner", cfg, specs, nil)
				settle(t, owner)
				heir := w.start("heir", cfg, specs, nil)
				settle(t, owner, heir)
				time.Sleep(time.Second)
				rng := rand.New(rand.NewPCG(1, 1))
				var keys []limiter.Key
				for len(keys) < 100 {
					if key := randomKey(rng); owns(owner, key) {
						keys = append(keys, key)
					}
				}
				before := "sallyport.quota.copies." + heir.ID()
				if _, id := owner.OwnerAndHeir(keys[0]); id != heir.ID() {
					t.Fatal("not the heir")
				}
				// What is spent now waits for the heir, until another node has come.
				w.hold(func(subject string, q *quotav1.ClusterRequest) bool {
					return len(q.GetCopy().GetCounters()) > 0 || kept(subject, before, q)
				})
				told := make([]atomic.Bool, len(keys))
				for i, key := range keys {
					go func() {
						if ok, _ := owner.Take(t.Context(), ask(key)); ok {
							told[i].Store(true)
						}
					}()
				}
				time.Sleep(50 * time.Millisecond)
				next := w.start("next", cfg, specs, nil)
				settle(t, next)
				w.hold(func(subject string, q *quotav1.ClusterRequest) bool { return kept(subject, before, q) })
				time.Sleep(time.Second)
				for i, key := range keys {
					o, h := owner.OwnerAndHeir(key)
					if told[i].Load() && (o != owner.ID() || h != heir.ID()) {
						t.Errorf("a spend was acknowledged that only one node has; its owner is %s, its heir %s", o, h)
					}
				}
				w.hold(nil)
				time.Sleep(time.Second)
				lost := 0
				for i := range keys {
					if !told[i].Load() {
						lost++
					}
				}
				if lost > 0 {
					t.Errorf("%d of %d spends have no answer though all nodes are well", lost, len(keys))
				}
			})
		})
	}
}

func owns(m *member, key limiter.Key) bool {
	owner, _ := m.OwnerAndHeir(key)
	return owner == m.ID()
}

// An heir that has no room does not make anything acknowledged.
func TestAnHeirWithoutRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		specs := []limiter.Spec{{Max: 10, Window: time.Hour}}
		big := w.start("big", syncConfig(), specs, nil)
		settle(t, big)
		w.mu.Lock()
		w.room = limiter.MinKeys
		w.mu.Unlock()
		small := w.start("small", syncConfig(), specs, nil)
		settle(t, big, small)
		time.Sleep(time.Second)
		rng := rand.New(rand.NewPCG(1, 1))
		var kept []limiter.Key
		failed := 0
		for range 4 * limiter.MinKeys {
			key := randomKey(rng)
			if !owns(big, key) {
				continue
			}
			if ok, err := big.Take(t.Context(), ask(key)); err != nil {
				failed++
			} else if ok {
				kept = append(kept, key)
			}
		}
		if failed == 0 || len(kept) == 0 {
			t.Errorf("%d failed and %d were admitted; want some of both", failed, len(kept))
		}
		w.crash(big)
		time.Sleep(3 * time.Second)
		settle(t, small)
		for _, key := range kept {
			asks := ask(key)
			if _, err := small.Peek(t.Context(), asks); err != nil || asks[0].State.Remaining != 9 {
				t.Fatalf("%v, of an acknowledged spend the heir knows %+v", err, asks[0].State)
			}
		}
	})
}
