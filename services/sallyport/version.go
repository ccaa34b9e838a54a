package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/sallyport-mcp/sallyport/pkg/app"
)

func versionCommand() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "version", Short: "Show the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), map[string]string{"version": app.Version(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "sallyport %s (%s, %s/%s)\n", app.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
	out.register(cmd)
	return cmd
}

func roleNames() []string {
	names := []string{operatorRole, "nats"}
	for _, r := range roles() {
		names = append(names, r.Name)
	}
	return names
}
