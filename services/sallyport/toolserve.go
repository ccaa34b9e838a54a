package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/devca"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/sidecar"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/toolproto"
)

// toolServer are the flags of `sallyport tool serve`.
type toolServer struct {
	name, listen, to string
	include          []string
}

func toolServeCommand(o *operator) *cobra.Command {
	var s toolServer
	cmd := &cobra.Command{
		Use:   "serve PROTO [flags] [-- COMMAND…]",
		Short: "Make a gRPC server in any language a tool service",
		Long: `Makes a gRPC server in any language a tool service. It has the identity (mTLS), announces
the tools, checks requests against the rules of the proto, and passes calls on.

PROTO is the service's proto file, or a descriptor image (.binpb). COMMAND is started as the
server, and finds in its environment

  ` + sidecar.ListenVariable + `  the address to listen on, a Unix socket for us alone: no TLS is needed
  ` + sidecar.ImageVariable + `   a file with its descriptors: no generated code is needed

An error reaches the caller with its text if its code is INVALID_ARGUMENT, NOT_FOUND,
ALREADY_EXISTS, FAILED_PRECONDITION, OUT_OF_RANGE, PERMISSION_DENIED, RESOURCE_EXHAUSTED or
ABORTED; of others only that the tool has failed.

Without --config it joins a running 'sallyport dev'.`,
		Example: `  sallyport tool serve weather.proto -- python3 weather.py
  sallyport tool serve weather.proto --to 127.0.0.1:9000`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dash := cmd.ArgsLenAtDash()
			switch {
			case dash > 1, dash < 0 && len(args) > 1:
				return usage("one proto file, and the command after --")
			case (len(args) > 1) == (s.to != ""):
				return usage("say what serves the tools: a command after --, or --to ADDRESS of a server that runs")
			}
			return s.serve(cmd, o, args[0], args[1:])
		},
	}
	cmd.Flags().StringVar(&s.name, "name", "", "`name` of the service (default the file's)")
	cmd.Flags().StringVar(&s.listen, "listen", "", "`host:port` for the executor's calls (default the configuration's, or one of this machine)")
	cmd.Flags().StringVar(&s.to, "to", "", "gRPC `address` of a server that runs; nobody else should reach it")
	cmd.Flags().StringSliceVar(&s.include, "include", nil, "`folders` with files that the proto imports")
	return cmd
}

func (s *toolServer) serve(cmd *cobra.Command, o *operator, file string, command []string) error {
	if s.name == "" {
		s.name = serviceName(file)
	}
	if !roleName.MatchString(s.name) {
		return usage("%q is no name for a service: lower-case letters, digits and dashes; see --name", s.name)
	}
	if slices.Contains(roleNames(), s.name) { // it would have the identity of that
		return usage("%q is a service of Sallyport itself; choose another name with --name", s.name)
	}
	image, err := toolproto.Load(cmd.Context(), file, s.include...)
	if err != nil {
		return failed(err)
	}
	own, err := proto.Marshal(image.Files)
	if err != nil {
		return failed(err)
	}
	names, err := toolNames(s.name, image)
	if err != nil {
		return failed(fmt.Errorf("%s: %w", file, err))
	}
	cfg, err := s.config(o)
	if err != nil {
		return err
	}
	conn, child, err := s.start(cmd, image, command)
	if err != nil {
		return failed(err)
	}
	defer child.Stop() // after the calls in flight
	role := toolkit.Role(s.name, own, func(env *app.Env) (app.Service, error) {
		return sidecar.New(env, image.Services, conn, child), nil
	})
	app.CollectLess()
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: max(cfg.Log, slog.LevelWarn)}))
	err = app.Run(cmd.Context(), app.Options{Config: cfg, Log: log, Ready: func(app.Info) {
		fmt.Fprintf(cmd.OutOrStdout(), "%s serves %s. Stop with Ctrl-C.\n", s.name, strings.Join(names, ", "))
	}}, role)
	if err != nil {
		return failed(err)
	}
	return nil
}

// toolNames are the names of the tools that the executor will make of a service.
func toolNames(service string, image *toolproto.Image) ([]string, error) {
	tools, refused, err := executor.Define(service, image.Files)
	if err = errors.Join(append(refused, err)...); err != nil {
		return nil, err
	}
	if len(tools) == 0 {
		return nil, errors.New("no RPC has the option (sallyport.tool.v1.tool), so there is no tool in it")
	}
	var names []string
	for _, t := range tools {
		names = append(names, t.Definition.GetName())
	}
	return names, nil
}

// serviceName is the name of a file without folder and ending.
func serviceName(file string) string {
	base := filepath.Base(file)
	return strings.ReplaceAll(strings.TrimSuffix(base, filepath.Ext(base)), "_", "-")
}

// config is the configuration of a process that joins the system.
func (s *toolServer) config(o *operator) (app.Config, error) {
	file, listen := o.config, s.listen
	if file == "" {
		i, err := o.instance()
		if err != nil {
			return app.Config{}, err
		}
		if err := devca.Ensure(certsDir(i.StateDir), s.name); err != nil {
			return app.Config{}, failed(err)
		}
		file = runConfig(i.StateDir)
		if listen == "" {
			listen = "127.0.0.1:0"
		}
	}
	set := []string{"node=" + s.name}
	if listen != "" {
		set = append(set, "listen."+s.name+"="+strconv.Quote(listen))
	}
	cfg, err := app.Load(file, set...)
	if err != nil {
		return cfg, &exitError{exitUsage, err}
	}
	if o.config == "" {
		cfg.Admin = "127.0.0.1:0"
	}
	if cfg.Listen[s.name] == "" {
		return cfg, usage("%s has no listen.%s: say where the executor can call it, there or with --listen", file, s.name)
	}
	return cfg, nil
}

// startPatience is how long a server may take until it listens.
const startPatience = time.Minute

// start starts the server, unless it runs already, and waits until it can be
// reached.
func (s *toolServer) start(cmd *cobra.Command, image *toolproto.Image, command []string) (conn *grpc.ClientConn, child *sidecar.Child, err error) {
	target := s.to
	if len(command) > 0 {
		whole, err := proto.Marshal(image.Whole())
		if err != nil {
			return nil, nil, err
		}
		if child, err = sidecar.Start(command, whole, cmd.ErrOrStderr()); err != nil {
			return nil, nil, err
		}
		target = child.Target
	}
	if conn, err = sidecar.Dial(target); err == nil {
		ctx, cancel := context.WithTimeoutCause(cmd.Context(), startPatience, fmt.Errorf("the server does not listen on %s after %v", target, startPatience))
		defer cancel()
		err = sidecar.Reach(ctx, conn, child)
	}
	if err != nil {
		child.Stop()
	}
	return conn, child, err
}
