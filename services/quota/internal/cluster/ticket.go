package cluster

import (
	"context"
	"slices"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// ticket names the copies that an answer has to wait for.
type ticket struct {
	waits []wait
}

// wait is one change, and where its copy is on its way.
type wait struct {
	slot int
	item
	permit string // in place of the item

	id        string // of this node when it was made
	appointed uint64
	heir      *copier
	filling   uint64
}

// mark gives a change to the heir of its slot. It needs n.mu.
func (n *Node) mark(w *wait) {
	s := &n.slots[w.slot]
	w.id, w.appointed, w.heir = n.id, s.appointed, s.heir
	if w.permit != "" {
		w.filling = s.heir.markPermit(w.permit)
	} else {
		w.filling = s.heir.mark(w.item)
	}
}

// await waits until two nodes have what a ticket is for, and reports whether they do.
func (n *Node) await(ctx context.Context, t ticket) bool {
	for i := range t.waits {
		w := &t.waits[i]
		for {
			changed, told := n.changes.next(), w.heir.news.next()
			made, final := n.made(w)
			if final {
				if !made {
					return false
				}
				break
			}
			select {
			case <-told:
			case <-changed:
			case <-ctx.Done():
				return false
			}
		}
	}
	return true
}

// made reports whether a change is with two nodes that the view in use names, and
// whether that answer is final. The heir may have become another since the change:
// then it has to go to that one. The slot may have gone to another owner: that one
// takes it from here, and then it and its heir say that they have it.
func (n *Node) made(w *wait) (made, final bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	s := &n.slots[w.slot]
	switch {
	case n.id != w.id || !slices.Contains(n.view.all(), n.id):
		return false, true // whoever owns the slot now has not asked this node
	case !s.serving:
		owner := n.view.owner(w.slot)
		n.peersMu.Lock()
		defer n.peersMu.Unlock()
		made = owner != "" && owner != n.id && n.peers[owner].copied >= n.view.epoch
		return made, made
	case s.heir == nil:
		return true, true // there is no second node
	case s.heir != w.heir || s.appointed != w.appointed:
		n.mark(w)
		return false, false
	}
	return w.heir.has(w)
}

// copied is a change that a copy is of.
type copied struct {
	item
	permit string
}

// maxDropped bounds what is remembered of what an heir has no room for; beyond it
// nothing of the same filling is taken to be with it.
const maxDropped = 65_536

// has reports whether the heir has a change, and whether it will not get it.
func (c *copier) has(w *wait) (made, final bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken < w.filling {
		return false, false
	}
	what := copied{permit: w.permit}
	if w.permit == "" {
		what.item = w.item
	}
	_, dropped := c.dropped[what]
	return !dropped && w.filling > c.missed, true
}

// full reports whether the heir lacks something for want of room.
func (c *copier) full() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.dropped) > 0
}

// note remembers what of a frame the heir has not kept.
func (c *copier) note(f *quotav1.CopyFrame, r *quotav1.CopyReply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.dropped) == 0 && len(r.GetDroppedCounters())+len(r.GetDroppedPermits()) == 0 {
		return
	}
	what := func(i int) copied {
		if i < len(f.GetCounters()) {
			it, _ := c.n.counter(f.GetCounters()[i])
			return copied{item: item{it.Limit, it.Key}}
		}
		return copied{permit: f.GetPermits()[i-len(f.GetCounters())].GetId()}
	}
	for i := range len(f.GetCounters()) + len(f.GetPermits()) {
		delete(c.dropped, what(i))
	}
	drop := func(i int) {
		switch {
		case i >= len(f.GetCounters())+len(f.GetPermits()):
		case len(c.dropped) < maxDropped:
			c.dropped[what(i)] = struct{}{}
		default:
			c.missed = c.filling
		}
	}
	for _, i := range r.GetDroppedCounters() {
		drop(int(i))
	}
	for _, i := range r.GetDroppedPermits() {
		drop(len(f.GetCounters()) + int(i))
	}
}

// roomAfter is how soon an heir is asked again for room: the memory is swept by then.
const roomAfter = 10 * time.Second

// later tries again to send whole slots, of which the heir had no room for all.
func (c *copier) later(slots []int) {
	c.mu.Lock()
	c.begun = append(c.begun, slots...)
	for what := range c.dropped {
		if what.permit != "" {
			c.permits[what.permit] = struct{}{}
		} else {
			c.items[what.item] = struct{}{}
		}
	}
	c.mu.Unlock()
	time.AfterFunc(roomAfter, c.wakeUp)
}
