package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/siphash"
)

var (
	errNotServing = errors.New("the node does not serve its part of the counts yet")
	errFenced     = errors.New("the lease was ended by another node")
)

// again is how soon what failed is tried again.
const again = 50 * time.Millisecond

// renewEvery is a quarter of a lease: three tries may fail.
func (n *Node) renewEvery() time.Duration { return n.o.Config.Lease / 4 }

// mostLease bounds leases.
const mostLease = 30 * time.Second

// fenceAfter is how long a member must have been silent to be fenced, by the lease
// that it has said it has. The quarter is for clocks that run at different rates;
// what was seen was sent before, which is on the safe side.
func (n *Node) fenceAfter(p peer) time.Duration {
	lease := p.lease
	if lease <= 0 {
		lease = n.o.Config.Lease
	}
	return min(lease, mostLease) * 5 / 4
}

// pace is how long renewals take, on which the length of the lease depends: on a
// machine that is starved, or whose NATS is, it is up to four times the configured
// one, so that a renewal that is late does not end it.
type pace struct {
	last [16]time.Duration // from when a renewal was due until it was made, or had failed
	next int
}

func (p *pace) add(took time.Duration) {
	p.last[p.next%len(p.last)] = took
	p.next++
}

// lease is how long the next lease is.
func (p *pace) lease(configured time.Duration) time.Duration {
	slow := slices.Max(p.last[:])
	return min(max(4*slow, configured), 4*configured, max(mostLease, configured))
}

// learnSeed reads the seed, or makes it if there is none. It reports false when
// ctx ends.
func (n *Node) learnSeed(ctx context.Context) bool {
	for {
		seed, err := n.seed(ctx)
		if err == nil {
			key := siphash.NewKey(seed)
			n.key.Store(&key)
			return true
		}
		n.o.Log.Warn("the seed of the quota cluster cannot be read", "err", err)
		if !pause(ctx, again) {
			return false
		}
	}
}

const seedKey, viewKey = "seed", "view"

func (n *Node) seed(ctx context.Context) (seed [16]byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	e, err := n.o.Store.Get(ctx, bus.Quota, seedKey)
	if errors.Is(err, bus.ErrNotFound) {
		_, _ = rand.Read(seed[:]) // never fails
		_, err = n.o.Store.Create(ctx, bus.Quota, seedKey, encode(&quotav1.ClusterSeed{Seed: seed[:]}))
		if err == nil {
			return seed, nil
		}
		if errors.Is(err, bus.ErrExists) {
			e, err = n.o.Store.Get(ctx, bus.Quota, seedKey)
		}
	}
	if err != nil {
		return seed, err
	}
	var m quotav1.ClusterSeed
	if err := proto.Unmarshal(e.Value, &m); err != nil || len(m.GetSeed()) != len(seed) {
		return seed, errors.New("the entry is not a seed")
	}
	return [16]byte(m.GetSeed()), nil
}

// sit is one life as a member: it joins, renews, and leaves when ctx is done. It
// returns when that is over or when the member was fenced.
func (n *Node) sit(ctx context.Context, id string) {
	stop, err := n.answer(id)
	if err != nil {
		n.o.Log.Warn("quota node cannot listen", "err", err)
		pause(ctx, again)
		return
	}
	defer stop()
	n.become(id)
	defer n.become("")
	s := seat{n: n, id: id}
	err = s.hold(ctx)
	if errors.Is(err, errFenced) {
		n.o.Log.Warn("quota node was fenced and joins again", "id", id)
	}
}

// become makes the node a member that owns nothing yet, or none.
func (n *Node) become(id string) {
	n.mu.Lock()
	n.lease.Store(0)
	n.ready.Store(0)
	n.id = id
	if n.over != nil {
		close(n.over)
		n.over = nil
	}
	if id != "" {
		n.over = make(chan struct{})
	}
	n.disown(func(int) bool { return true })
	n.appointHeirs()
	n.mu.Unlock()
	n.changes.tell()
}

// seat is a lease and who writes it; only one goroutine does.
type seat struct {
	n        *Node
	id       string
	revision uint64        // 0 before the first write
	due      time.Duration // when the renewal that is not made yet should have been
	pace     pace
}

// hold writes the lease for as long as the member lives.
func (s *seat) hold(ctx context.Context) error {
	n := s.n
	tick := time.NewTicker(n.renewEvery())
	defer tick.Stop()
	state := quotav1.MemberState_MEMBER_STATE_LIVE
	var deadline <-chan time.Time
	done := ctx.Done()
	for {
		changed := n.changes.next()
		if state == quotav1.MemberState_MEMBER_STATE_LEAVING {
			switch {
			case n.handedOver():
				return s.write(quotav1.MemberState_MEMBER_STATE_LEFT)
			case !n.leased():
				return nil // it owns nothing any more; others fence it
			}
		}
		if err := s.write(state); errors.Is(err, errFenced) {
			return err
		} else if err != nil {
			n.o.Log.Warn("the lease of the quota node cannot be renewed", "err", err)
		}
		for renew := false; !renew; {
			select {
			case at := <-tick.C:
				s.due = cmp.Or(s.due, n.o.Now()-time.Since(at)) // it may have waited
				renew = true
			case <-n.poke:
				renew = true
			case <-changed:
				changed = n.changes.next()
				renew = state == quotav1.MemberState_MEMBER_STATE_LEAVING && n.handedOver()
			case <-done:
				done, state, renew = nil, quotav1.MemberState_MEMBER_STATE_LEAVING, true
				deadline = time.After(5 * n.o.Config.Lease)
			case <-deadline:
				return nil // others fence it
			}
		}
	}
}

// write renews. Only a write that is known to have succeeded makes the lease
// longer, and it counts from before it was sent.
func (s *seat) write(state quotav1.MemberState) error {
	n := s.n
	span := s.pace.lease(n.o.Config.Lease)
	ctx, cancel := context.WithTimeout(context.Background(), span/2)
	defer cancel()
	value := encode(&quotav1.ClusterMember{
		Node: n.o.Name, State: state, Ready: n.ready.Load(), Copied: n.allCopied(), LeaseNanos: int64(span), Address: n.o.Address,
	})
	sent := n.o.Now()
	s.due = cmp.Or(s.due, sent)
	// Whoever sees this one goes by what it says, though we may not hear that it was made.
	n.lease.Store(min(n.lease.Load(), int64(sent+span)))
	var err error
	defer func() {
		if s.pace.add(n.o.Now() - s.due); err == nil {
			s.due = 0
		}
	}()
	if s.revision == 0 {
		s.revision, err = n.o.Store.Create(ctx, bus.QuotaMembers, s.id, value)
	} else {
		var revision uint64
		if revision, err = n.o.Store.Update(ctx, bus.QuotaMembers, s.id, value, s.revision); err == nil {
			s.revision = revision
		}
	}
	switch {
	case errors.Is(err, bus.ErrConflict), errors.Is(err, bus.ErrExists):
		return s.look(ctx)
	case err == nil:
		n.leaseSpan.Store(int64(span))
		n.lease.Store(int64(sent + span))
	}
	return err
}

// look finds out why a revision is not the last: a write of ours whose outcome
// was not told, or the end.
func (s *seat) look(ctx context.Context) error {
	e, err := s.n.o.Store.Get(ctx, bus.QuotaMembers, s.id)
	if errors.Is(err, bus.ErrNotFound) {
		return errFenced
	}
	if err != nil {
		return err
	}
	m, err := decode[*quotav1.ClusterMember](e.Value)
	if err != nil || m.GetState() == quotav1.MemberState_MEMBER_STATE_FENCED {
		return errFenced
	}
	s.revision = e.Revision
	s.n.renewSoon()
	return nil
}

// handedOver reports whether others serve all that this node owned.
func (n *Node) handedOver() bool {
	n.mu.RLock()
	v, id := n.view, n.id
	n.mu.RUnlock()
	if v.index(id) >= 0 || v.epoch == 0 {
		return false
	}
	n.peersMu.Lock()
	defer n.peersMu.Unlock()
	for _, other := range v.members {
		if n.peers[other].ready != v.epoch {
			return false
		}
	}
	return true
}

// pause waits, and reports whether ctx is still going on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
