package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

func policyCheckCommand(o *operator) *cobra.Command {
	var out output
	var online bool
	cmd := &cobra.Command{
		Use:   "check PATH...",
		Short: "Tell all that is wrong with policies; needs no running system",
		Long: `Check reads files, and all *.cedar in folders, as one set. What is wrong is printed as
path:line: message. Warnings do not count.

With --online it asks the running system, which knows its tools: it warns of policies about tools
that are not there, or that read arguments which none of the tools takes that they are about.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if online {
				return o.legislating(cmd, out, func(l *legislator) error { return l.check(cmd.Context(), args) })
			}
			l := atDesk(cmd, out)
			var err error
			if l.policies, err = offlinePolicies(); err != nil {
				return failed(err)
			}
			return l.check(cmd.Context(), args)
		},
	}
	out.register(cmd)
	cmd.Flags().BoolVar(&online, "online", false, "ask the running system, which knows its tools")
	return cmd
}

func (l *legislator) check(ctx context.Context, paths []string) error {
	set, err := readPolicies(paths)
	if err != nil {
		return err
	}
	resp, err := l.policies.CheckPolicies(ctx, &authv1.CheckPoliciesRequest{Files: set.files})
	if err != nil {
		return unanswered(err)
	}
	good := !slices.ContainsFunc(resp.GetProblems(), func(p *authv1.PolicyProblem) bool { return !p.GetWarning() })
	if l.json {
		if err := writeJSON(l.out, map[string]any{"good": good, "version": resp.GetVersion(), "problems": problemsJSON(resp.GetProblems(), set.paths)}); err != nil {
			return failed(err)
		}
	} else {
		for _, p := range resp.GetProblems() {
			fmt.Fprintln(l.out, visible(problemText(p, set.paths), false))
		}
		if good {
			fmt.Fprintf(l.out, "%d policies in %d files are good; version %s\n", len(statements(set.files)), len(set.files), short(resp.GetVersion()))
		}
	}
	if !good {
		return &exitError{code: exitNo}
	}
	return nil
}

func policyPushCommand(o *operator) *cobra.Command {
	var out output
	var author string
	var yes bool
	cmd := &cobra.Command{
		Use:   "push PATH...",
		Short: "Let policies hold, in every process, instead of those that do",
		Long: `Push shows what would change, asks, and puts the files, and all *.cedar in folders, into the
store as one set. It takes the place of all that holds now, whole or not at all.`,
		Example: `  sallyport policy push policies
  sallyport policy push base.cedar extra.cedar --yes --author anna`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if author == "" {
				author = person()
			}
			return o.legislating(cmd, out, func(l *legislator) error { return l.push(cmd.Context(), args, author, yes) })
		},
	}
	out.register(cmd)
	registerConsent(cmd, &author, &yes)
	return cmd
}

func policyRemoveCommand(o *operator) *cobra.Command {
	var out output
	var author string
	var yes bool
	cmd := &cobra.Command{
		Use:   "remove",
		Short: "Take pushed policies back, so that those of the configuration hold again",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if author == "" {
				author = person()
			}
			return o.legislating(cmd, out, func(l *legislator) error { return l.remove(cmd.Context(), author, yes) })
		},
	}
	out.register(cmd)
	registerConsent(cmd, &author, &yes)
	return cmd
}

func registerConsent(cmd *cobra.Command, author *string, yes *bool) {
	cmd.Flags().StringVar(author, "author", "", "`person` who does this, for the record (default: the user of this machine)")
	cmd.Flags().BoolVar(yes, "yes", false, "do not ask")
}

// push puts a set into the store. What is pushed is what was shown: the version
// that it takes the place of goes with it.
func (l *legislator) push(ctx context.Context, paths []string, author string, yes bool) error {
	set, err := readPolicies(paths)
	if err != nil {
		return err
	}
	if !yes && !l.asks {
		return usage("there is no terminal to ask on; look with %q and then use --yes", "sallyport policy diff")
	}
	checked, err := l.policies.CheckPolicies(ctx, &authv1.CheckPoliciesRequest{Files: set.files})
	if err != nil {
		return unanswered(err)
	}
	bad := false
	for _, p := range checked.GetProblems() {
		bad = bad || !p.GetWarning()
		fmt.Fprintln(l.err, visible(problemText(p, set.paths), false))
	}
	if bad {
		return failed(fmt.Errorf("nothing was changed"))
	}
	now, err := l.policies.GetPolicies(ctx, &authv1.GetPoliciesRequest{})
	if err != nil {
		return unanswered(err)
	}
	if now.GetSource() == authv1.PolicySource_POLICY_SOURCE_STORE && now.GetVersion() == checked.GetVersion() {
		return l.pushed(now.GetVersion(), "hold already")
	}
	if !l.json {
		l.showChanges(policyChanges(now.GetFiles(), set.files))
	}
	if !yes && !l.agreed(ctx, "push these policies?") {
		return &exitError{code: exitNo}
	}
	resp, err := l.policies.PutPolicies(ctx, &authv1.PutPoliciesRequest{Files: set.files, BaseVersion: now.GetVersion(), Author: author})
	if err != nil {
		return refusedChange(err)
	}
	return l.pushed(resp.GetVersion(), "hold now")
}

func (l *legislator) pushed(version, what string) error {
	if l.json {
		return writeJSON(l.out, map[string]any{"version": version})
	}
	fmt.Fprintf(l.out, "policies %s %s\n", short(version), what)
	return nil
}

// remove empties the store.
func (l *legislator) remove(ctx context.Context, author string, yes bool) error {
	if !yes && !l.asks {
		return usage("there is no terminal to ask on; look with %q and then use --yes", "sallyport policy show")
	}
	now, err := l.policies.GetPolicies(ctx, &authv1.GetPoliciesRequest{})
	if err != nil {
		return unanswered(err)
	}
	if now.GetSource() != authv1.PolicySource_POLICY_SOURCE_STORE {
		return failed(fmt.Errorf("nothing to remove: what holds is %s", origin(now)))
	}
	if !l.json {
		fmt.Fprintf(l.out, "policies %s from %s are removed; those of the configuration hold after that\n", short(now.GetVersion()), printable(origin(now)))
	}
	if !yes && !l.agreed(ctx, "remove them?") {
		return &exitError{code: exitNo}
	}
	resp, err := l.policies.RemovePolicies(ctx, &authv1.RemovePoliciesRequest{BaseVersion: now.GetVersion(), Author: author})
	if err != nil {
		return refusedChange(err)
	}
	return l.pushed(resp.GetVersion(), "hold now")
}

// refusedChange is the error of a change that was not made.
func refusedChange(err error) error {
	if fault.Is(err, authv1.Reason_REASON_POLICY_CHANGED) {
		return failed(fmt.Errorf("somebody else has changed the policies meanwhile; look again. Nothing was changed"))
	}
	return unanswered(err)
}

// agreed asks. An end of input is a no.
func (l *legislator) agreed(ctx context.Context, question string) bool {
	fmt.Fprintf(l.err, "%s [y/N] ", question)
	line := make(chan string, 1)
	go func() { // a read of a terminal cannot be ended; after an interrupt the process does
		s, _ := l.in.ReadString('\n')
		line <- s
	}()
	select {
	case s := <-line:
		word := strings.ToLower(strings.TrimSpace(s))
		return word == "y" || word == "yes"
	case <-ctx.Done():
		fmt.Fprintln(l.err)
		return false
	}
}

// showChanges lists what another set does to policies, and then what it does to
// the text of each.
func (l *legislator) showChanges(changes []policyChange) {
	if len(changes) == 0 {
		fmt.Fprintln(l.out, "no policy is added, removed or changed")
		return
	}
	count := make(map[string]int)
	var details strings.Builder
	for _, c := range changes {
		count[c.what]++
		var old, now, where string
		if c.old != nil {
			old, where = c.old.text+"\n", c.old.source
		}
		if c.now != nil {
			now, where = c.now.text+"\n", c.now.source
		}
		fmt.Fprintf(l.out, "%-8s %s (%s)\n", c.what, visible(c.id, false), visible(where, false))
		_, text, _ := bytes.Cut(diff.Diff(c.id+" in use", []byte(old), c.id+" new", []byte(now)), []byte("\n")) // the line that says "diff"
		details.WriteString(visible(string(text), true))
	}
	text := details.String()
	if l.colour {
		text = coloured(text)
	}
	fmt.Fprintf(l.out, "%s%d added, %d removed, %d changed\n", text, count["added"], count["removed"], count["changed"])
}

// changesJSON is the same for programs.
func changesJSON(changes []policyChange) []map[string]any {
	all := []map[string]any{}
	for _, c := range changes {
		one := map[string]any{"change": c.what, "policy": c.id}
		if c.old != nil {
			one["old"], one["old_source"] = c.old.text, c.old.source
		}
		if c.now != nil {
			one["new"], one["new_source"] = c.now.text, c.now.source
		}
		all = append(all, one)
	}
	return all
}
