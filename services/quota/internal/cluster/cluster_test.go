package cluster_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

func ask(key limiter.Key) []limiter.Ask { return []limiter.Ask{{Key: key, Cost: 1}} }

func randomKey(rng *rand.Rand) limiter.Key { return limiter.Key{Hi: rng.Uint64(), Lo: rng.Uint64()} }

func TestALimitIsExactOverThreeNodes(t *testing.T) {
	t.Parallel()
	for _, max := range []uint32{10, 200} {
		t.Run(fmt.Sprintf("%d in an hour", max), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				var members []*member
				for i := range 3 {
					members = append(members, w.start(fmt.Sprint("n", i), cluster.DefaultConfig(), []limiter.Spec{{Max: max, Window: time.Hour}}, nil))
				}
				settle(t, members...)
				rng := rand.New(rand.NewPCG(2, 2))
				for range 20 {
					key := randomKey(rng)
					var admitted atomic.Uint32
					var g sync.WaitGroup
					for i := range 3 * int(max) {
						g.Go(func() {
							ok, err := members[i%3].Take(t.Context(), ask(key))
							if err != nil {
								t.Error(err)
							}
							if ok {
								admitted.Add(1)
							}
						})
					}
					g.Wait()
					if admitted.Load() != max {
						t.Errorf("admitted %d of %d", admitted.Load(), max)
					}
				}
			})
		})
	}
}

// cluster3 starts three nodes.
func cluster3(t *testing.T, w *world, rates []limiter.Spec, permits []limiter.PermitSpec) []*member {
	t.Helper()
	var members []*member
	for i := range 3 {
		members = append(members, w.start(fmt.Sprint("n", i), cluster.DefaultConfig(), rates, permits))
	}
	settle(t, members...)
	time.Sleep(time.Second) // until heirs have all
	return members
}

// ownedBy finds a key that a member owns: of the messages for it none goes out.
func ownedBy(t *testing.T, m *member, rng *rand.Rand) limiter.Key {
	t.Helper()
	for range 1000 {
		key := randomKey(rng)
		if ok, err := m.Take(t.Context(), ask(key)); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if began := time.Now(); true {
			if _, err := m.Take(t.Context(), ask(key)); err == nil && time.Since(began) == 0 {
				return key
			}
		}
	}
	t.Fatal("the node owns nothing")
	return limiter.Key{}
}

func TestANodeThatIsCutOffStopsBeforeAnotherBegins(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed)
			members := cluster3(t, w, []limiter.Spec{{Max: 1_000_000, Window: time.Hour}}, nil)
			key := ownedBy(t, members[0], rand.New(rand.NewPCG(seed, 9)))
			began := time.Now()
			w.setCut("n0", true)
			var last, first time.Duration
			var g sync.WaitGroup
			for _, m := range members[:2] {
				g.Go(func() {
					for time.Since(began) < 3*time.Second {
						ok, _ := m.Take(t.Context(), ask(key))
						switch at := time.Since(began); {
						case ok && m == members[0]:
							last = at
						case ok && first == 0:
							first = at
						}
						time.Sleep(time.Millisecond)
					}
				})
			}
			g.Wait()
			if last == 0 || last > 200*time.Millisecond || first < 800*time.Millisecond || first > 1700*time.Millisecond {
				t.Errorf("seed %d: the node that was cut off decided until %v, the next from %v", seed, last, first)
			}
		})
	}
}

func TestALoneNodeThatIsCutOffStopsBeforeAnotherBegins(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed)
			specs := []limiter.Spec{{Max: 1_000_000, Window: time.Hour}}
			old := w.start("old", cluster.DefaultConfig(), specs, nil)
			settle(t, old)
			w.setCut("old", true)
			fresh := w.start("fresh", cluster.DefaultConfig(), specs, nil)
			began, key := time.Now(), limiter.Key{Hi: seed << 54}
			var last, first time.Duration
			var g sync.WaitGroup
			for _, m := range []*member{old, fresh} {
				g.Go(func() {
					for time.Since(began) < 3*time.Second {
						ok, _ := m.Take(t.Context(), ask(key))
						switch at := time.Since(began); {
						case ok && m == old:
							last = at
						case ok && first == 0:
							first = at
						}
						time.Sleep(time.Millisecond)
					}
				})
			}
			g.Wait()
			if last < 500*time.Millisecond || first == 0 || last >= first {
				t.Errorf("seed %d: the node that was cut off decided until %v, the next from %v", seed, last, first)
			}
		})
	}
}

func TestWithoutTheStoreTheNodesStopAndGoOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		members := cluster3(t, w, []limiter.Spec{{Max: 10, Window: time.Hour}}, nil)
		key := ownedBy(t, members[0], rand.New(rand.NewPCG(1, 9))) // takes two
		for _, m := range members {
			w.setCut(m.name, true)
		}
		time.Sleep(10 * time.Second)
		for _, m := range members {
			if _, err := m.Take(t.Context(), ask(key)); !errors.Is(err, cluster.ErrUnreachable) {
				t.Errorf("without the store: got %v, want %v", err, cluster.ErrUnreachable)
			}
		}
		for _, m := range members { // not before: an ask that arrives is a charge
			w.setCut(m.name, false)
		}
		time.Sleep(5 * time.Second)
		settle(t, members...)
		left := 0
		for {
			ok, err := members[2].Take(t.Context(), ask(key))
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			left++
		}
		if left != 8 {
			t.Errorf("after it came back: %d were left, want 8", left)
		}
	})
}

func TestNoWindowHoldsMoreThanTheLimitWhileOwnersChange(t *testing.T) {
	t.Parallel()
	for _, spec := range []limiter.Spec{
		{Max: 20, Window: time.Second},
		{Max: 150, Window: time.Second},
		{Max: 20, Window: time.Second, Algorithm: limiter.GCRA, Burst: 1},
	} {
		t.Run(fmt.Sprintf("%+v", spec), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 5)
				members := cluster3(t, w, []limiter.Spec{spec}, nil)
				key := randomKey(rand.New(rand.NewPCG(5, 5)))
				type span struct{ from, to time.Time }
				var mu sync.Mutex
				var taken []span
				over := make(chan struct{})
				var g sync.WaitGroup
				at := func(i int) *member {
					mu.Lock()
					defer mu.Unlock()
					return members[i%len(members)]
				}
				for c := range 4 {
					g.Go(func() {
						for i := c; ; i++ {
							select {
							case <-over:
								return
							case <-time.After(3 * time.Millisecond):
							}
							s := span{from: time.Now()}
							if ok, _ := at(i).Take(t.Context(), ask(key)); ok {
								s.to = time.Now()
								mu.Lock()
								taken = append(taken, s)
								mu.Unlock()
							}
						}
					})
				}
				for i := range 12 { // every owner leaves, some time
					time.Sleep(1700 * time.Millisecond)
					old := members[0]
					fresh := w.start(fmt.Sprint("m", i), cluster.DefaultConfig(), []limiter.Spec{spec}, nil)
					settle(t, fresh)
					mu.Lock()
					members = append(members[1:], fresh)
					mu.Unlock()
					old.stop()
					<-old.stopped
				}
				close(over)
				g.Wait()
				// Clocks are up to a tenth fast, so a window may last less.
				window := spec.Window * 9 / 10
				for _, first := range taken {
					n := 0
					for _, s := range taken {
						if !s.from.Before(first.from) && s.to.Sub(first.from) < window {
							n++
						}
					}
					if n > int(spec.Max) {
						t.Fatalf("admitted %d in one window", n)
					}
				}
				if least := 20 * int(spec.Max) / 2; len(taken) < least {
					t.Errorf("admitted %d in all, want more than %d", len(taken), least)
				}
			})
		})
	}
}

func TestSeveralOwnersAdmitAllOrNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		members := cluster3(t, w, []limiter.Spec{{Max: 5, Window: time.Hour}, {Max: 100, Window: time.Hour}, {Max: 200, Window: time.Hour}, {Max: 1, Window: time.Hour, Shadow: true}}, nil)
		rng := rand.New(rand.NewPCG(3, 3))
		for range 30 {
			keys := []limiter.Key{randomKey(rng), randomKey(rng), randomKey(rng), randomKey(rng)}
			asks := func() (asks []limiter.Ask) {
				for i, k := range keys {
					asks = append(asks, limiter.Ask{Limit: uint32(i), Key: k, Cost: 1})
				}
				return asks
			}
			admitted := 0
			for i := range 12 {
				ok, err := members[i%3].Take(t.Context(), asks())
				if err != nil {
					t.Fatal(err)
				}
				if ok {
					admitted++
				}
			}
			time.Sleep(50 * time.Millisecond) // for what is given back
			got := asks()
			if _, err := members[0].Peek(t.Context(), got); err != nil {
				t.Fatal(err)
			}
			for i, want := range []uint32{0, 95, 195, 0} {
				if left := got[i].State.Remaining; admitted != 5 || left != want {
					t.Errorf("%d admitted, %d left of limit %d; want 5 and %d", admitted, left, i, want)
				}
			}
		}
	})
}

func TestPermits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		members := cluster3(t, w, nil, []limiter.PermitSpec{{Max: 3, TTL: time.Hour}, {Max: 100, TTL: time.Hour}})
		rng := rand.New(rand.NewPCG(4, 4))
		asks := []limiter.Ask{{Limit: 0, Key: randomKey(rng), Cost: 1}, {Limit: 1, Key: randomKey(rng), Cost: 1}}
		acquire := func(i int) (string, bool) {
			t.Helper()
			id, ok, err := members[i%len(members)].Acquire(t.Context(), 0, slices.Clone(asks))
			if err != nil {
				t.Fatal(err)
			}
			return id, ok
		}
		var ids []string
		for i := range 10 {
			if id, ok := acquire(i); ok {
				ids = append(ids, id)
			}
		}
		if len(ids) != 3 {
			t.Fatalf("got %d permits, want 3", len(ids))
		}
		time.Sleep(50 * time.Millisecond)
		// All nodes that counted them are replaced, by leaving and by a crash.
		for i := range 3 {
			fresh := w.start(fmt.Sprint("m", i), cluster.DefaultConfig(), nil, []limiter.PermitSpec{{Max: 3, TTL: time.Hour}, {Max: 100, TTL: time.Hour}})
			old := members[0]
			members = append(members[1:], fresh)
			settle(t, members...)
			time.Sleep(time.Second)
			if i == 1 {
				w.crash(old)
				time.Sleep(2 * time.Second)
			} else {
				old.stop()
				<-old.stopped
			}
			settle(t, members...)
			time.Sleep(time.Second)
		}
		if _, ok := acquire(0); ok {
			t.Error("a fourth permit after all nodes were replaced")
		}
		if err := members[1].Release(t.Context(), ids[0]); err != nil {
			t.Error(err)
		}
		if err := members[1].Release(t.Context(), ids[0]); err != nil {
			t.Errorf("the second time: %v", err)
		}
		if err := members[1].Release(t.Context(), "p_unknown.AAAA"); err != nil {
			t.Errorf("an unknown one: %v", err)
		}
		if _, ok := acquire(1); !ok {
			t.Error("no permit after one was given back")
		}
		if _, ok := acquire(2); ok {
			t.Error("a fourth permit after one was given back twice")
		}
	})
}

func TestAFloodCostsNoMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 6)
		members := cluster3(t, w, []limiter.Spec{{Max: 5, Window: time.Minute}}, nil)
		key := ownedBy(t, members[0], rand.New(rand.NewPCG(6, 6)))
		waited, admitted := 0, 0
		for range 1000 {
			began := time.Now()
			asks := ask(key)
			ok, err := members[1].Take(t.Context(), asks)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				admitted++
			} else if s := asks[0].State; !s.Exceeded || s.Wait <= 0 || s.Wait > time.Minute {
				t.Fatalf("a refusal has the state %+v", s)
			}
			if time.Since(began) > 0 {
				waited++
			}
			time.Sleep(time.Millisecond)
		}
		if admitted != 3 || waited > 6 {
			t.Errorf("%d admitted, %d of 1000 checks took a message; want 3, and hardly more than that", admitted, waited)
		}
	})
}
