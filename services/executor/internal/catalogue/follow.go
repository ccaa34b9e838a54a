package catalogue

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/pkg/protoset"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/rules"
)

// Run keeps the catalogue up to date, and publishes it for auth, until ctx is
// done. Nobody may use the catalogue's replicas after that.
func (c *Catalogue) Run(ctx context.Context, b *bus.Bus) error {
	ctx, cancel := context.WithCancel(ctx)
	defer c.tasks.Wait()
	defer c.close()
	defer cancel()
	check, err := rules.NewChecker((&executorv1.Announcement{}).ProtoReflect().Descriptor())
	if err != nil {
		return err
	}
	for _, s := range c.opts.Static {
		follow := c.ask
		if s.Provider {
			follow = c.supply
		}
		c.tasks.Go(func() { follow(ctx, "static."+s.Name+"."+s.Address, s.Name, s.Address) })
	}
	if c.opts.Hold != nil {
		c.tasks.Go(func() { c.heed(ctx) })
	}
	c.tasks.Go(func() { c.publish(ctx, b) })
	f := &follower{catalogue: c, check: check, held: make(map[string]bus.Entry), known: make(map[string]announced)}
	return b.Watch(ctx, bus.Tools, func(e bus.Entry) { f.told(ctx, e) }, func(synced bool) { f.synced(ctx, synced) })
}

// close retires all replicas.
func (c *Catalogue) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, s := range c.services {
		for _, m := range slices.Concat(s.sorted(), s.fading) {
			m.replica.retire()
		}
	}
}

// follower turns entries of the bucket into members. Its methods are called
// one at a time.
type follower struct {
	catalogue *Catalogue
	check     *rules.Checker
	held      map[string]bus.Entry // until all have been told
	known     map[string]announced
}

// announced is what a replica said last.
type announced struct {
	print   [sha256.Size]byte
	service string
	slow    bool               // it has to be asked what it has
	cancel  context.CancelFunc // ends all that is done on its behalf
}

func (f *follower) told(ctx context.Context, e bus.Entry) {
	if f.held != nil {
		f.held[e.Key] = e
		return
	}
	f.take(ctx, e)
}

// synced takes in what was there before us in the order of the keys, so that
// all executors that start see the same service own a disputed name.
func (f *follower) synced(ctx context.Context, synced bool) {
	if !synced || f.held == nil {
		return
	}
	held := f.held
	f.held = nil
	for _, key := range slices.Sorted(maps.Keys(held)) {
		f.take(ctx, held[key])
	}
	f.catalogue.loaded.Store(true)
	f.catalogue.refresh() // also wakes the publisher
}

func (f *follower) take(ctx context.Context, e bus.Entry) {
	if e.Deleted {
		f.drop(e.Key)
		return
	}
	print := sha256.Sum256(e.Value)
	old, ok := f.known[e.Key]
	if ok && old.print == print {
		return // renewed
	}
	a, err := Parse(e, f.check)
	if err != nil {
		f.catalogue.refuse(f.catalogue.log.With("replica", e.Key), "announcement", err)
		f.drop(e.Key)
		return
	}
	if ok && old.service != a.GetService() {
		f.drop(e.Key)
	} else if ok {
		old.cancel()
	}
	ctx, cancel := context.WithCancel(ctx)
	f.known[e.Key] = announced{
		print: print, service: a.GetService(), slow: len(a.GetDescriptors().GetFile()) == 0, cancel: cancel,
	}
	follow := f.catalogue.ask
	switch {
	case a.GetProvider():
		follow = f.catalogue.supply
	case len(a.GetDescriptors().GetFile()) > 0:
		f.catalogue.joinFiles(ctx, e.Key, a.GetService(), a.GetAddress(), a.GetDescriptors())
		return
	}
	f.catalogue.tasks.Go(func() { follow(ctx, e.Key, a.GetService(), a.GetAddress()) })
}

func (f *follower) drop(key string) {
	old, ok := f.known[key]
	if !ok {
		return
	}
	old.cancel()
	delete(f.known, key)
	var slow []string
	for other, k := range f.known {
		if k.service == old.service && k.slow {
			slow = append(slow, other)
		}
	}
	if !f.catalogue.joined(old.service, slow) {
		f.catalogue.leaveLater(key, old.service) // the others may not have told yet what they have
		return
	}
	f.catalogue.leave(key, old.service)
}

// Parse reads an announcement, which may hold anything.
func Parse(e bus.Entry, check *rules.Checker) (*executorv1.Announcement, error) {
	if len(e.Value) > protoset.MaxBytes {
		return nil, fmt.Errorf("announcement of %d bytes: must be at most %d", len(e.Value), protoset.MaxBytes)
	}
	a := &executorv1.Announcement{}
	if err := proto.Unmarshal(e.Value, a); err != nil {
		return nil, fmt.Errorf("read announcement: %w", err)
	}
	broken, err := check.Check(a)
	if err != nil {
		return nil, err
	}
	if len(broken) > 0 {
		return nil, fmt.Errorf("announcement: %s %s", broken[0].GetPointer(), broken[0].GetMessage())
	}
	// Else one replica could replace another.
	if e.Key != a.GetService()+"."+a.GetInstance() {
		return nil, fmt.Errorf("announcement of %s.%s under another key", a.GetService(), a.GetInstance())
	}
	return a, nil
}

// ask asks a server for its tools by reflection, until ctx is done: again soon
// if it does not answer, and once in a while if it does.
func (c *Catalogue) ask(ctx context.Context, key, name, address string) {
	const soon = 200 * time.Millisecond
	wait := soon
	for {
		err := c.askOnce(ctx, key, name, address)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			wait = c.opts.Refresh
		default:
			if wait == soon || wait == c.opts.Refresh { // once for each outage
				c.log.Warn("server does not tell its tools", "service", name, "replica", key, "err", err)
				wait = soon
			}
			wait = min(2*wait, 10*time.Second)
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

func (c *Catalogue) askOnce(ctx context.Context, key, name, address string) error {
	conn, err := c.opts.Dial(name, address)
	if err != nil {
		return err
	}
	defer func() {
		if err := conn.Close(); err != nil {
			c.log.Warn("close connection", "err", err)
		}
	}()
	asking, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	files, err := protoset.Reflect(asking, conn)
	if err != nil {
		return err
	}
	c.joinFiles(ctx, key, name, address, files)
	return nil
}
