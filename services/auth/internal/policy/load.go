package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"unicode/utf8"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

const (
	// maxFile bounds a file: Cedar's parser is recursive, and a stack that
	// overflows cannot be recovered from.
	maxFile = 256 << 10
	// maxReason is what the contract has room for, with some words around it.
	maxReason = 900
)

// The rules that are not in any file; no policy may take their names.
const (
	// RuleTask is the client's own list of tools that its task needs.
	RuleTask = "task-tools"
	// RuleKey is what a key is restricted to.
	RuleKey = "key-restrictions"
	// RuleArguments is that arguments must be an object that policies can read.
	RuleArguments = "arguments-object"
	// RuleURI is that a URI must not climb, see [Climbs].
	RuleURI = "resource-uri"
)

var idPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,127}$`)

// File is a file of policies.
type File struct {
	// Name is what decisions call it, such as "default.cedar".
	Name string
	// Text is Cedar.
	Text []byte
}

// ReadFiles reads files, and all files called *.cedar in folders. Their order
// is that of paths, in folders by name.
func ReadFiles(paths []string) ([]File, error) {
	var files []File
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("read policies: %w", err)
		}
		names := []string{path}
		if info.IsDir() {
			if names, err = fs.Glob(os.DirFS(path), "*.cedar"); err != nil {
				return nil, fmt.Errorf("read policies: %w", err)
			}
			if len(names) == 0 {
				return nil, fmt.Errorf("read policies: no *.cedar in %s", path)
			}
			for i, name := range names {
				names[i] = filepath.Join(path, name)
			}
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("read policies: %w", err)
			}
			files = append(files, File{Name: filepath.Base(name), Text: text})
		}
	}
	return files, nil
}

// Load makes a set of files, if nothing at all is wrong with them. The error
// names all that is, with file and line.
func Load(files []File) (*Set, error) {
	check, err := newChecker()
	if err != nil {
		return nil, err
	}
	set := new(Set)
	var errs []error
	byID := make(map[string]*Rule)
	byName := make(map[string]bool)
	roles := make(map[string]bool)
	for _, file := range files {
		if byName[file.Name] {
			errs = append(errs, fmt.Errorf("%s: two files have this name", file.Name))
		}
		byName[file.Name] = true
		list, err := parse(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, p := range list {
			rule := newRule(p)
			errs = append(errs, rule.problems()...)
			if err := check.rule(rule); err != nil {
				errs = append(errs, err)
			}
			if first := byID[rule.ID]; first != nil {
				errs = append(errs, fmt.Errorf("%s: @id(%q) is also at %s", rule.Source, rule.ID, first.Source))
			}
			byID[rule.ID] = rule
			set.rules = append(set.rules, rule)
			rule.roles(func(role string) { roles[role] = true })
		}
	}
	if len(set.rules) == 0 && len(errs) == 0 {
		errs = append(errs, errors.New("no policy at all: nobody could do anything"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for role := range roles {
		set.roles = append(set.roles, role)
	}
	slices.Sort(set.roles)
	set.version = version(files)
	return set, nil
}

// version is a hash of files as they are read, so also of their order.
func version(files []File) string {
	h := sha256.New()
	for _, file := range files {
		for _, text := range [][]byte{[]byte(file.Name), file.Text} {
			_ = binary.Write(h, binary.BigEndian, uint64(len(text))) // a hash takes everything
			_, _ = h.Write(text)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func parse(file File) (cedar.PolicyList, error) {
	if len(file.Text) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d KiB", file.Name, maxFile>>10)
	}
	if !utf8.Valid(file.Text) {
		return nil, fmt.Errorf("%s: not UTF-8", file.Name)
	}
	list, err := cedar.NewPolicyListFromBytes(file.Name, file.Text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file.Name, err)
	}
	slices.SortStableFunc(list, func(a, b *cedar.Policy) int {
		return cmp.Compare(a.Position().Offset, b.Position().Offset)
	})
	return list, nil
}

func newRule(p *cedar.Policy) *Rule {
	notes := p.Annotations()
	r := &Rule{
		ID:       string(notes["id"]),
		Reason:   string(notes["reason"]),
		Source:   source(p.Position()),
		Approval: approvalOf(notes),
		permits:  p.Effect() == cedar.Permit,
		tree:     (*ast.Policy)(p.AST()),
		compiled: p,
	}
	r.readsContext, r.readsArguments = reads(r.tree)
	r.readsObject = readsObject(r.tree)
	return r
}

// problems returns what is wrong with the annotations.
func (r *Rule) problems() (errs []error) {
	switch {
	case r.ID == "":
		errs = append(errs, fmt.Errorf("%s: a policy without @id, by which decisions name it", r.Source))
	case !idPattern.MatchString(r.ID):
		errs = append(errs, fmt.Errorf("%s: @id(%q) is not lower-case letters, digits, dots and dashes", r.Source, r.ID))
	case r.ID == RuleTask || r.ID == RuleKey || r.ID == RuleArguments || r.ID == RuleURI:
		errs = append(errs, fmt.Errorf("%s: @id(%q) is the name of a built-in rule", r.Source, r.ID))
	}
	if !r.permits && r.Reason == "" {
		errs = append(errs, fmt.Errorf("%s: a forbid without @reason, the sentence that the caller is told", r.Source))
	}
	if len(r.Reason) > maxReason {
		errs = append(errs, fmt.Errorf("%s: @reason is longer than %d bytes", r.Source, maxReason))
	}
	return append(errs, r.approvalProblems()...)
}
