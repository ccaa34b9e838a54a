package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// goTypes are what the YAML library says of Go, which nobody wants to know.
var goTypes = regexp.MustCompile(` (not found )?in type main\.\w+`)

// strictYAML reads a file of one document. What is not known is an error with its
// line.
func strictYAML(path string, text []byte, into any) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: empty", path)
		}
		return fmt.Errorf("%s: %s", path, goTypes.ReplaceAllString(strings.TrimPrefix(err.Error(), "yaml: "), " is not known here"))
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: more than one document", path)
	}
	return nil
}

// caseLines returns the lines of the entries of "cases".
func caseLines(text []byte) (lines []int, err error) {
	var where struct {
		Cases []yaml.Node `yaml:"cases"`
	}
	if err := yaml.Unmarshal(text, &where); err != nil {
		return nil, err
	}
	for _, node := range where.Cases {
		lines = append(lines, node.Line)
	}
	return lines, nil
}
