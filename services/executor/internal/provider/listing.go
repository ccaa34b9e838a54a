package provider

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/yosida95/uritemplate/v3"
	"google.golang.org/protobuf/proto"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/hidden"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/joining"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/jsonschema"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/rules"
)

// Listing is what of a provider's lists can be used, by the names it is known
// by here. Nothing in it changes.
type Listing struct {
	Has       Has
	Tools     []*Tool
	Resources []*providerv1.Resource
	Templates []*Template
	Prompts   []*Prompt
	// Refused says what was left out and why.
	Refused []error
	// Unused are entries of the configuration about what the provider has not.
	Unused []string
}

// Template is a resource template that can be matched.
type Template struct {
	Definition *providerv1.ResourceTemplate
	// Literal is the text before its first variable.
	Literal string

	match     *regexp.Regexp
	variables map[string]bool
}

// Matches reports whether a URI is of the template's family.
func (t *Template) Matches(uri string) bool { return t.match.MatchString(uri) }

// Variable reports whether the template has a variable of this name.
func (t *Template) Variable(name string) bool { return t.variables[name] }

// Prompt is a prompt by the name it is known by here.
type Prompt struct {
	Definition *providerv1.Prompt
	// Remote is the name that its provider knows.
	Remote string
}

// Argument reports whether the prompt has an argument of this name.
func (p *Prompt) Argument(name string) bool {
	for _, a := range p.Definition.GetArguments() {
		if a.GetName() == name {
			return true
		}
	}
	return false
}

// Missing returns the arguments that the prompt must have and that are not
// given.
func (p *Prompt) Missing(given map[string]string) []string {
	var missing []string
	for _, a := range p.Definition.GetArguments() {
		if _, ok := given[a.GetName()]; a.GetRequired() && !ok {
			missing = append(missing, a.GetName())
		}
	}
	return missing
}

// Read makes a listing of a service's lists, under the names and with the
// options that the operator wants.
func (l *Lists) Read(service string, names joining.Config, check *rules.Checker) *Listing {
	r := &reader{
		service: service, names: names, check: check, out: &Listing{Has: l.Has},
		seen: make(map[string]bool), tools: make(map[string]bool), prompts: make(map[string]bool),
		hidden: hidden.New(),
	}
	for i, d := range l.Tools.GetTools() {
		r.take("tool", i, d.GetName(), func() error { return r.tool(d) })
	}
	for i, d := range l.Resources.GetResources() {
		r.take("resource", i, d.GetUri(), func() error { return r.resource(d) })
	}
	for i, d := range l.Resources.GetTemplates() {
		r.take("resource template", i, d.GetUriTemplate(), func() error { return r.template(d) })
	}
	for i, d := range l.Prompts.GetPrompts() {
		r.take("prompt", i, d.GetName(), func() error { return r.prompt(d) })
	}
	r.out.Unused = names.Unused(r.tools, r.prompts)
	return r.out
}

type reader struct {
	service string
	names   joining.Config
	check   *rules.Checker
	out     *Listing
	seen    map[string]bool // kind and name as known here
	tools   map[string]bool // by the provider's own names
	prompts map[string]bool
	hidden  *hidden.Guard
}

// take reads one definition. Libraries that panic over it shall cost it that
// definition and no more.
func (r *reader) take(kind string, i int, name string, read func() error) {
	defer func() {
		if p := recover(); p != nil {
			r.out.Refused = append(r.out.Refused, fmt.Errorf("%s %d %.128q: panic: %v", kind, i, name, p))
		}
	}()
	if err := read(); err != nil {
		r.out.Refused = append(r.out.Refused, fmt.Errorf("%s %d %.128q: %w", kind, i, name, err))
	}
}

// rules checks a definition by the rules of the contract and its _meta, which
// those cannot.
func (r *reader) rules(d interface {
	proto.Message
	GetMeta() []byte
},
) error {
	if err := broken(r.check, d); err != nil {
		return err
	}
	if meta := d.GetMeta(); len(meta) > 0 {
		if err := jsonschema.Object(meta); err != nil {
			return fmt.Errorf("_meta: %w", err)
		}
	}
	return r.unseen(d.ProtoReflect())
}

// once refuses a second thing of the same name.
func (r *reader) once(kind, name string) error {
	if r.seen[kind+" "+name] {
		return fmt.Errorf("%q is there already", name)
	}
	r.seen[kind+" "+name] = true
	return nil
}

func (r *reader) tool(d *providerv1.ToolDefinition) error {
	r.tools[d.GetName()] = true
	if err := r.rules(d); err != nil {
		return err
	}
	t, err := r.newTool(d)
	if err != nil {
		return err
	}
	if err := r.once("tool", t.Name()); err != nil {
		return err
	}
	r.out.Tools = append(r.out.Tools, t)
	return nil
}

func (r *reader) resource(d *providerv1.Resource) error {
	if err := r.rules(d); err != nil {
		return err
	}
	if err := absolute(d.GetUri()); err != nil {
		return err
	}
	if err := r.once("resource", d.GetUri()); err != nil {
		return err
	}
	r.out.Resources = append(r.out.Resources, d)
	return nil
}

func (r *reader) template(d *providerv1.ResourceTemplate) error {
	if err := r.rules(d); err != nil {
		return err
	}
	t, err := newTemplate(d)
	if err != nil {
		return err
	}
	if err := r.once("template", d.GetUriTemplate()); err != nil {
		return err
	}
	r.out.Templates = append(r.out.Templates, t)
	return nil
}

func (r *reader) prompt(d *providerv1.Prompt) error {
	r.prompts[d.GetName()] = true
	if err := r.rules(d); err != nil {
		return err
	}
	arguments := make(map[string]bool)
	for _, a := range d.GetArguments() {
		if a.GetName() == "" || arguments[a.GetName()] {
			return fmt.Errorf("the argument %q is empty or there twice", a.GetName())
		}
		arguments[a.GetName()] = true
	}
	name, err := r.names.Prompt(d.GetName())
	if err != nil {
		return err
	}
	if err := r.once("prompt", name); err != nil {
		return err
	}
	known := proto.CloneOf(d)
	known.Name = name
	r.out.Prompts = append(r.out.Prompts, &Prompt{Definition: known, Remote: d.GetName()})
	return nil
}

// newTemplate compiles a template. It must name its scheme: else it would take
// in everybody's resources.
func newTemplate(d *providerv1.ResourceTemplate) (*Template, error) {
	literal, _, _ := strings.Cut(d.GetUriTemplate(), "{")
	if Scheme(literal) == "" {
		return nil, errors.New("must begin with a scheme")
	}
	parsed, err := uritemplate.New(d.GetUriTemplate())
	if err != nil {
		return nil, errors.New("is not a URI template") // the library's text is a picture
	}
	if n := len(parsed.Varnames()); n > 32 {
		return nil, fmt.Errorf("%d variables: must be at most 32", n)
	}
	t := &Template{Definition: d, Literal: literal, match: parsed.Regexp(), variables: make(map[string]bool)}
	for _, v := range parsed.Varnames() {
		t.variables[v] = true
	}
	return t, nil
}

// Scheme returns the scheme that a URI or the beginning of one has, or nothing.
func Scheme(uri string) string {
	scheme, _, ok := strings.Cut(uri, ":")
	if !ok || !schemes.MatchString(scheme) {
		return ""
	}
	return strings.ToLower(scheme)
}

var schemes = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)

// absolute returns an error unless a text is a URI with a scheme.
func absolute(uri string) error {
	if Scheme(uri) == "" {
		return errors.New("must be a URI with a scheme")
	}
	if _, err := url.Parse(uri); err != nil {
		return errors.New("is not a URI")
	}
	return nil
}

// broken returns the first rule of the contract that a message breaks.
func broken(check *rules.Checker, m proto.Message) error {
	all, err := check.Check(m)
	if err != nil {
		return err
	}
	if len(all) > 0 {
		return fmt.Errorf("%s %s", all[0].GetPointer(), all[0].GetMessage())
	}
	return nil
}
