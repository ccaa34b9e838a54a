package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// pageSize is how many counters one message holds: about half a megabyte of the
// largest.
const pageSize = 1000

// overdue is how long a copy may take before the owner asks itself whether it is
// cut off.
const overdue = 20 * time.Millisecond

// copier keeps one heir up to date. A copy is a counter as it is when the message
// is made, so only the last one matters; one message is on its way at a time, and
// what changes meanwhile goes with the next.
type copier struct {
	n    *Node
	to   string
	wake chan struct{}
	stop chan struct{} // closed when it is no heir any more
	// since is when the first change came that the heir does not have; 0 if it has
	// all.
	since atomic.Int64

	// What is used again for each message; only run touches them.
	page  []item
	spare map[item]struct{} // empty

	// owed is how many slots the heir has not got as a whole.
	owed atomic.Int64

	mu      sync.Mutex
	started bool
	items   map[item]struct{}
	permits map[string]struct{}
	begun   []int               // slots of which the heir has nothing yet
	unnamed []int               // those of them that it has not been told of
	dropped map[copied]struct{} // what the heir has no room for
	missed  uint64              // up to this filling it lacks what is not in dropped either
	first   time.Duration       // when this filling began; 0 if it is empty
	filling uint64
	taken   uint64 // all up to this filling are with the heir
	news    news
}

func newCopier(n *Node, to string) *copier {
	return &copier{
		n: n, to: to, wake: make(chan struct{}, 1), stop: make(chan struct{}), filling: 1,
		items: make(map[item]struct{}), spare: make(map[item]struct{}), permits: make(map[string]struct{}), dropped: make(map[copied]struct{}),
	}
}

// mark says that a counter has changed, and returns the filling that its copy
// goes with.
func (c *copier) mark(it item) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.items[it] = struct{}{}
	return c.marked()
}

// marked needs c.mu.
func (c *copier) marked() uint64 {
	if c.first == 0 {
		c.first = c.n.o.Now()
		c.since.CompareAndSwap(0, int64(c.first))
		c.wakeUp()
	}
	return c.filling
}

// behind reports whether the heir lacks what changed a while ago.
func (c *copier) behind(now time.Duration) bool {
	since := c.since.Load()
	return since > 0 && int64(now)-since > int64(overdue)
}

// markPermit is mark for a permit.
func (c *copier) markPermit(id string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.permits[id] = struct{}{}
	return c.marked()
}

// begin says that the heir has nothing of a slot.
func (c *copier) begin(slot int) {
	c.mu.Lock()
	c.begun, c.unnamed = append(c.begun, slot), append(c.unnamed, slot)
	c.owed.Add(1)
	c.mu.Unlock()
	c.wakeUp()
}

func (c *copier) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// copy runs the copiers until ctx is done.
func (n *Node) copy(ctx context.Context) {
	var g sync.WaitGroup
	defer g.Wait()
	for {
		changed := n.changes.next()
		n.mu.RLock()
		for _, c := range n.heirs {
			c.mu.Lock()
			if !c.started {
				c.started = true
				g.Go(func() { c.run(ctx) })
			}
			c.mu.Unlock()
		}
		n.mu.RUnlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// run copies until ctx is done or the heir is none any more.
func (c *copier) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer c.news.tell() // nobody shall wait any longer
	go func() {         // ends with ctx
		select {
		case <-c.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
		if !c.n.o.Config.Sync && !pause(ctx, c.n.o.Config.CopyEvery) {
			return
		}
		if !c.flush(ctx) {
			return
		}
		begun := c.takeBegun()
		if len(begun) == 0 {
			continue
		}
		if !c.sendAll(ctx, begun) {
			return
		}
		if c.full() {
			c.later(begun)
			continue
		}
		if c.owed.Add(-int64(len(begun))) == 0 {
			c.n.renewSoon() // to say so
		}
	}
}

func (c *copier) takeBegun() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	begun := c.begun
	c.begun = nil
	return begun
}

// flush sends what has changed, when the heir has been told of all slots that this
// may be of: else it would not know that what it has of them is the latest. It
// reports whether to go on.
func (c *copier) flush(ctx context.Context) bool {
	c.mu.Lock()
	items, permits, filling, first, unnamed := c.items, c.permits, c.filling, c.first, c.unnamed
	c.unnamed = nil
	c.items, c.spare = c.spare, nil
	if len(permits) > 0 {
		c.permits = make(map[string]struct{})
	} else {
		permits = nil // it goes on being filled
	}
	c.first = 0
	c.filling++
	c.mu.Unlock()
	if len(unnamed) > 0 && !c.send(ctx, c.declare(unnamed, false), nil, nil) {
		return false
	}
	page := c.page[:0]
	for it := range items {
		if page = append(page, it); len(page) == pageSize {
			if !c.send(ctx, nil, page, nil) {
				return false
			}
			page = page[:0]
		}
	}
	var ids []string
	for id := range permits {
		if ids = append(ids, id); len(ids) == pageSize {
			if !c.send(ctx, nil, nil, ids) {
				return false
			}
			ids = ids[:0]
		}
	}
	if len(page)+len(ids) > 0 && !c.send(ctx, nil, page, ids) {
		return false
	}
	c.page, c.spare = page, emptied(items)
	c.mu.Lock()
	c.taken = filling
	c.since.Store(int64(c.first))
	c.mu.Unlock()
	c.news.tell()
	if first > 0 {
		c.n.tally.copyLag.Record(ctx, (c.n.o.Now() - first).Seconds())
	}
	return true
}

// emptied is a map that can be used again; a large one would be kept for nothing.
func emptied(m map[item]struct{}) map[item]struct{} {
	if len(m) > pageSize {
		return make(map[item]struct{})
	}
	clear(m)
	return m
}

// sendAll sends all that is known of slots, with what changes meanwhile between
// its pages.
func (c *copier) sendAll(ctx context.Context, slots []int) bool {
	n := c.n
	var in slotSet
	for _, s := range slots {
		in.add(s)
	}
	if !c.send(ctx, c.declare(slots, false), nil, nil) {
		return false
	}
	for part := range n.o.Limiter.Shards() {
		var after *limiter.Item
		for more := true; more; {
			var page []limiter.Item
			page, more = n.o.Limiter.Page(n.o.Now(), part, in.hasKey, after, pageSize)
			if len(page) == 0 {
				break
			}
			after = &page[len(page)-1]
			items := make([]item, len(page))
			for i := range page {
				items[i] = item{page[i].Limit, page[i].Key}
			}
			if !c.send(ctx, nil, items, nil) || !c.flush(ctx) {
				return false
			}
		}
	}
	for after, more := "", true; more; {
		var page []limiter.Permit
		page, more = n.o.Permits.Page(n.o.Now(), in.hasKey, after, pageSize)
		if len(page) == 0 {
			break
		}
		after = page[len(page)-1].ID
		ids := make([]string, len(page))
		for i := range page {
			ids[i] = page[i].ID
		}
		if !c.send(ctx, nil, nil, ids) {
			return false
		}
	}
	return c.flush(ctx) && (c.full() || c.send(ctx, c.declare(slots, true), nil, nil))
}

// declare says how good the copies of slots are, of those that are still ours. None
// is better than what is copied.
func (c *copier) declare(slots []int, whole bool) []*quotav1.CopiedSlot {
	c.n.mu.RLock()
	defer c.n.mu.RUnlock()
	var list []*quotav1.CopiedSlot
	for _, s := range slots {
		if sl := &c.n.slots[s]; sl.serving && sl.heir == c {
			list = append(list, &quotav1.CopiedSlot{Slot: uint32(s), Reign: sl.reign, Whole: whole && sl.doubt == 0})
		}
	}
	return list
}

// send sends one message until the heir has it. Each try says how things are
// then. It reports whether to go on.
func (c *copier) send(ctx context.Context, slots []*quotav1.CopiedSlot, items []item, permits []string) bool {
	for wait := time.Millisecond; ; wait = min(2*wait, again) {
		frame, any := c.frame(slots, items, permits)
		if !any {
			return ctx.Err() == nil
		}
		reply, err := c.n.request(ctx, forCopies, c.to, &quotav1.ClusterRequest{Request: &quotav1.ClusterRequest_Copy{Copy: frame}})
		if err == nil && reply.GetCopy().GetTaken() {
			c.note(frame, reply.GetCopy())
			return ctx.Err() == nil
		}
		changed := c.n.changes.next()
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-changed:
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return false
		}
	}
}

// frame makes a message of what is still ours.
func (c *copier) frame(slots []*quotav1.CopiedSlot, items []item, permits []string) (*quotav1.CopyFrame, bool) {
	n := c.n
	n.mu.RLock()
	defer n.mu.RUnlock()
	ours := func(k limiter.Key) bool {
		sl := &n.slots[slotOf(k)]
		return sl.serving && sl.heir == c
	}
	frame := &quotav1.CopyFrame{From: n.id, Sequence: n.copySent.Add(1), Epoch: n.view.epoch}
	for _, s := range slots {
		if sl := &n.slots[s.GetSlot()]; sl.serving && sl.heir == c && sl.reign == s.GetReign() {
			frame.Slots = append(frame.Slots, s)
		}
	}
	now := n.o.Now()
	all := make([]quotav1.CounterState, len(items)) // in one piece
	frame.Counters = make([]*quotav1.CounterState, 0, len(items))
	for i, it := range items {
		if ours(it.key) {
			fillState(&all[i], limiter.Item{Limit: it.limit, Key: it.key, Counter: n.o.Limiter.Save(now, it.limit, it.key)})
			frame.Counters = append(frame.Counters, &all[i])
		}
	}
	for _, id := range permits {
		frame.Permits = append(frame.Permits, n.permitState(n.o.Permits.Save(now, id, ours)))
	}
	return frame, len(frame.Slots)+len(frame.Counters)+len(frame.Permits) > 0
}
