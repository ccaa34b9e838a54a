package catalogue

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/pkg/protoset"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/isolate"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/provider"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
)

// service is a set of equal replicas.
type service struct {
	name    string
	since   int
	members map[string]*member
	fading  []*member   // have left, and are the last that have what they have
	active  *definition // what is listed
	cell    *isolate.Cell
}

// member is one replica of a service.
type member struct {
	key        string
	since      int
	address    string
	definition *definition
	replica    *replica
}

// definition is what replicas say that they have.
type definition struct {
	print     [sha256.Size]byte
	provider  bool
	has       provider.Has
	tools     []item[*offered]
	resources []item[*providerv1.Resource]
	templates []item[*provider.Template]
	prompts   []item[*provider.Prompt]
	pool      *Pool
}

// offered is a tool of a definition.
type offered struct {
	tool.Face
	backend tool.Backend
	own     tool.Face // as its service has it, but for the name
	used    bool      // it was listed; under the catalogue's lock
}

// offer is the tool as the operator decides about it.
func (o *offered) offer(provider bool) Offer {
	return Offer{
		Name: o.Name(), Service: o.Service, Provider: provider, Definition: o.own.Definition, Digest: o.own.Digest,
	}
}

// join takes a replica in, or replaces what it was. What it says is bounded and
// checked by build before anything of it is believed; build is not called for
// what is known already. It reports whether the replica has been taken in.
func (c *Catalogue) join(ctx context.Context, key, name, address string, print [sha256.Size]byte, build func(*slog.Logger) (*definition, error)) bool {
	log := c.log.With("service", name, "replica", key)
	def := c.known(name, print)
	if def == nil {
		var err error
		if def, err = build(log); err != nil {
			c.refuse(log, "descriptors", err)
			c.leave(key, name) // it is not what it was, and what it is cannot be used
			return false
		}
		def.print = print
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		return false // it has left meanwhile
	}
	s := c.services[name]
	if s == nil {
		c.sequence++
		s = &service{
			name: name, since: c.sequence,
			members: make(map[string]*member),
			cell:    isolate.NewCell(c.opts.Isolate, func(resting bool) { c.rested(name, resting) }),
		}
		c.services[name] = s
	}
	def = s.share(def)
	old := s.members[key]
	if old != nil && old.address == address && old.definition == def {
		return true
	}
	c.sequence++
	m := &member{key: key, since: c.sequence, address: address, definition: def}
	switch {
	case old != nil && old.address == address:
		m.replica, m.since = old.replica, old.since
	default:
		conn, err := c.opts.Dial(name, address)
		if err != nil {
			c.refuse(log, "address", err)
			if old == nil && len(s.members) == 0 {
				delete(c.services, name)
			}
			return false
		}
		m.replica = c.newReplica(context.WithoutCancel(ctx), conn, key)
		if old != nil {
			old.replica.retire()
			m.since = old.since
		}
	}
	s.members[key] = m
	log.Info("replica joined", "tools", len(def.tools), "resources", len(def.resources)+len(def.templates), "prompts", len(def.prompts))
	c.rebuild()
	if s.active != def {
		log.Warn("a replica describes what it has differently; it waits until those in use are gone")
	}
	return true
}

// rested tells that a service is left alone because it fails, or is well again.
func (c *Catalogue) rested(name string, resting bool) {
	if resting {
		c.log.Warn("a service fails too often and is left alone", "service", name, "for", c.opts.Isolate.Breaker.Rest)
		return
	}
	c.log.Info("a service is well again", "service", name)
}

// joinFiles takes in a replica that is described by descriptors.
func (c *Catalogue) joinFiles(ctx context.Context, key, name, address string, files *descriptorpb.FileDescriptorSet) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(files)
	if err != nil {
		c.refuse(c.log.With("service", name, "replica", key), "descriptors", err)
		return
	}
	c.join(ctx, key, name, address, sha256.Sum256(raw), func(log *slog.Logger) (*definition, error) {
		return c.define(name, files, log)
	})
}

// joinLists takes in a replica that has told what it has.
func (c *Catalogue) joinLists(ctx context.Context, key, name, address string, lists *provider.Lists) (bool, error) {
	print, err := lists.Print()
	if err != nil {
		return false, err
	}
	return c.join(ctx, key, name, address, print, func(log *slog.Logger) (*definition, error) {
		listing := lists.Read(name, c.opts.Joining[name], c.check)
		c.refuseAll(log, "definition", listing.Refused)
		c.unused(log, listing.Unused)
		return describe(listing)
	}), nil
}

// unused tells of configuration that does nothing: most likely a name is
// misspelt, or the service has changed.
func (c *Catalogue) unused(log *slog.Logger, names []string) {
	for _, name := range names {
		log.Warn("the configuration speaks of what the service does not have", "name", "joining."+name)
	}
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

func (s *service) used(d *definition) bool {
	for _, m := range s.members {
		if m.definition == d {
			return true
		}
	}
	return false
}

// share returns the definition that is in use already, if it is the same.
func (s *service) share(d *definition) *definition {
	if same := s.find(d.print); same != nil {
		return same
	}
	d.pool = &Pool{cell: s.cell}
	d.pool.replicas.Store(new([]*replica))
	return d
}

// define builds the tools of a set of files.
func (c *Catalogue) define(name string, files *descriptorpb.FileDescriptorSet, log *slog.Logger) (*definition, error) {
	set, err := protoset.Build(files)
	if err != nil {
		return nil, err
	}
	tools, refused := tool.Build(name, set)
	names, have := c.opts.Joining[name], make(map[string]bool)
	def := &definition{}
	for _, t := range tools {
		have[t.Name()] = true
		known, err := names.Tool(t.Name())
		if err != nil {
			refused = append(refused, err)
			continue
		}
		own, d := proto.CloneOf(t.Definition), names.Classify(t.Name(), t.Definition)
		own.Name, d.Name = known, known
		ownFace, err := tool.NewFace(name, own)
		if err != nil {
			refused = append(refused, err)
			continue
		}
		face, err := tool.NewFace(name, d)
		if err != nil {
			refused = append(refused, err)
			continue
		}
		def.tools = append(def.tools, toolItem(&offered{Face: face, backend: t, own: ownFace}))
	}
	c.refuseAll(log, "tool", refused)
	c.unused(log, names.Unused(have, nil))
	if len(def.tools) == 0 {
		return nil, errors.New("there are no tools in it")
	}
	return def, nil
}

// describe makes a definition of what a provider has.
func describe(l *provider.Listing) (*definition, error) {
	def := &definition{provider: true, has: l.Has}
	for _, t := range l.Tools {
		def.tools = append(def.tools, toolItem(&offered{Face: t.Face, backend: t, own: t.Offered}))
	}
	var err error
	add := func(m proto.Message) item[struct{}] {
		raw, wrong := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if wrong != nil {
			err = fmt.Errorf("describe: %w", wrong)
		}
		return item[struct{}]{bytes: len(raw), sum: sha256.Sum256(raw)}
	}
	for _, r := range l.Resources {
		i := add(r)
		def.resources = append(def.resources, item[*providerv1.Resource]{r.GetUri(), r, i.bytes, 0, i.sum})
	}
	for _, t := range l.Templates {
		i := add(t.Definition)
		def.templates = append(def.templates, item[*provider.Template]{t.Definition.GetUriTemplate(), t, i.bytes, 0, i.sum})
	}
	for _, p := range l.Prompts {
		i := add(p.Definition)
		def.prompts = append(def.prompts, item[*provider.Prompt]{p.Definition.GetName(), p, i.bytes, 0, i.sum})
	}
	return def, err
}

// lose says whether the watch on a provider's replica is broken. While it is,
// nobody knows what the replica has, so it counts as down.
func (c *Catalogue) lose(ctx context.Context, key, name string, lost bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.services[name]
	if ctx.Err() != nil || s == nil || s.members[key] == nil || s.members[key].replica.lost.Swap(lost) == lost {
		return
	}
	c.rebuild()
}
