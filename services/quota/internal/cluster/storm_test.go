package cluster_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

var storms = flag.Uint64("storms", 4, "how many schedules each kind of storm has")

// storm is what happens to a cluster while it is used.
type storm struct {
	cfg                    cluster.Config
	cuts, crashes, leaving bool
	late                   time.Duration // by how much nodes may hear later than others
	twice                  bool          // what happens, happens to two of three nodes at once
	lines                  bool          // nodes have lines to each other, some of which outlast a cut
}

// outcome is what a storm has led to.
type outcome struct {
	max      uint32
	admitted map[limiter.Key]int
	refused  int // for want of an owner
	decided  int
}

// run lets callers spend until every key is used up, while nodes come and go.
func (s storm) run(t *testing.T, seed uint64) outcome {
	const max, keyCount = 100, 40
	w := newWorld(t, seed)
	w.lines = s.lines
	rng := rand.New(rand.NewPCG(seed, 3))
	specs := []limiter.Spec{{Max: max, Window: 100 * time.Hour}}
	var mu sync.Mutex // guards what follows
	var members []*member
	o := outcome{max: max, admitted: make(map[limiter.Key]int)}
	started := 0
	start := func() {
		started++
		name := fmt.Sprint("n", started)
		w.mu.Lock()
		w.late[name] = time.Duration(rng.Int64N(int64(s.late) + 1))
		w.mu.Unlock()
		m := w.start(name, s.cfg, specs, nil)
		mu.Lock()
		members = append(members, m)
		mu.Unlock()
	}
	for range 3 {
		start()
	}
	settle(t, members...)
	keys := make([]limiter.Key, keyCount)
	for i := range keys {
		keys[i] = randomKey(rng)
	}
	over := make(chan struct{})
	var callers sync.WaitGroup
	for c := range 8 {
		rng := rand.New(rand.NewPCG(seed, uint64(100+c)))
		callers.Go(func() {
			for {
				select {
				case <-over:
					return
				case <-time.After(time.Duration(rng.Int64N(int64(20 * time.Millisecond)))):
				}
				mu.Lock()
				m := members[rng.IntN(len(members))]
				mu.Unlock()
				asks := ask(keys[rng.IntN(keyCount)])
				for rng.IntN(2) == 0 && len(asks) < 3 {
					if k := keys[rng.IntN(keyCount)]; k != asks[0].Key && k != asks[len(asks)-1].Key {
						asks = append(asks, ask(k)...)
					}
				}
				ok, err := m.Take(t.Context(), asks)
				mu.Lock()
				o.decided++
				if err != nil {
					o.refused++
				}
				if ok {
					for _, a := range asks {
						o.admitted[a.Key]++
					}
				}
				mu.Unlock()
			}
		})
	}
	for range 8 {
		time.Sleep(time.Duration(rng.Int64N(int64(2 * time.Second))))
		i := rng.IntN(len(members))
		if s.twice && rng.IntN(2) == 0 {
			m := members[(i+1)%len(members)]
			w.setCut(m.name, true)
			heal := time.AfterFunc(time.Duration(rng.Int64N(int64(6*time.Second))), func() { w.setCut(m.name, false) })
			defer heal.Stop()
		}
		m := members[i]
		w.spare(m.name, i%2 == 0)
		switch what := rng.IntN(3); {
		case what == 0 && s.cuts:
			w.setCut(m.name, true)
			time.Sleep(time.Duration(rng.Int64N(int64(3 * time.Second))))
			w.setCut(m.name, false)
		case what == 1 && s.crashes, what == 2 && s.leaving:
			mu.Lock()
			members = append(members[:i:i], members[i+1:]...)
			mu.Unlock()
			if what == 1 {
				w.crash(m)
			} else {
				m.stop()
			}
			start()
		}
		if s.cuts || s.crashes || rng.IntN(2) == 0 { // one failure at a time is what is promised
			settle(t, members...)
			time.Sleep(time.Second)
		}
	}
	settle(t, members...)
	close(over)
	callers.Wait()
	time.Sleep(5 * time.Second) // for what is on its way
	for _, key := range keys {
		for {
			ok, err := members[rng.IntN(len(members))].Take(t.Context(), ask(key))
			if err != nil && !s.twice { // else it may be in doubt
				t.Errorf("after the storm: %v", err)
			}
			if !ok {
				break
			}
			o.admitted[key]++
		}
	}
	return o
}

func TestStorms(t *testing.T) {
	t.Parallel()
	sync, fast := cluster.DefaultConfig(), cluster.DefaultConfig()
	sync.Sync = true
	for _, test := range []struct {
		name  string
		storm storm
		// over is by how much a limit may be exceeded; least how much of all limits
		// must have been of use: what a failure strands is lost.
		over  int
		least float64
	}{
		{"nodes that come and go exceed no limit", storm{cfg: fast, leaving: true}, 0, 0.995},
		{"nor do they with synchronous copies", storm{cfg: sync, leaving: true}, 0, 0.995},
		{"nor if some hear late of what changes", storm{cfg: fast, leaving: true, late: 100 * time.Millisecond}, 0, 0.95},
		{"with synchronous copies a crash or a cut loses nothing", storm{cfg: sync, cuts: true, crashes: true, leaving: true}, 0, 0.9},
		{"nor do several at once, whatever cannot be decided", storm{cfg: sync, cuts: true, crashes: true, leaving: true, twice: true}, 0, 0},
		{"a crash loses no more than a few milliseconds", storm{cfg: fast, crashes: true}, 5, 0.95},
		{"a cut loses no more than a tenth of a lease", storm{cfg: fast, cuts: true}, 10, 0.9},
	} {
		for seed := range *storms {
			t.Run(fmt.Sprintf("%s, seed %d", test.name, seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					test := test
					test.storm.lines = seed%2 > 0
					o := test.storm.run(t, seed)
					most, sum := 0, 0
					for _, n := range o.admitted {
						most, sum = max(most, n), sum+n
					}
					if most > int(o.max)+test.over {
						t.Errorf("admitted %d of %d", most, o.max)
					}
					if all := int(o.max) * len(o.admitted); float64(sum) < float64(all)*test.least {
						t.Errorf("admitted %d of %d in all", sum, all)
					}
					t.Logf("%d checks, %d had no owner, %d admitted, at most %d of one key", o.decided, o.refused, sum, most)
				})
			})
		}
	}
}
