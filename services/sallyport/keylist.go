package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

func keyListCommand(o *operator) *cobra.Command {
	var out keyOutput
	var live bool
	cmd := &cobra.Command{
		Use: "list", Short: "List all keys, dead ones too", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withKeys(func(c authv1.KeyServiceClient) error {
				keys, err := allKeys(cmd.Context(), c)
				if err != nil {
					return rpcError(err)
				}
				if live {
					keys = slices.DeleteFunc(keys, func(k *authv1.Key) bool {
						return k.GetState() == authv1.KeyState_KEY_STATE_REVOKED || k.GetState() == authv1.KeyState_KEY_STATE_EXPIRED
					})
				}
				if out.json() {
					list := []map[string]any{}
					for _, k := range keys {
						list = append(list, describeKey(k))
					}
					return writeJSON(cmd.OutOrStdout(), list)
				}
				return table(cmd.OutOrStdout(), keyRows(keys))
			})
		},
	}
	out.register(cmd)
	cmd.Flags().BoolVar(&live, "live", false, "only keys that are good")
	return cmd
}

// keyRows is the table of keys. What few keys have is a column only where one has
// it.
func keyRows(keys []*authv1.Key) [][]string {
	columns := []struct {
		heading  string
		optional bool
		cell     func(*authv1.Key) string
	}{
		{"NAME", false, (*authv1.Key).GetName},
		{"KEY", false, (*authv1.Key).GetMasked},
		{"OWNER", false, (*authv1.Key).GetOwner},
		{"ROLES", false, func(k *authv1.Key) string { return strings.Join(k.GetRoles(), ",") }},
		{"TENANT", false, (*authv1.Key).GetTenant},
		{"STATE", false, keyState},
		{"CREATED", false, func(k *authv1.Key) string { return minute(k.GetCreateTime()) }},
		{"LAST USED", false, func(k *authv1.Key) string { return lastUse(k.GetLastUse()) }},
		{"EXPIRES", false, func(k *authv1.Key) string { return minute(k.GetExpireTime()) }},
		{"TOOLS", true, func(k *authv1.Key) string { return strings.Join(k.GetRestrictions().GetTools(), ",") }},
		{"NETWORKS", true, func(k *authv1.Key) string { return strings.Join(k.GetRestrictions().GetNetworks(), ",") }},
		{"PROOF KEY", true, (*authv1.Key).GetProofThumbprint},
		{"OLD PEPPERS", true, func(k *authv1.Key) string { return strings.Join(k.GetOldPeppers(), ",") }},
	}
	rows := make([][]string, len(keys)+1)
	for _, c := range columns {
		if c.optional && !slices.ContainsFunc(keys, func(k *authv1.Key) bool { return c.cell(k) != "" }) {
			continue
		}
		rows[0] = append(rows[0], c.heading)
		for i, k := range keys {
			cell := c.cell(k)
			if cell == "" {
				cell = "-"
			}
			rows[i+1] = append(rows[i+1], cell)
		}
	}
	return rows
}

// describeKey is a key for programs; all members are always there.
func describeKey(k *authv1.Key) map[string]any {
	return map[string]any{
		"id": k.GetId(), "name": k.GetName(), "masked": k.GetMasked(), "state": keyState(k), "roles": list(k.GetRoles()),
		"tenant": k.GetTenant(), "owner": k.GetOwner(),
		"created": stamp(k.GetCreateTime()), "expires": stamp(k.GetExpireTime()), "revoked": stamp(k.GetRevokeTime()),
		"last_used": stamp(k.GetLastUse().GetTime()), "last_tool": k.GetLastUse().GetTool(), "last_address": k.GetLastUse().GetAddress(),
		"tools": list(k.GetRestrictions().GetTools()), "networks": list(k.GetRestrictions().GetNetworks()),
		"old_peppers": list(k.GetOldPeppers()), "proof_thumbprint": k.GetProofThumbprint(),
	}
}

// list is never null in JSON.
func list(all []string) []string {
	if all == nil {
		return []string{}
	}
	return all
}

func keyState(k *authv1.Key) string {
	return strings.ToLower(strings.TrimPrefix(k.GetState().String(), "KEY_STATE_"))
}

func lastUse(u *authv1.KeyUse) string {
	if u.GetTime() == nil {
		return "never"
	}
	return strings.Join(strings.Fields(minute(u.GetTime())+" "+u.GetTool()+" "+u.GetAddress()), " ")
}

// minute is a time in UTC as exact as people need it.
func minute(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().UTC().Format("2006-01-02T15:04Z")
}
