package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

func keyCommand(o *operator) *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Make, list and revoke API keys", Args: cobra.ArbitraryArgs, RunE: group}
	cmd.AddCommand(keyCreateCommand(o), keyListCommand(o), keyRevokeCommand(o))
	return cmd
}

func keyCreateCommand(o *operator) *cobra.Command {
	var out output
	var roles []string
	var tenant, owner, expires string
	cmd := &cobra.Command{
		Use:   "create NAME --role ROLE",
		Short: "Make an API key and show it, once",
		Example: `  sallyport key create ci --role analyst
  sallyport key create ci --role analyst --tenant acme --expires 30d -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &authv1.CreateKeyRequest{Name: args[0], Owner: owner, Tenant: tenant, Roles: roles}
			if expires != "" {
				d, err := span(expires)
				if err != nil {
					return err
				}
				req.ExpiresIn = durationpb.New(d)
			}
			conn, err := o.dial("auth")
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }() // the process ends
			resp, err := authv1.NewKeyServiceClient(conn).CreateKey(cmd.Context(), req)
			if err != nil {
				return rpcError(err)
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), map[string]any{
					"id": resp.GetKey().GetId(), "key": resp.GetSecret(),
					"name": resp.GetKey().GetName(), "roles": resp.GetKey().GetRoles(), "tenant": resp.GetKey().GetTenant(),
					"expires": stamp(resp.GetKey().GetExpireTime()),
				})
			}
			fmt.Fprintln(cmd.OutOrStdout(), resp.GetSecret())
			fmt.Fprintf(cmd.ErrOrStderr(), "key %s for %s until %s; it is not shown again\n",
				resp.GetKey().GetId(), strings.Join(resp.GetKey().GetRoles(), ", "), stamp(resp.GetKey().GetExpireTime()))
			return nil
		},
	}
	out.register(cmd)
	cmd.Flags().StringSliceVar(&roles, "role", nil, "`role` of the key; may be repeated")
	cmd.Flags().StringVar(&tenant, "tenant", "", "`tenant` the key belongs to (default \"default\")")
	cmd.Flags().StringVar(&owner, "owner", "", "`person` or team that answers for it")
	cmd.Flags().StringVar(&expires, "expires", "", "`life` of the key: 12h, 30d (default: the configured one)")
	_ = cmd.MarkFlagRequired("role") // the flag exists
	return cmd
}

func keyListCommand(o *operator) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "list", Short: "List all keys, dead ones too", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := o.dial("auth")
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }() // the process ends
			client := authv1.NewKeyServiceClient(conn)
			rows := [][]string{{"ID", "NAME", "KEY", "STATE", "ROLES", "TENANT", "OWNER", "CREATED", "EXPIRES", "LAST USED"}}
			keys := []map[string]any{}
			for token := ""; ; {
				resp, err := client.ListKeys(cmd.Context(), &authv1.ListKeysRequest{PageToken: token})
				if err != nil {
					return rpcError(err)
				}
				for _, k := range resp.GetKeys() {
					state := strings.ToLower(strings.TrimPrefix(k.GetState().String(), "KEY_STATE_"))
					keys = append(keys, map[string]any{
						"id": k.GetId(), "name": k.GetName(), "masked": k.GetMasked(), "state": state, "roles": k.GetRoles(),
						"tenant": k.GetTenant(), "owner": k.GetOwner(), "created": stamp(k.GetCreateTime()), "expires": stamp(k.GetExpireTime()),
						"last_used": stamp(k.GetLastUse().GetTime()), "last_tool": k.GetLastUse().GetTool(), "last_address": k.GetLastUse().GetAddress(),
					})
					rows = append(rows, []string{
						k.GetId(), k.GetName(), k.GetMasked(), state, strings.Join(k.GetRoles(), ","), k.GetTenant(), k.GetOwner(),
						stamp(k.GetCreateTime()), stamp(k.GetExpireTime()), lastUse(k.GetLastUse()),
					})
				}
				if token = resp.GetNextPageToken(); token == "" {
					break
				}
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), keys)
			}
			return table(cmd.OutOrStdout(), rows)
		},
	}
	out.register(cmd)
	return cmd
}

func keyRevokeCommand(o *operator) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "revoke ID", Short: "End a key for good", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := o.dial("auth")
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }() // the process ends
			resp, err := authv1.NewKeyServiceClient(conn).RevokeKey(cmd.Context(), &authv1.RevokeKeyRequest{Id: args[0]})
			if err != nil {
				return rpcError(err)
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"id": resp.GetKey().GetId(), "state": "revoked", "revoked": stamp(resp.GetKey().GetRevokeTime())})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "key %s (%s) is revoked\n", resp.GetKey().GetId(), printable(resp.GetKey().GetName()))
			return nil
		},
	}
	out.register(cmd)
	return cmd
}

func lastUse(u *authv1.KeyUse) string {
	if u.GetTime() == nil {
		return "never"
	}
	return strings.TrimSpace(stamp(u.GetTime()) + " " + u.GetTool() + " " + u.GetAddress())
}

func stamp(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().UTC().Format(time.RFC3339)
}

// span reads a duration that may also be in days.
func span(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		h, err := time.ParseDuration(days + "h")
		if err == nil && h > 0 {
			return 24 * h, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, usage("%q is not a span of time such as 12h or 30d", s)
	}
	return d, nil
}
