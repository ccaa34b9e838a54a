package cluster

import (
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// slot is what this node has to do with one slot.
type slot struct {
	serving bool
	// reign is the view in which the owner whose state this is began, seen the
	// view in which the state was last brought up to date, kind what it is worth.
	reign, seen uint64
	kind        quotav1.HoldingKind
	// heir gets copies while the node serves, since the view appointed.
	heir      *copier
	appointed uint64
	// doubt is since when the node has served without knowing all that was counted
	// before; zero if it knows. See doubt.go.
	doubt time.Duration
}

// follow takes a new view: from here on the node owns nothing by an earlier one.
// No decision is in flight about what it gives up.
func (n *Node) follow(v *view) {
	n.mu.Lock()
	if v.epoch <= n.view.epoch {
		n.mu.Unlock()
		return
	}
	n.view = v
	n.disown(func(s int) bool { return v.owner(s) != n.id || n.slots[s].doubt > 0 && v.lost[s] == 0 })
	n.appointHeirs()
	n.mu.Unlock()
	n.dropLinks(v)
	n.changes.tell()
}

// disown gives up slots.
func (n *Node) disown(lost func(slot int) bool) {
	for s := range n.slots {
		if n.slots[s].serving && lost(s) {
			n.slots[s].serving = false
			if n.slots[s].doubt > 0 {
				n.slots[s].doubt = 0
				n.doubts--
			}
		}
	}
}

// appointHeirs sends copies to whom the view says. An heir that stays one has
// all it needs.
func (n *Node) appointHeirs() {
	used := make(map[string]bool)
	for s := range n.slots {
		var heir *copier
		if n.slots[s].serving {
			if id := n.view.heir(s); id != "" {
				used[id] = true
				if n.heirs[id] == nil {
					n.heirs[id] = newCopier(n, id)
				}
				heir = n.heirs[id]
			}
		}
		if n.slots[s].heir != heir {
			n.slots[s].heir, n.slots[s].appointed = heir, n.view.epoch
			if heir != nil {
				heir.begin(s)
			}
		}
	}
	for id, c := range n.heirs {
		if !used[id] {
			close(c.stop)
			delete(n.heirs, id)
		}
	}
}

// verdict is what became of asks.
type verdict int

const (
	done verdict = iota
	refused
	// notMine is the verdict of a node that does not own a slot, or whose lease is
	// over. Nothing was taken, or nothing that anyone was told of.
	notMine
	// strange is the verdict of a node whose rules have no such limit. Nothing was
	// taken.
	strange
	// unknown is the verdict of the owner of a slot that does not know all that counts.
	// Nothing was taken.
	unknown
	full
	// lost: nobody knows whether it was taken.
	lost
)

// serves reports whether this node decides about all asks. It needs n.mu.
//
// While an heir does not get its copies, the lease counts for a tenth of its
// time: it is renewed as often, unless it is this node that is cut off. So what it
// may admit without a copy is as little in a partition as the heir's death is of
// no consequence.
func (n *Node) serves(asks []limiter.Ask) bool {
	now, behind := n.o.Now(), false
	for i := range asks {
		s := &n.slots[slotOf(asks[i].Key)]
		if !s.serving {
			return false
		}
		behind = behind || s.heir != nil && s.heir.behind(now)
	}
	if behind {
		n.renewSoon()
		return int64(now) < n.lease.Load()-n.leaseSpan.Load()+int64(n.o.Config.Lease)/10
	}
	return int64(now) < n.lease.Load()
}

// here decides asks if this node owns them all.
func (n *Node) here(asks []limiter.Ask, op *operation) (verdict, ticket) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if !n.serves(asks) {
		return notMine, ticket{}
	}
	if n.doubts > 0 {
		if yes, soon := n.doubtful(asks, op); soon {
			return notMine, ticket{}
		} else if yes {
			return unknown, ticket{}
		}
	}
	now := n.o.Now()
	ok, err := true, error(nil)
	switch op.verb {
	case quotav1.AskVerb_ASK_VERB_PEEK:
		ok = n.o.Limiter.Peek(now, asks)
	case quotav1.AskVerb_ASK_VERB_TAKE, quotav1.AskVerb_ASK_VERB_RESERVE:
		ok, err = n.o.Limiter.Take(now, asks)
	case quotav1.AskVerb_ASK_VERB_PEEK_PERMITS:
		ok = n.o.Permits.Peek(now, asks)
	case quotav1.AskVerb_ASK_VERB_ACQUIRE:
		ok, err = n.o.Permits.Acquire(now, op.ttl, op.permit, asks)
	}
	var t ticket
	switch {
	case err != nil:
	case ok:
		t = n.changed(asks, op)
	case op.verb == quotav1.AskVerb_ASK_VERB_TAKE || op.verb == quotav1.AskVerb_ASK_VERB_RESERVE:
		t = n.changed(n.punished(asks), op)
	}
	for i := range op.reigns {
		op.reigns[i] = n.slots[slotOf(asks[i].Key)].reign
	}
	switch {
	case !n.leased():
		// It may have ended while the decision was made: then another may own the
		// slots, and has not heard of this.
		return notMine, t
	case err != nil:
		return full, t
	case !ok:
		return refused, t
	}
	return done, t
}

// giveBack undoes what here has done. What is not owned any more stays taken.
func (n *Node) giveBack(asks []limiter.Ask, op *operation) verdict {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if !n.serves(asks) {
		return notMine
	}
	if op.verb == quotav1.AskVerb_ASK_VERB_RELEASE {
		n.o.Permits.Release(op.permit)
		n.changed(asks, op)
		return done
	}
	var mine []limiter.Ask
	for i := range asks {
		if n.slots[slotOf(asks[i].Key)].reign == op.reigns[i] { // else the mark is of another clock
			mine = append(mine, asks[i])
		}
	}
	n.o.Limiter.Undo(n.o.Now(), mine)
	n.changed(mine, op)
	return done
}

// changed sends copies of what asks are about. It needs n.mu.
func (n *Node) changed(asks []limiter.Ask, op *operation) (t ticket) {
	switch op.verb {
	case quotav1.AskVerb_ASK_VERB_PEEK, quotav1.AskVerb_ASK_VERB_PEEK_PERMITS:
		return t
	}
	for i := range asks {
		slot := slotOf(asks[i].Key)
		if n.slots[slot].heir == nil {
			continue
		}
		w := wait{slot: slot, item: item{asks[i].Limit, asks[i].Key}, permit: op.permit}
		n.mark(&w)
		if n.o.Config.Sync {
			t.waits = append(t.waits, w)
		}
	}
	return t
}

// item is a counter.
type item struct {
	limit uint32
	key   limiter.Key
}

// operation is what to do about asks.
type operation struct {
	verb   quotav1.AskVerb
	permit string
	ttl    time.Duration
	reigns []uint64 // here notes whose they were; may be nil
	// kept is what earlier attempts have reserved.
	kept []part
	// until is how long others are waited for, by Now.
	until time.Duration
	// age says by which of its names a limit is asked for: 0 for the one that it has,
	// 1 for the one before.
	age int
	// without says that limits that are new here are asked of nobody else.
	without bool
	// ahead says that this is for checks that are made later: what was granted is for
	// those of now, and marks are wanted.
	ahead bool
	// spare says that owners that do not answer are done without, where limits are
	// for that.
	spare bool
}
