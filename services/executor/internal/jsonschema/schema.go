// Package jsonschema checks JSON against schemas that other processes have
// written, in the dialects 2020-12 and draft-07.
//
// A schema is hostile until it is compiled: it is read strictly and bounded, it
// refers to nothing outside itself, it cannot apply itself without end, and what
// the check of a value would cost is judged before it is made. Whether a value
// satisfies a schema is decided by github.com/google/jsonschema-go; where and
// why not is told here, by JSON Pointer, and never by repeating the value.
package jsonschema

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
)

// MaxBytes bounds the JSON of a schema.
const MaxBytes = 262144

// budget is what the check of one value may cost. A unit is half a microsecond
// at worst, where everything is wrong and the validator writes long messages
// about it, and a hundredth of that where all is well; an honest schema and a
// value of a few kilobytes need a few thousand.
const budget = 4 << 20

// dialects are the values of $schema, without a fragment, and what the
// validator calls them.
var dialects = map[string]string{
	"": "",
	"https://json-schema.org/draft/2020-12/schema": "https://json-schema.org/draft/2020-12/schema",
	"http://json-schema.org/draft/2020-12/schema":  "https://json-schema.org/draft/2020-12/schema",
	"http://json-schema.org/draft-07/schema":       "http://json-schema.org/draft-07/schema#",
	"https://json-schema.org/draft-07/schema":      "http://json-schema.org/draft-07/schema#",
}

// Schema is a compiled schema. It is safe for concurrent use.
type Schema struct {
	root      *node
	validator *jsonschema.Resolved
}

// Compile reads a schema, which must be a JSON object or a boolean and may hold
// anything.
func Compile(raw []byte) (s *Schema, err error) {
	// The validator is written for people's own schemas. One that makes it panic
	// must cost the sender a tool, not everybody the process.
	defer func() {
		if p := recover(); p != nil {
			s, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	if len(raw) > MaxBytes {
		return nil, fmt.Errorf("%d bytes: must be at most %d", len(raw), MaxBytes)
	}
	doc, bad := decode(raw, documents)
	if bad != nil {
		return nil, asError(bad)
	}
	b := &builder{
		byPath: make(map[string]*node), byAnchor: make(map[string]*node), refs: make(map[*node]string),
	}
	if v := doc.object["$schema"]; v != nil {
		b.dialect, _ = v.plain.(string)
	}
	dialect, ok := dialects[strings.TrimSuffix(b.dialect, "#")]
	if !ok {
		return nil, fmt.Errorf("the dialect %s is not supported", strconv.Quote(shorten(b.dialect)))
	}
	if v := doc.object["$id"]; v != nil {
		b.id, _ = v.plain.(string)
	}
	root, err := b.node("", doc)
	if err != nil {
		return nil, err
	}
	if err := b.link(); err != nil {
		return nil, err
	}
	if err := b.bound(); err != nil {
		return nil, err
	}
	var parsed jsonschema.Schema
	if err := json.Unmarshal(raw, &parsed); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	parsed.Schema = dialect
	// No loader: a reference to elsewhere is an error. The base only makes a
	// relative $id absolute; nobody looks there.
	resolved, err := parsed.Resolve(&jsonschema.ResolveOptions{BaseURI: "schema://root/"})
	if err != nil {
		return nil, errors.New(shorten(err.Error()))
	}
	return &Schema{root: root, validator: resolved}, nil
}

// IsObject reports whether the schema says at its root that it is for objects.
func (s *Schema) IsObject() bool { return s.root.text("type") == "object" }

// CheckArguments is [Schema.Check] for what a client has sent, of which less is
// read.
func (s *Schema) CheckArguments(raw []byte) ([]*executorv1.Violation, error) {
	return s.check(raw, strictjson.DefaultLimits())
}

// Check returns what is wrong with a JSON document, nothing if it is strict
// JSON and satisfies the schema, and an error if that could not be decided.
func (s *Schema) Check(raw []byte) ([]*executorv1.Violation, error) { return s.check(raw, documents) }

func (s *Schema) check(raw []byte, limits strictjson.Limits) (wrong []*executorv1.Violation, err error) {
	defer func() {
		if p := recover(); p != nil {
			wrong, err = nil, fmt.Errorf("validate: panic: %v", p)
		}
	}()
	v, bad := decode(raw, limits)
	if bad != nil {
		return []*executorv1.Violation{bad}, nil
	}
	c := costs{left: budget}
	if c.spend(s.root, v, 0); c.left < 0 {
		return []*executorv1.Violation{violation("", "is too large to be checked against the schema")}, nil
	}
	if s.validator.Validate(v.plain) == nil {
		return nil, nil
	}
	e := explainer{left: budget}
	e.explain(s.root, v, "")
	if len(e.wrong) == 0 { // by a keyword that is not told of in detail
		return []*executorv1.Violation{violation("", "does not satisfy the schema")}, nil
	}
	return e.wrong, nil
}
