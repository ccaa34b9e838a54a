package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

func keyCommand(o *operator) *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Make, list, rotate, revoke and recognise API keys", Args: cobra.ArbitraryArgs, RunE: group}
	cmd.AddCommand(keyCreateCommand(o), keyListCommand(o), keyRotateCommand(o), keyRevokeCommand(o), keyPatternCommand(), keyCheckCommand())
	return cmd
}

// keyOutput is how commands about keys answer.
type keyOutput struct {
	output
	short bool
	quiet bool
}

func (k *keyOutput) register(cmd *cobra.Command) {
	k.output.register(cmd)
	cmd.Flags().BoolVar(&k.short, "json", false, "the same as -o json")
}

// registerQuiet adds --quiet, for commands that show a secret.
func (k *keyOutput) registerQuiet(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&k.quiet, "quiet", "q", false, "print the key and nothing else, for scripts")
}

func (k *keyOutput) json() bool { return k.short || k.output.json() }

// withKeys calls work with a client of the service that has the keys.
func (o *operator) withKeys(work func(authv1.KeyServiceClient) error) error {
	conn, err := o.dial("auth")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // the process ends
	return work(authv1.NewKeyServiceClient(conn))
}

func keyCreateCommand(o *operator) *cobra.Command {
	var out keyOutput
	var roles, tools, networks []string
	var tenant, owner, expires, proofKey, thumbprint string
	cmd := &cobra.Command{
		Use:   "create NAME --role ROLE",
		Short: "Make an API key and show it, once",
		Example: `  sallyport key create ci --role analyst
  sallyport key create ci --role analyst --tool run_sql_query --network 10.0.0.0/8
  sallyport key create ci --role analyst --expires 30d --quiet > ci.key
  sallyport key create ci --role analyst --proof-key ci-public.pem`,
		Long: `Create makes an API key and shows it, once. With --proof-key the key is bound to a
key pair of the client's: whoever has the API key alone can do nothing with it. The
client sends Authorization: DPoP KEY and, with each request, a new proof signed by its
private key (DPoP, RFC 9449), which stays where the client is. Such a pair is made by

  openssl genpkey -algorithm ed25519 -out ci.pem
  openssl pkey -in ci.pem -pubout -out ci-public.pem`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			bound, err := proofThumbprint(proofKey, thumbprint)
			if err != nil {
				return err
			}
			req := &authv1.CreateKeyRequest{Name: args[0], Owner: owner, Tenant: tenant, Roles: roles, ProofThumbprint: bound}
			if len(tools)+len(networks) > 0 {
				req.Restrictions = &authv1.KeyRestrictions{Tools: tools, Networks: networks}
			}
			if expires != "" {
				d, err := span(expires)
				if err != nil {
					return err
				}
				req.ExpiresIn = durationpb.New(d)
			}
			return o.withKeys(func(c authv1.KeyServiceClient) error {
				resp, err := c.CreateKey(cmd.Context(), req)
				if err != nil {
					return rpcError(err)
				}
				k := resp.GetKey()
				note := fmt.Sprintf("key %s (%s) for %s until %s",
					k.GetId(), printable(k.GetName()), strings.Join(k.GetRoles(), ", "), stamp(k.GetExpireTime()))
				if k.GetProofThumbprint() != "" {
					note += ", bound to the key with the thumbprint " + k.GetProofThumbprint()
				}
				return out.hand(cmd, k, resp.GetSecret(), note)
			})
		},
	}
	out.register(cmd)
	out.registerQuiet(cmd)
	cmd.Flags().StringSliceVar(&roles, "role", nil, "`role` of the key; may be repeated")
	cmd.Flags().StringSliceVar(&tools, "tool", nil, "only this `tool`, by its exact name; may be repeated")
	cmd.Flags().StringSliceVar(&networks, "network", nil, "only from this `network`, such as 10.0.0.0/8; may be repeated")
	cmd.Flags().StringVar(&tenant, "tenant", "", "`tenant` the key belongs to (default \"default\")")
	cmd.Flags().StringVar(&owner, "owner", "", "`person` or team that answers for it")
	cmd.Flags().StringVar(&expires, "expires", "", "`life` of the key: 12h, 30d (default: the configured one)")
	cmd.Flags().StringVar(&proofKey, "proof-key", "", "`file` with the client's public key, as PEM or JWK: each request needs a proof of it")
	cmd.Flags().StringVar(&thumbprint, "proof-thumbprint", "", "the same by the key's `thumbprint` (RFC 7638, SHA-256, base64url)")
	_ = cmd.MarkFlagRequired("role") // the flag exists
	return cmd
}

// hand gives a new secret to its owner. Only the secret is on standard output.
func (k *keyOutput) hand(cmd *cobra.Command, key *authv1.Key, secret, note string) error {
	if k.json() {
		described := describeKey(key)
		described["key"] = secret
		return writeJSON(cmd.OutOrStdout(), described)
	}
	fmt.Fprintln(cmd.OutOrStdout(), secret)
	if !k.quiet {
		fmt.Fprintln(cmd.ErrOrStderr(), note+"; keep it, it is not shown again")
	}
	return nil
}

func keyRotateCommand(o *operator) *cobra.Command {
	var out keyOutput
	var overlap string
	cmd := &cobra.Command{
		Use:   "rotate KEY --overlap TIME",
		Short: "Give a key a new secret and show it, once; the old one lives on for the overlap",
		Long: `Rotate gives a key a new secret. KEY is its id, its name, or all or the beginning of
the key itself. Its name, roles, restrictions, expiry and proof key stay. The old secret is good
until the overlap ends, so that all who use the key can change to the new one: at most
7d. With --overlap 0 it ends at once, for one that others may know.`,
		Example: `  sallyport key rotate ci --overlap 24h
  sallyport key rotate ci --overlap 0 --quiet > ci.key`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var lives time.Duration
			if overlap != "0" {
				var err error
				if lives, err = span(overlap); err != nil {
					return err
				}
			}
			if lives > maxOverlap {
				return usage("--overlap %s is longer than 7d", overlap)
			}
			return o.withKeys(func(c authv1.KeyServiceClient) error {
				before, err := keyMeant(cmd.Context(), c, args[0])
				if err != nil {
					return err
				}
				resp, err := c.RotateKey(cmd.Context(), &authv1.RotateKeyRequest{Id: before.GetId(), Overlap: durationpb.New(lives)})
				if err != nil {
					return rpcError(err)
				}
				old := "the old secret has ended"
				if lives > 0 {
					old = "the old secret lives until " + time.Now().Add(lives).UTC().Format(time.RFC3339)
				}
				if before.GetState() == authv1.KeyState_KEY_STATE_ROTATING {
					old += ", and the one before it has ended"
				}
				return out.hand(cmd, resp.GetKey(), resp.GetSecret(), fmt.Sprintf("key %s (%s): %s", before.GetId(), printable(before.GetName()), old))
			})
		},
	}
	out.register(cmd)
	out.registerQuiet(cmd)
	cmd.Flags().StringVar(&overlap, "overlap", "", "`time` the old secret lives on: 24h, 7d, or 0")
	_ = cmd.MarkFlagRequired("overlap") // the flag exists
	return cmd
}

// maxOverlap is the contract's.
const maxOverlap = 7 * 24 * time.Hour

func keyRevokeCommand(o *operator) *cobra.Command {
	var out keyOutput
	cmd := &cobra.Command{
		Use:   "revoke KEY",
		Short: "End a key for good",
		Long: `Revoke ends a key for good, on every node. KEY is its id, its name, or all or the
beginning of the key itself, as it was found where it should not be.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.withKeys(func(c authv1.KeyServiceClient) error {
				k, err := keyMeant(cmd.Context(), c, args[0])
				if err != nil {
					return err
				}
				resp, err := c.RevokeKey(cmd.Context(), &authv1.RevokeKeyRequest{Id: k.GetId()})
				if err != nil {
					return rpcError(err)
				}
				if out.json() {
					return writeJSON(cmd.OutOrStdout(), describeKey(resp.GetKey()))
				}
				fmt.Fprintf(cmd.OutOrStdout(), "key %s (%s) is revoked\n", resp.GetKey().GetId(), printable(resp.GetKey().GetName()))
				return nil
			})
		},
	}
	out.register(cmd)
	return cmd
}

// keyMeant returns the key that a person means: by its id, by all or the beginning
// of the key itself, or by its name, where a live one goes before dead ones.
func keyMeant(ctx context.Context, c authv1.KeyServiceClient, meant string) (*authv1.Key, error) {
	keys, err := allKeys(ctx, c)
	if err != nil {
		return nil, rpcError(err)
	}
	id := strings.TrimPrefix(meant, "key:")
	if parts := strings.SplitN(meant, "_", 4); len(parts) >= 3 && parts[0] == "sp" {
		id = parts[2]
	}
	for _, k := range keys {
		if k.GetId() == id {
			return k, nil
		}
	}
	var named []*authv1.Key
	for _, k := range keys {
		if k.GetName() == meant {
			named = append(named, k)
		}
	}
	if live := slices.IndexFunc(named, func(k *authv1.Key) bool {
		return k.GetState() == authv1.KeyState_KEY_STATE_ACTIVE || k.GetState() == authv1.KeyState_KEY_STATE_ROTATING
	}); live >= 0 {
		return named[live], nil
	}
	switch len(named) {
	case 0: // what was meant may be a secret, so it is not repeated
		return nil, failed(errors.New("no key has this id or name; see 'sallyport key list'"))
	case 1:
		return named[0], nil
	}
	return nil, failed(fmt.Errorf("%d keys had this name, and all are dead; use an id", len(named)))
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
