package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

func policyCommand(o *operator) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Look at policies, check, test and change them",
		Example: `  sallyport policy show --out policies          what holds now, into files
  sallyport policy check policies               is anything wrong with them?
  sallyport policy test cases.yaml              do they say what they should?
  sallyport policy diff policies --replay 24h   what would have been decided otherwise?
  sallyport policy push policies                let them hold`,
		Args: cobra.ArbitraryArgs,
		RunE: group,

		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(policyShowCommand(o), policyCheckCommand(o), policyTestCommand(o), policyDiffCommand(o), policyPushCommand(o), policyRemoveCommand(o))
	return cmd
}

// legislator does the work of these commands, apart from where the services and
// the terminal are.
type legislator struct {
	policies authv1.PolicyServiceClient
	in       *bufio.Reader
	out      io.Writer
	err      io.Writer
	json     bool
	asks     bool // there is somebody to ask
	colour   bool
}

// legislating calls a command's work with a legislator for the running system.
func (o *operator) legislating(cmd *cobra.Command, out output, work func(*legislator) error) error {
	conn, err := o.dial("auth")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // the process ends
	l := atDesk(cmd, out)
	l.policies = authv1.NewPolicyServiceClient(conn)
	return work(l)
}

// atDesk is a legislator who has no services yet.
func atDesk(cmd *cobra.Command, out output) *legislator {
	return &legislator{
		in: bufio.NewReader(cmd.InOrStdin()), out: cmd.OutOrStdout(), err: cmd.ErrOrStderr(), json: out.json(),
		asks: terminal(cmd.InOrStdin()) && !out.json(), colour: colourful(cmd.OutOrStdout()),
	}
}

func policyShowCommand(o *operator) *cobra.Command {
	var out output
	var dir string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the policies that hold, and where they come from",
		Example: `  sallyport policy show
  sallyport policy show --out policies`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.legislating(cmd, out, func(l *legislator) error { return l.show(cmd.Context(), dir) })
		},
	}
	out.register(cmd)
	cmd.Flags().StringVar(&dir, "out", "", "write the files into this `folder`; nothing that is there and differs is overwritten")
	return cmd
}

func (l *legislator) show(ctx context.Context, dir string) error {
	resp, err := l.policies.GetPolicies(ctx, &authv1.GetPoliciesRequest{})
	if err != nil {
		return unanswered(err)
	}
	if dir != "" {
		if err := writePolicies(dir, resp.GetFiles()); err != nil {
			return failed(err)
		}
	}
	all := statements(resp.GetFiles())
	if l.json {
		return l.showJSON(resp, all)
	}
	p := &paper{w: l.out}
	p.line("version", resp.GetVersion())
	p.line("source", origin(resp))
	p.line("since", stamp(resp.GetLoadTime()))
	p.line("roles", strings.Join(resp.GetRoles(), ", "))
	for i, f := range resp.GetFiles() {
		label, at := "", ""
		if i == 0 {
			label = "files"
		}
		if dir != "" {
			at = ", written to " + filepath.Join(dir, f.GetName())
		}
		p.line(label, fmt.Sprintf("%s, %d bytes%s", f.GetName(), len(f.GetText()), at))
	}
	for i, problem := range resp.GetProblems() {
		if i == 0 {
			p.line("problems", "newer policies do not hold, since there is something wrong with them:")
		}
		p.line("", problemText(problem, nil))
	}
	if p.err != nil {
		return failed(p.err)
	}
	fmt.Fprintln(l.out)
	rows := [][]string{{"POLICY", "EFFECT", "WHERE", "REASON"}}
	for _, s := range all {
		rows = append(rows, []string{s.id, s.effect, s.source, s.notes["reason"]})
	}
	return table(l.out, rows)
}

func (l *legislator) showJSON(resp *authv1.GetPoliciesResponse, all []statement) error {
	files, policies := []map[string]any{}, []map[string]any{}
	for _, f := range resp.GetFiles() {
		files = append(files, map[string]any{"name": f.GetName(), "text": string(f.GetText())})
	}
	for _, s := range all {
		policies = append(policies, map[string]any{"id": s.id, "effect": s.effect, "source": s.source, "annotations": s.notes})
	}
	return writeJSON(l.out, map[string]any{
		"version": resp.GetVersion(), "source": sourceName(resp), "author": resp.GetAuthor(), "since": stamp(resp.GetLoadTime()),
		"roles": resp.GetRoles(), "files": files, "policies": policies, "problems": problemsJSON(resp.GetProblems(), nil),
	})
}

func sourceName(resp *authv1.GetPoliciesResponse) string {
	return strings.ToLower(strings.TrimPrefix(resp.GetSource().String(), "POLICY_SOURCE_"))
}

// origin says where policies come from.
func origin(resp *authv1.GetPoliciesResponse) string {
	switch resp.GetSource() {
	case authv1.PolicySource_POLICY_SOURCE_DEFAULT:
		return "the default policies, since the configuration names no files"
	case authv1.PolicySource_POLICY_SOURCE_FILES:
		return "files that the configuration names"
	case authv1.PolicySource_POLICY_SOURCE_STORE:
		if resp.GetAuthor() != "" {
			return "the store, pushed by " + resp.GetAuthor()
		}
		return "the store"
	}
	return ""
}

// policyFileName is the form that the names of files must have.
var policyFileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

const (
	maxPolicyFile  = 256 << 10
	maxPolicyFiles = 64
)

// policySet are files of policies, and where each was read.
type policySet struct {
	files []*authv1.PolicyFile
	paths map[string]string // by name
}

// readPolicies reads files, and all files called *.cedar in folders, in the order
// in which the auth service reads those of its configuration.
func readPolicies(paths []string) (policySet, error) {
	set := policySet{paths: make(map[string]string)}
	var errs []error
	for _, path := range paths {
		names, err := policyPaths(path)
		errs = append(errs, err)
		for _, name := range names {
			errs = append(errs, set.read(name))
		}
	}
	if len(set.files) > maxPolicyFiles {
		errs = append(errs, fmt.Errorf("%d files are too many, at most %d", len(set.files), maxPolicyFiles))
	}
	if err := errors.Join(errs...); err != nil {
		return set, &exitError{exitUsage, err}
	}
	return set, nil
}

func policyPaths(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	names, err := fs.Glob(os.DirFS(path), "*.cedar")
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no *.cedar in %s", path)
	}
	for i, name := range names {
		names[i] = filepath.Join(path, name)
	}
	return names, nil
}

func (s *policySet) read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxPolicyFile+1))
	name := filepath.Base(path)
	switch {
	case err != nil:
		return err
	case len(text) > maxPolicyFile:
		return fmt.Errorf("%s: larger than %d KiB", path, maxPolicyFile>>10)
	case !policyFileName.MatchString(name):
		return fmt.Errorf("%s: a name must be of letters, digits, dots, dashes and underscores", path)
	case s.paths[name] != "":
		return fmt.Errorf("%s: %s has the same name, by which decisions call it", path, s.paths[name])
	}
	s.paths[name] = path
	s.files = append(s.files, &authv1.PolicyFile{Name: name, Text: text})
	return nil
}

// writePolicies writes files into a folder, all or none.
func writePolicies(dir string, files []*authv1.PolicyFile) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(dir, f.GetName())
		if !policyFileName.MatchString(f.GetName()) { // it must not lead out of the folder
			return fmt.Errorf("the name %q is no good", f.GetName())
		}
		switch old, err := os.ReadFile(path); {
		case err == nil && !bytes.Equal(old, f.GetText()):
			return fmt.Errorf("%s is there and differs; nothing was written", path)
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.GetName()), f.GetText(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// problemText is a problem as editors read it: path:line: message.
func problemText(p *authv1.PolicyProblem, paths map[string]string) string {
	place := p.GetFile()
	if path := paths[place]; path != "" {
		place = path
	}
	if p.GetLine() > 0 {
		place += ":" + strconv.FormatUint(uint64(p.GetLine()), 10)
	}
	if place != "" {
		place += ": "
	}
	if p.GetWarning() {
		place += "warning: "
	}
	return place + p.GetMessage()
}

func problemsJSON(problems []*authv1.PolicyProblem, paths map[string]string) []map[string]any {
	all := []map[string]any{}
	for _, p := range problems {
		all = append(all, map[string]any{"file": p.GetFile(), "path": paths[p.GetFile()], "line": p.GetLine(), "message": p.GetMessage(), "warning": p.GetWarning()})
	}
	return all
}
