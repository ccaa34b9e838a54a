package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// peer is the lease of a member as it was last seen.
type peer struct {
	state    quotav1.MemberState
	ready    uint64
	copied   uint64
	lease    time.Duration // how long it said that it decides
	address  string        // for lines
	revision uint64
	seen     time.Duration // when, by our clock; never before it was written
	gone     bool          // the entry is no more
}

// onMember takes news of a lease.
func (n *Node) onMember(e bus.Entry) {
	n.mu.RLock()
	needed := slices.Contains(n.view.all(), e.Key)
	n.mu.RUnlock()
	n.peersMu.Lock()
	p, known := n.peers[e.Key]
	switch {
	case e.Deleted && !needed:
		delete(n.peers, e.Key)
	case e.Deleted:
		if p.gone = true; !known {
			p.seen = n.o.Now()
		}
		n.peers[e.Key] = p
	case e.Revision == p.revision: // told again, after the connection broke
		p.gone = false
		n.peers[e.Key] = p
	case e.Revision > p.revision:
		m, err := decode[*quotav1.ClusterMember](e.Value)
		if err != nil {
			m = &quotav1.ClusterMember{} // of no state; it will be fenced
		}
		n.peers[e.Key] = peer{
			state: m.GetState(), ready: m.GetReady(), copied: m.GetCopied(), lease: time.Duration(m.GetLeaseNanos()),
			address: m.GetAddress(), revision: e.Revision, seen: n.o.Now(),
		}
	}
	n.peersMu.Unlock()
	n.changes.tell()
}

// onView takes news of the view.
func (n *Node) onView(e bus.Entry) {
	if e.Key != viewKey || e.Deleted {
		return
	}
	m, err := decode[*quotav1.ClusterView](e.Value)
	if err != nil {
		n.o.Log.Error("the view of the quota cluster cannot be read", "err", err)
		return
	}
	n.follow(newView(m.GetEpoch(), e.Revision, m.GetMembers(), m.GetLeaving()).recall(m))
}

// steward keeps the view to what the leases say. Every member does, since
// whoever is second changes nothing.
func (n *Node) steward(ctx context.Context) {
	tick := time.NewTicker(n.renewEvery() / 4)
	defer tick.Stop()
	for {
		changed := n.changes.next()
		if n.leased() {
			n.fence(ctx)
			n.propose(ctx)
		}
		n.endDoubts()
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// fence ends the leases that were not renewed. An entry that does not exist is
// fenced too, by making it: nobody can renew it then.
func (n *Node) fence(ctx context.Context) {
	now := n.o.Now()
	silent := make(map[string]peer)
	n.mu.RLock()
	needed := n.view.all()
	n.mu.RUnlock()
	n.peersMu.Lock()
	for _, id := range needed {
		if _, known := n.peers[id]; !known {
			n.peers[id] = peer{gone: true, seen: now}
		}
	}
	for id, p := range n.peers {
		if !p.over() && (!p.gone || slices.Contains(needed, id)) && now-p.seen > n.fenceAfter(p) {
			silent[id] = p
		}
	}
	n.peersMu.Unlock()
	for id, p := range silent {
		err := n.end(ctx, id, p)
		switch {
		case err == nil:
			n.o.Log.Warn("a quota node did not renew its lease and was fenced", "id", id)
		case !errors.Is(err, bus.ErrConflict) && !errors.Is(err, bus.ErrExists): // else it has renewed, or another was first
			n.o.Log.Warn("a quota node cannot be fenced", "id", id, "err", err)
		}
	}
}

func (n *Node) end(ctx context.Context, id string, p peer) error {
	ctx, cancel := context.WithTimeout(ctx, n.o.Config.Lease/2)
	defer cancel()
	// What it has said of its copies is still so.
	value := encode(&quotav1.ClusterMember{State: quotav1.MemberState_MEMBER_STATE_FENCED, Copied: p.copied})
	var err error
	if p.gone {
		_, err = n.o.Store.Create(ctx, bus.QuotaMembers, id, value)
	} else {
		_, err = n.o.Store.Update(ctx, bus.QuotaMembers, id, value, p.revision)
	}
	return err
}

// propose writes the view that the leases ask for, if it is another one.
func (n *Node) propose(ctx context.Context) {
	n.mu.RLock()
	v := n.view
	n.mu.RUnlock()
	members, leaving := n.desired(v)
	if slices.Equal(members, v.members) && slices.Equal(leaving, v.leaving) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, n.o.Config.Lease/2)
	defer cancel()
	value := encode(v.after(members, leaving, n.settled(v)))
	var err error
	if v.epoch == 0 {
		_, err = n.o.Store.Create(ctx, bus.Quota, viewKey, value)
	} else {
		_, err = n.o.Store.Update(ctx, bus.Quota, viewKey, value, v.revision)
	}
	if err != nil && !errors.Is(err, bus.ErrConflict) && !errors.Is(err, bus.ErrExists) {
		n.o.Log.Warn("the view of the quota cluster cannot be changed", "err", err)
	}
}

// desired is who should be in the view. Who is in it stays until it said that it
// owns nothing, or another has written so.
func (n *Node) desired(v *view) (members, leaving []string) {
	now := n.o.Now()
	n.peersMu.Lock()
	defer n.peersMu.Unlock()
	for id, p := range n.peers {
		if slices.Contains(v.all(), id) || v.dropped(id) {
			continue
		}
		if p.state == quotav1.MemberState_MEMBER_STATE_LIVE && !p.gone && now-p.seen < max(p.lease, n.o.Config.Lease) {
			members = append(members, id)
		}
	}
	for _, id := range v.members {
		switch p, known := n.peers[id]; {
		case known && p.state == quotav1.MemberState_MEMBER_STATE_LEAVING:
			leaving = append(leaving, id)
		case !known || !p.over():
			members = append(members, id)
		}
	}
	for _, id := range v.leaving {
		if p, known := n.peers[id]; !known || !p.over() {
			leaving = append(leaving, id)
		}
	}
	slices.Sort(members)
	slices.Sort(leaving)
	return members, leaving
}

// over reports whether the member surely owns nothing, now and ever.
func (p peer) over() bool {
	return p.state == quotav1.MemberState_MEMBER_STATE_LEFT || p.state == quotav1.MemberState_MEMBER_STATE_FENCED
}

// encode makes the bytes of a message; those of ours cannot fail.
func encode(m proto.Message) []byte {
	b, _ := proto.Marshal(m)
	return b
}

func decode[M proto.Message](b []byte) (M, error) {
	var zero M
	m := zero.ProtoReflect().Type().New().Interface().(M)
	return m, proto.Unmarshal(b, m)
}
