package document

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// maxOperations bounds the operations of one document.
const maxOperations = 10_000

// Document is an OpenAPI document that can be used.
type Document struct {
	// Operations are all that it has, by path and method.
	Operations []*Operation
}

// Operation is one operation of a document.
type Operation struct {
	// ID is its operationId, or empty.
	ID string
	// Method is one of HTTP, in capitals.
	Method string
	// Path is a template: "/pets/{petId}".
	Path string
	// Tags it is sorted by.
	Tags []string
	// Summary and Description are for people, and may be of any length.
	Summary, Description string
	// Deprecated says that it should not be used any more.
	Deprecated bool
	// Server is where it is, with variables filled in by their defaults: a URL, or a
	// reference relative to that of the document. It may be empty.
	Server string

	of   *openapi3.Operation
	item *openapi3.PathItem
}

// Name is what people call the operation by in the configuration: its id, or method
// and path where it has none.
func (o *Operation) Name() string {
	if o.ID != "" {
		return o.ID
	}
	return o.Method + " " + o.Path
}

// Parse reads a document. Whatever it holds, it costs no more than its size allows,
// and nothing is loaded from elsewhere.
func Parse(raw []byte) (doc *Document, err error) {
	// The library is written for people's own documents. One that makes it panic must
	// cost its API the tools, not everybody the process.
	defer func() {
		if p := recover(); p != nil {
			doc, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	raw, err = canonical(raw)
	if err != nil {
		return nil, err
	}
	var head struct {
		OpenAPI string `json:"openapi"`
		Swagger string `json:"swagger"`
	}
	if err := json.Unmarshal(raw, &head); err != nil || !version.MatchString(head.OpenAPI) {
		if head.Swagger != "" {
			return nil, errors.New("a document of Swagger 2; convert it to OpenAPI 3 first")
		}
		return nil, errors.New("openapi: not 3.0, 3.1 or 3.2")
	}
	if err := unchained(raw); err != nil {
		return nil, err
	}
	t := &openapi3.T{}
	if err := json.Unmarshal(raw, t); err != nil {
		return nil, fmt.Errorf("not an OpenAPI document: %w", err)
	}
	loader := openapi3.NewLoader() // which loads nothing: IsExternalRefsAllowed is false
	if err := loader.ResolveRefsIn(t, nil); err != nil {
		return nil, fmt.Errorf("not an OpenAPI document: %w", err)
	}
	return collect(t)
}

var version = regexp.MustCompile(`^3\.[0-2](\.[0-9]{1,3})?$`)

func collect(t *openapi3.T) (*Document, error) {
	doc := &Document{}
	paths := t.Paths.Map()
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item := paths[path]
		if item == nil {
			continue
		}
		all := item.Operations()
		for _, method := range slices.Sorted(maps.Keys(all)) {
			op := all[method]
			if op == nil {
				continue
			}
			if len(doc.Operations) == maxOperations {
				return nil, fmt.Errorf("paths: more than %d operations", maxOperations)
			}
			doc.Operations = append(doc.Operations, &Operation{
				ID: op.OperationID, Method: strings.ToUpper(method), Path: path, Tags: op.Tags,
				Summary: op.Summary, Description: op.Description, Deprecated: op.Deprecated,
				Server: server(op, item, t), of: op, item: item,
			})
		}
	}
	return doc, nil
}

// server returns the first of the servers that are said nearest to an operation.
func server(op *openapi3.Operation, item *openapi3.PathItem, t *openapi3.T) string {
	servers := t.Servers
	if len(item.Servers) > 0 {
		servers = item.Servers
	}
	if op.Servers != nil && len(*op.Servers) > 0 {
		servers = *op.Servers
	}
	if len(servers) == 0 || servers[0] == nil {
		return ""
	}
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(servers[0].Variables)) {
		if v := servers[0].Variables[name]; v != nil {
			pairs = append(pairs, "{"+name+"}", v.Default)
		}
	}
	return strings.NewReplacer(pairs...).Replace(servers[0].URL)
}
