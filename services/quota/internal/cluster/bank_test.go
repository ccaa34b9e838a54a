package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// spell is when a call was under way.
type spell struct{ sent, received time.Duration }

// worst is the most that any window surely has admitted: calls that lie in it as a
// whole.
func worst(admitted []spell, window time.Duration) (most int) {
	slices.SortFunc(admitted, func(a, b spell) int { return int(a.sent - b.sent) })
	for i, first := range admitted {
		n := 0
		for _, c := range admitted[i:] {
			if c.sent >= first.sent+window {
				break
			}
			if c.received < first.sent+window {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// crowd is callers that spend from few keys as fast as they can.
type crowd struct {
	cfg      cluster.Config
	spec     limiter.Spec
	keys     int
	pause    time.Duration // of a caller between two calls, at most
	span     time.Duration
	drift    float64                                           // of clocks
	disturbs func(w *world, rng *rand.Rand, members []*member) // once in a while
}

// met is what a crowd has led to.
type met struct {
	admitted         [][]spell // by key
	calls, forwarded int
}

func (c crowd) run(t *testing.T, seed uint64) (m met) {
	w := newWorld(t, seed)
	w.drift = c.drift
	rng := rand.New(rand.NewPCG(seed, 5))
	var members []*member
	for i := range 3 {
		members = append(members, w.start(fmt.Sprint("n", i), c.cfg, []limiter.Spec{c.spec}, nil))
	}
	settle(t, members...)
	keys := make([]limiter.Key, c.keys)
	for i := range keys {
		keys[i] = randomKey(rng)
	}
	m.admitted = make([][]spell, c.keys)
	began := time.Now()
	var mu sync.Mutex
	var callers sync.WaitGroup
	for i := range 12 {
		rng := rand.New(rand.NewPCG(seed, uint64(100+i)))
		callers.Go(func() {
			for time.Since(began) < c.span {
				time.Sleep(time.Duration(rng.Int64N(int64(c.pause))))
				key := rng.IntN(c.keys)
				asks := ask(keys[key])
				if other := rng.IntN(c.keys); other != key && rng.IntN(4) == 0 {
					asks = append(asks, ask(keys[other])...)
				}
				sent := time.Since(began)
				ok, _ := members[rng.IntN(3)].Take(t.Context(), asks)
				received := time.Since(began)
				mu.Lock()
				m.calls++
				for _, a := range asks {
					if k := slices.Index(keys, a.Key); ok {
						m.admitted[k] = append(m.admitted[k], spell{sent, received})
					}
				}
				mu.Unlock()
			}
		})
	}
	for c.disturbs != nil && time.Since(began) < c.span {
		time.Sleep(time.Duration(rng.Int64N(int64(4 * time.Second))))
		c.disturbs(w, rng, members)
		settle(t, members...)
	}
	callers.Wait()
	for _, n := range members {
		m.forwarded += int(figures(t, n.reader)["sallyport.quota.cluster.forwarded"])
	}
	return m
}

func TestGrantsAdmitNoMoreThanALimitInAnyWindow(t *testing.T) {
	t.Parallel()
	fast, sync := cluster.DefaultConfig(), cluster.DefaultConfig()
	sync.Sync = true
	large := limiter.Spec{Max: 2000, Window: 5 * time.Second}
	cut := func(w *world, rng *rand.Rand, members []*member) {
		m := members[rng.IntN(len(members))]
		w.setCut(m.name, true)
		time.Sleep(time.Duration(rng.Int64N(int64(3 * time.Second))))
		w.setCut(m.name, false)
	}
	for _, tt := range []struct {
		name  string
		crowd crowd
		// least is how much of what a limit allows must have been of use.
		least float64
		local bool // most calls cost no message
	}{
		{"a crowd", crowd{cfg: fast, spec: large, keys: 3, pause: time.Millisecond, span: 20 * time.Second}, 0.8, true},
		{"a small crowd", crowd{cfg: fast, spec: large, keys: 3, pause: 40 * time.Millisecond, span: 20 * time.Second}, 0, false},
		{"windows that begin with a spend", crowd{cfg: fast, spec: limiter.Spec{Algorithm: limiter.Fixed, Max: 2000, Window: 5 * time.Second}, keys: 3, pause: time.Millisecond, span: 20 * time.Second}, 0, true},
		{"a crowd, with clocks a tenth fast or slow", crowd{cfg: fast, spec: large, keys: 3, pause: time.Millisecond, span: 20 * time.Second, drift: 0.1}, 0.6, true},
		{"a crowd, while nodes are cut off", crowd{cfg: sync, spec: large, keys: 3, pause: time.Millisecond, span: 20 * time.Second, disturbs: cut}, 0, false},
	} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("%s, seed %d", tt.name, seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					m := tt.crowd.run(t, seed)
					sum, most := 0, 0
					for _, admitted := range m.admitted {
						sum += len(admitted)
						// The window is that of the owner's clock.
						n := worst(admitted, time.Duration(float64(tt.crowd.spec.Window)/(1+tt.crowd.drift)))
						if tt.crowd.spec.Algorithm == limiter.Fixed {
							n /= 2 // which is what these promise
						}
						most = max(most, n)
					}
					if most > int(tt.crowd.spec.Max) {
						t.Errorf("a window has admitted %d of %d", most, tt.crowd.spec.Max)
					}
					// A window is refilled a tenth late at worst.
					could := float64(tt.crowd.keys) * float64(tt.crowd.spec.Max) * (1 + float64(tt.crowd.span)/(1.1*float64(tt.crowd.spec.Window)))
					if float64(sum) < tt.least*could {
						t.Errorf("admitted %d, of about %.0f", sum, could)
					}
					if tt.local && m.forwarded*2 > sum {
						t.Errorf("%d messages for %d admissions", m.forwarded, sum)
					}
					t.Logf("%d calls, %d admitted of about %.0f, at most %d in a window, %d forwarded", m.calls, sum, could, most, m.forwarded)
				})
			})
		}
	}
}

// What a holder does not use in time it must not use at all, and the owner has it
// again.
func TestAGrantEndsAndWhatIsLeftGoesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const max = 10_000
		w := newWorld(t, 1)
		members := cluster3(t, w, []limiter.Spec{{Max: max, Window: time.Second}}, nil)
		holder, rng := members[0], rand.New(rand.NewPCG(1, 3))
		forwarded := func() float64 { return figures(t, holder.reader)["sallyport.quota.cluster.forwarded"] }
		take := func(key limiter.Key) (sent bool) {
			before := forwarded()
			if ok, err := holder.Take(t.Context(), ask(key)); !ok || err != nil {
				t.Fatal(ok, err)
			}
			return forwarded() > before
		}
		held := 0
		for range 50 {
			key := randomKey(rng)
			taken := 1
			for take(key) && taken < 5 {
				taken++
			}
			if taken < 2 || taken == 5 {
				continue // its own key, or at the end of a part of the window
			}
			held++
			time.Sleep(100 * time.Millisecond) // a tenth of the window
			if !take(key) {
				t.Error("a grant outlives the part of the window that it was charged to")
			}
			taken++
			time.Sleep(200 * time.Millisecond)
			left := ask(key)
			if _, err := holder.Peek(t.Context(), left); err != nil {
				t.Fatal(err)
			}
			if used := max - int(left[0].State.Remaining); used != taken {
				t.Errorf("%d are used after %d checks", used, taken)
			}
			time.Sleep(2 * time.Second)
		}
		if held < 10 {
			t.Errorf("%d grants in 50 tries", held)
		}
	})
}
