package edge

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/types/known/durationpb"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// Quota may let the edge allow some checks by itself: a lease, charged in advance.
// What it is for, and when it ends, is in the contract, see quotav1.Lease. The edge
// knows no rules: a lease names the attributes that the rules have looked at, and is
// for requests that are alike in these, an account here.
//
//	asked twice within a second     quota has charged it      used up, or over, or other rules, or the
//	(nothing) ───────────────▶ asking ───────────────▶ held ──▶ (nothing)        stream is lost
//	              ▲               │ quota gives none            └─ what is left: RETURN
//	              └── resting ◀───┘
//
// Whenever there is no lease, for whatever reason, quota is asked, and it alone
// refuses.
const (
	leaseShards = 16
	// accountsPerShard bounds the memory, about 500 bytes each; requests that find no
	// room are asked about one by one.
	accountsPerShard = 1024
	// maxPairs bounds the pairs of action and tool of which it is known how to find
	// accounts, and shapesPerPair in how many ways.
	maxPairs, shapesPerPair = 4096, 8
	// leastLease is what is asked for first, mostLease at most.
	leastLease, mostLease = 8, 4096
	// leaseHot is how soon a request like another has to come for a lease to be worth
	// it, and how long an account is kept without a reason.
	leaseHot = time.Second
	// leaseSettle is how often leases that are over go back.
	leaseSettle = leaseHot / 4
	// longestRest bounds how long quota can say not to ask for a lease.
	longestRest = time.Minute
)

// leases are all that this edge has. A nil one has none.
type leases struct {
	seed     maphash.Seed
	start    time.Time
	used     atomic.Int64 // checks that were allowed by leases
	stream   atomic.Pointer[leaseStream]
	learning sync.Mutex
	known    uint32                            // shapes, those that were forgotten too
	shapes   atomic.Pointer[map[pair][]*shape] // what is pointed to is never written
	shards   [leaseShards]leaseShard
}

type leaseShard struct {
	mu sync.Mutex
	m  map[string]*account
}

// pair picks the rules that can match, and is part of every shape.
type pair struct{ action, tool string }

// shape is a set of attributes that rules have looked at for some requests.
type shape struct {
	number uint32 // from 1; no other has or had it
	names  []string
}

// unknown stands for the shapes of a pair of which nothing is known yet.
var unknown = [...]*shape{{names: []string{"action", "tool"}}}

// account is what is known of requests that are alike. Times are since the start.
type account struct {
	held   *held // nil without a lease
	want   uint32
	seen   time.Duration // when quota was asked last
	asking time.Duration // when a lease was asked for that has not come; 0 for never
	rest   time.Duration // until when none is to be asked for
}

// held is a lease.
type held struct {
	stream *leaseStream
	id     uint64
	checks uint32 // that are left
	spent  uint32
	until  time.Duration
	told   time.Duration
	limits []*quotav1.LimitState // before it was taken
	costs  []uint32
}

func newLeases() *leases {
	l := &leases{seed: maphash.MakeSeed(), start: time.Now()}
	l.shapes.Store(&map[pair][]*shape{})
	for i := range l.shards {
		l.shards[i].m = make(map[string]*account)
	}
	return l
}

// observe counts what leases have allowed.
func (l *leases) observe(meter metric.Meter) error {
	if l == nil {
		return nil
	}
	_, err := meter.Int64ObservableCounter("sallyport.edge.checks_leased",
		metric.WithDescription("Checks that were allowed by a lease, without asking quota."), metric.WithUnit("{check}"),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(l.used.Load())
			return nil
		}))
	if err != nil {
		return fmt.Errorf("make the metric of leases: %w", err)
	}
	return nil
}

func (l *leases) now() time.Duration { return time.Since(l.start) + leaseHot } // so that nothing was at 0

// wish is for how many checks a lease is to be asked for, and whose it is.
type wish struct {
	checks uint32
	stream *leaseStream
	of     *account
	shard  *leaseShard
}

// draw allows a check by a lease if there is one. Else it tells whether to ask for
// one.
func (l *leases) draw(x *exchange, cost uint32) (limits []*quotav1.LimitState, allowed bool, w wish) {
	if l == nil {
		return nil, false, w
	}
	stream := l.stream.Load()
	if stream == nil {
		return nil, false, w
	}
	shapes := (*l.shapes.Load())[pair{x.method, x.tool()}]
	if len(shapes) == 0 {
		shapes = unknown[:]
	}
	var room [256]byte
	rests := false
	now := l.now()
	for _, s := range shapes {
		key := s.appendKey(room[:0], x, cost)
		shard := l.shard(key)
		shard.mu.Lock()
		a := shard.m[string(key)]
		switch {
		case a == nil:
			if len(shard.m) < accountsPerShard {
				shard.m[string(key)] = &account{seen: now, want: leastLease}
			}
		case a.held.good(now, stream):
			limits = a.spend(now)
			shard.mu.Unlock()
			l.used.Add(1)
			return limits, true, w
		case now < a.rest, a.asking > 0 && now-a.asking < leaseHot:
			rests = true
			a.seen = now
		default:
			if now-a.seen < leaseHot && a.want > w.checks {
				w = wish{a.want, stream, a, shard}
			}
			a.seen = now
		}
		shard.mu.Unlock()
	}
	if rests || w.of == nil {
		return nil, false, wish{}
	}
	w.shard.mu.Lock()
	w.of.asking = now
	w.shard.mu.Unlock()
	return nil, false, w
}

// appendKey writes what requests must have in common for one account.
func (s *shape) appendKey(b []byte, x *exchange, cost uint32) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(s.number)), uint64(cost))
	for _, name := range s.names {
		value := x.attribute(name)
		b = append(binary.AppendUvarint(b, uint64(len(value))), value...)
	}
	return b
}

func (l *leases) shard(key []byte) *leaseShard {
	return &l.shards[maphash.Bytes(l.seed, key)%leaseShards]
}

// good reports whether a check can be allowed by a lease now.
func (h *held) good(now time.Duration, stream *leaseStream) bool {
	return h != nil && h.checks > 0 && now < h.until && h.stream == stream
}

// spend takes one check, and tells the limits as they are then.
func (a *account) spend(now time.Duration) []*quotav1.LimitState {
	h := a.held
	a.seen = now
	h.checks--
	h.spent++
	if h.checks == 0 {
		a.want = min(2*a.want, mostLease)
	}
	type state struct {
		limit quotav1.LimitState
		reset durationpb.Duration
	}
	states := make([]state, len(h.limits))
	list := make([]*quotav1.LimitState, len(h.limits))
	for i, from := range h.limits {
		to := &states[i]
		reset := max(from.GetResetAfter().AsDuration()-(now-h.told), 0)
		to.reset.Seconds, to.reset.Nanos = int64(reset/time.Second), int32(reset%time.Second)
		to.limit.Name, to.limit.Limit, to.limit.Window = from.GetName(), from.GetLimit(), from.GetWindow()
		to.limit.Remaining = from.GetRemaining() - min(from.GetRemaining(), uint64(h.spent)*uint64(h.costs[i]))
		to.limit.ResetAfter = &to.reset
		to.limit.Shadow, to.limit.Kind = from.GetShadow(), from.GetKind()
		list[i] = &to.limit
	}
	return list
}

// settle notes what quota has said to a wish. The request was sent when sent says.
func (l *leases) settle(x *exchange, cost uint32, sent time.Duration, w wish, resp *quotav1.CheckResponse) {
	if w.of != nil {
		w.shard.mu.Lock()
		w.of.asking = 0
		w.shard.mu.Unlock()
	}
	lease := resp.GetLease()
	if lease == nil {
		return
	}
	good := len(lease.GetCosts()) == len(resp.GetLimits()) && lease.GetRules() >= w.stream.rules.Load()
	s := l.learn(pair{x.method, x.tool()}, lease.GetAttributes())
	if s == nil || !good {
		w.stream.returned(lease.GetId(), lease.GetChecks())
		return
	}
	var room [256]byte
	key := s.appendKey(room[:0], x, cost)
	shard := l.shard(key)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	a := shard.m[string(key)]
	if a == nil {
		if len(shard.m) >= accountsPerShard {
			w.stream.returned(lease.GetId(), lease.GetChecks())
			return
		}
		a = &account{want: leastLease}
		shard.m[string(key)] = a
	}
	a.seen = l.now()
	life := max(lease.GetLife().AsDuration(), 0)
	if lease.GetId() == 0 {
		a.rest = a.seen + min(life, longestRest)
		return
	}
	// What came while this was on its way to the table is told by rules, and looked at
	// again: news first change the number, then look through the table.
	if lease.GetRules() < w.stream.rules.Load() {
		w.stream.returned(lease.GetId(), lease.GetChecks())
		return
	}
	a.close()
	a.held = &held{
		stream: w.stream, id: lease.GetId(), checks: lease.GetChecks(), until: sent + life, told: sent,
		limits: resp.GetLimits(), costs: lease.GetCosts(),
	}
}

// close ends the lease of an account, if it has one.
func (a *account) close() {
	if h := a.held; h != nil {
		if h.checks > a.want/2 { // it was too much
			a.want = max(a.want/2, leastLease)
		}
		h.stream.returned(h.id, h.checks)
		a.held = nil
	}
}

// learn notes which attributes matter to requests of a pair; nil if there is no
// room for more.
func (l *leases) learn(p pair, names []string) *shape {
	same := func(s *shape) bool { return slices.Equal(s.names, names) }
	if i := slices.IndexFunc((*l.shapes.Load())[p], same); i >= 0 {
		return (*l.shapes.Load())[p][i]
	}
	l.learning.Lock()
	defer l.learning.Unlock()
	before := *l.shapes.Load()
	all := before[p]
	if i := slices.IndexFunc(all, same); i >= 0 {
		return all[i]
	}
	if len(all) >= shapesPerPair || len(all) == 0 && len(before) >= maxPairs {
		return nil
	}
	l.known++
	s := &shape{number: l.known, names: names}
	next := maps.Clone(before)
	next[p] = append(slices.Clip(all), s)
	l.shapes.Store(&next)
	return s
}

// sweep gives back leases that are over, and forgets who does not come any more.
// Where all is set it ends all leases, and forgets everything.
func (l *leases) sweep(all bool) {
	if all {
		l.learning.Lock()
		l.shapes.Store(&map[pair][]*shape{})
		l.learning.Unlock()
	}
	stream := l.stream.Load()
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		now := l.now()
		for key, a := range s.m {
			if all || a.held != nil && (now >= a.held.until || a.held.stream != stream) {
				a.close()
			}
			if all || a.held == nil && now-a.seen > 2*leaseHot && now >= a.rest {
				delete(s.m, key)
			}
		}
		s.mu.Unlock()
	}
}
