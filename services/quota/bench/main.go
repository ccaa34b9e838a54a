// Command bench measures what a decision of the quota service costs: over gRPC
// beside a bare echo, by one node and by two that count as one, as single checks,
// streams and batches; and without gRPC, what the counting alone takes in time and
// in memory. It also measures how soon a copy is with the heir, how long a key is
// without an owner after a node was killed, and how soon nodes know what others have
// admitted in fast mode.
//
// Servers are processes of their own, and so is NATS; all share the machine with
// the load, which comes from this process. Decisions per second depend on whatever
// else the machine does; CPU and allocations per decision are the figures to
// compare, and ratios to the echo of the same run. Nothing passes or fails here.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/devca"
)

// options are the flags.
type options struct {
	span    time.Duration
	rounds  int
	part    string
	only    string
	keys    string
	profile string
	node    nodeOptions
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.DurationVar(&o.span, "span", 500*time.Millisecond, "measure a row of the table for this `long` at a time")
	fs.IntVar(&o.rounds, "rounds", 11, "measure every row this `many` times, each after the bare echo, and show medians")
	fs.StringVar(&o.part, "part", "", "measure only parts with this `text` in their name: decisions over gRPC, one caller, cluster, fast, engine, memory")
	fs.StringVar(&o.only, "only", "", "measure only rows over gRPC whose names match this `regexp`")
	fs.StringVar(&o.keys, "keys", "1,5,10", "millions of keys to weigh, with commas between; 10 need 2 GB")
	fs.StringVar(&o.profile, "profile", "", "write CPU profiles of the servers of each row to this `folder`")
	fs.StringVar(&o.node.kind, "serve", "", "be a server of this kind; used by the program itself")
	fs.StringVar(&o.node.nats, "nats", "", "URL of the NATS server; used by the program itself")
	fs.StringVar(&o.node.tls, "tls", "", "folder of certificates; used by the program itself")
	fs.StringVar(&o.node.rules, "rules", "", "rules to serve; used by the program itself")
	fs.StringVar(&o.node.dir, "dir", "", "folder for state; used by the program itself")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if _, err := regexp.Compile(o.only); err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	app.CollectLess() // as every process of the system does
	if o.node.kind != "" {
		return serveNode(ctx, o.node, os.Stdin, stdout)
	}
	if o.rounds < 1 || o.span < 100*time.Millisecond {
		return errors.New("-rounds must be 1 or more, -span 100ms or more")
	}
	dir, err := os.MkdirTemp("", "quota-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a leftover harms nobody
	o.node.dir = dir
	if err := devca.Ensure(dir, "quota", "edge"); err != nil {
		return err
	}
	for _, part := range []struct {
		name    string
		measure func(context.Context, options, io.Writer, io.Writer) error
	}{
		{"decisions over gRPC", overGRPC}, {"one caller", ofOne}, {"cluster", ofCluster}, {"fast", ofFast}, {"engine", engine}, {"memory", memory},
	} {
		if !strings.Contains(part.name, o.part) {
			continue
		}
		if err := part.measure(ctx, o, stdout, stderr); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}
