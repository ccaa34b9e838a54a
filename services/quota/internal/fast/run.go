package fast

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// Wire carries frames and requests between nodes. Frames may get lost. [NATS] makes
// one.
type Wire interface {
	// Tell sends a frame to all nodes; it may come back.
	Tell(f *quotav1.FastFrame) error
	// Hear calls on for each frame, one at a time.
	Hear(on func(*quotav1.FastFrame)) (stop func(), err error)
	// Ask asks the node of a boot.
	Ask(ctx context.Context, boot uint64, q *quotav1.FastSyncRequest) (*quotav1.FastSyncReply, error)
	// Answer answers what the node of a boot is asked.
	Answer(boot uint64, on func(*quotav1.FastSyncRequest) *quotav1.FastSyncReply) (stop func(), err error)
}

// Spans of the loop.
const (
	glance     = 10 * time.Millisecond // between looks at who the members are
	peaksEvery = time.Second
	quietAfter = 10 * time.Second       // without fast rules, here and elsewhere
	sweepEvery = 300 * time.Millisecond // one part of the counters
	pageTime   = time.Second            // that a page may take
)

// maxPages bounds what one node is asked for at once.
const maxPages = 1 << 16

// loop is who tells others.
type loop struct {
	*Node
	told, beat, peaks, swept time.Duration
	part                     int
	self                     string

	mu   sync.Mutex
	over bool // nobody is asked any more
	work sync.WaitGroup
}

// Run exchanges counts with others until ctx is done, then tells them the last of
// them, and that it goes.
func (n *Node) Run(ctx context.Context) error {
	r := &loop{Node: n}
	asking, stop := context.WithCancel(ctx)
	defer func() {
		stop()
		r.mu.Lock()
		r.over = true
		r.mu.Unlock()
		r.work.Wait()
	}()
	deaf, err := n.o.Wire.Hear(func(f *quotav1.FastFrame) { r.ask(asking, n.Receive(n.o.Now(), f)) })
	if err != nil {
		return err
	}
	defer deaf()
	mute, err := n.o.Wire.Answer(n.boot, func(q *quotav1.FastSyncRequest) *quotav1.FastSyncReply { return n.Tell(n.o.Now(), q) })
	if err != nil {
		return err
	}
	defer mute()
	tick := time.NewTicker(glance)
	defer tick.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	wake := n.wake
	for {
		select {
		case <-ctx.Done():
			for more := true; more; {
				more = r.flush()
			}
			r.send(n.Beat(n.o.Now(), false, true))
			return nil
		case <-wake:
			if wait := r.told + n.o.Config.Every - n.o.Now(); wait > 0 {
				pause.Reset(wait)
				wake = nil // until then
				continue
			}
			r.flushSome()
		case <-pause.C:
			wake = n.wake
			r.flushSome()
		case <-tick.C:
			r.look()
		}
	}
}

// flushSome sends one frame; what it had no room for has to wait its time too.
func (r *loop) flushSome() {
	if r.flush() {
		r.tellSoon()
	}
}

// flush sends what has changed, and reports whether there is more of it.
func (r *loop) flush() (more bool) {
	f, more := r.Collect(r.o.Now())
	if f != nil {
		r.told = r.o.Now()
		r.beat = r.told
		r.send(f)
	}
	return more
}

// send sends a frame. What gets lost here is missed by others, who ask for it.
func (r *loop) send(f *quotav1.FastFrame) {
	if err := r.o.Wire.Tell(f); err != nil {
		r.o.Log.Debug("other quota nodes cannot be told of counts", "err", err)
		return
	}
	r.tally.told.Add(1)
}

// look does what has its time.
func (r *loop) look() {
	now := r.o.Now()
	r.refresh(now)
	r.Node.mu.Lock()
	self, heard := r.Node.self, r.heard
	r.Node.mu.Unlock()
	if now-r.swept >= sweepEvery {
		r.swept = now
		r.Sweep(now, r.part)
		r.part++
		r.forgetPeers(now)
		if r.shards[r.part%shardCount].roomAgain() {
			r.again()
		}
	}
	if !r.Any() && (heard == 0 || now-heard > quietAfter) {
		return
	}
	peaks := now-r.peaks >= peaksEvery
	if now-r.beat < r.o.Config.Silence/beats && self == r.self && !peaks {
		return
	}
	if peaks {
		r.peaks = now
	}
	for more := true; more; { // so that nothing is missing as of now
		more = r.flush()
	}
	r.beat, r.self = now, self
	r.send(r.Beat(now, peaks, false))
}

// roomAgain reports whether there is room for what there was none for.
func (s *shard) roomAgain() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	again := s.dropped && len(s.counters) < s.capacity-s.capacity/8
	if again {
		s.dropped = false
	}
	return again
}

// again makes the node ask all others for all that they know.
func (n *Node) again() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.peers {
		p.synced = false
	}
}

// ask asks another node for what was missed, if anything was.
func (r *loop) ask(ctx context.Context, gap *Gap) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if gap == nil || r.over {
		return
	}
	r.work.Go(func() { // ends with the last page, with an error, or with ctx
		for gap != nil {
			gap = r.sync(ctx, gap)
		}
	})
}

// sync gets what was missed, and tells what was missed meanwhile.
func (n *Node) sync(ctx context.Context, gap *Gap) *Gap {
	var first *quotav1.FastSyncReply
	q := &quotav1.FastSyncRequest{Since: gap.Since}
	for page := 0; q != nil && page < maxPages; page++ {
		asking, cancel := context.WithTimeout(ctx, pageTime)
		reply, err := n.o.Wire.Ask(asking, gap.Boot, q)
		cancel()
		if err != nil {
			n.Failed(gap.Boot)
			return nil
		}
		if first == nil {
			first = reply
		}
		n.Page(n.o.Now(), gap.Boot, reply)
		q = After(q, reply)
	}
	return n.Synced(n.o.Now(), gap.Boot, first)
}

// NATS is the wire on a bus.
func NATS(b *bus.Bus) Wire { return onNATS{b} }

type onNATS struct{ bus *bus.Bus }

func (w onNATS) Tell(f *quotav1.FastFrame) error {
	return bus.Publish(context.Background(), w.bus, bus.SubjectQuotaFast, f)
}

func (w onNATS) Hear(on func(*quotav1.FastFrame)) (func(), error) {
	return bus.Subscribe(w.bus, bus.SubjectQuotaFast, func(_ context.Context, f *quotav1.FastFrame) { on(f) })
}

func (w onNATS) Ask(ctx context.Context, boot uint64, q *quotav1.FastSyncRequest) (*quotav1.FastSyncReply, error) {
	return bus.Ask[*quotav1.FastSyncRequest, *quotav1.FastSyncReply](ctx, w.bus, syncSubject(boot), q)
}

func (w onNATS) Answer(boot uint64, on func(*quotav1.FastSyncRequest) *quotav1.FastSyncReply) (func(), error) {
	return bus.Answer(w.bus, syncSubject(boot), func(_ context.Context, q *quotav1.FastSyncRequest) *quotav1.FastSyncReply { return on(q) })
}

func syncSubject(boot uint64) string {
	return bus.SubjectQuotaFastSyncs + strconv.FormatUint(boot, 16)
}
