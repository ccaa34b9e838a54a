package cluster_test

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// change gives a node other limits, as new rules do.
func (m *member) change(now time.Duration, specs ...limiter.Spec) {
	m.limiter.Change(now, specs)
	m.Renamed()
}

// While nodes have other rules one after the other, all decide, and nobody gets
// more than the limit, whoever asks whom; and what was copied meanwhile is not lost.
func TestRulesChangeOnOneNodeAfterTheOther(t *testing.T) {
	t.Parallel()
	hour := limiter.Spec{Max: 20, Window: time.Hour, Name: 100}
	for name, next := range map[string]limiter.Spec{
		"a higher limit":    {Max: 20, Window: time.Hour, Name: 100},
		"a longer window":   {Max: 20, Window: 2 * time.Hour, Name: 101},
		"another algorithm": {Max: 20, Window: time.Hour, Algorithm: limiter.Fixed, Name: 102},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 3)
				members := cluster3(t, w, []limiter.Spec{hour}, nil)
				rng := rand.New(rand.NewPCG(4, 4))
				keys := make([]limiter.Key, 60)
				for i := range keys {
					keys[i] = randomKey(rng)
				}
				admitted := make([]int, len(keys))
				round := func(with []*member, asks ...limiter.Ask) {
					t.Helper()
					for i, key := range keys {
						for _, m := range with {
							all := append(ask(key), asks...)
							for j := range all {
								all[j].Key = key
							}
							ok, err := m.Take(t.Context(), all)
							if err != nil {
								t.Fatalf("key %d, by %s: %v", i, m.name, err)
							}
							if ok {
								admitted[i]++
							}
						}
					}
				}
				fresh := limiter.Spec{Max: 1000, Window: time.Hour, Name: 500}
				round(members)
				members[0].change(0, next, fresh)
				round(members)
				round(members[:1], limiter.Ask{Limit: 1, Cost: 1}) // a limit that the others do not know
				members[1].change(0, next, fresh)
				round(members)
				time.Sleep(time.Second) // until heirs have all
				members[2].change(0, next, fresh)
				w.crash(members[0]) // the others have what it owned
				time.Sleep(3 * time.Second)
				settle(t, members[1:]...)
				for i := range admitted {
					if admitted[i] != 10 {
						t.Fatalf("key %d: admitted %d of 10 before a node crashed", i, admitted[i])
					}
				}
				for range 8 {
					round(members[1:])
				}
				for i := range admitted {
					if admitted[i] != 20 {
						t.Errorf("key %d: admitted %d, want 20", i, admitted[i])
					}
				}
			})
		})
	}
}

// A limit that others do not know is not enforced for a moment, and then makes
// checks fail.
func TestALimitThatOthersDoNotKnow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 5)
		hour := limiter.Spec{Max: 20, Window: time.Hour, Name: 100}
		members := cluster3(t, w, []limiter.Spec{hour}, nil)
		key := ownedBy(t, members[1], rand.New(rand.NewPCG(6, 6)))
		members[0].change(0, hour, limiter.Spec{Max: 1, Window: time.Hour, Name: 500})
		take := func() (bool, error) {
			return members[0].Take(t.Context(), []limiter.Ask{{Key: key, Cost: 1}, {Limit: 1, Key: key, Cost: 1}})
		}
		for range 3 {
			if ok, err := take(); !ok || err != nil {
				t.Fatalf("a moment after the change: %v, %v", ok, err)
			}
		}
		time.Sleep(11 * time.Second)
		if ok, err := take(); ok || err == nil {
			t.Errorf("a while after the change: allowed %v, %v", ok, err)
		}
	})
}

// The same under load: rules change again and again, on each node at its own time,
// while all spend.
func TestRulesChangeUnderLoadOnManyNodes(t *testing.T) {
	t.Parallel()
	const limit = 120
	forms := []limiter.Spec{
		{Max: limit, Window: 4 * time.Hour, Name: 100},
		{Max: limit, Window: 5 * time.Hour, Name: 101},
		{Max: limit, Window: 5 * time.Hour, Algorithm: limiter.Fixed, Name: 102},
	}
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed)
			members := cluster3(t, w, forms[:1], nil)
			rng := rand.New(rand.NewPCG(seed, 14))
			keys := make([]limiter.Key, 20)
			for i := range keys {
				keys[i] = randomKey(rng)
			}
			var g sync.WaitGroup
			for i, m := range members {
				own := rand.New(rand.NewPCG(seed, 15+uint64(i)))
				g.Go(func() {
					for step := range 12 { // all in one order, each at its time
						time.Sleep(700*time.Millisecond + time.Duration(own.Int64N(int64(600*time.Millisecond))))
						m.change(0, forms[(step+1)%len(forms)])
					}
				})
			}
			admitted := make([]atomic.Int64, len(keys))
			for _, m := range members {
				for i, key := range keys {
					g.Go(func() {
						for range 250 {
							ok, err := m.Take(t.Context(), ask(key))
							if err != nil {
								t.Errorf("seed %d, key %d by %s: %v", seed, i, m.name, err)
								return
							}
							if ok {
								admitted[i].Add(1)
							}
							time.Sleep(70 * time.Millisecond)
						}
					})
				}
			}
			g.Wait()
			for i := range admitted {
				if got := admitted[i].Load(); got != limit {
					t.Errorf("seed %d, key %d: admitted %d of %d", seed, i, got, limit)
				}
			}
		})
	}
}
