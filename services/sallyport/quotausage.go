package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

func quotaUsageCommand(o *operator) *cobra.Command {
	var out keyOutput
	var rule, at string
	cmd := &cobra.Command{
		Use:   "usage",
		Short: "List what every key of the durable quotas has spent in a period, most first",
		Long: `Usage lists what the rules with a quota have counted, by key: in the period of now,
or in that of --at. What ended more than a period ago is forgotten.`,
		Example: `  sallyport quota usage
  sallyport quota usage --rule llm-month --at 2026-10-31
  sallyport quota usage --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			req := &quotav1.ListUsageRequest{Rule: rule, PageSize: 1000}
			if at != "" {
				t, err := moment(at)
				if err != nil {
					return err
				}
				req.Time = timestamppb.New(t)
			}
			rows, err := o.usage(cmd.Context(), req)
			if err != nil {
				return err
			}
			if !out.json() {
				return table(cmd.OutOrStdout(), usageTable(rows))
			}
			list := []map[string]any{}
			for _, r := range rows {
				list = append(list, describeUsage(r))
			}
			return writeJSON(cmd.OutOrStdout(), list)
		},
	}
	out.register(cmd)
	cmd.Flags().StringVar(&rule, "rule", "", "only the `rule` with this id")
	cmd.Flags().StringVar(&at, "at", "", "a `time` in the period: 2026-10-31 or 2026-10-31T12:00:00Z")
	return cmd
}

// moment reads a time, or a day, whose noon in UTC it is: most time zones have the
// same day then.
func moment(text string) (time.Time, error) {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.Add(12 * time.Hour), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, usage("--at %q is no time such as 2026-10-31 or 2026-10-31T12:00:00Z", text)
	}
	return t, nil
}

// usage reads all pages.
func (o *operator) usage(ctx context.Context, req *quotav1.ListUsageRequest) (rows []*quotav1.UsageRow, err error) {
	conn, err := o.dial("quota")
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // the process ends
	client := quotav1.NewQuotaAdminServiceClient(conn)
	for {
		res, err := client.ListUsage(ctx, req)
		if err != nil {
			return nil, rpcError(err)
		}
		rows = append(rows, res.GetRows()...)
		if req.PageToken = res.GetNextPageToken(); req.GetPageToken() == "" {
			return rows, nil
		}
	}
}

func usageTable(rows []*quotav1.UsageRow) [][]string {
	all := [][]string{{"RULE", "KEY", "UNIT", "SINCE", "UNTIL", "LIMIT", "SPENT", "RESERVED", "LEFT", "OVER"}}
	for _, r := range rows {
		all = append(all, []string{
			r.GetRule(), keyText(r.GetKey()), r.GetUnit(), minute(r.GetPeriodStart()), minute(r.GetPeriodEnd()),
			number(r.GetLimit()), number(r.GetSpent()), number(r.GetReserved()), number(leftOf(r)), number(r.GetOverdraft()),
		})
	}
	return all
}

// keyText is what a rule counts by, "everybody" if it does not tell callers apart.
func keyText(key map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(key)) {
		parts = append(parts, fmt.Sprintf("%s=%s", name, key[name]))
	}
	if len(parts) == 0 {
		return "everybody"
	}
	return strings.Join(parts, ",")
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

func leftOf(r *quotav1.UsageRow) uint64 {
	used := r.GetSpent() + r.GetReserved()
	return r.GetLimit() - min(r.GetLimit(), used)
}

// describeUsage is a row for programs; all members are always there.
func describeUsage(r *quotav1.UsageRow) map[string]any {
	return map[string]any{
		"rule": r.GetRule(), "key": r.GetKey(), "unit": r.GetUnit(),
		"since": stamp(r.GetPeriodStart()), "until": stamp(r.GetPeriodEnd()),
		"limit": r.GetLimit(), "spent": r.GetSpent(), "reserved": r.GetReserved(), "left": leftOf(r), "overdraft": r.GetOverdraft(),
	}
}
