package cluster

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// takeOver begins to serve what each view gives to this node, until ctx is done.
func (n *Node) takeOver(ctx context.Context) {
	for ctx.Err() == nil {
		changed := n.changes.next()
		n.mu.RLock()
		v, id := n.view, n.id
		n.mu.RUnlock()
		if id != "" && v.epoch > 0 && n.ready.Load() != v.epoch {
			if err := n.serve(ctx, v, id); err != nil && ctx.Err() == nil && !errors.Is(err, errOvertaken) {
				n.o.Log.Warn("quota node cannot take over yet", "err", err)
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

var errOvertaken = errors.New("there is a newer view")

// serve asks all others what they hold, which they tell when they own nothing by
// an earlier view, and begins.
func (n *Node) serve(ctx context.Context, v *view, id string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // ends with ctx
		for {
			changed := n.changes.next()
			if !n.current(v, id) {
				cancel(errOvertaken)
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	gained := n.gained(v, id)
	var whole map[int]uint64
	var err error
	if len(gained) > 0 {
		if whole, err = n.gather(ctx, v, id, gained); err != nil {
			return err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.view != v || n.id != id {
		return errOvertaken
	}
	for _, s := range gained {
		n.slots[s] = slot{serving: true, reign: v.epoch, seen: v.epoch, kind: quotav1.HoldingKind_HOLDING_KIND_OWNED}
		if v.lost[s] > 0 && whole[s] <= v.lost[s] { // else who began after it has done without
			n.slots[s].kind, n.slots[s].doubt = quotav1.HoldingKind_HOLDING_KIND_PART, n.o.Now()
			n.doubts++
		}
	}
	if n.doubts > 0 {
		n.o.Log.Warn("nobody who is left may know all that was counted in some slots", "slots", n.doubts)
	}
	n.appointHeirs()
	n.tally.gained.Add(int64(len(gained)))
	n.ready.Store(v.epoch)
	n.renewSoon()
	n.changes.tell()
	return nil
}

// current reports whether v is the view, and id our own.
func (n *Node) current(v *view, id string) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.view == v && n.id == id
}

// gained are the slots that v gives us and that we do not serve yet.
func (n *Node) gained(v *view, id string) []int {
	n.mu.RLock()
	defer n.mu.RUnlock()
	var gained []int
	for s := range n.slots {
		if v.owner(s) == id && !n.slots[s].serving {
			gained = append(gained, s)
		}
	}
	return gained
}

// source is what one node holds of one slot; an empty id is this one.
type source struct {
	from string
	*quotav1.Holding
}

// compare puts the better after the worse: a later reign has all that an earlier one had; within
// one, who owned knows more than who had a copy, and a later copy more than an
// earlier one.
func (s source) compare(t source) int {
	return cmp.Or(
		cmp.Compare(s.GetReign(), t.GetReign()),
		cmp.Compare(boolInt(s.GetKind() == quotav1.HoldingKind_HOLDING_KIND_OWNED), boolInt(t.GetKind() == quotav1.HoldingKind_HOLDING_KIND_OWNED)),
		cmp.Compare(s.GetSeen(), t.GetSeen()),
	)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// gather loads the best state of slots that anybody holds. That is the best one
// that is whole; where a better one is a part only, it goes on top. It returns the
// reigns of those that are whole.
func (n *Node) gather(ctx context.Context, v *view, id string, slots []int) (whole map[int]uint64, err error) {
	sources := make(map[int][]source)
	add := func(from string, holdings []*quotav1.Holding) {
		for _, h := range holdings {
			sources[int(h.GetSlot())] = append(sources[int(h.GetSlot())], source{from, h})
		}
	}
	add("", n.holdings(&quotav1.HoldingsRequest{Epoch: v.epoch}).GetHoldings())
	others := v.others(id)
	replies := make([]*quotav1.ClusterReply, len(others))
	g, asking := errgroup.WithContext(ctx)
	for i, other := range others {
		g.Go(func() (err error) {
			replies[i], err = n.insist(asking, other, &quotav1.ClusterRequest{Request: &quotav1.ClusterRequest_Holdings{
				Holdings: &quotav1.HoldingsRequest{Epoch: v.epoch},
			}}, func(r *quotav1.ClusterReply) bool { return r.GetHoldings().GetValid() })
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, other := range others {
		add(other, replies[i].GetHoldings().GetHoldings())
	}
	whole = make(map[int]uint64)
	for slot, all := range sources {
		for _, h := range all {
			if h.GetKind() == quotav1.HoldingKind_HOLDING_KIND_COPY || h.GetKind() == quotav1.HoldingKind_HOLDING_KIND_OWNED {
				whole[slot] = max(whole[slot], h.GetReign())
			}
		}
	}
	steps, outdated := plan(sources, slots)
	n.o.Permits.Forget(outdated.hasKey)
	for _, loads := range steps {
		g, loading := errgroup.WithContext(ctx)
		for _, l := range loads { // of one step: no two have a slot in common
			g.Go(func() error { return n.load(loading, v, *l) })
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
	}
	return whole, nil
}

// load is a set of slots to get from one node.
type load struct {
	from  string
	keep  bool // what is here already is better
	slots slotSet
}

// plan says what to load, step by step. What goes below our own state comes
// first, the better before the worse, and changes nothing that is there; what
// goes on top follows, the worse before the better. Our own state of the outdated
// slots is of no use.
func plan(sources map[int][]source, slots []int) (steps [][]*load, outdated slotSet) {
	add := func(step int, from string, keep bool, slot int) {
		if step == len(steps) {
			steps = append(steps, nil)
		}
		i := slices.IndexFunc(steps[step], func(l *load) bool { return l.from == from && l.keep == keep })
		if i < 0 {
			i = len(steps[step])
			steps[step] = append(steps[step], &load{from: from, keep: keep})
		}
		steps[step][i].slots.add(slot)
	}
	for _, slot := range slots {
		all := sources[slot]
		slices.SortStableFunc(all, source.compare)
		whole := max(len(all)-1, 0)
		for whole > 0 && all[whole].GetKind() == quotav1.HoldingKind_HOLDING_KIND_PART {
			whole--
		}
		own := slices.IndexFunc(all, func(s source) bool { return s.from == "" })
		step := 0
		for i := own - 1; i >= whole; i-- {
			add(step, all[i].from, true, slot)
			step++
		}
		for i := max(whole, own+1); i < len(all); i++ {
			add(step, all[i].from, false, slot)
			step++
		}
		if own < whole {
			outdated.add(slot)
		}
	}
	return steps, outdated
}

// load gets counters and permits, page by page.
func (n *Node) load(ctx context.Context, v *view, l load) error {
	q := &quotav1.PageRequest{Epoch: v.epoch, Slots: l.slots[:]}
	for more := true; more; {
		reply, err := n.insist(ctx, l.from, &quotav1.ClusterRequest{Request: &quotav1.ClusterRequest_Page{Page: q}},
			func(r *quotav1.ClusterReply) bool { return r.GetPage().GetValid() })
		if err != nil {
			return err
		}
		page := reply.GetPage()
		more, q.After, q.Part = page.GetMore(), nil, page.GetPart()
		now := n.o.Now()
		for _, c := range page.GetCounters() {
			q.After = c
			if it, ok := n.counter(c); !l.slots.hasKey(it.Key) {
				continue
			} else if !ok {
				n.keepStranger(c)
			} else {
				// What stems from one history is later the fuller it is. What a node has that
				// it was told of long ago takes nothing from that.
				n.note(n.o.Limiter.Load(now, it, true))
			}
		}
		for _, p := range page.GetPermits() {
			q.AfterPermit = p.GetId()
			if l.keep && len(n.o.Permits.Save(now, p.GetId(), l.slots.hasKey).Holds) > 0 {
				continue
			}
			n.note(n.o.Permits.Load(now, n.permit(p), l.slots.hasKey))
		}
	}
	return nil
}

// insist asks until it gets a good answer, or until ctx is done: without it a slot
// has no owner, rather than one who forgot something.
func (n *Node) insist(ctx context.Context, to string, q *quotav1.ClusterRequest, good func(*quotav1.ClusterReply) bool) (*quotav1.ClusterReply, error) {
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, again) {
		try, cancel := context.WithTimeout(ctx, n.o.Config.Lease)
		reply, err := n.o.Wire.Ask(try, copySubject(to), q)
		cancel()
		if err == nil && good(reply) {
			return reply, nil
		}
		if !pause(ctx, wait) {
			return nil, context.Cause(ctx)
		}
	}
}
