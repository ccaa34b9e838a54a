package approval_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/approval"
)

// bucket is a bucket in memory that can be away.
type bucket struct {
	mu       sync.Mutex
	entries  map[string]bus.Entry
	revision uint64
	down     bool
	mute     bool // the watch tells nothing
	on       func(bus.Entry)
	creates  int
	each     func() // is called before each create; set before any
}

func (b *bucket) Get(_ context.Context, _ bus.Bucket, key string) (bus.Entry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.entries[key]
	switch {
	case b.down:
		return e, errors.New("the bucket is away")
	case !ok:
		return e, bus.ErrNotFound
	}
	return e, nil
}

func (b *bucket) Create(ctx context.Context, spec bus.Bucket, key string, value []byte) (uint64, error) {
	if b.each != nil {
		b.each()
	}
	b.mu.Lock()
	b.creates++
	_, ok := b.entries[key]
	b.mu.Unlock()
	if ok {
		return 0, bus.ErrExists
	}
	return b.Update(ctx, spec, key, value, 0)
}

func (b *bucket) Update(_ context.Context, _ bus.Bucket, key string, value []byte, _ uint64) (uint64, error) {
	b.mu.Lock()
	if b.down {
		b.mu.Unlock()
		return 0, errors.New("the bucket is away")
	}
	b.revision++
	e := bus.Entry{Key: key, Value: value, Revision: b.revision}
	b.entries[key] = e
	on := b.on
	b.mu.Unlock()
	if on != nil {
		on(e)
	}
	return e.Revision, nil
}

func (b *bucket) Watch(ctx context.Context, _ bus.Bucket, on func(bus.Entry), synced func(bool)) error {
	b.mu.Lock()
	mute, others := b.mute, b.on
	b.on = func(e bus.Entry) {
		if others != nil {
			others(e)
		}
		on(e)
	}
	entries := maps.Clone(b.entries)
	b.mu.Unlock()
	if !mute {
		for _, e := range entries {
			on(e)
		}
		synced(true)
	}
	<-ctx.Done()
	return ctx.Err()
}

func (b *bucket) set(down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = down
}

func (b *bucket) tries() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.creates
}

// ledger keeps audit events.
type ledger struct {
	mu     sync.Mutex
	events []*auditv1.Event
}

func (l *ledger) Record(_ context.Context, e *auditv1.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
	return nil
}

func (l *ledger) take() []*auditv1.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.events
	l.events = nil
	return all
}

// executor is a store that runs, and what it has recorded and logged.
type executor struct {
	*approval.Store
	ledger *ledger
	log    *log
	stop   func()
}

// start runs a store until the test ends, or stop is called.
func start(t testing.TB, b approval.Bucket, cfg approval.Config) *executor {
	t.Helper()
	x := &executor{ledger: &ledger{}, log: &log{}}
	s, err := approval.New(approval.Options{
		Config: cfg, Bucket: b, Audit: x.ledger, Log: slog.New(slog.NewTextHandler(x.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	x.Store = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	x.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: got error %v, want the context's", err)
		}
	})
	t.Cleanup(x.stop)
	return x
}

// await returns when a question is answered with yes.
func (x *executor) await(t testing.TB, what string, yes func() bool) {
	t.Helper()
	for {
		changed := x.Changed()
		if yes() {
			return
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatalf("%s: never", what)
		}
	}
}

func (x *executor) loaded(t testing.TB) *executor {
	t.Helper()
	x.await(t, "the bucket is read", func() bool { return x.Loaded() == nil })
	return x
}

func (x *executor) withholds(o approval.Offer) bool {
	x.Use(o)
	return x.Judge(o)
}

// uses returns when an offer is in use.
func (x *executor) uses(t testing.TB, o approval.Offer) {
	t.Helper()
	x.await(t, o.Name+" is in use", func() bool { return !x.withholds(o) })
}

// log collects lines.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// offer makes a tool of the service "github".
func offer(t testing.TB, name, description string) approval.Offer {
	t.Helper()
	d := &providerv1.ToolDefinition{Name: name, Description: description, InputSchema: []byte(`{"type":"object"}`)}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	return approval.Offer{Name: name, Service: "github", Provider: true, Definition: d, Digest: sum[:]}
}
