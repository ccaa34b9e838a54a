package mcpbridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge/internal/client"
)

// The bounds of the contract. What is beyond one is left out as a whole and never
// cut: a description that was cut is not what the upstream says.
const (
	maxURI         = 2048
	maxTitle       = 256
	maxText        = 4096
	maxToolText    = 16384
	maxSchema      = 262144
	maxMeta        = 65536
	maxMIME        = 128
	maxIcons       = 16
	maxIconSource  = 8192
	maxPromptName  = 128
	maxPromptBlank = 64
)

var toolName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

var errBounds = errors.New("larger than what can be passed on")

// named is what all definitions have in common, as they are on the wire.
type named struct {
	Name        string          `json:"name"`
	Title       string          `json:"title"`
	Description string          `json:"description"`
	MIMEType    string          `json:"mimeType"`
	Meta        json.RawMessage `json:"_meta"`
	Icons       json.RawMessage `json:"icons"`
	Annotations json.RawMessage `json:"annotations"`
}

// fits reports whether each text has at most so many characters.
func fits(pairs ...any) bool {
	for i := 0; i+1 < len(pairs); i += 2 {
		if utf8.RuneCountInString(pairs[i].(string)) > pairs[i+1].(int) {
			return false
		}
	}
	return true
}

// tool is a tool that is offered, and how to call it.
type tool struct {
	definition *providerv1.ToolDefinition
	name       string // as the upstream has it
	bindings   []client.Binding
}

// readTool makes a definition of what an upstream says of a tool. Its hints of
// what the tool does are not believed, and so not passed on as options.
func (u Upstream) readTool(raw json.RawMessage, modern bool) (tool, error) {
	var w struct {
		named
		InputSchema  json.RawMessage `json:"inputSchema"`
		OutputSchema json.RawMessage `json:"outputSchema"`
		Execution    struct {
			TaskSupport string `json:"taskSupport"`
		} `json:"execution"`
	}
	if err := json.Unmarshal(raw, &w); err != nil {
		return tool{}, errors.New("not the definition of a tool")
	}
	t := tool{name: w.Name}
	name := *u.Prefix + w.Name
	switch {
	case !toolName.MatchString(name) || w.Name == "":
		return t, errors.New("a name that cannot be used")
	case !u.Tools.admits(w.Name):
		return t, errFiltered
	case w.Execution.TaskSupport == "required":
		return t, errors.New("it can only be called as a task")
	case !fits(w.Title, maxTitle, w.Description, maxToolText):
		return t, errBounds
	}
	d := &providerv1.ToolDefinition{
		Name: name, Title: title(w.named), Description: w.Description,
		Meta: readMeta(w.Meta), Icons: readIcons(w.Icons),
		Options: &toolv1.Tool{Trust: toolv1.Trust_TRUST_UNTRUSTED, Outbound: u.URL != "", Tags: []string{u.Name}},
	}
	if u.timeoutSet {
		d.Options.Timeout = durationpb.New(u.Timeout)
	}
	var err error
	if d.InputSchema, err = readSchema(w.InputSchema, true); err != nil {
		return t, fmt.Errorf("input schema: %w", err)
	}
	if len(w.OutputSchema) > 0 && string(w.OutputSchema) != "null" {
		if d.OutputSchema, err = readSchema(w.OutputSchema, false); err != nil {
			return t, fmt.Errorf("output schema: %w", err)
		}
	}
	if modern {
		if t.bindings, err = client.Bindings(d.InputSchema); err != nil {
			return t, err
		}
	}
	t.definition = d
	return t, nil
}

// errFiltered says that the configuration does not want a tool: nothing to log.
var errFiltered = errors.New("not allowed by the configuration")

// title is the name for people. Before 2025-06-18 tools had it among their hints.
func title(n named) string {
	var a struct {
		Title string `json:"title"`
	}
	if n.Title == "" && json.Unmarshal(n.Annotations, &a) == nil && fits(a.Title, maxTitle) {
		return a.Title
	}
	return n.Title
}

// readSchema checks only what the contract says of the root. Whether it is a
// schema at all is seen where arguments are checked against it.
func readSchema(raw json.RawMessage, object bool) ([]byte, error) {
	b, err := client.Clean(raw)
	if err != nil {
		return nil, err
	}
	if len(b) > maxSchema {
		return nil, errBounds
	}
	if !object {
		if b[0] != '{' && string(b) != "true" && string(b) != "false" {
			return nil, errors.New("not a schema")
		}
		return b, nil
	}
	var root struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(b, &root) != nil || root.Type != "object" {
		return nil, errors.New("its root is not of type object")
	}
	return b, nil
}

// readMeta returns a _meta to pass on: an object that is not too large, or
// nothing.
func readMeta(raw json.RawMessage) []byte {
	b, err := client.Clean(raw)
	if err != nil || len(b) > maxMeta || b[0] != '{' || string(b) == "{}" {
		return nil
	}
	return b
}

// readIcons keeps the icons that can be passed on and that a client may fetch:
// those of https and those that are there.
func readIcons(raw json.RawMessage) []*providerv1.Icon {
	var list []struct {
		Src      string   `json:"src"`
		MIMEType string   `json:"mimeType"`
		Sizes    []string `json:"sizes"`
		Theme    string   `json:"theme"`
	}
	if json.Unmarshal(raw, &list) != nil {
		return nil
	}
	var out []*providerv1.Icon
	for _, i := range list {
		src, err := url.Parse(i.Src)
		if err != nil || src.Scheme != "https" && src.Scheme != "data" || len(out) == maxIcons || len(i.Sizes) > 16 ||
			!fits(i.Src, maxIconSource, i.MIMEType, maxMIME, i.Theme, 16) {
			continue
		}
		long := false
		for _, s := range i.Sizes {
			long = long || !fits(s, 32)
		}
		if !long {
			out = append(out, &providerv1.Icon{Src: i.Src, MimeType: i.MIMEType, Sizes: i.Sizes, Theme: i.Theme})
		}
	}
	return out
}

func readResource(raw json.RawMessage) (*providerv1.Resource, error) {
	var w struct {
		named
		URI  string          `json:"uri"`
		Size json.RawMessage `json:"size"`
	}
	if err := json.Unmarshal(raw, &w); err != nil || w.URI == "" {
		return nil, errors.New("not the definition of a resource")
	}
	if !fits(w.URI, maxURI, w.Name, maxTitle, w.Title, maxTitle, w.Description, maxText, w.MIMEType, maxMIME) {
		return nil, errBounds
	}
	return &providerv1.Resource{
		Uri: w.URI, Name: w.Name, Title: w.Title, Description: w.Description, MimeType: w.MIMEType, Size: readSize(w.Size),
		Annotations: readAnnotations(w.Annotations), Meta: readMeta(w.Meta), Icons: readIcons(w.Icons),
	}, nil
}

func readTemplate(raw json.RawMessage) (*providerv1.ResourceTemplate, error) {
	var w struct {
		named
		URITemplate string `json:"uriTemplate"`
	}
	if err := json.Unmarshal(raw, &w); err != nil || w.URITemplate == "" {
		return nil, errors.New("not the definition of a template")
	}
	if !fits(w.URITemplate, maxURI, w.Name, maxTitle, w.Title, maxTitle, w.Description, maxText, w.MIMEType, maxMIME) {
		return nil, errBounds
	}
	return &providerv1.ResourceTemplate{
		UriTemplate: w.URITemplate, Name: w.Name, Title: w.Title, Description: w.Description, MimeType: w.MIMEType,
		Annotations: readAnnotations(w.Annotations), Meta: readMeta(w.Meta), Icons: readIcons(w.Icons),
	}, nil
}

// prompt is a prompt that is offered, and its name at the upstream.
type prompt struct {
	definition *providerv1.Prompt
	name       string
}

func (u Upstream) readPrompt(raw json.RawMessage) (prompt, error) {
	var w struct {
		named
		Arguments []struct {
			named
			Required bool `json:"required"`
		} `json:"arguments"`
	}
	if err := json.Unmarshal(raw, &w); err != nil || w.Name == "" {
		return prompt{}, errors.New("not the definition of a prompt")
	}
	p := prompt{name: w.Name, definition: &providerv1.Prompt{
		Name: *u.Prefix + w.Name, Title: w.Title, Description: w.Description, Meta: readMeta(w.Meta), Icons: readIcons(w.Icons),
	}}
	if !toolName.MatchString(p.definition.Name) {
		return p, errors.New("a name that cannot be used")
	}
	if !fits(w.Title, maxTitle, w.Description, maxText) || len(w.Arguments) > maxPromptBlank {
		return p, errBounds
	}
	for _, a := range w.Arguments {
		if a.Name == "" || !fits(a.Name, maxPromptName, a.Title, maxTitle, a.Description, maxText) {
			return p, errBounds
		}
		p.definition.Arguments = append(p.definition.Arguments, &providerv1.PromptArgument{
			Name: a.Name, Title: a.Title, Description: a.Description, Required: a.Required,
		})
	}
	return p, nil
}

func readSize(raw json.RawMessage) uint64 {
	var n uint64
	if json.Unmarshal(raw, &n) != nil {
		return 0 // not told
	}
	return n
}

// readAnnotations reads for whom something is. They are hints: those that break a
// rule are left out.
func readAnnotations(raw json.RawMessage) *providerv1.Annotations {
	var w struct {
		Audience     []string `json:"audience"`
		Priority     *float64 `json:"priority"`
		LastModified string   `json:"lastModified"`
	}
	if len(bytes.TrimSpace(raw)) == 0 || json.Unmarshal(raw, &w) != nil {
		return nil
	}
	a := &providerv1.Annotations{}
	for _, who := range w.Audience {
		if (who == "user" || who == "assistant") && len(a.Audience) < 2 {
			a.Audience = append(a.Audience, who)
		}
	}
	if w.Priority != nil && *w.Priority >= 0 && *w.Priority <= 1 {
		a.Priority = w.Priority
	}
	if fits(w.LastModified, 64) {
		a.LastModified = w.LastModified
	}
	if len(a.Audience) == 0 && a.Priority == nil && a.LastModified == "" {
		return nil
	}
	return a
}
