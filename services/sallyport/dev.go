package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/bus/embed"
	"github.com/sallyport-mcp/sallyport/pkg/devca"
	"github.com/sallyport-mcp/sallyport/services/edge"
	"github.com/sallyport-mcp/sallyport/services/quota"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/instance"
)

// devOptions are the flags of `sallyport dev`.
type devOptions struct {
	listen    string
	json      bool
	processes bool
	replicas  string
}

func devCommand(o *operator) *cobra.Command {
	var d devOptions
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine: NATS, all services, demo tools, demo keys",
		Example: `  sallyport dev
  sallyport dev --listen 127.0.0.1:0 --state /tmp/sp --json
  sallyport dev --processes --replicas edge=2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := o.stateDir()
			if err != nil {
				return err
			}
			counts, err := replicas(d.replicas, d.processes)
			if err != nil {
				return err
			}
			held, err := instance.Lock(dir)
			if err != nil {
				return failed(err)
			}
			defer func() { _ = held.Close() }() // the process ends
			defer instance.Remove(dir)
			cfg, err := devConfig(o.config, dir, d.listen)
			if err != nil {
				return err
			}
			shown := func(i instance.Instance) error {
				if err := awaitTools(cmd.Context(), i); err != nil {
					return err
				}
				if err := instance.Save(i); err != nil {
					return err
				}
				if d.json {
					return writeJSON(cmd.OutOrStdout(), i)
				}
				banner(cmd.OutOrStdout(), i)
				return nil
			}
			if d.processes {
				err = runProcesses(cmd.Context(), cfg, counts, cmd.ErrOrStderr(), shown)
			} else {
				err = runTogether(cmd.Context(), cfg, cmd.ErrOrStderr(), shown)
			}
			if err != nil && !errors.Is(err, context.Canceled) {
				return failed(err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&d.listen, "listen", "", "`host:port` of the MCP endpoint, port 0 for any (default the configuration's, or 127.0.0.1:8080)")
	cmd.Flags().BoolVar(&d.json, "json", false, "print one line of JSON when ready, and nothing else")
	cmd.Flags().BoolVar(&d.processes, "processes", false, "run every service as a process of its own, with mTLS between them")
	cmd.Flags().StringVar(&d.replicas, "replicas", "", "how `many` of which process: edge=2,quota=3")
	return cmd
}

// replicas reads --replicas. Not every process can be many as yet; asking for more
// is refused rather than ignored.
func replicas(s string, processes bool) (counts map[string]int, err error) {
	counts = make(map[string]int)
	if s == "" {
		return counts, nil
	}
	if !processes {
		return nil, usage("--replicas goes with --processes")
	}
	for part := range strings.SplitSeq(s, ",") {
		name, count, ok := strings.Cut(part, "=")
		n, err := strconv.Atoi(count)
		if !ok || err != nil || n < 1 || n > 16 {
			return nil, usage("--replicas: %q is not name=count with a count from 1 to 16", part)
		}
		switch {
		case name == edge.Role.Name, name == quota.Role.Name:
		case name != "nats" && !slices.Contains(roleNames(), name):
			return nil, usage("--replicas: there is no process %q", name)
		case n > 1:
			return nil, usage("--replicas: %s cannot be more than one yet; edge and quota can", name)
		}
		counts[name] = n
	}
	return counts, nil
}

// devConfig returns the configuration of a development set-up: what the file
// says, and for the rest what needs no thought: loopback addresses, an embedded
// NATS with a password, certificates made on the spot.
func devConfig(file, dir, listen string) (app.Config, error) {
	set := []string{"state_dir=" + strconv.Quote(dir)}
	if listen != "" {
		if _, _, err := net.SplitHostPort(listen); err != nil {
			return app.Config{}, usage("--listen: %w", err)
		}
		set = append(set, "roles.edge.listen="+strconv.Quote(listen))
	}
	cfg, err := app.Load(file, set...)
	if err != nil {
		return cfg, &exitError{exitUsage, err}
	}
	if file != "" {
		if err := validateConfig(file); err != nil {
			return cfg, &exitError{exitUsage, err}
		}
	}
	if cfg.Bus.Embedded {
		if cfg.Bus.Listen == "" {
			cfg.Bus.Listen = "127.0.0.1:0"
		}
		if cfg.Bus.User == "" {
			cfg.Bus.User, cfg.Bus.PasswordFile = "sallyport", filepath.Join(dir, "secrets", "nats.password")
			if err := ensurePassword(cfg.Bus.PasswordFile); err != nil {
				return cfg, failed(err)
			}
		}
	}
	if !cfg.TLS.Enabled() {
		if err := devca.Ensure(certsDir(dir), roleNames()...); err != nil {
			return cfg, failed(err)
		}
		cfg.TLS = devca.Files(certsDir(dir))
	}
	if cfg.Listen == nil {
		cfg.Listen = make(map[string]string)
	}
	for _, role := range operatorPeers {
		if cfg.Listen[role] == "" {
			cfg.Listen[role] = "127.0.0.1:0"
		}
	}
	return cfg, nil
}

// operatorPeers are the roles that the command line calls.
var operatorPeers = []string{"auth", "quota", "executor", "audit"}

// runTogether runs all roles in this process.
func runTogether(ctx context.Context, cfg app.Config, stderr io.Writer, shown func(instance.Instance) error) error {
	logFile, err := os.OpenFile(filepath.Join(cfg.StateDir, "sallyport.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = logFile.Close() }() // the process ends
	log := slog.New(slog.NewMultiHandler(
		slog.NewJSONHandler(logFile, &slog.HandlerOptions{Level: cfg.Log}),
		slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}),
	))
	app.CollectLess()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err = app.Run(ctx, app.Options{Config: cfg, Log: log, StartBus: embed.Start, Ready: func(info app.Info) {
		if err := together(ctx, cfg, info, shown); err != nil {
			cancel(err)
		}
	}}, startedRoles(cfg)...)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// together tells of the instance that this process is.
func together(ctx context.Context, cfg app.Config, info app.Info, shown func(instance.Instance) error) error {
	conn, err := info.Env(operatorRole).Conn("auth")
	if err != nil {
		return err
	}
	keys, err := ensureDemoKeys(ctx, cfg.StateDir, conn)
	if err != nil {
		return err
	}
	nats, err := natsURL(cfg, info.NATSURL)
	if err != nil {
		return err
	}
	url := "http://" + info.Addresses["edge"] + "/mcp"
	i := instance.Instance{
		MCPURL: url, MCPURLs: []string{url}, AdminURL: info.AdminURL, NATSURL: nats, StateDir: cfg.StateDir, Keys: keys,
		Processes: []instance.Process{{Name: "sallyport", PID: info.PID, Address: info.Addresses["edge"], AdminURL: info.AdminURL}},
		Peers:     make(map[string]string),
	}
	for _, role := range operatorPeers {
		i.Peers[role] = info.Addresses[role]
	}
	if err := saveConfig(joining(cfg, i.Peers, info.NATSURL), runConfig(cfg.StateDir)); err != nil {
		return err
	}
	return shown(i)
}

// joining is the configuration of a process that joins those that run: a tool
// service, most likely.
func joining(cfg app.Config, peers map[string]string, nats string) app.Config {
	cfg.Listen, cfg.Peers = nil, peers
	if cfg.Bus.Embedded {
		cfg.Bus.Embedded, cfg.Bus.Listen, cfg.Bus.URL = false, "", nats
	}
	return cfg
}

// runConfig is where the configuration of the processes is.
func runConfig(state string) string { return filepath.Join(state, "run", "config.yaml") }

// banner is what a person sees when all is ready; at most 15 lines, or it is not
// read.
func banner(w io.Writer, i instance.Instance) {
	program, state := "sallyport", ""
	if strings.Contains(os.Args[0], "/") {
		program = os.Args[0] // as it was called, so that the lines can be copied
	}
	if wd, err := os.Getwd(); err != nil || i.StateDir != filepath.Join(wd, app.DefaultConfig().StateDir) {
		state = " --state " + i.StateDir
	}
	fmt.Fprintf(w, `sallyport %s: everything on this machine, for development. State is in %s; delete it to start anew.

  MCP      %s   (Streamable HTTP: 2026-07-28, 2025-11-25, 2025-06-18)
  Admin    %s/readyz?verbose   and /metrics
  Keys     export SALLYPORT_ADMIN=%s
           export SALLYPORT_ANALYST=%s
           export SALLYPORT_INTERN=%s
  Try      %s%s call run_sql_query query='SELECT name, plan FROM customers LIMIT 3' --as analyst
           %s%s call delete_customer_account customer_id=7 --as intern      # denied
           %s%s audit tail -f
  Connect  claude mcp add --transport http sallyport %s --header "Authorization: Bearer $SALLYPORT_ANALYST"
  Traces   set OTEL_EXPORTER_OTLP_ENDPOINT to send them.   Stop with Ctrl-C.
`, app.Version(), i.StateDir, i.MCPURL, i.AdminURL, i.Keys["admin"], i.Keys["analyst"], i.Keys["intern"],
		program, state, program, state, program, state, i.MCPURL)
}

// saveConfig writes the one configuration that all processes read.
func saveConfig(cfg app.Config, file string) error {
	b, err := yaml.Marshal(cfg)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}
