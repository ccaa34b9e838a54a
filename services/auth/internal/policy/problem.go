package policy

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Problem is one mistake in policies, or something that is worth a look.
type Problem struct {
	// File is the name of the file; empty where it is about the whole set.
	File string
	// Line counts from 1; 0 where it is about the whole file or set.
	Line int
	// Message says what is wrong.
	Message string
	// Warning says that the policies can hold all the same.
	Warning bool
}

// String returns the problem with its place in front, "default.cedar:12: …".
func (p Problem) String() string {
	switch {
	case p.File == "":
		return p.Message
	case p.Line == 0:
		return p.File + ": " + p.Message
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Message)
}

// Problems is the error that [Load] returns: all that is wrong with a set.
type Problems []Problem

// Error implements error, with a line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// sort puts problems into the order in which they are read: by file as given, by
// line.
func (ps Problems) sort(files []File) {
	place := func(name string) int {
		return slices.IndexFunc(files, func(f File) bool { return f.Name == name })
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(place(a.File), place(b.File)), cmp.Compare(a.Line, b.Line))
	})
}

// problem is a mistake in a policy.
func (r *Rule) problem(format string, args ...any) Problem {
	return Problem{File: r.file, Line: r.line, Message: fmt.Sprintf(format, args...)}
}

// mistakes makes problems of an error of Cedar's validator, which may be many.
// The validator looks at a policy once for each action, in no order, and finds
// the same each time.
func (r *Rule) mistakes(err error) (ps []Problem) {
	for _, text := range sorted(texts(err)) {
		ps = append(ps, r.problem("policy %q: %s", r.ID, text))
	}
	return ps
}

// inAction is what the validator adds where it looks at one action.
var inAction = regexp.MustCompile(` for Action::"[^"]*"`)

// texts takes joined errors apart.
func texts(err error) (all []string) {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			all = append(all, texts(e)...)
		}
		return all
	}
	return []string{inAction.ReplaceAllString(err.Error(), "")}
}

// position is how Cedar's parser tells where it stopped; it does not know the
// name of the file.
var position = regexp.MustCompile(`<input>:(\d+):\d+:? ?`)

// syntax makes a problem of an error of Cedar's parser.
func syntax(file string, err error) Problem {
	text := strings.TrimPrefix(err.Error(), "parser error: ")
	p := Problem{File: file}
	if found := position.FindStringSubmatch(text); found != nil {
		p.Line, _ = strconv.Atoi(found[1]) // digits; 0 where they are too many
		text = strings.Replace(text, found[0], "", 1)
	}
	p.Message = strings.TrimSpace(text)
	return p
}
