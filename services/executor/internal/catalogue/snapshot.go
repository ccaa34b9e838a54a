package catalogue

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"maps"
	"slices"
	"strings"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/provider"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
)

// Entry is a tool and how and where to call it.
type Entry struct {
	tool.Face
	tool.Backend
	Pool *Pool
	// Provider says that the tool can ask the client for something.
	Provider bool
	// Withheld says that the tool is neither listed nor to be called.
	Withheld bool
}

// Source is where something of a provider is to be asked for.
type Source struct {
	Service string
	Pool    *Pool
	// Completion says that it can be asked for suggestions.
	Completion bool
}

// Prompt is a prompt and where to ask for it.
type Prompt struct {
	*provider.Prompt
	*Source
}

// Template is a resource template and where to ask for its resources.
type Template struct {
	*provider.Template
	*Source
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
	// Resources and Templates are sorted by URI, Prompts by name.
	Resources []*providerv1.Resource
	Templates []*providerv1.ResourceTemplate
	Prompts   []*providerv1.Prompt
	// ResourcesVersion and PromptsVersion are hashes of the lists.
	ResourcesVersion, PromptsVersion string
	// HasResources, HasPrompts and HasCompletion say what any provider has, even
	// if there is none just now.
	HasResources, HasPrompts, HasCompletion bool

	entries    map[string]*Entry   // withheld ones too
	others     map[string][]*Entry // what else replicas have by these names
	published  []*Entry            // sorted
	offers     []Offer
	prompts    map[string]*Prompt
	resources  map[string]*Source
	templates  []*Template // the most specific first
	schemes    map[string][]*Source
	superseded chan struct{}
}

// contents is what a snapshot is made of.
type contents struct {
	tools     map[string]owned[*offered]
	resources map[string]owned[*providerv1.Resource]
	templates map[string]owned[*provider.Template]
	prompts   map[string]owned[*provider.Prompt]
	services  []*service
	hold      Hold
}

func newSnapshot(all contents) *Snapshot {
	s := &Snapshot{
		entries: make(map[string]*Entry), others: make(map[string][]*Entry), prompts: make(map[string]*Prompt), resources: make(map[string]*Source),
		schemes: make(map[string][]*Source), superseded: make(chan struct{}),
	}
	s.addTools(all)
	s.addOthers(all)
	sources := make(map[*service]*Source)
	for _, o := range all.services {
		d := o.active
		if !d.provider {
			continue
		}
		sources[o] = &Source{Service: o.name, Pool: d.pool, Completion: d.has.Completion}
		s.HasResources = s.HasResources || d.has.Resources || len(d.resources)+len(d.templates) > 0
		s.HasPrompts = s.HasPrompts || d.has.Prompts || len(d.prompts) > 0
		s.HasCompletion = s.HasCompletion || d.has.Completion
	}
	lists := sha256.New()
	s.addResources(all, sources, lists)
	s.ResourcesVersion = version(lists)
	lists = sha256.New()
	for _, name := range slices.Sorted(maps.Keys(all.prompts)) {
		p := all.prompts[name]
		lists.Write(p.sum[:])
		s.Prompts = append(s.Prompts, p.value.Definition)
		s.prompts[name] = &Prompt{p.value, sources[p.service]}
	}
	s.PromptsVersion = version(lists)
	return s
}

func version(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)[:16]) }

func (s *Snapshot) addTools(all contents) {
	digests, missing := sha256.New(), sha256.New()
	complete := true
	for _, name := range slices.Sorted(maps.Keys(all.tools)) {
		o := all.tools[name]
		d := o.service.active
		e := &Entry{Face: o.value.Face, Backend: o.value.backend, Pool: d.pool, Provider: d.provider}
		s.entries[name], s.published = e, append(s.published, e)
		digests.Write(e.Digest)
		missing.Write(e.Digest)
		offer := o.value.judge(all.hold, d.provider)
		s.offers, e.Withheld = append(s.offers, offer), offer.Withheld
		if e.Withheld {
			missing.Write([]byte("withheld"))
			complete = false
			continue
		}
		up := d.pool.Available()
		s.Tools, s.Available = append(s.Tools, e), append(s.Available, up)
		if !up {
			missing.Write([]byte("unavailable"))
			complete = false
		}
	}
	s.Version = version(digests)
	s.View = s.Version
	if !complete {
		s.View = version(missing)
	}
}

func (s *Snapshot) addResources(all contents, sources map[*service]*Source, lists hash.Hash) {
	scheme := func(uri string, from *Source) {
		if name := provider.Scheme(uri); !slices.Contains(s.schemes[name], from) {
			s.schemes[name] = append(s.schemes[name], from)
		}
	}
	for _, uri := range slices.Sorted(maps.Keys(all.resources)) {
		r := all.resources[uri]
		lists.Write(r.sum[:])
		s.Resources = append(s.Resources, r.value)
		s.resources[uri] = sources[r.service]
		scheme(uri, sources[r.service])
	}
	for _, text := range slices.Sorted(maps.Keys(all.templates)) {
		t := all.templates[text]
		lists.Write(t.sum[:])
		s.Templates = append(s.Templates, t.value.Definition)
		s.templates = append(s.templates, &Template{t.value, sources[t.service]})
		scheme(t.value.Literal, sources[t.service])
	}
	slices.SortStableFunc(s.templates, func(a, b *Template) int { return cmp.Compare(len(b.Literal), len(a.Literal)) })
}

// Find returns a tool, or nil. It may be one that is withheld. Where a digest is
// given and replicas have the tool in several ways, it is the one with this
// digest.
func (s *Snapshot) Find(name string, digest []byte) *Entry {
	e := s.entries[name]
	if len(digest) == 0 || e == nil || bytes.Equal(e.Digest, digest) {
		return e
	}
	for _, other := range s.others[name] {
		if bytes.Equal(other.Digest, digest) {
			return other
		}
	}
	return e
}

// Prompt returns a prompt, or nil.
func (s *Snapshot) Prompt(name string) *Prompt { return s.prompts[name] }

// Template returns the template of this text, or nil.
func (s *Snapshot) Template(text string) *Template {
	for _, t := range s.templates {
		if t.Definition.GetUriTemplate() == text {
			return t
		}
	}
	return nil
}

// Resource returns who has the resource of a URI: its owner if it is listed,
// else whose template it fits, the most specific first, else the one provider
// that has resources of its scheme. It returns nil where that leads to nobody,
// or to more than one.
func (s *Snapshot) Resource(uri string) *Source {
	if r := s.resources[uri]; r != nil {
		return r
	}
	for _, t := range s.templates {
		if strings.HasPrefix(uri, t.Literal) && t.Matches(uri) {
			return t.Source
		}
	}
	if all := s.schemes[provider.Scheme(uri)]; len(all) == 1 && provider.Scheme(uri) != "" {
		return all[0]
	}
	return nil
}

// Superseded is closed when there is a newer snapshot.
func (s *Snapshot) Superseded() <-chan struct{} { return s.superseded }
