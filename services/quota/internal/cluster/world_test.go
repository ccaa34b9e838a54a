package cluster_test

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// world is a store and a network in the fake time of testing/synctest: everything takes a
// random time, and nodes can be cut off.
type world struct {
	t testing.TB

	mu       sync.Mutex
	rng      *rand.Rand
	most     time.Duration // that a message takes
	drift    float64       // by what part of its rate a clock is fast or slow at most
	revision uint64
	entries  map[string]bus.Entry // by bucket and key
	watchers map[*watcher]bool
	handlers map[string]*handler
	pipes    map[string]chan *message // by sender and subject
	lines    bool                     // whether nodes open lines to each other
	opened   []*fakeLine
	cut      map[string]bool
	spared   map[string]bool                                      // nodes whose lines are not cut when they are
	lineCut  map[string]bool                                      // nodes whose lines are cut, and nothing else
	late     map[string]time.Duration                             // by how much a node hears later of what was written
	healed   chan struct{}                                        // closed when a node is cut off no longer
	storeCut map[string]bool                                      // nodes that have no store, but all others
	slow     time.Duration                                        // what the store takes besides
	held     func(subject string, q *quotav1.ClusterRequest) bool // what is kept back; nil for nothing
	room     int                                                  // for counters, of nodes that start from now on
	members  []*member
	work     sync.WaitGroup
}

type handler struct {
	node string
	turn chan struct{} // one at a time; a mutex would stop the fake time
	on   func(context.Context, *quotav1.ClusterRequest) *quotav1.ClusterReply
}

type message struct {
	at    time.Time // of arrival
	do    func()
	ready chan struct{}
}

type event struct {
	bus.Entry
	at time.Time
}

type watcher struct {
	node, bucket string
	events       chan event
}

func newWorld(t testing.TB, seed uint64) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 7)), most: time.Millisecond, drift: 0.1,
		entries: make(map[string]bus.Entry), watchers: make(map[*watcher]bool), handlers: make(map[string]*handler),
		pipes: make(map[string]chan *message), cut: make(map[string]bool), late: make(map[string]time.Duration), healed: make(chan struct{}),
		storeCut: make(map[string]bool), spared: make(map[string]bool), lineCut: make(map[string]bool), room: 1 << 20,
	}
	t.Cleanup(w.close)
	return w
}

// close lets all nodes leave.
func (w *world) close() {
	for _, m := range w.members {
		w.setCut(m.name, false)
		m.stop()
	}
	for _, m := range w.members {
		<-m.stopped
	}
	w.mu.Lock()
	for _, p := range w.pipes {
		close(p)
	}
	w.mu.Unlock()
	w.work.Wait()
}

func (w *world) delay() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Duration(w.rng.Int64N(int64(w.most))) + 10*time.Microsecond
}

// setCut cuts a node off, or not.
func (w *world) setCut(node string, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[node] = cut
	if !cut {
		close(w.healed)
		w.healed = make(chan struct{})
	}
}

// reach takes a message's time, and fails when the context ends before a node can
// be reached.
func (w *world) reach(ctx context.Context, nodes ...string) error {
	time.Sleep(w.delay())
	for {
		w.mu.Lock()
		cut := slices.ContainsFunc(nodes, func(n string) bool { return w.cut[n] })
		healed := w.healed
		w.mu.Unlock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !cut {
			return nil
		}
		select {
		case <-healed:
		case <-ctx.Done():
		}
	}
}

// setStoreCut cuts a node off from the store alone, or not.
func (w *world) setStoreCut(node string, cut bool) {
	w.mu.Lock()
	w.storeCut[node] = cut
	w.mu.Unlock()
	w.setCut(node, false) // tells those who wait
}

// reachStore is reach of the store.
func (w *world) reachStore(ctx context.Context, node string) error {
	w.mu.Lock()
	slow := time.After(w.slow)
	w.mu.Unlock()
	select {
	case <-slow:
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		if err := w.reach(ctx, node); err != nil {
			return err
		}
		w.mu.Lock()
		cut, healed := w.storeCut[node], w.healed
		w.mu.Unlock()
		if !cut {
			return nil
		}
		select {
		case <-healed:
		case <-ctx.Done():
		}
	}
}

// hold keeps back requests until it is called again; nil keeps nothing back.
func (w *world) hold(these func(subject string, q *quotav1.ClusterRequest) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = these
	close(w.healed)
	w.healed = make(chan struct{})
}

// release waits until a request is not kept back any more.
func (w *world) release(ctx context.Context, subject string, q *quotav1.ClusterRequest) error {
	for {
		w.mu.Lock()
		held, healed := w.held != nil && w.held(subject, q), w.healed
		w.mu.Unlock()
		if !held {
			return nil
		}
		select {
		case <-healed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// port is the world as one node sees it.
type port struct {
	*world
	node string
}

func (p port) Get(ctx context.Context, b bus.Bucket, key string) (bus.Entry, error) {
	if err := p.reachStore(ctx, p.node); err != nil {
		return bus.Entry{}, err
	}
	p.mu.Lock()
	e, ok := p.entries[b.Name+"/"+key]
	p.mu.Unlock()
	if !ok {
		return bus.Entry{}, bus.ErrNotFound
	}
	return e, p.reach(ctx, p.node)
}

func (p port) Create(ctx context.Context, b bus.Bucket, key string, value []byte) (uint64, error) {
	return p.write(ctx, b, key, value, 0, bus.ErrExists)
}

func (p port) Update(ctx context.Context, b bus.Bucket, key string, value []byte, revision uint64) (uint64, error) {
	return p.write(ctx, b, key, value, revision, bus.ErrConflict)
}

func (p port) write(ctx context.Context, b bus.Bucket, key string, value []byte, revision uint64, conflict error) (uint64, error) {
	if err := p.reachStore(ctx, p.node); err != nil {
		return 0, err
	}
	p.mu.Lock()
	name := b.Name + "/" + key
	if p.entries[name].Revision != revision {
		p.mu.Unlock()
		return 0, conflict
	}
	p.revision++
	written := p.revision
	p.entries[name] = bus.Entry{Key: key, Value: value, Revision: written}
	for w := range p.watchers {
		if w.bucket == b.Name {
			w.events <- event{p.entries[name], time.Now()}
		}
	}
	p.mu.Unlock()
	return written, p.reachStore(ctx, p.node) // it may be written, and nobody told
}

func (p port) Watch(ctx context.Context, b bus.Bucket, on func(bus.Entry), synced func(bool)) error {
	w := &watcher{node: p.node, bucket: b.Name, events: make(chan event, 100_000)}
	p.mu.Lock()
	p.watchers[w] = true
	var all []bus.Entry
	for name, e := range p.entries {
		if name == b.Name+"/"+e.Key {
			all = append(all, e)
		}
	}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.watchers, w)
		p.mu.Unlock()
	}()
	slices.SortFunc(all, func(a, b bus.Entry) int { return cmp.Compare(a.Revision, b.Revision) })
	for _, e := range all {
		on(e)
	}
	synced(true)
	for {
		select {
		case e := <-w.events:
			if err := p.reachStore(ctx, p.node); err != nil {
				return err
			}
			p.mu.Lock()
			late := p.late[p.node]
			p.mu.Unlock()
			time.Sleep(time.Until(e.at.Add(late)))
			on(e.Entry)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p port) Ask(ctx context.Context, subject string, q *quotav1.ClusterRequest) (*quotav1.ClusterReply, error) {
	q = proto.CloneOf(q)
	p.mu.Lock()
	h := p.handlers[subject]
	if h == nil {
		p.mu.Unlock()
		return nil, bus.ErrNobody
	}
	name := p.node + " " + subject
	pipe := p.pipes[name]
	if pipe == nil {
		pipe = make(chan *message, 100_000)
		p.pipes[name] = pipe
		p.work.Go(func() { // keeps the order of one sender
			for m := range pipe {
				time.Sleep(time.Until(m.at))
				m.do()
				close(m.ready)
			}
		})
	}
	var reply *quotav1.ClusterReply
	m := &message{at: time.Now().Add(time.Duration(p.rng.Int64N(int64(p.most))) + 10*time.Microsecond), ready: make(chan struct{})}
	m.do = func() {
		if p.reach(ctx, p.node, h.node) != nil || p.release(ctx, subject, q) != nil {
			return // lost
		}
		h.turn <- struct{}{}
		defer func() { <-h.turn }()
		reply = proto.CloneOf(h.on(context.WithoutCancel(ctx), q))
	}
	pipe <- m
	p.mu.Unlock()
	select {
	case <-m.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if reply == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return reply, p.reach(ctx, p.node, h.node)
}

func (p port) Answer(subject string, on func(context.Context, *quotav1.ClusterRequest) *quotav1.ClusterReply) (func(), error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handlers[subject] = &handler{node: p.node, turn: make(chan struct{}, 1), on: on}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.handlers, subject)
	}, nil
}

// member is a node of the world that runs.
type member struct {
	*cluster.Node
	name    string
	limiter *limiter.Limiter
	permits *limiter.Permits
	reader  *sdkmetric.ManualReader
	stop    func()        // leaves
	stopped chan struct{} // closed when it has left
}

// start adds a node with a clock of its own.
func (w *world) start(name string, cfg cluster.Config, rates []limiter.Spec, permits []limiter.PermitSpec) *member {
	w.mu.Lock()
	// Perhaps a tenth fast or slow, and any time of the day.
	rate, origin, began := 1-w.drift+2*w.drift*w.rng.Float64(), time.Duration(w.rng.Int64N(int64(1000*time.Hour))), time.Now()
	w.mu.Unlock()
	rates, permits = slices.Clone(rates), slices.Clone(permits)
	for i := range rates {
		rates[i].Name = 100 + uint64(i)
	}
	for i := range permits {
		permits[i].Name = 200 + uint64(i)
	}
	m := &member{
		name: name, limiter: limiter.New(rates, w.room), permits: limiter.NewPermits(permits, 1<<16), stopped: make(chan struct{}),
		reader: sdkmetric.NewManualReader(),
	}
	var err error
	address, dial := "", port{w, name}.dial
	if w.lines {
		address = name
	} else {
		dial = nil
	}
	m.Node, err = cluster.New(cluster.Options{
		Config: cfg, Name: name, Store: port{w, name}, Wire: port{w, name}, Address: address, Dial: dial, Limiter: m.limiter, Permits: m.permits,
		Now: func() time.Duration {
			return cluster.Origin + origin + time.Duration(rate*float64(time.Since(began)))
		},
		Check: func(context.Context, *quotav1.CheckRequest) *quotav1.CheckResponse { return nil },
		Log:   slog.New(slog.NewTextHandler(w.t.Output(), nil)),
		Meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(m.reader)).Meter("test"),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	w.mu.Lock()
	w.members = append(w.members, m)
	w.mu.Unlock()
	go func() {
		m.Run(ctx)
		close(m.stopped)
	}()
	return m
}

// crash cuts a node off for ever.
func (w *world) crash(m *member) {
	w.spare(m.name, false)
	w.setCut(m.name, true)
	m.stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for subject, h := range w.handlers {
		if h.node == m.name {
			delete(w.handlers, subject)
		}
	}
}

// settle waits until the members serve everything.
func settle(t testing.TB, members ...*member) {
	t.Helper()
	for range 10_000 {
		if !slices.ContainsFunc(members, func(m *member) bool { return m.Ready(t.Context()) != nil }) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the nodes do not serve after a long time")
}
