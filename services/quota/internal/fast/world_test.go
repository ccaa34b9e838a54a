package fast_test

import (
	"container/heap"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/fast"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// world is some nodes, and a network between them that loses, delays and doubles
// what it likes, in a time of its own.
type world struct {
	t      testing.TB
	rng    *rand.Rand
	cfg    fast.Config
	specs  []limiter.Spec
	now    time.Duration
	queue  events
	nodes  []*node
	places []string // the ids of those who are members

	lose, double float64
	most         time.Duration // that a message takes
	every        time.Duration // how often nodes send
	cut          map[[2]string]bool
}

// node is one process.
type node struct {
	*fast.Node
	w      *world
	id     string
	ahead  time.Duration // of its monotonic clock
	wall   time.Duration // the time of the day less its monotonic clock
	boot   uint64
	gone   bool
	beaten time.Duration
	silent time.Duration // since when others are; zero if they are not
	died   time.Duration
}

type event struct {
	at time.Duration
	do func()
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

const day = 24 * time.Hour

func newWorld(t testing.TB, seed uint64, nodes int, specs ...limiter.Spec) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 11)), cfg: fast.DefaultConfig(), specs: specs, now: 100 * day,
		most: 3 * time.Millisecond, every: 2 * time.Millisecond, cut: make(map[[2]string]bool),
	}
	for i := range specs {
		specs[i].Fast, specs[i].Name, specs[i].Count = true, uint64(1000+i), uint64(i)
	}
	for i := range nodes {
		w.places = append(w.places, string(rune('a'+i)))
	}
	for _, id := range w.places {
		w.start(id)
	}
	w.run(100 * time.Millisecond) // all have heard of each other
	return w
}

// start starts a process with an id, instead of the one that has it.
func (w *world) start(id string) *node {
	w.t.Helper()
	n := &node{w: w, id: id, ahead: time.Duration(w.rng.Int64N(int64(30 * day)))}
	n.wall = 20_000*day - n.ahead
	var err error
	n.Node, err = fast.New(fast.Options{
		Config: w.cfg, Specs: w.specs, MaxKeys: 10_000, Now: n.now, Wall: func() time.Duration { return n.wall },
		Members: func() (string, []string) { return n.id, w.places }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.nodes = append(w.nodes, n)
	w.at(0, n.step)
	return n
}

func (n *node) now() time.Duration { return n.w.now + n.ahead }

// kill ends a process as a crash does.
func (w *world) kill(n *node) {
	n.gone, n.died = true, w.now
	for i, other := range w.nodes {
		if other == n {
			w.nodes = append(w.nodes[:i:i], w.nodes[i+1:]...)
		}
	}
}

func (w *world) at(in time.Duration, do func()) { heap.Push(&w.queue, event{w.now + in, do}) }

// run lets so much time pass.
func (w *world) run(span time.Duration) {
	end := w.now + span
	for len(w.queue) > 0 && w.queue[0].at <= end {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
	}
	w.now = end
}

// step does what the loop of a process does.
func (n *node) step() {
	if n.gone {
		return
	}
	w := n.w
	if !n.Silent(n.now()) {
		n.silent = 0
	} else if n.silent == 0 {
		n.silent = w.now
	}
	if f, _ := n.Collect(n.now()); f != nil {
		n.beaten = w.now
		w.send(n, f)
	} else if w.now-n.beaten >= w.cfg.Silence/5 {
		n.beaten = w.now
		w.send(n, n.Beat(n.now(), true, false))
	}
	w.at(w.every, n.step)
}

// send hands a frame to all others, to each when and if it likes.
func (w *world) send(from *node, f *quotav1.FastFrame) {
	from.boot = f.GetBoot()
	for _, to := range w.nodes {
		if to == from {
			continue
		}
		copies := 1
		if w.rng.Float64() < w.lose {
			copies = 0
		}
		if w.rng.Float64() < w.double {
			copies++
		}
		for range copies {
			w.carry(from.id, to.id, func() { w.receive(to, from, f) })
		}
	}
}

func (w *world) carry(from, to string, do func()) {
	if w.cut[[2]string{from, to}] {
		return
	}
	w.at(time.Duration(w.rng.Int64N(int64(w.most)))+50*time.Microsecond, do)
}

func (w *world) receive(to, from *node, f *quotav1.FastFrame) {
	if !to.gone {
		w.ask(to, from, to.Receive(to.now(), f))
	}
}

// ask gets what was missed, page after page.
func (w *world) ask(n, from *node, gap *fast.Gap) {
	if gap == nil {
		return
	}
	var first *quotav1.FastSyncReply
	var page func(q *quotav1.FastSyncRequest)
	page = func(q *quotav1.FastSyncRequest) {
		if w.rng.Float64() < w.lose || w.cut[[2]string{n.id, from.id}] || w.cut[[2]string{from.id, n.id}] {
			w.at(50*time.Millisecond, func() { n.Failed(gap.Boot) })
			return
		}
		w.carry(n.id, from.id, func() {
			if from.gone {
				w.at(50*time.Millisecond, func() { n.Failed(gap.Boot) })
				return
			}
			reply := from.Tell(from.now(), q)
			w.at(time.Duration(w.rng.Int64N(int64(w.most))), func() {
				if n.gone {
					return
				}
				if first == nil {
					first = reply
				}
				n.Page(n.now(), gap.Boot, reply)
				if next := fast.After(q, reply); next != nil {
					page(next)
					return
				}
				w.ask(n, from, n.Synced(n.now(), gap.Boot, first))
			})
		})
	}
	page(&quotav1.FastSyncRequest{Since: gap.Since})
}

func key(i int) limiter.Key { return limiter.Key{Hi: uint64(i) * 0x9e3779b97f4a7c15, Lo: uint64(i)} }

// take spends from one limit, and reports whether it was admitted.
func (n *node) take(limit uint32, k int, cost uint32) (ok, degraded bool) {
	n.w.t.Helper()
	asks := []limiter.Ask{{Limit: limit, Key: key(k), Cost: cost}}
	ok, err := n.Take(n.now(), asks)
	if err != nil {
		if err != fast.ErrSilent {
			n.w.t.Fatal(err)
		}
		return false, true
	}
	return ok, asks[0].State.Degraded
}
