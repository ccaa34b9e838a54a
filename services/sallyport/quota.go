package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

func quotaCommand(o *operator) *cobra.Command {
	cmd := &cobra.Command{Use: "quota", Short: "Explain limits, and see what durable quotas have spent", Args: cobra.ArbitraryArgs, RunE: group}
	cmd.AddCommand(quotaExplainCommand(o), quotaUsageCommand(o))
	return cmd
}

func quotaExplainCommand(o *operator) *cobra.Command {
	var out output
	var short bool
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Tell what the rules in use promise, what they cost, and what is wrong with newer ones",
		Long: `Explain shows every limit of every rule that the quota service uses: the most that
one window can admit while all is well, how many callers it counts on the node that
answers, and what is worth knowing. Where several nodes count a rule in fast mode,
each decides at once; then MOST has after a plus how much more they can admit until
they hear of each other, by what was seen in the last minute, and the notes say what
it can be at worst and while a node is silent. If newer rules do not hold because of a mistake,
it says where the mistake is, and ends with exit code 1.`,
		Example: `  sallyport quota explain
  sallyport quota explain --json | jq '.rules[] | select(.most_admitted + .excess > .limit)'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := o.dial("quota")
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }() // the process ends
			resp, err := quotav1.NewQuotaAdminServiceClient(conn).ExplainRules(cmd.Context(), &quotav1.ExplainRulesRequest{})
			if err != nil {
				return rpcError(err)
			}
			if short || out.json() {
				err = writeJSON(cmd.OutOrStdout(), describeRules(resp))
			} else {
				err = printRules(cmd.OutOrStdout(), resp)
			}
			if err == nil && len(resp.GetProblems()) > 0 {
				return &exitError{exitNo, fmt.Errorf("newer quota rules do not hold: %s", counted(len(resp.GetProblems()), "problem"))}
			}
			return err
		},
	}
	out.register(cmd)
	cmd.Flags().BoolVar(&short, "json", false, "the same as -o json")
	return cmd
}

// printRules shows a table of limits, then the notes about each.
func printRules(w io.Writer, resp *quotav1.ExplainRulesResponse) error {
	rows := [][]string{{"RULE", "KIND", "MODE", "ALGORITHM", "LIMIT", "MOST", "CALLERS", "BYTES EACH", "WITHOUT OTHERS"}}
	for _, r := range resp.GetRules() {
		kind := lowered(r.GetKind().String(), "REFUSAL_KIND_")
		if r.GetShadow() {
			kind += " (shadow)"
		}
		most := fmt.Sprint(r.GetMostAdmitted())
		if r.GetExcess() > 0 {
			most += fmt.Sprintf("+%d", r.GetExcess())
		}
		rows = append(rows, []string{
			r.GetName(), kind, r.GetMode(), r.GetAlgorithm(), limitText(r), most, fmt.Sprint(r.GetKeys()), fmt.Sprint(r.GetBytesPerKey()), r.GetOnUnavailable(),
		})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	var b strings.Builder
	for _, r := range resp.GetRules() {
		fmt.Fprintf(&b, "\n%s, %s\n", r.GetName(), limitText(r))
		for _, note := range r.GetNotes() {
			fmt.Fprintf(&b, "  %s\n", printable(note))
		}
	}
	fmt.Fprintf(&b, "\nVersion %.12s of %s, %s.\n", resp.GetVersion(), minute(resp.GetLoadTime()), counted(int(resp.GetNodes()), "node"))
	if len(resp.GetProblems()) > 0 {
		fmt.Fprintln(&b, "\nNewer rules do not hold:")
		for _, p := range resp.GetProblems() {
			fmt.Fprintf(&b, "  %s\n", printable(p))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// limitText is a limit as rules write it, such as "10/1m0s".
func limitText(r *quotav1.RuleExplanation) string {
	if r.GetWindow() == nil {
		if r.GetKind() == quotav1.RefusalKind_REFUSAL_KIND_QUOTA {
			return fmt.Sprintf("%d in a period", r.GetLimit())
		}
		return fmt.Sprintf("%d at a time", r.GetLimit())
	}
	return fmt.Sprintf("%d in %s", r.GetLimit(), spanText(r.GetWindow().AsDuration()))
}

// spanText is a span in the largest unit that divides it.
func spanText(d time.Duration) string {
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if d%unit.length == 0 {
			return counted(int(d/unit.length), unit.name)
		}
	}
	return d.String()
}

// counted is a number of things.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func lowered(word, prefix string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(word, prefix)), "_", " ")
}

// describeRules is what is known of the rules for programs; all members are always
// there.
func describeRules(resp *quotav1.ExplainRulesResponse) map[string]any {
	rules := []map[string]any{}
	for _, r := range resp.GetRules() {
		rules = append(rules, map[string]any{
			"name": r.GetName(), "kind": lowered(r.GetKind().String(), "REFUSAL_KIND_"), "algorithm": r.GetAlgorithm(), "mode": r.GetMode(),
			"limit": r.GetLimit(), "window_seconds": r.GetWindow().AsDuration().Seconds(), "shadow": r.GetShadow(),
			"on_unavailable": r.GetOnUnavailable(), "most_admitted": r.GetMostAdmitted(), "excess": r.GetExcess(),
			"keys": r.GetKeys(), "bytes_per_key": r.GetBytesPerKey(), "notes": list(r.GetNotes()),
		})
	}
	return map[string]any{
		"rules": rules, "nodes": resp.GetNodes(), "version": resp.GetVersion(), "loaded": stamp(resp.GetLoadTime()), "problems": list(resp.GetProblems()),
	}
}
