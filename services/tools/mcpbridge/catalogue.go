package mcpbridge

import (
	"log/slog"
	"slices"

	"github.com/yosida95/uritemplate/v3"
	"google.golang.org/protobuf/proto"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// Bounds on all upstreams together: of the contract, and of one message.
const (
	maxListed      = 10000
	maxTemplates   = 1000
	maxListedBytes = 12 << 20
)

// offer is all that one upstream has, as it was last listed.
type offer struct {
	tools      []tool
	resources  []*providerv1.Resource
	templates  []template
	prompts    []prompt
	completion bool
}

type template struct {
	definition *providerv1.ResourceTemplate
	pattern    *uritemplate.Template // nil if it does not parse; then it matches nothing
}

func newTemplate(d *providerv1.ResourceTemplate) template {
	t := template{definition: d}
	if p, err := uritemplate.New(d.GetUriTemplate()); err == nil {
		t.pattern = p
	}
	return t
}

type offered struct {
	by    *upstream
	offer *offer
}

// catalogue is what all upstreams have together. It is never changed.
type catalogue struct {
	tools     []*providerv1.ToolDefinition
	resources []*providerv1.Resource
	templates []*providerv1.ResourceTemplate
	prompts   []*providerv1.Prompt

	toolBy     map[string]place[tool]
	promptBy   map[string]place[prompt]
	resourceBy map[string]*upstream
	templateBy []place[template]
	completion bool
}

// place is something and where it is.
type place[T any] struct {
	by *upstream
	it T
}

// merge puts together what upstreams offer, in their order. What is beyond the
// bounds is left out.
func merge(offers []offered, log *slog.Logger) *catalogue {
	c := &catalogue{toolBy: map[string]place[tool]{}, promptBy: map[string]place[prompt]{}, resourceBy: map[string]*upstream{}}
	var size struct{ tools, resources, prompts int }
	left := 0
	admit := func(n, most int, size *int, m proto.Message) bool {
		bytes := proto.Size(m)
		if n >= most || *size+bytes > maxListedBytes {
			left++
			return false
		}
		*size += bytes
		return true
	}
	clash := func(u *upstream, kind, name string) {
		log.Warn("two upstreams have the same; the first in the configuration is asked", "upstream", u.cfg.Name, "kind", kind, "name", name)
	}
	for _, o := range offers {
		for _, t := range o.offer.tools {
			name := t.definition.GetName()
			if _, taken := c.toolBy[name]; taken {
				clash(o.by, "tool", name)
			} else if admit(len(c.tools), maxListed, &size.tools, t.definition) {
				c.tools = append(c.tools, t.definition)
				c.toolBy[name] = place[tool]{o.by, t}
			}
		}
		for _, r := range o.offer.resources {
			if _, taken := c.resourceBy[r.GetUri()]; taken {
				clash(o.by, "resource", r.GetUri())
			} else if admit(len(c.resources), maxListed, &size.resources, r) {
				c.resources = append(c.resources, r)
				c.resourceBy[r.GetUri()] = o.by
			}
		}
		for _, t := range o.offer.templates {
			if c.template(t.definition.GetUriTemplate()) != nil {
				clash(o.by, "template", t.definition.GetUriTemplate())
			} else if admit(len(c.templates), maxTemplates, &size.resources, t.definition) {
				c.templates = append(c.templates, t.definition)
				c.templateBy = append(c.templateBy, place[template]{o.by, t})
			}
		}
		for _, p := range o.offer.prompts {
			name := p.definition.GetName()
			if _, taken := c.promptBy[name]; taken {
				clash(o.by, "prompt", name)
			} else if admit(len(c.prompts), maxListed, &size.prompts, p.definition) {
				c.prompts = append(c.prompts, p.definition)
				c.promptBy[name] = place[prompt]{o.by, p}
			}
		}
		c.completion = c.completion || o.offer.completion
	}
	if left > 0 {
		log.Warn("the upstreams together have more than can be offered", "left_out", left)
	}
	return c
}

// template returns who has a template; nil if nobody has.
func (c *catalogue) template(uriTemplate string) *upstream {
	for _, t := range c.templateBy {
		if t.it.definition.GetUriTemplate() == uriTemplate {
			return t.by
		}
	}
	return nil
}

// reader returns who can read a URI: who lists it, else the first who has a
// template for it.
func (c *catalogue) reader(uri string) *upstream {
	if u := c.resourceBy[uri]; u != nil {
		return u
	}
	for _, t := range c.templateBy {
		if t.it.pattern != nil && t.it.pattern.Match(uri) != nil {
			return t.by
		}
	}
	return nil
}

// differs says what is other than in last.
func (c *catalogue) differs(last *catalogue) news {
	n := news{
		tools:     !equal(c.tools, last.tools),
		resources: !equal(c.resources, last.resources) || !equal(c.templates, last.templates),
		prompts:   !equal(c.prompts, last.prompts),
	}
	return n
}

func equal[M proto.Message](a, b []M) bool {
	return slices.EqualFunc(a, b, func(x, y M) bool { return proto.Equal(x, y) })
}

// has is the first message to those who watch, and each one that tells of changes.
func (c *catalogue) has(w *providerv1.WatchResponse) *providerv1.WatchResponse {
	w.HasTools = len(c.tools) > 0
	w.HasResources = len(c.resources)+len(c.templates) > 0
	w.HasPrompts = len(c.prompts) > 0
	w.HasCompletion = c.completion
	return w
}
