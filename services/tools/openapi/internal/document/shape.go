package document

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"regexp"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/wire"
)

// maxParameters bounds the parameters of one operation.
const maxParameters = 200

// Shape is what a tool is made of: what goes in, what comes out, and how it is
// asked for.
type Shape struct {
	// Input is a JSON Schema 2020-12 of type object.
	Input []byte
	// Output is that of the answer, or empty where it need not be a JSON object.
	Output []byte
	// Plan is how arguments become a request.
	Plan *wire.Plan
}

// Shape returns what a tool for the operation is made of. What header, query or
// cookie parameters taken reports is somebody else's to set, such as credentials,
// and is left out. An error says why the operation cannot be a tool.
func (o *Operation) Shape(taken func(in, name string) bool) (shape *Shape, err error) {
	defer func() {
		if p := recover(); p != nil {
			shape, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	b := &builder{op: o, taken: taken, plan: &wire.Plan{Method: o.Method, Path: o.Path}, used: map[string]bool{}}
	if err := b.parameters(); err != nil {
		return nil, err
	}
	if err := b.body(); err != nil {
		return nil, err
	}
	if o.streams() {
		return nil, errors.New("it answers with a stream of events, which is not passed on")
	}
	if err := b.plan.Validate(); err != nil {
		return nil, err
	}
	input, err := convert(inbound, b.input)
	if err != nil {
		return nil, err
	}
	shape = &Shape{Plan: b.plan}
	if shape.Input, err = json.Marshal(input); err != nil {
		return nil, err
	}
	shape.Output, err = o.output()
	return shape, err
}

// builder makes the plan of an operation, and then the schema of its arguments.
type builder struct {
	op      *Operation
	taken   func(in, name string) bool
	plan    *wire.Plan
	used    map[string]bool       // names of arguments
	sources []*openapi3.Parameter // of plan.Parameters
	content []*openapi3.SchemaRef // their schemas
	media   *openapi3.MediaType   // of the body
	request *openapi3.RequestBody // nil for none
}

// parameters reads those of the operation, and those of its path that it does not
// replace.
func (b *builder) parameters() error {
	type key struct{ in, name string }
	all := map[key]*openapi3.Parameter{}
	var order []key
	for _, list := range []openapi3.Parameters{b.op.of.Parameters, b.op.item.Parameters} {
		for i, r := range list {
			if r == nil || r.Value == nil {
				return fmt.Errorf("parameters/%d: %w", i, errNowhere)
			}
			k := key{r.Value.In, r.Value.Name}
			if all[k] == nil {
				all[k] = r.Value
				order = append(order, k)
			}
		}
	}
	if len(order) > maxParameters {
		return fmt.Errorf("more than %d parameters", maxParameters)
	}
	// Those of the path first: they keep their names where another is called the same.
	rank := []string{"path", "query", "header", "cookie"}
	slices.SortStableFunc(order, func(x, y key) int { return slices.Index(rank, x.in) - slices.Index(rank, y.in) })
	for _, k := range order {
		if err := b.parameter(all[k]); err != nil {
			return fmt.Errorf("the %.16s parameter %.64q: %w", k.in, k.name, err)
		}
	}
	return nil
}

func (b *builder) parameter(p *openapi3.Parameter) error {
	if p.In == "header" && strings.EqualFold(p.Name, "Idempotency-Key") {
		b.plan.IdempotencyKey = true // that of the call
		return nil
	}
	switch {
	case p.In == "header" && slices.Contains([]string{"accept", "content-type", "authorization"}, strings.ToLower(p.Name)):
		return nil // to be ignored, says the specification
	case p.In != "path" && b.taken(p.In, p.Name):
		return nil
	case p.In == "header" && !wire.Settable(p.Name) || p.In == "cookie" && !wire.Token(p.Name):
		if p.Required {
			return errors.New("is required, and arguments cannot set it")
		}
		return nil
	}
	how, err := p.SerializationMethod()
	if err != nil {
		return err
	}
	schema, asJSON := p.Schema, false
	if len(p.Content) > 0 {
		media := p.Content["application/json"]
		if media == nil {
			return errors.New("is not JSON, and has a content type")
		}
		schema, asJSON = media.Schema, true
	}
	b.plan.Parameters = append(b.plan.Parameters, wire.Parameter{
		Argument: b.argument(p.Name, p.In), Name: p.Name, In: p.In, Style: how.Style, Explode: how.Explode, JSON: asJSON,
		Required: p.Required || p.In == "path",
	})
	b.sources, b.content = append(b.sources, p), append(b.content, schema)
	return nil
}

var notInArgument = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// argument finds a name that models and their clients can use.
func (b *builder) argument(name, in string) string {
	base := strings.Trim(notInArgument.ReplaceAllString(name, "_"), "_")
	if base == "" || len(base) > 48 {
		base = fmt.Sprintf("%s_%d", in, len(b.plan.Parameters)+1)
	}
	for _, tried := range []string{base, base + "_" + in} {
		if !b.used[tried] {
			base = tried
			break
		}
	}
	free := base
	for n := 2; b.used[free]; n++ {
		free = fmt.Sprintf("%s_%d", base, n)
	}
	b.used[free] = true
	return free
}

// kinds are the bodies that can be sent, the better ones first.
var kinds = []struct {
	kind  wire.Kind
	takes func(mediaType string) bool
}{
	{wire.JSON, isJSON},
	{wire.Form, func(m string) bool { return m == "application/x-www-form-urlencoded" }},
	{wire.Multipart, func(m string) bool { return m == "multipart/form-data" }},
	{wire.Text, func(m string) bool { return m == "text/plain" }},
}

// isJSON reports whether a media type is that of JSON.
func isJSON(m string) bool { return m == "application/json" || strings.HasSuffix(m, "+json") }

func (b *builder) body() error {
	r := b.op.of.RequestBody
	if r == nil {
		return nil
	}
	if r.Value == nil {
		return fmt.Errorf("requestBody: %w", errNowhere)
	}
	if b.op.Method == "GET" || b.op.Method == "HEAD" {
		if r.Value.Required {
			return errors.New("a GET or HEAD with a body is not sent")
		}
		return nil
	}
	types := slices.Sorted(maps.Keys(r.Value.Content))
	for _, k := range kinds {
		for _, t := range types {
			m, _, err := mime.ParseMediaType(t)
			if err != nil || !k.takes(m) {
				continue
			}
			b.media, b.request = r.Value.Content[t], r.Value
			b.plan.Body = &wire.Body{Argument: b.argument("body", "request"), Kind: k.kind, Type: m, Required: r.Value.Required}
			if k.kind == wire.Multipart {
				return b.multipart()
			}
			return nil
		}
	}
	return errors.New("the body is neither JSON nor a form, nor multipart/form-data, nor plain text")
}

// input writes the schema of the arguments.
func (b *builder) input(c *converter) (map[string]any, error) {
	properties, required := map[string]any{}, []string{}
	add := func(argument, description string, must bool, r *openapi3.SchemaRef) error {
		s, err := c.schema(r, 1)
		if err != nil {
			return fmt.Errorf("the schema of %s: %w", argument, err)
		}
		properties[argument] = describe(s, description)
		if must {
			required = append(required, argument)
		}
		return nil
	}
	for i, p := range b.plan.Parameters {
		if err := add(p.Argument, b.sources[i].Description, p.Required, b.content[i]); err != nil {
			return nil, err
		}
	}
	if body := b.plan.Body; body != nil {
		var schema *openapi3.SchemaRef
		if b.media != nil {
			schema = b.media.Schema
		}
		if schema == nil && body.Kind == wire.Text {
			schema = openapi3.NewStringSchema().NewRef()
		}
		if err := add(body.Argument, b.request.Description, body.Required, schema); err != nil {
			return nil, err
		}
	}
	out := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		slices.Sort(required)
		out["required"] = required
	}
	return out, nil
}

// describe adds what is said of an argument to its schema.
func describe(s any, text string) any {
	if text == "" || len(text) > maxNote {
		return s
	}
	switch s := s.(type) {
	case bool:
		if s {
			return map[string]any{"description": text}
		}
	case map[string]any:
		if _, ref := s["$ref"]; ref {
			return map[string]any{"description": text, "allOf": []any{s}}
		}
		s["description"] = text
	}
	return s
}

// streams reports whether an operation promises nothing but streams of events.
func (o *Operation) streams() bool {
	types := 0
	for code, r := range o.of.Responses.Map() {
		if !strings.HasPrefix(code, "2") || r == nil || r.Value == nil {
			continue
		}
		for t := range r.Value.Content {
			if m, _, err := mime.ParseMediaType(t); err != nil || m != "text/event-stream" {
				return false
			}
			types++
		}
	}
	return types > 0
}

// output writes the schema of what comes back, if that is certain: there is one
// answer of success, and it is a JSON object.
func (o *Operation) output() ([]byte, error) {
	var only *openapi3.ResponseRef
	for code, r := range o.of.Responses.Map() {
		if !strings.HasPrefix(code, "2") {
			continue
		}
		if only != nil || r == nil || r.Value == nil {
			return nil, nil
		}
		only = r
	}
	if only == nil || o.Method == "HEAD" || len(only.Value.Content) != 1 {
		return nil, nil
	}
	for t, media := range only.Value.Content {
		if m, _, err := mime.ParseMediaType(t); err != nil || !isJSON(m) || media == nil || media.Schema == nil {
			return nil, nil
		}
		root, err := convert(outbound, func(c *converter) (map[string]any, error) {
			if media.Schema.Value == nil {
				return nil, errNowhere
			}
			s, err := c.write(media.Schema.Value, 0)
			m, _ := s.(map[string]any)
			return m, err
		})
		if err != nil || root == nil || root["type"] != "object" {
			return nil, nil //nolint:nilerr // the answer is passed on without a promise
		}
		return json.Marshal(root)
	}
	return nil, nil
}
