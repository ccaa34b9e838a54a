package cluster_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// trio is three nodes with synchronous copies, and a key by its owner and heir.
type trio struct {
	*world
	t                  *testing.T
	cfg                cluster.Config
	specs              []limiter.Spec
	owner, heir, third *member
	key                limiter.Key
	taken              int // what was admitted of the first limit
}

func syncConfig() cluster.Config {
	cfg := cluster.DefaultConfig()
	cfg.Sync = true
	return cfg
}

// newTrio starts them, and spends 6 of the key.
func newTrio(t *testing.T, seed uint64, cfg cluster.Config, specs ...limiter.Spec) *trio {
	t.Helper()
	w := &trio{world: newWorld(t, seed), t: t, cfg: cfg, specs: specs, key: randomKey(rand.New(rand.NewPCG(seed, 1)))}
	var all []*member
	for i := range 3 {
		all = append(all, w.start(fmt.Sprint("n", i), cfg, specs, nil))
	}
	settle(t, all...)
	time.Sleep(time.Second)
	owner, heir := all[0].OwnerAndHeir(w.key)
	for _, m := range all {
		switch m.ID() {
		case owner:
			w.owner = m
		case heir:
			w.heir = m
		default:
			w.third = m
		}
	}
	for range 6 {
		if !w.take(w.third) {
			t.Fatal("refused at first")
		}
	}
	return w
}

func (w *trio) asks() (asks []limiter.Ask) {
	for i := range w.specs {
		asks = append(asks, limiter.Ask{Limit: uint32(i), Key: w.key, Cost: 1})
	}
	return asks
}

// take spends one of all limits.
func (w *trio) take(m *member) bool {
	ok, _ := m.Take(w.t.Context(), w.asks())
	if ok {
		w.taken++
	}
	return ok
}

// askAll asks members again and again for a while.
func (w *trio) askAll(span time.Duration, members ...*member) {
	for began := time.Now(); time.Since(began) < span; time.Sleep(20 * time.Millisecond) {
		for _, m := range members {
			w.take(m)
		}
	}
}

// use spends what is left.
func (w *trio) use(members ...*member) {
	w.t.Helper()
	for {
		ok, err := members[0].Take(w.t.Context(), w.asks())
		switch {
		case err != nil:
			w.t.Fatalf("after all is well again: %v", err)
		case !ok:
			return
		}
		w.taken++
	}
}

// Each way in which the two nodes that know a key are not there at one time, while
// the memory of one of them is. What they have acknowledged counts all the same.
func TestWhatANodeThatLivesHasIsNotLost(t *testing.T) {
	t.Parallel()
	hour := limiter.Spec{Max: 10, Window: time.Hour}
	for name, fail := range map[string]func(w *trio) []*member{
		"the owner dies while the heir's lease is over": func(w *trio) []*member {
			w.setCut(w.heir.name, true)
			w.crash(w.owner)
			w.askAll(3*time.Second, w.third)
			w.setCut(w.heir.name, false)
			return []*member{w.third, w.heir}
		},
		"the heir dies while the owner's lease is over": func(w *trio) []*member {
			w.setCut(w.owner.name, true)
			w.crash(w.heir)
			w.askAll(3*time.Second, w.third)
			w.setCut(w.owner.name, false)
			return []*member{w.third, w.owner}
		},
		"the leases of both are over": func(w *trio) []*member {
			w.setCut(w.owner.name, true)
			w.setCut(w.heir.name, true)
			w.askAll(3*time.Second, w.third)
			w.setCut(w.heir.name, false)
			w.askAll(time.Second, w.third, w.heir)
			w.setCut(w.owner.name, false)
			return []*member{w.third, w.heir, w.owner}
		},
		"all leases are over, and the one who knows nothing is back first": func(w *trio) []*member {
			for _, m := range []*member{w.owner, w.heir, w.third} {
				w.setCut(m.name, true)
			}
			time.Sleep(3 * time.Second)
			w.setCut(w.third.name, false)
			w.askAll(2*time.Second, w.third)
			w.setCut(w.heir.name, false)
			w.askAll(2*time.Second, w.third, w.heir)
			w.setCut(w.owner.name, false)
			return []*member{w.third, w.heir, w.owner}
		},
		"all leases are over, and a new node is first": func(w *trio) []*member {
			for _, m := range []*member{w.owner, w.heir, w.third} {
				w.setCut(m.name, true)
			}
			time.Sleep(time.Second)
			fresh := w.start("fresh", w.cfg, w.specs, nil)
			w.askAll(4*time.Second, fresh)
			w.setCut(w.heir.name, false)
			return []*member{fresh, w.heir}
		},
		"the heir has no lease any more, but takes copies": func(w *trio) []*member {
			w.setStoreCut(w.heir.name, true)
			w.askAll(1200*time.Millisecond, w.owner, w.third)
			w.crash(w.owner)
			w.askAll(3*time.Second, w.third)
			w.setStoreCut(w.heir.name, false)
			return []*member{w.third, w.heir}
		},
		"the owner was fenced and is back before the heir dies": func(w *trio) []*member {
			w.setStoreCut(w.owner.name, true)
			w.askAll(3*time.Second, w.third)
			w.setStoreCut(w.owner.name, false)
			settle(w.t, w.owner, w.heir, w.third)
			w.crash(w.heir)
			w.askAll(3*time.Second, w.third, w.owner)
			return []*member{w.third, w.owner}
		},
		"the node that was in doubt is fenced, too": func(w *trio) []*member {
			w.setCut(w.heir.name, true)
			w.crash(w.owner)
			w.askAll(3*time.Second, w.third)
			w.setCut(w.third.name, true)
			time.Sleep(3 * time.Second)
			w.setCut(w.third.name, false)
			w.askAll(2*time.Second, w.third)
			w.setCut(w.heir.name, false)
			return []*member{w.third, w.heir}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(4) {
				synctest.Test(t, func(t *testing.T) {
					w := newTrio(t, seed, syncConfig(), hour)
					left := fail(w)
					w.askAll(2*time.Second, left...)
					settle(t, left...)
					w.use(left...)
					if w.taken > 10 || w.taken < 7 { // an answer may have been lost
						t.Errorf("seed %d: admitted %d of 10", seed, w.taken)
					}
				})
			}
		})
	}
}

// Where nobody who is left can know, nothing is admitted that could be too much.
func TestWhatNobodyKnowsCountsAsFull(t *testing.T) {
	t.Parallel()
	minute := limiter.Spec{Max: 10, Window: time.Minute}
	both := func(w *trio) {
		w.crash(w.owner)
		w.crash(w.heir)
	}
	for name, fail := range map[string]func(w *trio) []*member{
		"owner and heir die at once": func(w *trio) []*member { both(w); return []*member{w.third} },
		"all die, and another starts": func(w *trio) []*member {
			both(w)
			w.crash(w.third)
			return []*member{w.start("fresh", w.cfg, w.specs, nil)}
		},
		"the heir dies, and the owner before there is another": func(w *trio) []*member {
			w.crash(w.heir)
			w.askAll(2*time.Second, w.owner, w.third)
			w.hold(func(subject string, _ *quotav1.ClusterRequest) bool { return strings.Contains(subject, ".copies.") })
			w.askAll(500*time.Millisecond, w.owner, w.third)
			w.crash(w.owner)
			w.hold(nil)
			return []*member{w.third}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(3) {
				synctest.Test(t, func(t *testing.T) {
					began := time.Now()
					w := newTrio(t, seed, syncConfig(), minute)
					left := fail(w)
					w.askAll(40*time.Second, left...)
					if w.taken > 10 {
						t.Errorf("seed %d: admitted %d of 10 in %v", seed, w.taken, time.Since(began))
					}
					before := w.taken
					time.Sleep(40 * time.Second)
					w.use(left...)
					if got := w.taken - before; got != 10 {
						t.Errorf("seed %d: a minute later %d of 10 are admitted", seed, got)
					}
					if n := left[0].Doubts(); n > 0 {
						t.Errorf("seed %d: %d slots are in doubt for ever", seed, n)
					}
				})
			}
		})
	}
}

// Each limit is in doubt for its own time; what says how to do without its owner does,
// and a shadow never refuses.
func TestADoubtIsOfEachLimitByItself(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spec  limiter.Spec
		after time.Duration
		want  int
	}{
		"of a minute, at once":        {limiter.Spec{Max: 10, Window: time.Minute}, 3 * time.Second, 0},
		"of a minute, later":          {limiter.Spec{Max: 10, Window: time.Minute}, 2 * time.Minute, 10},
		"of an hour, later":           {limiter.Spec{Max: 10, Window: time.Hour}, 2 * time.Minute, 0},
		"with a share":                {limiter.Spec{Max: 10, Window: time.Hour, Without: limiter.Share}, 3 * time.Second, 10},
		"shadow":                      {limiter.Spec{Max: 10, Window: time.Hour, Shadow: true}, 3 * time.Second, 40},
		"gcra that takes two windows": {limiter.Spec{Algorithm: limiter.GCRA, Max: 10, Burst: 20, Window: time.Minute}, 90 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				day := limiter.Spec{Max: 1_000_000, Window: 24 * time.Hour, Without: limiter.Allow}
				w := newTrio(t, 2, syncConfig(), test.spec, day)
				w.specs = w.specs[:1]
				w.crash(w.owner)
				w.crash(w.heir)
				time.Sleep(4 * time.Second)
				settle(t, w.third)
				time.Sleep(test.after)
				w.taken = 0
				for range 40 {
					w.take(w.third)
				}
				if w.taken != test.want {
					t.Errorf("admitted %d, want %d", w.taken, test.want)
				}
				if n := w.third.Doubts(); n == 0 {
					t.Error("no slot is in doubt, though something is counted for a day")
				}
			})
		})
	}
}

// A doubt costs a caller no time, and the owner no messages.
func TestADoubtIsToldAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newTrio(t, 3, syncConfig(), limiter.Spec{Max: 10, Window: time.Hour})
		w.crash(w.owner)
		w.crash(w.heir)
		time.Sleep(5 * time.Second)
		settle(t, w.third)
		other := w.start("other", w.cfg, w.specs, nil)
		settle(t, w.third, other)
		time.Sleep(2 * time.Second)
		for _, m := range []*member{w.third, other} {
			began := time.Now()
			_, err := m.Take(t.Context(), w.asks())
			if took := time.Since(began); !errors.Is(err, cluster.ErrUnreachable) || took > 50*time.Millisecond {
				t.Errorf("%v after %v", err, took)
			}
		}
	})
}

// Without sync the nodes wait for a lease for those who may only be slow; then they
// begin anew, and say so.
func TestWithoutSyncADoubtLastsALease(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			w := newTrio(t, seed, cluster.DefaultConfig(), limiter.Spec{Max: 10, Window: time.Hour})
			time.Sleep(time.Second)
			w.setCut(w.heir.name, true)
			w.setCut(w.owner.name, true)
			for range 5000 {
				if w.third.Doubts() > 0 {
					break
				}
				time.Sleep(time.Millisecond)
			}
			w.setCut(w.heir.name, false)
			w.setCut(w.owner.name, false)
			w.askAll(3*time.Second, w.third)
			settle(t, w.third, w.heir, w.owner)
			w.use(w.third)
			if w.taken != 10 {
				t.Errorf("seed %d: all came back, and %d of 10 were admitted", seed, w.taken)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			w := newTrio(t, seed, cluster.DefaultConfig(), limiter.Spec{Max: 10, Window: time.Hour})
			w.crash(w.heir)
			w.crash(w.owner)
			time.Sleep(4 * time.Second)
			w.taken = 0
			w.use(w.third)
			if w.taken != 10 {
				t.Errorf("seed %d: nobody came back, and %d of 10 were admitted", seed, w.taken)
			}
			if got := figures(t, w.third.reader)["sallyport.quota.cluster.lost"]; got < 100 {
				t.Errorf("seed %d: %v slots are said to begin anew", seed, got)
			}
		})
	}
}

// A stop on purpose leaves no doubt.
func TestAStopOnPurposeLeavesNoDoubt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newTrio(t, 1, syncConfig(), limiter.Spec{Max: 10, Window: time.Hour})
		all := []*member{w.owner, w.heir, w.third}
		for i := range 6 { // one after the other is replaced
			all = append(all, w.start(fmt.Sprint("m", i), w.cfg, w.specs, nil))
			settle(t, all...)
			all[0].stop()
			<-all[0].stopped
			all = all[1:]
			settle(t, all...)
			if slices.ContainsFunc(all, func(m *member) bool { return m.Doubts() > 0 }) {
				t.Fatal("there is a doubt")
			}
		}
		w.use(all...)
		if w.taken != 10 {
			t.Errorf("admitted %d of 10", w.taken)
		}
		for _, m := range all {
			m.stop()
			<-m.stopped
		}
		last := w.start("last", w.cfg, w.specs, nil)
		settle(t, last)
		if last.Doubts() > 0 {
			t.Error("there is a doubt after all have stopped")
		}
	})
}
