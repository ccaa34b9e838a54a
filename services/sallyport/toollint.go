package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/toollint"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/toolproto"
)

func toolLintCommand(o *operator) *cobra.Command {
	var out output
	var include []string
	var name string
	var online bool
	cmd := &cobra.Command{
		Use:   "lint PROTO…",
		Short: "Find what makes a tool hard to use, or dangerous to offer",
		Long: `Looks at the proto files (or descriptor images) of tool services and fails if

  comment  something that models read has no comment
  bound    a caller can send as much as he likes
  name     a name says nothing
  twice    two tools have one name
  size     a description or schema is more than a conversation should carry
  risk     nobody has said what the tool can do
  uses     what a call reports to have used has no bound

and if no tool can be made of an RPC that is marked as one.`,
		Example: `  sallyport tool lint weather.proto
  sallyport tool lint weather.proto --online     also against the tools of the running system`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if name != "" && len(args) > 1 {
				return usage("--name goes with one file")
			}
			names := make(map[string]string)
			if online {
				var err error
				if names, err = o.toolOwners(cmd); err != nil {
					return err
				}
			}
			l := linting{include: include, owners: names, findings: []toollint.Finding{}}
			for _, file := range args {
				if err := l.file(cmd.Context(), file, cmp.Or(name, serviceName(file))); err != nil {
					return failed(err)
				}
			}
			return l.show(cmd.OutOrStdout(), &out)
		},
	}
	out.register(cmd)
	cmd.Flags().StringSliceVar(&include, "include", nil, "`folders` with files that the proto imports")
	cmd.Flags().StringVar(&name, "name", "", "`name` of the service (default the file's)")
	cmd.Flags().BoolVar(&online, "online", false, "look for the names among the tools of the running system, too")
	return cmd
}

// linting is a look at several services.
type linting struct {
	include  []string
	owners   map[string]string // services by tool
	tools    int
	findings []toollint.Finding
}

func (l *linting) file(ctx context.Context, file, service string) error {
	image, err := toolproto.Load(ctx, file, l.include...)
	if err != nil {
		return err
	}
	tools, refused, err := executor.Define(service, image.Files)
	if err := errors.Join(append(refused, err)...); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	definitions := make(map[string]*providerv1.ToolDefinition)
	for _, t := range tools {
		definitions[t.Method] = t.Definition
	}
	for _, f := range toollint.Lint(image.Services, definitions, func(tool string) string {
		if owner := l.owners[tool]; owner != service {
			return owner
		}
		return ""
	}) {
		if !strings.HasSuffix(file, ".binpb") { // where the source is, only the source tells
			f.File = filepath.Join(filepath.Dir(file), f.File)
		}
		l.findings = append(l.findings, f)
	}
	for _, t := range tools {
		l.owners[t.Definition.GetName()] = service
	}
	l.tools += len(tools)
	return nil
}

func (l *linting) show(w io.Writer, out *output) error {
	if out.json() {
		if err := writeJSON(w, l.findings); err != nil {
			return failed(err)
		}
	} else {
		for _, f := range l.findings {
			fmt.Fprintln(w, printable(f.String()))
		}
		fmt.Fprintf(w, "%d tools, %d findings\n", l.tools, len(l.findings))
	}
	if len(l.findings) > 0 {
		return &exitError{code: exitNo}
	}
	return nil
}

// toolOwners returns the services of the running system's tools, by name.
func (o *operator) toolOwners(cmd *cobra.Command) (map[string]string, error) {
	conn, err := o.dial("executor")
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // the process ends
	resp, err := executorv1.NewExecutorServiceClient(conn).ListTools(cmd.Context(), &executorv1.ListToolsRequest{})
	if err != nil {
		return nil, rpcError(err)
	}
	all := make(map[string]string)
	for _, t := range resp.GetTools() {
		all[t.GetDefinition().GetName()] = t.GetService()
	}
	return all, nil
}
