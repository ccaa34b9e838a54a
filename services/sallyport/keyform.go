package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-mcp/sallyport/services/auth"
)

// gitleaksRule is a rule for gitleaks and what reads its files.
const gitleaksRule = `[[rules]]
id = "sallyport-api-key"
description = "API key of a Sallyport gateway: whoever has it may call tools. Revoke it: sallyport key revoke"
regex = '''` + auth.KeyPattern + `'''
keywords = ["sp_"]
`

func keyPatternCommand() *cobra.Command {
	var gitleaks bool
	cmd := &cobra.Command{
		Use:   "pattern",
		Short: "Print the regular expression that finds keys, for secret scanners",
		Example: `  grep -rP "$(sallyport key pattern)" .
  sallyport key pattern --gitleaks >> .gitleaks.toml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text := auth.KeyPattern + "\n"
			if gitleaks {
				text = gitleaksRule
			}
			_, err := io.WriteString(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().BoolVar(&gitleaks, "gitleaks", false, "print a rule for gitleaks, in TOML")
	return cmd
}

// maxCheckInput is more than any key with white space around it.
const maxCheckInput = 4096

func keyCheckCommand() *cobra.Command {
	var out keyOutput
	cmd := &cobra.Command{
		Use:   "check [KEY]",
		Short: "Tell whether a text is a well-formed key, without asking anybody",
		Long: `Check reads a key from standard input, or from the command line, where others on this
machine can see it, and looks at its form and checksum. The exit code is 0 if it could
have been issued and 1 if not. Whether it is good, only the server knows. The secret
is never printed.`,
		Example: `  sallyport key check < ci.key`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text := strings.Join(args, "")
			if len(args) == 0 {
				b, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxCheckInput))
				if err != nil {
					return failed(fmt.Errorf("read the key: %w", err))
				}
				text = string(b)
			}
			masked, env, id, err := auth.CheckKey(strings.TrimSpace(text))
			if err != nil {
				if out.json() {
					if err := writeJSON(cmd.OutOrStdout(), map[string]any{"well_formed": false}); err != nil {
						return err
					}
				}
				return failed(err)
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"well_formed": true, "masked": masked, "env": env, "id": id})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is a well-formed key for the environment %s\n", masked, env)
			return nil
		},
	}
	out.register(cmd)
	return cmd
}
