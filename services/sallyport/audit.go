package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

func auditCommand(o *operator) *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Read the audit record", Args: cobra.ArbitraryArgs, RunE: group}
	cmd.AddCommand(auditTailCommand(o))
	return cmd
}

func auditTailCommand(o *operator) *cobra.Command {
	var out output
	var follow bool
	var lines uint32
	var decision, principal, tool, verdict, since string
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Show the newest events, and with -f those to come",
		Example: `  sallyport audit tail
  sallyport audit tail -f --verdict deny
  sallyport audit tail --decision d_01J… -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := auditFilter(decision, principal, tool, verdict, since)
			if err != nil {
				return err
			}
			conn, err := o.dial("audit")
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }() // the process ends
			client := auditv1.NewAuditServiceClient(conn)
			show := eventWriter(cmd.OutOrStdout(), out.json())
			if !follow {
				resp, err := client.Query(cmd.Context(), &auditv1.QueryRequest{Filter: filter, PageSize: lines})
				if err != nil {
					return rpcError(err)
				}
				events := resp.GetEvents()
				slices.Reverse(events)
				for _, e := range events {
					if err := show(e); err != nil {
						return failed(err)
					}
				}
				return nil
			}
			stream, err := client.Tail(cmd.Context(), &auditv1.TailRequest{Filter: filter, Backlog: lines})
			if err != nil {
				return rpcError(err)
			}
			for {
				resp, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return rpcError(err)
				}
				if err := show(resp.GetEvent()); err != nil {
					return failed(err)
				}
			}
		},
	}
	out.register(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with events as they come")
	cmd.Flags().Uint32VarP(&lines, "lines", "n", 20, "how many past `events` to show, at most 1000")
	cmd.Flags().StringVar(&decision, "decision", "", "only events of this decision `id`")
	cmd.Flags().StringVar(&principal, "principal", "", "only events of this `principal`, such as key:7Xk2abcdef")
	cmd.Flags().StringVar(&tool, "tool", "", "only events about this `tool`; * at the end matches any rest")
	cmd.Flags().StringVar(&verdict, "verdict", "", "only decisions with this `verdict`: allow, deny or approval")
	cmd.Flags().StringVar(&since, "since", "", "only events of the last `span`: 15m, 24h, 7d")
	return cmd
}

func auditFilter(decision, principal, tool, verdict, since string) (*auditv1.Filter, error) {
	f := &auditv1.Filter{}
	if decision != "" {
		f.DecisionIds = []string{decision}
	}
	if principal != "" {
		f.Principals = []string{principal}
	}
	if tool != "" {
		f.Targets = []string{tool}
	}
	switch verdict {
	case "":
	case "allow":
		f.Verdicts = []auditv1.Verdict{auditv1.Verdict_VERDICT_ALLOW}
	case "deny":
		f.Verdicts = []auditv1.Verdict{auditv1.Verdict_VERDICT_DENY}
	case "approval":
		f.Verdicts = []auditv1.Verdict{auditv1.Verdict_VERDICT_APPROVAL}
	default:
		return nil, usage("--verdict: %q is not allow, deny or approval", verdict)
	}
	if since != "" {
		d, err := span(since)
		if err != nil {
			return nil, err
		}
		f.Since = timestamppb.New(time.Now().Add(-d))
	}
	return f, nil
}

// eventWriter prints events as lines: JSON, or columns for people.
func eventWriter(w io.Writer, asJSON bool) func(*auditv1.Event) error {
	if asJSON {
		return func(e *auditv1.Event) error {
			b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(e)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(w, string(b))
			return err
		}
	}
	return func(e *auditv1.Event) error {
		what, why := describe(e)
		who := e.GetActor().GetPrincipal()
		if who == "" {
			who = "-"
		}
		_, err := fmt.Fprintln(w, printable(strings.TrimRight(fmt.Sprintf("%s  %-8s %-9s %-24s %-16s %s  %s",
			e.GetTime().AsTime().UTC().Format("2006-01-02 15:04:05.000"), what, e.GetService(), target(e), who, e.GetDecisionId(), why), " ")))
		return err
	}
}

func target(e *auditv1.Event) string {
	if e.GetTarget() != "" {
		return e.GetTarget()
	}
	return e.GetAction()
}

// describe says in two words what happened, and why.
func describe(e *auditv1.Event) (what, why string) {
	reason := func(r auditv1.Reason) string {
		if r == auditv1.Reason_REASON_UNSPECIFIED {
			return ""
		}
		return strings.TrimPrefix(r.String(), "REASON_")
	}
	switch {
	case e.GetDecision() != nil:
		d := e.GetDecision()
		return strings.TrimPrefix(d.GetVerdict().String(), "VERDICT_"), strings.TrimSpace(reason(d.GetReason()) + " " + d.GetRule() + " " + d.GetApprovalId())
	case e.GetIntent() != nil:
		return "INTENT", e.GetIntent().GetArguments().GetShape()
	case e.GetOutcome() != nil:
		o := e.GetOutcome()
		return strings.TrimPrefix(o.GetStatus().String(), "STATUS_"),
			strings.TrimSpace(fmt.Sprintf("%s %v", reason(o.GetReason()), o.GetDuration().AsDuration().Round(time.Microsecond)))
	case e.GetAdmin() != nil:
		return "ADMIN", e.GetAdmin().GetOperation() + " " + e.GetAdmin().GetObject()
	}
	return "?", ""
}
