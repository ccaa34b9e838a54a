//go:build cluster

package quota_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/quotastream"
)

// leaseLimit is large enough for leases until less than half is left, with three
// nodes and two streams on each.
const leaseLimit = 2000

// lentRules are those of a cluster with sync or without. No count ends within a test,
// and leases of nodes bear a busy machine.
func lentRules(sync bool, limit int) string {
	return fmt.Sprintf(`
cluster: {enabled: true, lease: 5s, patience: 1s, sync: %t}
rules: [{id: per-ip, key: [ip], limit: %d/hour}]
`, sync, limit)
}

// lessee is a caller that uses leases as an edge does. One goroutine calls it.
type lessee struct {
	t      *testing.T
	nodes  []*node // the first is asked, and when it is lost the next
	stream *quotastream.Stream
	held   map[int]*lot
	want   map[int]uint32
	all    *tally
	given  *ledger // what it is told; nil to keep nothing
	leased int     // admitted without asking
}

// lot is a lease that it has.
type lot struct {
	id     uint64
	checks uint32
	until  time.Time
	stream *quotastream.Stream
}

// ledger keeps what was let go for which key, and when that was heard.
type ledger struct {
	mu   sync.Mutex
	rows []row
}

type row struct {
	key    int
	checks uint32
	heard  time.Time
}

func (l *ledger) add(key int, checks uint32) {
	if l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.rows = append(l.rows, row{key, checks, time.Now()})
	}
}

// lessees are so many for each node, which ask the nodes after it when that is lost.
func lessees(t *testing.T, l *tally, each int, given *ledger, all ...*node) []*lessee {
	t.Helper()
	var some []*lessee
	for i := range each * len(all) {
		first := i % len(all)
		some = append(some, &lessee{
			t: t, nodes: append(append([]*node{}, all[first:]...), all[:first]...),
			held: make(map[int]*lot), want: make(map[int]uint32), all: l, given: given,
		})
	}
	return some
}

// spend asks for one of a key, unless it has it already.
func (l *lessee) spend(key int) (ok, decided bool) {
	l.t.Helper()
	if l.use(key) {
		return true, true
	}
	if l.stream == nil && !l.open() {
		return false, false
	}
	if old := l.held[key]; old != nil {
		if old.checks > 0 && old.stream == l.stream {
			l.stream.Return(&quotav1.LeaseReturn{Id: old.id, Checks: old.checks})
		} else if old.checks == 0 {
			l.want[key] *= 2
		}
		delete(l.held, key)
	}
	req := address(l.all.from + key)
	req.Lease = min(max(l.want[key], 8), 4096)
	l.want[key] = req.GetLease()
	sent := time.Now()
	ctx, cancel := context.WithTimeout(l.t.Context(), 10*time.Second)
	defer cancel()
	resp, err := l.stream.Check(ctx, req)
	switch {
	case errors.Is(err, quotastream.ErrOver):
		l.lost()
		return false, false
	case errors.Is(err, quotastream.ErrBusy), unavailable(err), errors.Is(err, context.DeadlineExceeded):
		return false, false
	case err != nil:
		l.t.Error(err)
		return false, false
	}
	if lease := resp.GetLease(); lease.GetId() != 0 {
		l.held[key] = &lot{id: lease.GetId(), checks: lease.GetChecks(), until: sent.Add(lease.GetLife().AsDuration()), stream: l.stream}
		l.given.add(key, lease.GetChecks())
	}
	if resp.GetAllowed() {
		l.given.add(key, 1)
		l.all.counts[key].Add(1)
	}
	return resp.GetAllowed(), true
}

// usable reports whether it may admit by a lease.
func (l *lessee) usable(key int) bool {
	h := l.held[key]
	if h == nil || h.checks == 0 || h.stream != l.stream || !time.Now().Before(h.until) {
		return false
	}
	select {
	case <-h.stream.Over():
		return false
	default:
		return true
	}
}

// use admits one by a lease, if there is one.
func (l *lessee) use(key int) bool {
	if !l.usable(key) {
		return false
	}
	l.held[key].checks--
	l.leased++
	l.all.counts[key].Add(1)
	return true
}

// open opens a stream.
func (l *lessee) open() bool {
	var err error
	if l.stream, err = quotastream.Open(l.t.Context(), l.nodes[0], nil); err != nil {
		l.lost()
	}
	return err == nil
}

// lost turns to the next node.
func (l *lessee) lost() {
	l.stream, l.nodes = nil, append(append([]*node{}, l.nodes[1:]...), l.nodes[0])
}

// during has all lessees spend, each from keys of its own, one each pace, while what
// is to happen meanwhile does.
func during(t *testing.T, all []*lessee, pace time.Duration, happens func()) {
	t.Helper()
	over := make(chan struct{})
	var g sync.WaitGroup
	for i, l := range all {
		rng := rand.New(rand.NewPCG(uint64(i), 5))
		g.Go(func() {
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for key := i; ; {
				select {
				case <-over:
					return
				case <-tick.C:
				}
				if ok, _ := l.spend(key); !ok || rng.IntN(20) == 0 { // an edge has hot callers
					key = i + len(all)*rng.IntN(len(l.all.counts)/len(all))
				}
			}
		})
	}
	happens()
	close(over)
	g.Wait()
}

// reach waits until so many were admitted.
func (l *tally) reach(t *testing.T, n int32) {
	t.Helper()
	await(t, "so many to be admitted", func() bool { return l.sum() >= n })
}

// sum is what was admitted of all keys.
func (l *tally) sum() (n int32) {
	for i := range l.counts {
		n += l.counts[i].Load()
	}
	return n
}

// useUp spends until each key is refused or cannot be decided, and returns of how
// many that was so.
func (l *tally) useUp(all []*lessee) (undecided int) {
	var g sync.WaitGroup
	var unknown atomic.Int64
	for i := range all {
		g.Go(func() {
			for key := i; key < len(l.counts); key += len(all) {
				tries := 0
				for at := 0; tries < 20; at++ { // whoever may have a lease
					ok, decided := all[i].spend(key)
					if !ok && decided {
						break
					}
					if !decided {
						tries++
					}
				}
				if tries == 20 {
					unknown.Add(1)
				}
			}
		})
	}
	g.Wait()
	return int(unknown.Load())
}

// leased is how many lessees were admitted without asking. It fails the test if
// that is hardly any, for then nothing was tested.
func leased(t *testing.T, callers []*lessee) (n int) {
	t.Helper()
	for _, c := range callers {
		n += c.leased
	}
	if all := int(callers[0].all.sum()); n < all/10 {
		t.Errorf("%d of %d were admitted by leases, so nothing was tested", n, all)
	}
	return n
}

// exact checks that no key was admitted more than the limit.
func (l *tally) exact(t *testing.T, limit int32) {
	t.Helper()
	for key := range l.counts {
		if n := l.counts[key].Load(); n > limit {
			t.Errorf("key %d: admitted %d of %d", key, n, limit)
		}
	}
}

func TestAKillWithLeasesLosesNothingWithSync(t *testing.T) {
	all := nodes(t, lentRules(true, leaseLimit), 3, natsServer(t).URL())
	const keys = 12
	l := &tally{counts: make([]atomic.Int32, keys)}
	callers := lessees(t, l, 2, nil, all...)
	during(t, callers, time.Millisecond, func() {
		l.reach(t, leaseLimit*keys/3)
		all[2].kill(t)
		l.reach(t, l.sum()+leaseLimit*keys/10)
	})
	undecided := l.useUp(callers)
	l.exact(t, leaseLimit)
	t.Logf("%d of %d were admitted, %d of them by leases; %d keys are not decided", l.sum(), leaseLimit*keys, leased(t, callers), undecided)
}

// An owner that cannot reach its heir lends nothing with sync: when it dies then, the
// heir knows of all that callers have had.
func TestAnOwnerLendsNothingThatItsHeirDoesNotKnow(t *testing.T) {
	const keys, limit = 16, 6000 // of which leases are small, so that many copies are on their way
	server := natsServer(t).URL()
	w := newWall(t, server)
	w.slow(3 * time.Millisecond)
	all := nodes(t, lentRules(true, limit), 2, w.url, server)
	l := &tally{counts: make([]atomic.Int32, keys)}
	callers := lessees(t, l, keys, nil, all[0])
	before := views(t, all[1])
	during(t, callers, 50*time.Microsecond, func() {
		l.reach(t, 500*keys)
		w.raise()
		last, since := int32(0), time.Now()
		await(t, "callers to use up what they had, and to get nothing more", func() bool {
			if n := l.sum(); n != last {
				last, since = n, time.Now()
			}
			return time.Since(since) > time.Second
		})
	})
	all[0].kill(t) // what it had sent is on this side of the wall, and is lost
	await(t, "the heir to take over", func() bool { return views(t, all[1]) > before && all[1].ready() })
	known := 0
	for key := range l.counts {
		resp, err := all[1].Peek(t.Context(), &quotav1.PeekRequest{Subject: address(key).GetSubject()})
		if err != nil {
			continue // in doubt, for a busy machine has let leases lapse
		}
		known++
		if charged := limit - int32(resp.GetCheck().GetLimits()[0].GetRemaining()); charged < l.counts[key].Load() {
			t.Errorf("key %d: the heir knows of %d, and %d were admitted", key, charged, l.counts[key].Load())
		}
	}
	t.Logf("%d were admitted, %d of them by leases; %d of %d keys are decided", l.sum(), leased(t, callers), known, keys)
}

// Without waiting for copies a kill loses what was admitted and lent just before.
// An owner that cannot copy stops after a tenth of its lease, which is two seconds
// at most here, so no more than that of these is lost; it is some milliseconds'
// worth where all is well, which the log tells.
func TestAKillWithLeasesLosesTheLastOfThemWithoutSync(t *testing.T) {
	all := nodes(t, lentRules(false, leaseLimit), 3, natsServer(t).URL())
	const keys = 12
	l := &tally{counts: make([]atomic.Int32, keys)}
	var given ledger
	callers := lessees(t, l, 2, &given, all...)
	var killed time.Time
	during(t, callers, 4*time.Millisecond, func() {
		l.reach(t, leaseLimit*keys/2)
		killed = time.Now()
		all[2].kill(t)
		l.reach(t, l.sum()+leaseLimit*keys/10)
	})
	undecided := l.useUp(callers)
	late := make([]int32, keys)
	for _, r := range given.rows {
		if r.heard.After(killed.Add(-2*time.Second)) && r.heard.Before(killed.Add(time.Second)) {
			late[r.key] += int32(r.checks)
		}
	}
	over := int32(0)
	for key := range l.counts {
		n := l.counts[key].Load()
		if n > leaseLimit+late[key] {
			t.Errorf("key %d: admitted %d of %d, of which %d were let go in the last two seconds", key, n, leaseLimit, late[key])
		}
		over += max(n-leaseLimit, 0)
	}
	t.Logf("%d of %d were admitted, %d of them by leases, %d beyond limits; %d keys are not decided",
		l.sum(), leaseLimit*keys, leased(t, callers), over, undecided)
}

// What was copied counts, though the owner died while callers had leases of it.
func TestAKillLosesNoLeaseThatWasCopied(t *testing.T) {
	all := nodes(t, lentRules(false, leaseLimit), 3, natsServer(t).URL())
	const keys = 12
	l := &tally{counts: make([]atomic.Int32, keys)}
	callers := lessees(t, l, 2, nil, all...)
	during(t, callers, time.Millisecond, func() { l.reach(t, leaseLimit*keys/4) })
	held := 0
	await(t, "leases that are copied and not over", func() bool {
		for i := range keys {
			for range 4 { // the last of them at the latest has a lease with it
				callers[i%len(callers)].spend(i)
			}
		}
		awaitCopies(t, all...)
		held = 0
		for _, c := range callers {
			for key, h := range c.held {
				if h.checks > 0 && c.usable(key) && time.Until(h.until) > 100*time.Millisecond {
					held++
				}
			}
		}
		return held >= keys/2
	})
	all[2].kill(t)
	used := l.sum()
	for _, c := range callers {
		for key := range l.counts {
			for c.use(key) {
			}
		}
	}
	used = l.sum() - used
	await(t, "others to take over", func() bool { return all[0].ready() && all[1].ready() })
	undecided := l.useUp(callers)
	l.exact(t, leaseLimit)
	t.Logf("%d leases were held at the kill, and %d admitted by them after it; %d of %d in all, %d keys are not decided",
		held, used, l.sum(), leaseLimit*keys, undecided)
}
