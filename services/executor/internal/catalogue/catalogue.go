// Package catalogue knows which tools there are and which replicas of their
// services can be called.
//
// It follows the announcements on the bus and asks servers named in the
// configuration by reflection. One service never takes a tool's name from
// another, and a replica that describes its tools differently from the running
// ones waits until they are gone: a tool changes at one moment, for everybody.
//
// What is lost with the bus is only news: the catalogue stays as it was.
package catalogue

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/protoset"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
)

// Conn is a connection to one replica.
type Conn interface {
	grpc.ClientConnInterface
	Close() error
}

// Static is a server named in the configuration, asked by reflection.
type Static struct {
	Name    string
	Address string
}

// Options are what a catalogue is made of.
type Options struct {
	// Dial returns a lazy connection to a service at an address; what is there
	// must prove to be that service. It must not be nil.
	Dial func(service, address string) (Conn, error)
	// Static servers are asked for their tools again and again.
	Static []Static
	// Refresh is how often a server is asked by reflection.
	Refresh time.Duration
	// MaxInFlight bounds the calls to one service.
	MaxInFlight int
	// Log may be nil.
	Log *slog.Logger
	// Refused counts what was not taken in, by reason. It may be nil.
	Refused metric.Int64Counter
}

// Catalogue is the tools there are. It is safe for concurrent use.
type Catalogue struct {
	opts    Options
	log     *slog.Logger
	loaded  atomic.Bool
	current atomic.Pointer[Snapshot]
	tasks   sync.WaitGroup

	mu       sync.Mutex
	services map[string]*service
	sequence int               // of members and services, in order of arrival
	owners   map[string]string // tool to the service that has its name
	shadowed map[string]bool   // tools that were refused: told once
	closed   bool
}

// service is a set of equal replicas.
type service struct {
	name     string
	since    int
	members  map[string]*member
	active   *definition
	inFlight *bulkhead
}

// member is one replica of a service.
type member struct {
	key        string
	since      int
	address    string
	definition *definition
	replica    *replica
}

// definition is what replicas say of their tools.
type definition struct {
	print [sha256.Size]byte
	tools []*tool.Tool
	pool  *Pool
}

// New returns an empty catalogue.
func New(o Options) *Catalogue {
	c := &Catalogue{
		opts: o, log: o.Log,
		services: make(map[string]*service),
		owners:   make(map[string]string),
		shadowed: make(map[string]bool),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.current.Store(newSnapshot(nil))
	return c
}

// Current returns the tools there are now.
func (c *Catalogue) Current() *Snapshot { return c.current.Load() }

// Loaded returns an error until all announcements have been read once.
func (c *Catalogue) Loaded() error {
	if !c.loaded.Load() {
		return errors.New("the announcements of tool services have not been read yet")
	}
	return nil
}

// join takes a replica in, or replaces what it was. The files are bounded and
// linked here, before anything of them is believed.
func (c *Catalogue) join(ctx context.Context, key, name, address string, files *descriptorpb.FileDescriptorSet) {
	log := c.log.With("service", name, "replica", key)
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(files)
	if err != nil {
		c.refuse(log, "descriptors", err)
		return
	}
	print := sha256.Sum256(raw)
	def := c.known(name, print)
	if def == nil {
		if def, err = c.define(name, print, files, log); err != nil {
			c.refuse(log, "descriptors", err)
			c.leave(key, name) // it is not what it was, and what it is cannot be used
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		return // it has left meanwhile
	}
	s := c.services[name]
	if s == nil {
		c.sequence++
		s = &service{
			name: name, since: c.sequence,
			members:  make(map[string]*member),
			inFlight: &bulkhead{max: int64(c.opts.MaxInFlight)},
		}
		c.services[name] = s
	}
	def = s.share(def)
	old := s.members[key]
	if old != nil && old.address == address && old.definition == def {
		return
	}
	conn, err := c.opts.Dial(name, address)
	if err != nil {
		c.refuse(log, "address", err)
		if old == nil && len(s.members) == 0 {
			delete(c.services, name)
		}
		return
	}
	c.sequence++
	m := &member{key: key, since: c.sequence, address: address, definition: def, replica: c.newReplica(context.WithoutCancel(ctx), conn)}
	if old != nil {
		old.replica.retire()
		m.since = old.since
	}
	s.members[key] = m
	if s.active != nil && s.active != def {
		log.Warn("a replica describes its tools differently; it waits until those in use are gone")
	}
	log.Info("replica joined", "tools", len(def.tools))
	c.rebuild()
}

// known returns a definition that some member has already.
func (c *Catalogue) known(name string, print [sha256.Size]byte) *definition {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.services[name]; s != nil {
		return s.find(print)
	}
	return nil
}

func (s *service) find(print [sha256.Size]byte) *definition {
	for _, m := range s.members {
		if m.definition.print == print {
			return m.definition
		}
	}
	return nil
}

// share returns the definition that is in use already, if it is the same.
func (s *service) share(d *definition) *definition {
	if same := s.find(d.print); same != nil {
		return same
	}
	d.pool = &Pool{inFlight: s.inFlight}
	d.pool.replicas.Store(new([]*replica))
	return d
}

// define builds the tools of a set of files.
func (c *Catalogue) define(name string, print [sha256.Size]byte, files *descriptorpb.FileDescriptorSet, log *slog.Logger) (*definition, error) {
	set, err := protoset.Build(files)
	if err != nil {
		return nil, err
	}
	tools, refused := tool.Build(name, set)
	for _, err := range refused {
		c.refuse(log, "tool", err)
	}
	if len(tools) == 0 {
		return nil, errors.New("there are no tools in it")
	}
	return &definition{print: print, tools: tools}, nil
}

// leave drops a replica. Its calls are let finish.
func (c *Catalogue) leave(key, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.services[name]
	if s == nil || s.members[key] == nil {
		return
	}
	s.members[key].replica.retire()
	delete(s.members, key)
	if len(s.members) == 0 {
		delete(c.services, name)
	}
	c.log.Info("replica left", "service", name, "replica", key)
	c.rebuild()
}

// rebuild makes a new snapshot of what there is. The caller holds the lock.
func (c *Catalogue) rebuild() {
	services := slices.SortedFunc(maps.Values(c.services), func(a, b *service) int { return cmp.Compare(a.since, b.since) })
	for _, s := range services {
		s.choose()
	}
	entries := make(map[string]*Entry)
	shadowed := make(map[string]bool)
	for _, s := range services { // whoever has a name keeps it
		for _, t := range s.active.tools {
			if c.owners[t.Name()] == s.name && entries[t.Name()] == nil {
				entries[t.Name()] = &Entry{Tool: t, Pool: s.active.pool}
			}
		}
	}
	for _, s := range services {
		for _, t := range s.active.tools {
			switch has := entries[t.Name()]; {
			case has == nil:
				entries[t.Name()] = &Entry{Tool: t, Pool: s.active.pool}
			case has.Tool != t:
				shadowed[s.name+"/"+t.Name()] = true
				c.shadow(s, has, t)
			}
		}
	}
	c.shadowed = shadowed
	clear(c.owners)
	for name, e := range entries {
		c.owners[name] = e.Service
	}
	next, old := newSnapshot(entries), c.current.Load()
	c.current.Store(next)
	close(old.superseded)
}

// shadow tells once that a tool's name is taken.
func (c *Catalogue) shadow(s *service, has *Entry, t *tool.Tool) {
	if c.shadowed[s.name+"/"+t.Name()] {
		return
	}
	c.refuse(c.log.With("service", s.name, "tool", t.Name(), "owner", has.Service), "collision",
		fmt.Errorf("the name %q belongs to the service %q", t.Name(), has.Service))
}

// choose sets what the service's tools are: as before while a replica still
// says so, else what its oldest replica says.
func (s *service) choose() {
	members := slices.SortedFunc(maps.Values(s.members), func(a, b *member) int { return cmp.Compare(a.since, b.since) })
	still := slices.ContainsFunc(members, func(m *member) bool { return m.definition == s.active })
	if !still {
		s.active = members[0].definition
	}
	var replicas []*replica
	for _, m := range members {
		if m.definition == s.active {
			replicas = append(replicas, m.replica)
		}
	}
	s.active.pool.replicas.Store(&replicas)
}

// refresh makes a new snapshot because a replica went down or came up.
func (c *Catalogue) refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rebuild()
}

func (c *Catalogue) refuse(log *slog.Logger, reason string, err error) {
	log.Error("refused", "reason", reason, "err", err)
	if c.opts.Refused != nil {
		c.opts.Refused.Add(context.Background(), 1, metric.WithAttributes(attribute.String("reason", reason)))
	}
}

// Entry is a tool and where to call it.
type Entry struct {
	*tool.Tool
	Pool *Pool
}

// Snapshot is the catalogue at one moment. Nothing in it changes, except that
// replicas come and go.
type Snapshot struct {
	// Version is a hash of all that policies see.
	Version string
	// View is Version, or another hash while some tools cannot be called.
	View string
	// Tools are sorted by name.
	Tools []*Entry
	// Available says of each of Tools whether it can be called.
	Available []bool

	byName     map[string]*Entry
	superseded chan struct{}
}

func newSnapshot(entries map[string]*Entry) *Snapshot {
	s := &Snapshot{byName: entries, superseded: make(chan struct{})}
	digests, missing := sha256.New(), sha256.New()
	all := true
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		e := entries[name]
		up := e.Pool.Available()
		s.Tools, s.Available = append(s.Tools, e), append(s.Available, up)
		digests.Write(e.Digest)
		missing.Write(e.Digest)
		if !up {
			missing.Write([]byte("unavailable"))
			all = false
		}
	}
	s.Version = hex.EncodeToString(digests.Sum(nil)[:16])
	s.View = s.Version
	if !all {
		s.View = hex.EncodeToString(missing.Sum(nil)[:16])
	}
	return s
}

// Find returns a tool, or nil.
func (s *Snapshot) Find(name string) *Entry { return s.byName[name] }

// Superseded is closed when there is a newer snapshot.
func (s *Snapshot) Superseded() <-chan struct{} { return s.superseded }
