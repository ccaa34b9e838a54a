// Sallyport is the program for people: the whole system in one process or in
// many, and the commands to operate it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/services/audit"
	"github.com/sallyport-mcp/sallyport/services/auth"
	"github.com/sallyport-mcp/sallyport/services/edge"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/quota"
	"github.com/sallyport-mcp/sallyport/services/tools/basics"
	"github.com/sallyport-mcp/sallyport/services/tools/customers"
	"github.com/sallyport-mcp/sallyport/services/tools/logs"
	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge"
	"github.com/sallyport-mcp/sallyport/services/tools/openapi"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery"
)

// roles are all roles, in the order in which processes are shown.
func roles() []app.Role {
	return []app.Role{
		edge.Role, auth.Role, quota.Role, executor.Role, audit.Role,
		basics.Role, sqlquery.Role, customers.Role, logs.Role, mcpbridge.Role, openapi.Role,
	}
}

// startedRoles are those that a development set-up starts: all, but providers only
// where the configuration has something for them to provide.
func startedRoles(cfg app.Config) []app.Role {
	return slices.DeleteFunc(roles(), func(r app.Role) bool {
		_, configured := cfg.Roles[r.Name]
		return (r.Name == mcpbridge.Role.Name || r.Name == openapi.Role.Name) && !configured
	})
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main for tests.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := command()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = &exitError{exitUsage, err} // cobra's own errors are about usage
	}
	if exit.err != nil {
		fmt.Fprintln(stderr, "sallyport:", exit.err)
	}
	return exit.code
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "sallyport",
		Short: "The secure front door for MCP tools",
		Long: `Sallyport stands before the tools your AI agents use: every call is authenticated,
authorized, limited, validated, recorded and traced.`,
		Example: `  sallyport dev                          everything in one process, on this machine
  sallyport call echo text=hello         call a tool as the demo admin
  sallyport key create ci --role analyst make an API key
  sallyport audit tail                   what was asked, decided and done`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          group,
		Version:       app.Version(),
	}
	root.SetVersionTemplate("sallyport {{.Version}}\n")
	var o operator
	root.PersistentFlags().StringVar(&o.state, "state", os.Getenv("SALLYPORT_STATE"), "state `folder` of the instance (SALLYPORT_STATE; default .sallyport)")
	root.PersistentFlags().StringVar(&o.config, "config", "", "configuration `file`; for operator commands its peers and identity are used")
	root.AddCommand(
		devCommand(&o), runCommand(), callCommand(&o), toolCommand(&o), keyCommand(&o), policyCommand(&o), whyCommand(&o),
		canICommand(&o), approvalsCommand(&o), quotaCommand(&o), auditCommand(&o), configCommand(&o), bootstrapCommand(), certCommand(&o), versionCommand(),
	)
	return root
}

// group is what a command does that only has others under it.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usage("unknown command %q; did you mean %q?", args[0], near[0])
	}
	return usage("unknown command %q; see %q", args[0], cmd.CommandPath()+" --help")
}

// Exit codes; scripts depend on them.
const (
	exitOK          = 0
	exitNo          = 1 // no, or failed
	exitUsage       = 2 // usage or configuration
	exitForbidden   = 3 // unauthenticated or forbidden
	exitUnreachable = 4 // nothing answers
)

// exitError ends the program with a code; a nil error says nothing more.
type exitError struct {
	code int
	err  error
}

// Error implements error.
func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

// Unwrap returns what went wrong.
func (e *exitError) Unwrap() error { return e.err }

func failed(err error) error { return &exitError{exitNo, err} }

func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}
