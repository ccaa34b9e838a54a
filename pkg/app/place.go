package app

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Placed is an error about one value of a configuration.
type Placed interface {
	error
	// Path names the value within its section, such as "rules[3].match.tool".
	Path() string
}

// Place returns where a value stands in a document: the line and column of the
// value, or of the nearest thing around it that is there. They count from 1.
func Place(root *yaml.Node, path string) (line, column int) {
	at := root
	if at.Kind == yaml.DocumentNode && len(at.Content) == 1 {
		at = at.Content[0]
	}
	for _, step := range strings.Split(strings.ReplaceAll(path, "[", ".["), ".") {
		next := child(at, step)
		if next == nil {
			break
		}
		at = next
	}
	return max(at.Line, 1), max(at.Column, 1)
}

// child is what a name or "[3]" leads to; nil if there is nothing.
func child(n *yaml.Node, step string) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if index, ok := strings.CutPrefix(step, "["); ok && n.Kind == yaml.SequenceNode {
		i, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
		if err != nil || i < 0 || i >= len(n.Content) {
			return nil
		}
		return n.Content[i]
	}
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i+1]
			}
		}
	}
	return nil
}

// located puts file, line and column in front of each error about a value of a
// section.
func (c Config) located(err error, section *yaml.Node) error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		errs := many.Unwrap()
		for i := range errs {
			errs[i] = c.located(errs[i], section)
		}
		return errors.Join(errs...)
	}
	placed, ok := errors.AsType[Placed](err)
	if !ok || c.file == "" {
		return err
	}
	line, column := Place(section, placed.Path())
	return fmt.Errorf("%s:%d:%d: %w", c.file, line, column, err)
}
