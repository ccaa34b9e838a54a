package main

import (
	"strings"

	"github.com/spf13/cobra"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
)

func toolCommand(o *operator) *cobra.Command {
	cmd := &cobra.Command{Use: "tool", Short: "Make tools, and look at the catalogue of them", Args: cobra.ArbitraryArgs, RunE: group}
	cmd.AddCommand(toolListCommand(o), toolServeCommand(o), toolLintCommand(o), toolTestCommand(o), toolInitCommand())
	cmd.AddCommand(approvalCommands(o)...)
	return cmd
}

func toolListCommand(o *operator) *cobra.Command {
	var out output
	var flags clientFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List all tools, or those that a key may call",
		Example: `  sallyport tool list
  sallyport tool list --as intern`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags != (clientFlags{}) {
				client, err := o.client(cmd.InOrStdin(), flags)
				if err != nil {
					return err
				}
				tools, err := client.Tools(cmd.Context())
				if err != nil {
					return mcpError(err)
				}
				if out.json() {
					return writeJSON(cmd.OutOrStdout(), tools)
				}
				rows := [][]string{{"NAME", "DESCRIPTION"}}
				for _, t := range tools {
					rows = append(rows, []string{t.Name, sentence(t.Description)})
				}
				return table(cmd.OutOrStdout(), rows)
			}
			conn, err := o.dial("executor")
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }() // the process ends
			resp, err := executorv1.NewExecutorServiceClient(conn).ListTools(cmd.Context(), &executorv1.ListToolsRequest{})
			if err != nil {
				return rpcError(err)
			}
			return showTools(cmd, &out, resp.GetTools())
		},
	}
	out.register(cmd)
	cmd.Flags().StringVar(&flags.url, "url", "", "MCP `endpoint` (default: the running instance's)")
	cmd.Flags().StringVar(&flags.as, "as", "", "only what this demo `key` may call")
	cmd.Flags().StringVar(&flags.keyFile, "key-file", "", "only what the key in this `file` may call")
	cmd.Flags().StringVar(&flags.proofKey, "proof-key", "", "`file` with the private key that the API key is bound to, as PEM or JWK")
	return cmd
}

func showTools(cmd *cobra.Command, out *output, tools []*executorv1.Tool) error {
	rows := [][]string{{"NAME", "SERVICE", "RISK", "AVAILABLE", "DESCRIPTION"}}
	list := []map[string]any{}
	for _, t := range tools {
		d := t.GetDefinition()
		risk := strings.ToLower(strings.TrimPrefix(d.GetOptions().GetRisk().String(), "RISK_"))
		available := "yes"
		if !t.GetAvailable() {
			available = "no"
		}
		rows = append(rows, []string{d.GetName(), t.GetService(), risk, available, sentence(d.GetDescription())})
		list = append(list, map[string]any{
			"name": d.GetName(), "title": d.GetTitle(), "service": t.GetService(), "risk": risk, "available": t.GetAvailable(),
			"description": d.GetDescription(), "scopes": d.GetOptions().GetScopes(), "tags": d.GetOptions().GetTags(),
		})
	}
	if out.json() {
		return writeJSON(cmd.OutOrStdout(), list)
	}
	return table(cmd.OutOrStdout(), rows)
}

// sentence returns the first sentence of a text.
func sentence(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if i := strings.Index(s, ". "); i >= 0 {
		return s[:i+1]
	}
	return s
}
