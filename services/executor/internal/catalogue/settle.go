package catalogue

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/provider"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
)

// Bounds on all there is together: what travels in one message. A service that
// has too much loses what does not fit, and takes no room from those that were
// there before it.
const (
	maxBytes         = 12 << 20 // of the definitions of one kind, a third of it for one service
	maxResourceBytes = 9 << 20  // resources and templates travel together
	maxTemplateBytes = 3 << 20
	maxPublished     = 960 << 10 // of the catalogue on the bus, a third of it for one service
	maxTools         = 10000
	maxResources     = 10000
	maxTemplates     = 1000
	maxPrompts       = 10000
)

// item is something with a name that a service has.
type item[T any] struct {
	name      string
	value     T
	bytes     int // of its definition
	published int // bytes on the bus
	sum       [sha256.Size]byte
}

func toolItem(o *offered) item[*offered] {
	return item[*offered]{
		name: o.Name(), value: o, bytes: proto.Size(o.Definition), published: proto.Size(published(&o.Face)) + 4,
		sum: [sha256.Size]byte(o.Digest),
	}
}

// owned is an item and whose it is.
type owned[T any] struct {
	item[T]
	service *service
}

// kind is what can collide: tools with tools, prompts with prompts.
type kind[T any] struct {
	name   string
	rename bool // whether the operator can give it another name
	count  int  // how many there may be
	bytes  int  // how large they may be together
	of     func(*definition) []item[T]
}

var (
	toolKind = kind[*offered]{
		"tool", true, maxTools, maxBytes,
		func(d *definition) []item[*offered] { return d.tools },
	}
	promptKind = kind[*provider.Prompt]{
		"prompt", true, maxPrompts, maxBytes,
		func(d *definition) []item[*provider.Prompt] { return d.prompts },
	}
	resourceKind = kind[*providerv1.Resource]{
		"resource", false, maxResources, maxResourceBytes,
		func(d *definition) []item[*providerv1.Resource] { return d.resources },
	}
	templateKind = kind[*provider.Template]{
		"resource template", false, maxTemplates, maxTemplateBytes,
		func(d *definition) []item[*provider.Template] { return d.templates },
	}
)

// rebuild makes a new snapshot of what there is. The caller holds the lock.
func (c *Catalogue) rebuild() {
	services := slices.SortedFunc(maps.Values(c.services), func(a, b *service) int { return cmp.Compare(a.since, b.since) })
	for _, s := range services {
		s.choose(c.opts.Hold)
	}
	told := make(map[string]bool)
	all := contents{
		tools:     settle(c, toolKind, services, told),
		resources: settle(c, resourceKind, services, told),
		templates: settle(c, templateKind, services, told),
		prompts:   settle(c, promptKind, services, told),
		services:  services,
		hold:      c.opts.Hold,
	}
	c.refused = told
	next, old := newSnapshot(all), c.current.Load()
	c.current.Store(next)
	close(old.superseded)
}

// settle decides which service has which name. Whoever has a name keeps it, and
// of the others the first to arrive has it.
func settle[T any](c *Catalogue, k kind[T], services []*service, told map[string]bool) map[string]owned[T] {
	owners := c.owners[k.name]
	taken := make(map[string]owned[T])
	all := room{count: k.count, bytes: k.bytes, published: maxPublished}
	lost := make(map[*service][]error)
	for _, keeps := range []bool{true, false} {
		for _, s := range services {
			own := room{count: k.count, bytes: k.bytes / 3, published: maxPublished / 3}
			for _, i := range k.of(s.active) {
				if _, ok := taken[i.name]; ok && taken[i.name].service == s {
					own.take(i.bytes, i.published)
				}
			}
			for _, i := range k.of(s.active) {
				has, ok := taken[i.name]
				if keeps != (owners[i.name] == s.name) || ok && has.service == s {
					continue
				}
				var err error
				switch {
				case ok:
					err = collision(k.name, i.name, has.service.name, s.name, k.rename)
				case !own.fits(i.bytes, i.published) || !all.fits(i.bytes, i.published):
					err = fmt.Errorf("there is no room for the %s %q", k.name, i.name)
				}
				if err == nil {
					own.take(i.bytes, i.published)
					all.take(i.bytes, i.published)
					taken[i.name] = owned[T]{i, s}
					continue
				}
				key := k.name + " " + s.name + " " + i.name
				told[key] = true
				if !c.refused[key] {
					lost[s] = append(lost[s], err)
				}
			}
		}
	}
	for _, s := range services {
		c.refuseAll(c.log.With("service", s.name), "collision", lost[s])
	}
	c.owners[k.name] = make(map[string]string)
	for name, o := range taken {
		c.owners[k.name][name] = o.service.name
	}
	return taken
}

// collision tells an operator what to do.
func collision(kind, name, owner, service string, rename bool) error {
	err := fmt.Errorf("the %s %q of the service %q belongs to the service %q already", kind, name, service, owner)
	if !rename {
		return fmt.Errorf("%w; one of the two has to give it another name", err)
	}
	return fmt.Errorf("%w; set joining.%s.prefix, or another name in joining.%s.aliases", err, service, service)
}

// room is what may still be taken in.
type room struct{ count, bytes, published int }

func (r *room) fits(bytes, published int) bool {
	return r.count > 0 && r.bytes >= bytes && r.published >= published
}

func (r *room) take(bytes, published int) {
	r.count--
	r.bytes -= bytes
	r.published -= published
}

// published is what of a tool policies may know.
func published(f *tool.Face) *executorv1.Catalogue_Entry {
	return &executorv1.Catalogue_Entry{
		Name: f.Name(), Service: f.Service, Digest: f.Digest, Options: f.Definition.GetOptions(),
	}
}
