// Package document reads OpenAPI documents, 3.0 to 3.2, of people whom nobody
// vouches for. A document is bounded before the library sees it, refers to nothing
// outside itself, and what of it is used is checked here; the rest, such as examples
// and callbacks, is not looked at.
package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"
)

// Bounds on a document, besides its size in bytes.
const (
	maxDepth = 100
	maxNodes = 500_000
)

var (
	errDepth = fmt.Errorf("nested deeper than %d levels", maxDepth)
	errNodes = fmt.Errorf("more than %d values, those of repeated anchors counted each time", maxNodes)
	errMerge = errors.New("merge keys (<<) are not supported; write the members out")
)

// canonical returns a document, in JSON or YAML, as JSON without a key that comes
// twice, anchors or invalid UTF-8. The errors say where the mistake is.
func canonical(raw []byte) ([]byte, error) {
	raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
	if b := bytes.TrimLeft(raw, " \t\r\n"); len(b) > 0 && b[0] == '{' {
		return fromJSON(b)
	}
	return fromYAML(raw)
}

func fromJSON(raw []byte) ([]byte, error) {
	d := jsontext.NewDecoder(bytes.NewReader(raw))
	for n := 0; ; n++ {
		depth := d.StackDepth()
		_, err := d.ReadToken()
		switch {
		case errors.Is(err, io.EOF) && d.StackDepth() == 0:
			return raw, nil
		case err == nil && n > 0 && depth == 0:
			return nil, errors.New("JSON with something after it")
		case err != nil:
			return nil, fmt.Errorf("not strict JSON: %w", err)
		case d.StackDepth() > maxDepth:
			return nil, fmt.Errorf("at %.200s: %w", d.StackPointer(), errDepth)
		case n > 2*maxNodes: // names count here, too
			return nil, errNodes
		}
	}
}

func fromYAML(raw []byte) ([]byte, error) {
	d := yaml.NewDecoder(bytes.NewReader(raw))
	var root yaml.Node
	if err := d.Decode(&root); err != nil {
		return nil, fmt.Errorf("neither JSON nor YAML: %w", err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document, or something after the first")
	}
	w := &yamlWriter{}
	if err := w.value(&root, 0); err != nil {
		return nil, err
	}
	return w.out.Bytes(), nil
}

// yamlWriter writes a YAML node as JSON.
type yamlWriter struct {
	out   bytes.Buffer
	nodes int
}

func (w *yamlWriter) value(n *yaml.Node, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("line %d: %w", n.Line, errDepth)
	}
	if w.nodes++; w.nodes > maxNodes {
		return fmt.Errorf("line %d: %w", n.Line, errNodes)
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return w.value(n.Content[0], depth)
	case yaml.AliasNode: // one that holds itself ends at the depth
		return w.value(n.Alias, depth+1)
	case yaml.SequenceNode:
		w.out.WriteByte('[')
		for i, c := range n.Content {
			if i > 0 {
				w.out.WriteByte(',')
			}
			if err := w.value(c, depth+1); err != nil {
				return err
			}
		}
		w.out.WriteByte(']')
		return nil
	case yaml.MappingNode:
		return w.mapping(n, depth)
	}
	return w.scalar(n)
}

func (w *yamlWriter) mapping(n *yaml.Node, depth int) error {
	seen := make(map[string]bool, len(n.Content)/2)
	w.out.WriteByte('{')
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		for key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		switch {
		case key.Kind != yaml.ScalarNode:
			return fmt.Errorf("line %d: a key that is not plain text", n.Content[i].Line)
		case key.ShortTag() == "!!merge":
			return fmt.Errorf("line %d: %w", key.Line, errMerge)
		case seen[key.Value]:
			return fmt.Errorf("line %d: the key %.64q comes twice", key.Line, key.Value)
		}
		seen[key.Value] = true
		if i > 0 {
			w.out.WriteByte(',')
		}
		if err := w.json(key.Value); err != nil { // a status code is a key of numbers
			return err
		}
		w.out.WriteByte(':')
		if err := w.value(n.Content[i+1], depth+1); err != nil {
			return err
		}
	}
	w.out.WriteByte('}')
	return nil
}

func (w *yamlWriter) scalar(n *yaml.Node) error {
	switch n.ShortTag() {
	case "!!null":
		w.out.WriteString("null")
		return nil
	case "!!bool", "!!int", "!!float":
		var v any
		if err := n.Decode(&v); err != nil {
			return fmt.Errorf("line %d: %.64q is not what it looks like", n.Line, n.Value)
		}
		if f, ok := v.(float64); ok && (math.IsInf(f, 0) || math.IsNaN(f)) {
			return fmt.Errorf("line %d: %s is no number of JSON", n.Line, n.Value)
		}
		return w.json(v)
	}
	return w.json(n.Value) // dates are text to JSON
}

func (w *yamlWriter) json(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.out.Write(b)
	return nil
}
