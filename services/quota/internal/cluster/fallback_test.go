package cluster_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// flood lets each member try n times at once, and returns how often it was admitted
// and how often nothing was decided.
func flood(t *testing.T, members []*member, n int, key limiter.Key) (admitted, failed, degraded int) {
	t.Helper()
	var ok, lost, without atomic.Int64
	var g sync.WaitGroup
	for _, m := range members {
		for range n {
			g.Go(func() {
				asks := ask(key)
				allowed, err := m.Take(t.Context(), asks)
				switch {
				case errors.Is(err, cluster.ErrUnreachable):
					lost.Add(1)
				case err != nil:
					t.Error(err)
				case allowed:
					ok.Add(1)
				}
				if asks[0].State.Degraded {
					without.Add(1)
				}
			})
		}
	}
	g.Wait()
	return int(ok.Load()), int(lost.Load()), int(without.Load())
}

// started are nodes with one limit.
func started(t *testing.T, w *world, nodes int, spec limiter.Spec) []*member {
	t.Helper()
	var members []*member
	for i := range nodes {
		members = append(members, w.start(fmt.Sprint("n", i), cluster.DefaultConfig(), []limiter.Spec{spec}, nil))
	}
	settle(t, members...)
	time.Sleep(time.Second) // until heirs have all
	return members
}

// Between the crash of an owner and the takeover each node admits its share, and
// what it admits counts afterwards.
func TestSharesWithoutAnOwner(t *testing.T) {
	t.Parallel()
	const limit = 24
	for _, nodes := range []int{2, 3, 4} {
		for seed := range uint64(5) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, seed)
				members := started(t, w, nodes, limiter.Spec{Max: limit, Window: time.Hour, Without: limiter.Share})
				key := ownedBy(t, members[0], rand.New(rand.NewPCG(seed, 5)))
				before, _, _ := flood(t, members[:1], 4, key)
				before += 2 // by ownedBy
				time.Sleep(100 * time.Millisecond)
				w.crash(members[0])
				during, lost, degraded := flood(t, members[1:], 30, key)
				if lost > 0 || during == 0 || degraded == 0 {
					t.Errorf("%d nodes, seed %d: without the owner %d were admitted, %d lost and %d degraded", nodes, seed, during, lost, degraded)
				}
				time.Sleep(4 * time.Second)
				settle(t, members[1:]...)
				after, lost, degraded := flood(t, members[1:], 60, key)
				if lost > 0 || degraded > 0 {
					t.Errorf("%d nodes, seed %d: with a new owner %d were lost and %d degraded", nodes, seed, lost, degraded)
				}
				most := limit + limit*(nodes-2)/nodes
				if sum := before + during + after; sum > most || sum < limit {
					t.Errorf("%d nodes, seed %d: %d + %d + %d = %d admitted, want %d to %d", nodes, seed, before, during, after, sum, limit, most)
				}
			})
		}
	}
}

// What was let through without the owner counts afterwards.
func TestLettingThroughWithoutAnOwner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		members := started(t, w, 3, limiter.Spec{Max: 20, Window: time.Hour, Without: limiter.Allow})
		key := ownedBy(t, members[0], rand.New(rand.NewPCG(1, 5)))
		time.Sleep(100 * time.Millisecond)
		w.crash(members[0])
		if ok, lost, _ := flood(t, members[1:], 5, key); ok != 10 || lost > 0 {
			t.Errorf("without the owner %d of 10 were admitted", ok)
		}
		time.Sleep(4 * time.Second)
		settle(t, members[1:]...)
		if ok, lost, _ := flood(t, members[1:], 20, key); ok != 20-2-10 || lost > 0 {
			t.Errorf("with a new owner %d were admitted, want 8", ok)
		}
	})
}

// A node that is cut off has its share too, of what it owned as of the rest; and a
// limit that is not for it makes it fail closed.
func TestANodeThatIsCutOffHasItsShare(t *testing.T) {
	t.Parallel()
	for without, want := range map[limiter.Without]int{limiter.Deny: 0, limiter.Share: (24 - 2) / 3, limiter.Allow: 40} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 2)
			members := started(t, w, 3, limiter.Spec{Max: 24, Window: time.Hour, Without: without})
			key := ownedBy(t, members[0], rand.New(rand.NewPCG(2, 5)))
			w.setCut("n0", true)
			time.Sleep(3 * time.Second)
			// What it owned and what others own is decided together, too.
			rng := rand.New(rand.NewPCG(2, 6))
			for range 5 { // of which most belong to others
				both := append(ask(key), ask(randomKey(rng))...)
				_, err := members[0].Take(t.Context(), both)
				if lost := errors.Is(err, cluster.ErrUnreachable); lost != (without == limiter.Deny) {
					t.Errorf("policy %d: both together: %v", without, err)
				}
				if without == limiter.Share {
					want-- // spent just now
				}
			}
			ok, lost, _ := flood(t, members[:1], 40, key)
			if ok != want || without == limiter.Deny && lost != 40 {
				t.Errorf("policy %d: %d admitted and %d lost, want %d admitted", without, ok, lost, want)
			}
		})
	}
}

// Limits with and without a way out are decided together: all or nothing.
func TestOneLimitThatMustHaveItsOwner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		members := cluster3(t, w, []limiter.Spec{
			{Max: 100, Window: time.Hour, Without: limiter.Allow}, {Max: 100, Window: time.Hour},
		}, nil)
		rng := rand.New(rand.NewPCG(3, 5))
		lost, here := ownedBy(t, members[0], rng), ownedBy(t, members[1], rng)
		time.Sleep(100 * time.Millisecond)
		w.crash(members[0])
		take := func(free, strict limiter.Key) error {
			_, err := members[1].Take(t.Context(), []limiter.Ask{{Key: free, Cost: 1}, {Limit: 1, Key: strict, Cost: 1}})
			return err
		}
		if err := take(lost, here); err != nil {
			t.Errorf("the strict limit has its owner: %v", err)
		}
		if err := take(here, lost); !errors.Is(err, cluster.ErrUnreachable) {
			t.Errorf("the strict limit has no owner: %v", err)
		}
	})
}
