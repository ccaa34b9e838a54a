package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
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

// Load makes a set of files, if nothing at all is wrong with them. The error is
// [Problems] and names all that is, with file and line.
func Load(files []File) (*Set, error) {
	check, err := newChecker()
	if err != nil {
		return nil, err
	}
	set := &Set{files: slices.Clone(files)}
	var wrong Problems
	byID := make(map[string]*Rule)
	byName := make(map[string]bool)
	roles := make(map[string]bool)
	for _, file := range files {
		if byName[file.Name] {
			wrong = append(wrong, Problem{File: file.Name, Message: "two files have this name"})
		}
		byName[file.Name] = true
		list, problem := parse(file)
		if problem != nil {
			wrong = append(wrong, *problem)
			continue
		}
		for _, p := range list {
			rule := newRule(p)
			wrong = append(wrong, rule.problems()...)
			wrong = append(wrong, check.rule(rule)...)
			if first := byID[rule.ID]; first != nil && rule.ID != "" {
				wrong = append(wrong, rule.problem("@id(%q) is also at %s", rule.ID, first.Source))
			}
			byID[rule.ID] = rule
			rule.position = len(set.rules)
			set.rules = append(set.rules, rule)
			rule.roles(func(role string) { roles[role] = true })
		}
	}
	if len(set.rules) == 0 && len(wrong) == 0 {
		wrong = append(wrong, Problem{Message: "no policy at all: nobody could do anything"})
	}
	if len(wrong) > 0 {
		wrong.sort(files)
		return nil, wrong
	}
	for role := range roles {
		set.roles = append(set.roles, role)
	}
	slices.Sort(set.roles)
	set.version = Version(files)
	for _, rule := range set.rules {
		rule.split()
		set.warnings = append(set.warnings, rule.warnings()...)
	}
	return set, nil
}

// Version returns a hash of files as they are read, so also of their order. It is
// that of the set that [Load] makes of them.
func Version(files []File) string {
	h := sha256.New()
	for _, file := range files {
		for _, text := range [][]byte{[]byte(file.Name), file.Text} {
			_ = binary.Write(h, binary.BigEndian, uint64(len(text))) // a hash takes everything
			_, _ = h.Write(text)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func parse(file File) (cedar.PolicyList, *Problem) {
	if len(file.Text) > maxFile {
		return nil, &Problem{File: file.Name, Message: fmt.Sprintf("larger than %d KiB", maxFile>>10)}
	}
	if !utf8.Valid(file.Text) {
		return nil, &Problem{File: file.Name, Message: "not UTF-8"}
	}
	list, err := cedar.NewPolicyListFromBytes(file.Name, file.Text)
	if err != nil {
		p := syntax(file.Name, err)
		return nil, &p
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
		file:     p.Position().Filename,
		line:     p.Position().Line,
		permits:  p.Effect() == cedar.Permit,
		tree:     (*ast.Policy)(p.AST()),
		compiled: p,
	}
	for _, condition := range r.tree.Conditions {
		read, paths := reads(condition.Body)
		r.reads |= read & readsAll
		r.person |= read & readsPerson
		r.arguments = append(r.arguments, paths...)
	}
	r.arguments = sorted(r.arguments)
	r.needs = r.reads.needs()
	r.readsObject = readsObject(r.tree)
	return r
}

// problems returns what is wrong with the annotations.
func (r *Rule) problems() (ps []Problem) {
	switch {
	case r.ID == "":
		ps = append(ps, r.problem("a policy without @id, by which decisions name it"))
	case !idPattern.MatchString(r.ID):
		ps = append(ps, r.problem("@id(%q) is not lower-case letters, digits, dots and dashes", r.ID))
	case r.ID == RuleTask || r.ID == RuleKey || r.ID == RuleArguments || r.ID == RuleURI:
		ps = append(ps, r.problem("@id(%q) is the name of a built-in rule", r.ID))
	}
	if !r.permits && r.Reason == "" {
		ps = append(ps, r.problem("a forbid without @reason, the sentence that the caller is told"))
	}
	if len(r.Reason) > maxReason {
		ps = append(ps, r.problem("@reason is longer than %d bytes", maxReason))
	}
	return append(ps, r.approvalProblems()...)
}
