package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/bus/embed"
)

// natsRole is a process that is nothing but the embedded NATS server.
var natsRole = app.Role{Name: "nats", Allow: map[string][]string{"-": nil}, New: func(*app.Env) (app.Service, error) {
	return idle{}, nil
}}

type idle struct{}

func (idle) Register(grpc.ServiceRegistrar) {}

func (idle) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// runCommand plays one role in this process, as the role's own binary does;
// `sallyport dev --processes` starts it. The process ends with its standard
// input, that is with its parent.
func runCommand() *cobra.Command {
	return &cobra.Command{
		Use: "run ROLE [flags]", Short: "Play one role in this process", Hidden: true, DisableFlagParsing: true,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, r := range append(roles(), natsRole) {
				if r.Name != args[0] {
					continue
				}
				ctx, cancel := context.WithCancel(cmd.Context())
				defer cancel()
				go func() {
					_, _ = io.Copy(io.Discard, cmd.InOrStdin()) // until the parent ends
					cancel()
				}()
				if err := app.Command(ctx, args[1:], cmd.OutOrStdout(), cmd.ErrOrStderr(), embed.Start, r); err != nil {
					return failed(err)
				}
				return nil
			}
			return usage("there is no role %q", args[0])
		},
	}
}
