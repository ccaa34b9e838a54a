package quota

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-mcp/sallyport/pkg/app"
)

// Bounds of files of rules.
const (
	maxRuleFile  = 1 << 20 // bytes of one file
	maxRuleFiles = 256
	maxRules     = 1000
)

// ruleFile is one file of rules, as it was read.
type ruleFile struct {
	name string
	text []byte
}

// ruleFileContent is what stands in a file of rules.
type ruleFileContent struct {
	// Rules are as in [Config].
	Rules []Rule `yaml:"rules"`
	// Attributes are those that rules of any file may use besides the known ones and
	// those of the configuration.
	Attributes []string `yaml:"attributes"`
}

// readRuleFiles reads files, and all files called *.yaml in folders. Their order
// is that of paths, in folders by name.
func readRuleFiles(paths []string) ([]ruleFile, error) {
	var files []ruleFile
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("read quota rules: %w", err)
		}
		names := []string{path}
		if info.IsDir() {
			if names, err = fs.Glob(os.DirFS(path), "*.yaml"); err != nil {
				return nil, fmt.Errorf("read quota rules: %w", err)
			}
			if len(names) == 0 {
				return nil, fmt.Errorf("read quota rules: no *.yaml in %s", path)
			}
			for i, name := range names {
				names[i] = filepath.Join(path, name)
			}
		}
		for _, name := range names {
			text, err := readRuleFile(name)
			if err != nil {
				return nil, fmt.Errorf("read quota rules: %w", err)
			}
			if files = append(files, ruleFile{name, text}); len(files) > maxRuleFiles {
				return nil, fmt.Errorf("read quota rules: more than %d files; put rules together", maxRuleFiles)
			}
		}
	}
	return files, nil
}

func readRuleFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was read only
	text, err := io.ReadAll(io.LimitReader(f, maxRuleFile+1))
	if err == nil && len(text) > maxRuleFile {
		err = fmt.Errorf("%s: more than %d bytes; divide it into several files", name, maxRuleFile)
	}
	return text, err
}

// filesVersion tells whether files are the same.
func filesVersion(files []ruleFile) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%q %d ", f.name, len(f.text))
		h.Write(f.text)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// places knows where in files the rules of a configuration stand.
type places struct {
	rules, attributes []place // by index
}

// place is an element of a list in a file.
type place struct {
	file string
	root *yaml.Node
	path string // in the file
}

// parseRules reads files into a copy of cfg: all rules of all files, in their
// order. The error holds every mistake that can be told without knowing what the
// rules mean, with its place.
func parseRules(cfg Config, files []ruleFile) (Config, *places, error) {
	var errs []error
	at := new(places)
	cfg.Rules, cfg.Attributes = nil, append([]string(nil), cfg.Attributes...)
	for range cfg.Attributes {
		at.attributes = append(at.attributes, place{}) // of the configuration, which was checked
	}
	for _, f := range files {
		var root yaml.Node
		if err := yaml.Unmarshal(f.text, &root); err != nil {
			errs = append(errs, yamlErrors(f.name, nil, err)...)
			continue
		}
		var content ruleFileContent
		d := yaml.NewDecoder(bytes.NewReader(f.text))
		d.KnownFields(true)
		if err := d.Decode(&content); err != nil && !errors.Is(err, io.EOF) {
			errs = append(errs, yamlErrors(f.name, &root, err)...)
			continue
		}
		if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
			errs = append(errs, fmt.Errorf("%s: has more than one document; there must be one", f.name))
		}
		for i := range content.Rules {
			at.rules = append(at.rules, place{f.name, &root, fmt.Sprintf("rules[%d]", i)})
		}
		for i := range content.Attributes {
			at.attributes = append(at.attributes, place{f.name, &root, fmt.Sprintf("attributes[%d]", i)})
		}
		cfg.Rules = append(cfg.Rules, content.Rules...)
		cfg.Attributes = append(cfg.Attributes, content.Attributes...)
	}
	if len(cfg.Rules) > maxRules {
		errs = append(errs, fmt.Errorf("%d rules in all files, and %d are taken", len(cfg.Rules), maxRules))
	}
	return cfg, at, errors.Join(errs...)
}

var (
	element   = regexp.MustCompile(`^(rules|attributes)\[(\d+)\](.*)$`)
	yamlLine  = regexp.MustCompile(`^line (\d+): `)
	yamlField = regexp.MustCompile(`^field (\S+) not found in type \S+$`)
)

// locate says of each mistake where it is.
func (p *places) locate(err error) error {
	var errs []error
	for _, one := range parts(err) {
		m, ok := errors.AsType[*mistake](one)
		if !ok {
			errs = append(errs, one)
			continue
		}
		errs = append(errs, fmt.Errorf("%s: %w", p.of(m.path), m.err))
	}
	return errors.Join(errs...)
}

// of is where in the files a path of the configuration is, as file:line:column and
// the path in the file.
func (p *places) of(path string) string {
	found := element.FindStringSubmatch(path)
	if found == nil {
		return path
	}
	list := p.rules
	if found[1] == "attributes" {
		list = p.attributes
	}
	i, err := strconv.Atoi(found[2])
	if err != nil || i >= len(list) || list[i].root == nil {
		return path
	}
	at := list[i]
	line, column := app.Place(at.root, at.path+found[3])
	return fmt.Sprintf("%s:%d:%d: %s%s", at.file, line, column, at.path, found[3])
}

// parts takes joined errors apart.
func parts(err error) (all []error) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			all = append(all, parts(e)...)
		}
		return all
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// problemsOf makes a sentence of each part of an error.
func problemsOf(err error) (all []string) {
	for _, e := range parts(err) {
		text := e.Error()
		if len(text) > 1000 {
			text = strings.ToValidUTF8(text[:1000], "") + "…"
		}
		if all = append(all, text); len(all) == maxProblems {
			break
		}
	}
	return all
}

// yamlErrors makes an error with a place of each that the parser found. It tells
// lines; the column of a field that is not known is found in the tree.
func yamlErrors(file string, root *yaml.Node, err error) (errs []error) {
	texts := []string{strings.TrimPrefix(err.Error(), "yaml: ")}
	if many, ok := errors.AsType[*yaml.TypeError](err); ok {
		texts = many.Errors
	}
	for _, text := range texts {
		at := ""
		if found := yamlLine.FindStringSubmatch(text); found != nil {
			text, at = strings.TrimPrefix(text, found[0]), ":"+found[1]
			if field := yamlField.FindStringSubmatch(text); field != nil {
				text = fmt.Sprintf("field %s is not known here", field[1])
				line, _ := strconv.Atoi(found[1]) // digits; 0 where they are too many
				if column := columnOf(root, field[1], line); column > 0 {
					at += ":" + strconv.Itoa(column)
				}
			}
		}
		errs = append(errs, fmt.Errorf("%s%s: %s", file, at, text))
	}
	return errs
}

// columnOf is where a key stands in a line; 0 if it does not.
func columnOf(n *yaml.Node, key string, line int) int {
	if n == nil {
		return 0
	}
	if n.Kind == yaml.MappingNode {
		for i := 0; i < len(n.Content); i += 2 {
			if k := n.Content[i]; k.Line == line && k.Value == key {
				return k.Column
			}
		}
	}
	for _, c := range n.Content {
		if column := columnOf(c, key, line); column > 0 {
			return column
		}
	}
	return 0
}
