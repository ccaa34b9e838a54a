// Package cluster makes several quota nodes count as one.
//
// Every key belongs to one of 1024 slots, and every slot to one node, its owner,
// who alone decides about its keys. Who owns what follows from the list of
// members, the view, by rendezvous hashing; the next in that order is the slot's
// heir, to whom the owner copies what it admits. Other nodes forward to the owner.
//
// A slot never has two owners. Three rules see to that, and everything else may
// fail, be late or come twice:
//
//  1. An owner decides only while its lease holds: a span after it sent its last
//     renewal that succeeded, by its own monotonic clock, read before a decision
//     and again after it.
//  2. A member is dropped from the view only when it owns nothing: it said so
//     (LEFT), or another has written FENCED over its lease. That write names the
//     revision of the last renewal that was seen, a lease and a quarter ago, so it
//     succeeds only if there was no renewal since; and after it there can be none.
//  3. Who gains a slot by view e asks all members, and those that are leaving, what
//     they hold of it. Each answers when it follows e, hence owns by no earlier
//     view. Not before all have answered does the new owner take the best and
//     begin: its reign.
//
// A member's life:
//
//	          create            SIGTERM            others are ready
//	(nothing) ──────▶ LIVE ───────────────▶ LEAVING ───────────────▶ LEFT
//	                   │ no renewal for 1¼ leases │
//	                   └────────────▶ FENCED ◀────┘   (then again, under a new id)
//
// A slot's life on one node:
//
//	        gains it by a view           all have answered          loses it by a view
//	(other) ──────────────────▶ gathers ──────────────────▶ serves ──────────────────▶ (other)
//	                                                        while the lease is over: nothing
//
// The package knows limits by number, keys by hash, and nothing of rules.
package cluster

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/siphash"
)

// Store keeps leases and views. [bus.Bus] implements it.
type Store interface {
	Get(ctx context.Context, b bus.Bucket, key string) (bus.Entry, error)
	Create(ctx context.Context, b bus.Bucket, key string, value []byte) (uint64, error)
	Update(ctx context.Context, b bus.Bucket, key string, value []byte, revision uint64) (uint64, error)
	Watch(ctx context.Context, b bus.Bucket, on func(bus.Entry), synced func(bool)) error
}

// Wire carries requests between nodes. A request is delivered once or not at
// all, and requests of one sender to one subject in their order. [NATS] makes one.
type Wire interface {
	// Ask fails with [bus.ErrNobody] if nobody can have taken the request.
	Ask(ctx context.Context, subject string, q *quotav1.ClusterRequest) (*quotav1.ClusterReply, error)
	// Answer answers requests one at a time.
	Answer(subject string, on func(context.Context, *quotav1.ClusterRequest) *quotav1.ClusterReply) (stop func(), err error)
}

// Line is a way to one other node. It carries one request at a time, and is of no
// use any more after an error. Package line makes them.
type Line interface {
	// Ask waits no longer than patience. It fails with [bus.ErrNobody] if nobody can
	// have taken the request.
	Ask(q *quotav1.ClusterRequest, patience time.Duration) (*quotav1.ClusterReply, error)
	// Close makes an Ask that waits fail. It may be called more than once.
	Close()
}

// Options are what a node is made of.
type Options struct {
	Config Config
	// Name is for people; nodes may share one.
	Name  string
	Store Store
	Wire  Wire
	// Address is where others find this node for lines; empty if they do not.
	Address string
	// Dial opens a line to the member id. It must fail when ctx is done. If nil, all
	// goes over the wire.
	Dial func(ctx context.Context, address, id string) (Line, error)
	// Limiter and Permits count, for slots that the node owns and for copies. Their
	// limits have names, alike on all nodes that have them; see [Node.Renamed].
	Limiter *limiter.Limiter
	Permits *limiter.Permits
	// Now is a monotonic clock that never was near zero; see [Origin].
	Now func() time.Duration
	// Check decides a check that another node has forwarded; see [Node.Forward].
	Check func(context.Context, *quotav1.CheckRequest) *quotav1.CheckResponse
	// Seat, if not nil, is called when the node becomes a member with an id, and
	// what it returns when it is none any more.
	Seat func(id string) (leave func(), err error)
	// Log must not be nil.
	Log *slog.Logger
	// Meter measures; nil measures nothing.
	Meter metric.Meter
}

// Origin is the least that a node's clock shows: counters of other nodes may be
// older than this one's process, and times are not negative.
const Origin = 64 * 24 * time.Hour

// Node is this process as a part of the cluster. Its methods are safe for
// concurrent use.
type Node struct {
	o       Options
	rates   atomic.Pointer[names]
	permits atomic.Pointer[names]
	key     atomic.Pointer[siphash.Key] // nil until the seed is known
	lease   atomic.Int64                // when it ends, by Now
	// leaseSpan is how long it was when it was renewed.
	leaseSpan atomic.Int64
	changes   news // of views, peers and slots

	// mu is held for reading around each decision, so that a slot that was given
	// up has no decision in flight.
	mu    sync.RWMutex
	id    string
	over  chan struct{} // closed when it is not id any more
	view  *view
	slots [slotCount]slot
	heirs map[string]*copier
	// doubts is how many slots are in doubt.
	doubts int

	ready atomic.Uint64 // the view of which all is served, as our lease says
	poke  chan struct{} // renew the lease now

	peersMu sync.Mutex
	peers   map[string]peer

	linksMu sync.Mutex
	links   map[string]*link

	lines  lines
	timers sync.Pool // of those that n.waitFor has stopped

	copySent atomic.Uint64
	copyMu   sync.Mutex // one frame at a time
	copySeen map[string]uint64

	denials   denials
	strangers strangers
	fallback  fallback
	reserved  reserved
	bank      bank
	tally     tally
}

// New returns a node that takes part while it runs. The configuration must be
// valid.
func New(o Options) (*Node, error) {
	n := &Node{
		o:    o,
		view: newView(0, 0, nil, nil), heirs: make(map[string]*copier), poke: make(chan struct{}, 1),
		peers: make(map[string]peer), links: make(map[string]*link), copySeen: make(map[string]uint64), lines: lines{all: make(map[lineKey]*line)},
		reserved: reserved{at: make(map[item]time.Duration)},
	}
	n.rates.Store(newNames(o.Limiter.Names()))
	n.permits.Store(newNames(o.Permits.Names()))
	return n, n.observe(o.Meter)
}

// Run takes part until ctx is done, then hands over what the node owns, and
// returns when others own it, or after a few leases.
func (n *Node) Run(ctx context.Context) {
	if !n.learnSeed(ctx) {
		return
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	var g sync.WaitGroup
	g.Go(func() { _ = n.o.Store.Watch(work, bus.QuotaMembers, n.onMember, func(bool) {}) }) // ends with work
	g.Go(func() { _ = n.o.Store.Watch(work, bus.Quota, n.onView, func(bool) {}) })
	g.Go(func() { n.steward(work) })
	g.Go(func() { n.takeOver(work) })
	g.Go(func() { n.connect(work) })
	g.Go(func() { n.copy(work) })
	g.Go(func() { n.pay(work) })
	g.Go(func() { n.settleGrants(work) })
	for process, life := rand.Text(), 0; ctx.Err() == nil; life++ {
		n.sit(ctx, fmt.Sprint(process, "-", life))
	}
	stop()
	g.Wait()
}

// Nodes is how many nodes count together, as far as this one knows.
func (n *Node) Nodes() int {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return len(n.view.members)
}

// Ready reports whether the node serves all that it owns, for readiness.
func (n *Node) Ready(context.Context) error {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.key.Load() == nil || n.view.index(n.id) < 0 || n.ready.Load() != n.view.epoch || !n.leased() {
		return errNotServing
	}
	for s := range n.slots {
		if n.doubts > 0 && n.slots[s].doubt > 0 && n.o.Now()-n.slots[s].doubt < n.youngDoubt() {
			return errNotServing // it may be over in a moment
		}
	}
	return nil
}

// Key hashes what a limit counts by. The error is [ErrUnreachable]: the node does
// not know the seed yet.
func (n *Node) Key(text []byte) (limiter.Key, error) {
	key := n.key.Load()
	if key == nil {
		return limiter.Key{}, ErrUnreachable
	}
	lo, hi := key.Sum(text)
	return limiter.Key{Hi: hi, Lo: lo}, nil
}

// leased reports whether the node may decide now.
func (n *Node) leased() bool { return int64(n.o.Now()) < n.lease.Load() }

// renewSoon makes the keeper write the lease now.
func (n *Node) renewSoon() {
	select {
	case n.poke <- struct{}{}:
	default:
	}
}
