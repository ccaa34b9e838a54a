// Package fast counts on every node at once: each decides by itself, at once, by
// what it has admitted and by what it has heard that others have, and tells them
// within milliseconds. So a decision costs no message, and a limit may be exceeded
// by what was not heard of yet.
//
// What a node has admitted of one key is a row of tenths of the window (one whole
// window, for those of the clock). Only the node itself writes it. It tells the
// row as it is, under the number of the frame, so whoever hears of it puts it in
// the place of an earlier one: frames may get lost, overtake each other or come
// twice. What is left of a limit is the limit less the sum of all rows, each as
// far as it still counts.
//
//	Take ──▶ own row ──▶ waits, 2 ms at most ──▶ frame N ──▶ all others
//	                                                          │ N follows what it has:   takes it
//	                                                          │ something is missing:    takes it, and asks
//	                                                          │                          for the rest (sync)
//	                                                          ▼ nothing complete for 250 ms: silent
//
// A node that has no complete word of a member for that long does what the rule says
// for such a case, see [Node.Take]. Let a(d) be what all other nodes admit of a key
// within d. Then no window admits more than the limit and a(d), where d is how
// long a word takes: the exchange interval and the time on the way as a rule, the
// silence that is borne at the most.
//
// Times of others are understood by how long they have been on their way: clocks of
// nodes are never compared, but for the numbers of windows of the clock. A spend
// counts on other nodes for no less long than on its own.
//
// The package knows limits by number, keys by hash, and nothing of rules.
package fast

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// ErrSilent is the error of a spend of a limit that may not be decided while other
// nodes are silent. Nothing was taken.
var ErrSilent = errors.New("other nodes are not heard of")

// Options are what a node is made of.
type Options struct {
	Config Config
	// Specs are all limits by number; those that are Fast are counted here. Their
	// names are the same on all nodes that have them.
	Specs []limiter.Spec
	// MaxKeys bounds the counters.
	MaxKeys int
	// Now is a monotonic clock. Wall is the time of the day less that.
	Now  func() time.Duration
	Wall func() time.Duration
	Wire Wire
	// Members tells who counts together: this node's id, empty if it is none just
	// now, and those of all.
	Members func() (self string, all []string)
	// Log must not be nil; a nil Meter measures nothing.
	Log   *slog.Logger
	Meter metric.Meter
}

// Node is this process as one that counts in fast mode. Its methods are safe for
// concurrent use.
type Node struct {
	o    Options
	boot uint64

	changing sync.Mutex // held by Change
	limits   atomic.Pointer[limits]
	shards   [shardCount]shard
	wake     chan struct{} // something waits to be told

	silentFrom atomic.Int64 // when there will be no complete word of a member
	nodes      atomic.Int64 // how many count together; 0 before all were heard of once

	sending  sync.Mutex
	sequence atomic.Uint64 // of the last frame with counts; written under sending

	mu    sync.Mutex // of peers
	self  string
	peers map[uint64]*peer
	heard time.Duration // when anybody last was

	tally tally
}

// New returns a node that has admitted nothing. The configuration must be valid.
func New(o Options) (*Node, error) {
	n := &Node{o: o, wake: make(chan struct{}, 1), peers: make(map[uint64]*peer)}
	for n.boot == 0 {
		n.boot = rand.Uint64()
	}
	for i := range n.shards {
		n.shards[i].capacity = max(o.MaxKeys/shardCount, 1)
		n.shards[i].counters = make(map[item]*counter)
	}
	n.Change(o.Now(), o.Specs)
	n.refresh(o.Now())
	return n, n.observe(o.Meter)
}

// Ready reports whether the node has heard all that each member knows, once, for
// readiness. Before that it refuses what is counted here.
func (n *Node) Ready() error {
	if n.Any() && n.nodes.Load() == 0 {
		return errors.New("counts of fast mode are not yet heard of from all nodes")
	}
	return nil
}

// Of reports whether a limit is counted here.
func (n *Node) Of(limit uint32) bool { return n.limits.Load().of(limit) }

// Any reports whether any limit is.
func (n *Node) Any() bool { return n.limits.Load().any }

// Change makes the limits what specs say, as [limiter.Limiter.Change] does: what
// was counted stays counted, over the new window, unless the limit's Count is
// another. A limit that was not counted here before begins with nothing.
func (n *Node) Change(now time.Duration, specs []limiter.Spec) {
	n.changing.Lock()
	defer n.changing.Unlock()
	before := n.limits.Load()
	after := newLimits(before, specs)
	for i := range n.shards {
		s := &n.shards[i]
		s.mu.Lock()
		s.at(now, n.o.Wall())
		s.change(before, after)
		dirty := len(s.dirty) > 0
		s.mu.Unlock()
		if dirty {
			n.tellSoon()
		}
	}
	n.limits.Store(after)
}

// Keys counts the keys of each limit, by number.
func (n *Node) Keys() []int {
	keys := make([]int, len(n.limits.Load().list))
	for i := range n.shards {
		s := &n.shards[i]
		s.mu.Lock()
		for it := range s.counters {
			if int(it.limit) < len(keys) {
				keys[it.limit]++
			}
		}
		s.mu.Unlock()
	}
	return keys
}

// Sweep gives back the memory of counters in one part that count nothing any more.
func (n *Node) Sweep(now time.Duration, part int) {
	s := &n.shards[part%shardCount]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at(now, n.o.Wall())
	s.sweep()
}

// Shards is how many parts Sweep works on.
func (n *Node) Shards() int { return shardCount }

func (n *Node) tellSoon() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}
