package openapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/document"
	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/egress"
	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/wire"
)

// The bounds of the contract. A description that is too long is left out and never
// cut: one that was cut is not what the document says.
const (
	maxTitle    = 256
	maxToolText = 16384
	maxSchema   = 262144
)

// tool is a tool that is offered, and how to call it.
type tool struct {
	definition *providerv1.ToolDefinition
	plan       *wire.Plan
	base       *url.URL
	by         *api
}

// tools makes tools of a document. What cannot be one is left out and logged.
func (a *api) tools(doc *document.Document) []*tool {
	var out []*tool
	taken := map[string]string{} // names of tools, by which operation
	twice := map[string]bool{}
	left, rest := 0, slices.Clone(a.cfg.Operations.Named)
	for _, op := range doc.Operations {
		rest = slices.DeleteFunc(rest, func(n string) bool { return called(op, n) })
		if !a.cfg.Operations.admits(op) {
			continue
		}
		name := a.toolName(op)
		if other, ok := taken[name]; ok {
			a.log.Error("two operations would be the same tool, so that neither is; give one of them an alias",
				"tool", clip(name), "operation", clip(op.Name()), "other", clip(other))
			twice[name] = true
			continue
		}
		taken[name] = op.Name()
		if len(out) == a.cfg.MaxTools {
			left++
			continue
		}
		t, err := a.tool(op, name)
		if err != nil {
			a.log.Warn("an operation is no tool", "operation", clip(op.Name()), "err", clip(err.Error()))
			continue
		}
		out = append(out, t)
	}
	if left > 0 {
		a.log.Warn("the document has more operations than may be tools", "max_tools", a.cfg.MaxTools, "left_out", left)
	}
	for _, n := range rest {
		a.log.Warn("an operation that the configuration names is not in the document", "operation", n)
	}
	return slices.DeleteFunc(out, func(t *tool) bool { return twice[t.definition.GetName()] })
}

// clip makes a document's words short enough for a log.
func clip(s string) string { return truncate(s, 256) }

// called reports whether an operation is meant by a name in the configuration.
func called(op *document.Operation, name string) bool {
	return name == op.ID && name != "" || name == op.Method+" "+op.Path
}

func (s Selection) admits(op *document.Operation) bool {
	for _, p := range s.Deny {
		if ok, err := path.Match(p, op.ID); ok && err == nil && op.ID != "" || called(op, p) {
			return false
		}
	}
	if slices.ContainsFunc(s.Named, func(n string) bool { return called(op, n) }) {
		return true
	}
	return slices.Contains(s.Methods, strings.ToLower(op.Method)) &&
		(len(s.Tags) == 0 || slices.ContainsFunc(s.Tags, func(t string) bool { return slices.Contains(op.Tags, t) }))
}

var toolShape = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// toolName is the alias of an operation, or its id or method and path as words.
func (a *api) toolName(op *document.Operation) string {
	for _, of := range []string{op.ID, op.Method + " " + op.Path} {
		if alias, ok := a.cfg.Aliases[of]; ok && of != "" {
			return *a.cfg.Prefix + alias
		}
	}
	name := snake(op.Name())
	if name == "" { // nothing of its id can be a name
		name = snake(op.Method + " " + op.Path)
	}
	return *a.cfg.Prefix + name
}

var (
	notInWord = regexp.MustCompile(`[^A-Za-z0-9]+`)
	wordEnds  = regexp.MustCompile(`([a-z0-9])([A-Z])`)
	wordEnds2 = regexp.MustCompile(`([A-Z])([A-Z][a-z])`)
)

// snake writes a name in words: "getHTTPStatus" is get_http_status.
func snake(name string) string {
	if len(name) > 256 {
		name = name[:256] // too long to be a name in any case
	}
	name = wordEnds2.ReplaceAllString(wordEnds.ReplaceAllString(name, "${1}_$2"), "${1}_$2")
	return strings.ToLower(strings.Trim(notInWord.ReplaceAllString(name, "_"), "_"))
}

func (a *api) tool(op *document.Operation, name string) (*tool, error) {
	if !toolShape.MatchString(name) {
		return nil, fmt.Errorf("the name %.100q is not up to 64 of A-Z, a-z, 0-9, _, . and -; give it an alias", name)
	}
	base, err := a.baseOf(op)
	if err != nil {
		return nil, err
	}
	shape, err := op.Shape(a.credentials.Takes)
	if err != nil {
		return nil, err
	}
	shape.Plan.Slashes = a.cfg.PathSlashes
	if a.cfg.NoOutputSchemas || len(shape.Output) > maxSchema {
		shape.Output = nil
	}
	if len(shape.Input) > maxSchema {
		return nil, fmt.Errorf("the schema of its arguments has more than %d bytes", maxSchema)
	}
	options, err := a.cfg.Methods[strings.ToLower(op.Method)].options(strings.ToLower(op.Method), a.cfg.outside())
	if err != nil {
		return nil, err
	}
	options.Tags = []string{a.cfg.Name}
	if a.cfg.Timeout != 0 {
		options.Timeout = durationpb.New(a.cfg.Timeout)
	}
	d := &providerv1.ToolDefinition{
		Name: name, Description: describe(op), InputSchema: shape.Input, OutputSchema: shape.Output, Options: options,
	}
	if utf8.RuneCountInString(op.Summary) <= maxTitle {
		d.Title = op.Summary
	}
	if d.Meta, err = meta(op, base, shape.Plan); err != nil {
		return nil, err
	}
	return &tool{definition: d, plan: shape.Plan, base: base, by: a}, nil
}

// describe returns what a document says of an operation, as far as it fits.
func describe(op *document.Operation) string {
	var parts []string
	if op.Deprecated {
		parts = append(parts, "Deprecated.")
	}
	if op.Summary != "" && !strings.HasPrefix(op.Description, op.Summary) {
		parts = append(parts, op.Summary)
	}
	parts = append(parts, op.Description)
	for ; len(parts) > 0; parts = parts[:len(parts)-1] {
		if text := strings.TrimSpace(strings.Join(parts, "\n\n")); utf8.RuneCountInString(text) <= maxToolText {
			return text
		}
	}
	return ""
}

// meta says what a call of the tool does, so that whoever approves a definition
// approves this, too: the executor withholds one whose _meta has changed. Where the
// host is is in the digest alone.
func meta(op *document.Operation, base *url.URL, plan *wire.Plan) ([]byte, error) {
	whole, err := json.Marshal(struct {
		Base string
		Plan *wire.Plan
	}{base.String(), plan})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(whole)
	return json.Marshal(map[string]any{"dev.sallyport/http": map[string]string{
		"method": op.Method, "path": op.Path, "sha256": hex.EncodeToString(sum[:]),
	}})
}

// baseOf returns where an operation is. What the document says counts only where the
// configuration says nothing, and for hosts that it lists.
func (a *api) baseOf(op *document.Operation) (*url.URL, error) {
	if a.cfg.BaseURL != "" {
		return readBase(a.cfg.BaseURL)
	}
	server, err := url.Parse(op.Server)
	if err != nil {
		return nil, errors.New("its server is not a URL; set base_url")
	}
	if a.cfg.URL != "" {
		document, err := url.Parse(a.cfg.URL)
		if err != nil {
			return nil, err
		}
		document.RawQuery = ""
		server = document.ResolveReference(server)
	}
	base, err := readBase(server.String())
	if err != nil {
		return nil, fmt.Errorf("its server: %w; set base_url", err)
	}
	if o, err := egress.OriginOf(base); err != nil || !slices.Contains(a.origins, o) {
		return nil, errors.New("its server is none of the hosts that may be called; set base_url, or list it in hosts")
	}
	return base, nil
}

// outside reports whether calls may leave the company's network: unless all
// addresses that they can go to are of private networks.
func (a API) outside() bool {
	within := func(p netip.Prefix) bool {
		return slices.ContainsFunc([]string{
			"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1/128", "fc00::/7",
		}, func(text string) bool {
			n := netip.MustParsePrefix(text)
			return n.Bits() <= p.Bits() && n.Contains(p.Addr())
		})
	}
	return len(a.Addresses) == 0 || slices.ContainsFunc(a.Addresses, func(p netip.Prefix) bool { return !within(p) })
}

// options are what a tool of a method is taken for.
func (o Options) options(method string, outside bool) (*toolv1.Tool, error) {
	out := &toolv1.Tool{
		Risk: toolv1.Risk_RISK_WRITE, Trust: toolv1.Trust_TRUST_UNTRUSTED, Sensitivity: toolv1.Sensitivity_SENSITIVITY_INTERNAL,
		Outbound: outside, Idempotent: method == "get" || method == "head" || method == "put",
	}
	switch method {
	case "get", "head", "options":
		out.Risk = toolv1.Risk_RISK_READ
	case "delete":
		out.Risk = toolv1.Risk_RISK_DESTRUCTIVE
	}
	word := func(text, prefix string, values map[string]int32, set func(int32)) error {
		if text == "" {
			return nil
		}
		v, ok := values[prefix+strings.ToUpper(text)]
		if !ok || v == 0 || strings.ToLower(text) != text {
			return fmt.Errorf("%.32q is none of those there are", text)
		}
		set(v)
		return nil
	}
	err := errors.Join(
		word(o.Risk, "RISK_", toolv1.Risk_value, func(v int32) { out.Risk = toolv1.Risk(v) }),
		word(o.Sensitivity, "SENSITIVITY_", toolv1.Sensitivity_value, func(v int32) { out.Sensitivity = toolv1.Sensitivity(v) }),
		word(o.Trust, "TRUST_", toolv1.Trust_value, func(v int32) { out.Trust = toolv1.Trust(v) }),
	)
	if o.Outbound != nil {
		out.Outbound = *o.Outbound
	}
	return out, err
}
