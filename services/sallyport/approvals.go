package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// lookInterval is how often `approvals watch` looks.
const lookInterval = time.Second

func approvalsCommand(o *operator) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "approvals",
		Short: "Approve or deny calls that a policy wants approved",
		Long: `A forbid with @approval("user") or @approval("operator") forbids a call until
somebody has approved exactly that call: by that caller, of that tool, with those
arguments, once. (Definitions of tools are approved by "sallyport tool approve".)`,
		Example: `  sallyport approvals list
  sallyport approvals show a_01KAYD5T8W6T0N0VY8R8PFH7A9
  sallyport approvals approve a_01KAYD5T8W6T0N0VY8R8PFH7A9 --note "asked Anna"
  sallyport approvals deny a_01KAYD5T8W6T0N0VY8R8PFH7A9 --note "that customer pays"`,
		Args: cobra.ArbitraryArgs,
		RunE: group,
	}
	cmd.AddCommand(approvalsListCommand(o), approvalsShowCommand(o), approvalsDecideCommand(o, true), approvalsDecideCommand(o, false), approvalsWatchCommand(o))
	return cmd
}

// desk does the work of these commands, apart from where auth is.
type desk struct {
	client authv1.ApprovalServiceClient
	out    io.Writer
	json   bool
}

// at calls a command's work with a desk for it.
func (o *operator) at(cmd *cobra.Command, out output, work func(context.Context, *desk) error) error {
	conn, err := o.dial("auth")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // the process ends
	return work(cmd.Context(), &desk{client: authv1.NewApprovalServiceClient(conn), out: cmd.OutOrStdout(), json: out.json()})
}

func approvalsListCommand(o *operator) *cobra.Command {
	var out output
	var all bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the calls that wait for approval", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.at(cmd, out, func(ctx context.Context, d *desk) error { return d.list(ctx, !all) })
		},
	}
	out.register(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "those that were decided, used or forgotten within the last day, too")
	return cmd
}

func approvalsShowCommand(o *operator) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a call that has to be approved, with its arguments",
		Long: `Show tells all that is known of a call. Characters of its arguments that cannot be
seen are shown as <U+202E>.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.at(cmd, out, func(ctx context.Context, d *desk) error { return d.show(ctx, args[0]) })
		},
	}
	out.register(cmd)
	return cmd
}

func approvalsDecideCommand(o *operator, approve bool) *cobra.Command {
	var out output
	var by, note string
	cmd := &cobra.Command{
		Use: "approve ID", Short: "Let a call be made, once", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if by == "" {
				by = person()
			}
			if !approve && note == "" {
				return usage("say with --note why not: whoever calls is told")
			}
			req := &authv1.DecideApprovalRequest{Id: args[0], Approve: approve, DecidedBy: by, Note: note}
			return o.at(cmd, out, func(ctx context.Context, d *desk) error { return d.decide(ctx, req) })
		},
	}
	if !approve {
		cmd.Use, cmd.Short = "deny ID --note WHY", "Refuse a call"
	}
	out.register(cmd)
	cmd.Flags().StringVar(&by, "by", "", "`person` who decides, for the record (default: the user of this machine)")
	cmd.Flags().StringVar(&note, "note", "", "`why`; whoever calls is told if it is denied")
	return cmd
}

func approvalsWatchCommand(o *operator) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "watch", Short: "Show calls that have to be approved as they come", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.at(cmd, out, func(ctx context.Context, d *desk) error { return d.watch(ctx, lookInterval) })
		},
	}
	out.register(cmd)
	return cmd
}

// each calls do for each approval, the oldest first.
func (d *desk) each(ctx context.Context, pending bool, do func(*authv1.CallApproval) error) error {
	for token := ""; ; {
		resp, err := d.client.ListApprovals(ctx, &authv1.ListApprovalsRequest{PageToken: token, Pending: pending})
		if err != nil {
			return rpcError(err)
		}
		for _, a := range resp.GetApprovals() {
			if err := do(a); err != nil {
				return err
			}
		}
		if token = resp.GetNextPageToken(); token == "" {
			return nil
		}
	}
}

func (d *desk) list(ctx context.Context, pending bool) error {
	rows := [][]string{{"ID", "STATE", "TOOL", "ARGUMENTS", "CALLER", "BY", "ASKED", "EXPIRES"}}
	all := []map[string]any{}
	err := d.each(ctx, pending, func(a *authv1.CallApproval) error {
		who := a.GetDecidedBy()
		if who == "" {
			who = approver(a)
		}
		rows = append(rows, []string{
			a.GetId(), approvalState(a), a.GetTool(), glimpse(a.GetArguments()), caller(a), who, stamp(a.GetCreateTime()), stamp(a.GetExpireTime()),
		})
		all = append(all, plainApproval(a))
		return nil
	})
	if err != nil {
		return err
	}
	if d.json {
		return writeJSON(d.out, all)
	}
	return table(d.out, rows)
}

func (d *desk) show(ctx context.Context, id string) error {
	found := false
	err := d.each(ctx, false, func(a *authv1.CallApproval) error {
		if a.GetId() != id {
			return nil
		}
		found = true
		return d.print(a)
	})
	if err == nil && !found {
		return failed(fmt.Errorf("no approval has the id %q, or it ended long ago", id))
	}
	return err
}

func (d *desk) decide(ctx context.Context, req *authv1.DecideApprovalRequest) error {
	resp, err := d.client.DecideApproval(ctx, req)
	if err != nil {
		return rpcError(err)
	}
	a := resp.GetApproval()
	if d.json {
		return writeJSON(d.out, plainApproval(a))
	}
	if !req.GetApprove() {
		fmt.Fprintf(d.out, "%s is denied: %s of %s\n", a.GetId(), printable(a.GetTool()), printable(caller(a)))
		return nil
	}
	fmt.Fprintf(d.out, "%s is approved: %s of %s, once, until %s\n", a.GetId(), printable(a.GetTool()), printable(caller(a)), stamp(a.GetExpireTime()))
	return nil
}

// watch shows what is pending, and what comes to be, until ctx is done.
func (d *desk) watch(ctx context.Context, interval time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	shown := make(map[string]bool)
	for {
		pending := make(map[string]bool)
		err := d.each(ctx, true, func(a *authv1.CallApproval) error {
			if pending[a.GetId()] = true; shown[a.GetId()] {
				return nil
			}
			return d.print(a)
		})
		if err != nil {
			return err
		}
		shown = pending
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// print shows one approval whole.
func (d *desk) print(a *authv1.CallApproval) error {
	if d.json {
		return writeJSON(d.out, plainApproval(a))
	}
	fmt.Fprintf(d.out, "%s is %s\n", printable(a.GetId()), approvalState(a))
	for _, line := range [][2]string{
		{"tool", a.GetTool()},
		{"caller", caller(a) + " (" + a.GetPrincipal().GetId() + "), roles " + strings.Join(a.GetPrincipal().GetRoles(), ", ")},
		{"from", strings.TrimSpace(a.GetOrigin().GetAddress() + " " + a.GetOrigin().GetClient())},
		{"policy", a.GetPolicy() + " (" + a.GetPolicySource() + "): " + a.GetReason()},
		{"approver", approver(a)},
		{"asked", stamp(a.GetCreateTime()) + ", until " + stamp(a.GetExpireTime())},
		{"decision", a.GetDecisionId()},
	} {
		fmt.Fprintf(d.out, "  %-9s %s\n", line[0], visible(line[1], false))
	}
	if a.GetDecidedBy() != "" {
		text := "by " + a.GetDecidedBy() + " " + stamp(a.GetDecideTime())
		if a.GetNote() != "" {
			text += ": " + a.GetNote()
		}
		fmt.Fprintf(d.out, "  %-9s %s\n", "decided", visible(text, false))
	}
	fmt.Fprintf(d.out, "  arguments %s\n", strings.ReplaceAll(visible(strings.TrimSpace(pretty(a.GetArguments())), true), "\n", "\n  "))
	return nil
}

func approvalState(a *authv1.CallApproval) string {
	return strings.ToLower(strings.TrimPrefix(a.GetState().String(), "APPROVAL_STATE_"))
}

// caller names who wants to call, for people.
func caller(a *authv1.CallApproval) string {
	p := a.GetPrincipal()
	if p.GetName() != "" {
		return p.GetName()
	}
	return p.GetId()
}

// approver says who can approve.
func approver(a *authv1.CallApproval) string {
	if a.GetByUser() {
		return "user or operator"
	}
	return "operator"
}

// glimpse is the beginning of a call's arguments on one line.
func glimpse(arguments []byte) string {
	const long = 60
	text := []rune(visible(string(arguments), false))
	if len(text) > long {
		text = append(text[:long-1], '…')
	}
	return string(text)
}

// plainApproval is an approval for programs, its arguments as JSON.
func plainApproval(a *authv1.CallApproval) map[string]any {
	all := map[string]any{
		"id": a.GetId(), "state": approvalState(a), "tool": a.GetTool(), "principal": a.GetPrincipal().GetId(), "caller": caller(a),
		"roles": a.GetPrincipal().GetRoles(), "tenant": a.GetPrincipal().GetTenant(), "address": a.GetOrigin().GetAddress(), "client": a.GetOrigin().GetClient(),
		"policy": a.GetPolicy(), "policy_source": a.GetPolicySource(), "reason": a.GetReason(), "by_user": a.GetByUser(),
		"created": stamp(a.GetCreateTime()), "expires": stamp(a.GetExpireTime()), "decision_id": a.GetDecisionId(),
		"decided": stamp(a.GetDecideTime()), "decided_by": a.GetDecidedBy(), "note": a.GetNote(),
	}
	if all["arguments"] = string(a.GetArguments()); json.Valid(a.GetArguments()) {
		all["arguments"] = json.RawMessage(a.GetArguments())
	}
	return all
}
