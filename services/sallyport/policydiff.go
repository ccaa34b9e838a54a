package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

func policyDiffCommand(o *operator) *cobra.Command {
	var out output
	var replay string
	var limit int
	cmd := &cobra.Command{
		Use:   "diff PATH...",
		Short: "Compare policies with those that hold, or with what was decided",
		Long: `Diff shows which policies a set would add, remove or change.

With --replay it takes the decisions of the last hours from the audit record, decides each again
by the set, and shows those that would turn out otherwise. Arguments are not on record, and some
other things only where a policy has read them then: hops, steps, the protocol, the source of the
context, and the owner, name and scopes of a caller whose key is not known. Where the answer may
depend on such things it is counted as not known, and they are named.

Exit code 0: nothing differs; 1: something does; 2: it could not be told.`,
		Example: `  sallyport policy diff policies
  sallyport policy diff policies --replay 24h`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 {
				return usage("--limit: %d is not a number of decisions", limit)
			}
			if cmd.Flags().Changed("limit") && replay == "" {
				return usage("--limit goes with --replay")
			}
			if replay == "" {
				return o.legislating(cmd, out, func(l *legislator) error { return l.diff(cmd.Context(), args) })
			}
			d, err := span(replay)
			if err != nil {
				return err
			}
			conn, err := o.dial("audit")
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }() // the process ends
			return o.legislating(cmd, out, func(l *legislator) error {
				auth, err := o.dial("auth")
				if err != nil {
					return err
				}
				defer func() { _ = auth.Close() }() // the process ends
				r := replayer{
					legislator: l, audit: auditv1.NewAuditServiceClient(conn), keys: authv1.NewKeyServiceClient(auth),
					limit: limit, progress: terminal(cmd.ErrOrStderr()),
				}
				return r.replay(cmd.Context(), args, time.Now().Add(-d), "the last "+replay)
			})
		},
	}
	out.register(cmd)
	cmd.Flags().StringVar(&replay, "replay", "", "decide the decisions of this `span` again: 24h, 7d")
	cmd.Flags().IntVar(&limit, "limit", 10000, "at most so many `decisions`, the newest")
	return cmd
}

// diff compares a set with the one that holds.
func (l *legislator) diff(ctx context.Context, paths []string) error {
	set, err := readPolicies(paths)
	if err != nil {
		return err
	}
	if err := l.good(ctx, set); err != nil {
		return err
	}
	now, err := l.policies.GetPolicies(ctx, &authv1.GetPoliciesRequest{})
	if err != nil {
		return trouble(err)
	}
	changes := policyChanges(now.GetFiles(), set.files)
	if l.json {
		if err := writeJSON(l.out, changesJSON(changes)); err != nil {
			return failed(err)
		}
	} else {
		l.showChanges(changes)
	}
	if len(changes) > 0 {
		return &exitError{code: exitNo}
	}
	return nil
}

// unknownWhy says in a word why a recorded decision cannot be made again; "" if it
// can.
type unknownWhy string

const (
	needsArguments unknownWhy = "needs arguments, which are not on record"
	needsSteps     unknownWhy = "needs steps, which are not on record"
	needsSeen      unknownWhy = "needs what the context had seen, which is not on record"
	toolGone       unknownWhy = "the tool is not there any more"
	noAnswer       unknownWhy = "another"
)

// flip is decisions that would turn out otherwise, and are alike.
type flip struct {
	Principal string `json:"principal"`
	Name      string `json:"name"`
	Target    string `json:"target"`
	Old       string `json:"old"`
	New       string `json:"new"`
	Policy    string `json:"policy"`
	Source    string `json:"policy_source"`
	// InUse is what the policies that hold now decide.
	InUse string `json:"in_use"`
}

// String implements fmt.Stringer.
func (f flip) String() string { return fmt.Sprintf("%s -> %s", f.Old, f.New) }
