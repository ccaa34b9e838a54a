package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/scaffold"
)

func toolInitCommand() *cobra.Command {
	var language, folder string
	cmd := &cobra.Command{
		Use:   "init NAME",
		Short: "Write the start of a new tool service",
		Long: `Writes a folder with a tool service that works: its contract, a server, and tests. The
server is any gRPC server; 'sallyport tool serve' makes it a tool service.`,
		Example: `  sallyport tool init weather
  sallyport tool init order-status --lang python
  sallyport tool init order-status --lang go`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			folder := cmp.Or(folder, name)
			lang, files, err := scaffold.Write(folder, name, language)
			if err != nil {
				return failed(err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), `%s has %s. While 'sallyport dev' runs:

  cd %s
  %s
  sallyport tool serve %s.proto -- %s

and beside it

  sallyport tool lint %s.proto
  sallyport tool test cases.yaml
`, filepath.Clean(folder)+string(filepath.Separator), strings.Join(files, ", "), folder, lang.Install, name, lang.Run, name)
			return nil
		},
	}
	cmd.Flags().StringVar(&language, "lang", "typescript", "`language` of the server: "+strings.Join(scaffold.Languages(), ", "))
	cmd.Flags().StringVar(&folder, "dir", "", "`folder` to write to (default the name)")
	_ = cmd.RegisterFlagCompletionFunc("lang", cobra.FixedCompletions(scaffold.Languages(), cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	return cmd
}
