// Command bench measures what one tools/call costs: of a bare net/http handler, of
// the edge alone with stubs for the services behind it, of the official Go SDK's
// server without any security, and of Sallyport in one process and as separate
// processes, all with the same closed-loop load in one
// run. It does the same for one tools/list where there are a thousand tools and two
// hundred policies. After that it measures what the executor itself costs with its guards, beside
// a bare gRPC call.
//
// The load comes from this process, over kept-alive HTTP/1.1 connections, by a
// client that does next to nothing; the servers are processes of their own on the
// same machine. Every cell is measured several times, in turn with the others and
// with servers freshly started, and medians are shown. Server CPU is what the
// kernel charged to all server processes together, NATS among them. Requests per
// second and tails depend on whatever else the machine does; CPU, allocations and
// bytes per call are the figures to compare.
//
// Nothing passes or fails here. With -profile it says instead where the CPU time
// of Sallyport goes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport-mcp/sallyport/services/sallyport/e2e/launch"
)

// options are the flags.
type options struct {
	rounds  int
	limit   time.Duration
	era     string
	only    string
	profile string
	serve   string
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
	fs.IntVar(&o.rounds, "rounds", 3, "measure every cell this `many` times and show the median")
	fs.DurationVar(&o.limit, "limit", 5*time.Second, "measure no cell for longer than this")
	fs.StringVar(&o.era, "era", eraModern, "protocol of the requests: modern (2026-07-28) or legacy (2025-11-25)")
	fs.StringVar(&o.only, "only", "", "measure only servers with this `text` in their name")
	fs.StringVar(&o.profile, "profile", "", "write CPU profiles of Sallyport at 16 clients to this `file`, or with -only processes to one beside it for each process, with -only edge of the edge alone, or with -only and the beginning of a row of lists of that, print their top and measure nothing")
	fs.StringVar(&o.serve, "serve", "", "be the server with this name; used by the program itself")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if o.serve != "" {
		return serve(ctx, o.serve, os.Stdin, stdout)
	}
	if o.rounds < 1 || o.limit < time.Second || o.era != eraModern && o.era != eraLegacy {
		return errors.New("-rounds must be 1 or more, -limit 1s or more, -era modern or legacy")
	}
	dir, err := os.MkdirTemp("", "sallyport-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a leftover harms nobody
	fmt.Fprintln(stderr, "building sallyport …")
	program, err := launch.Build(ctx, dir)
	if err != nil {
		return err
	}
	lists, err := listing(program, dir)
	if err != nil {
		return err
	}
	if o.profile != "" {
		part, start := calls(nil), sallyport(program, filepath.Join(dir, "profile"), rules)
		switch i := slices.IndexFunc(lists.all, func(c contestant) bool { return o.only != "" && strings.HasPrefix(c.name, o.only) }); {
		case i >= 0:
			part, start = lists, lists.all[i].start
		case o.only == "":
		case strings.Contains("processes", o.only):
			start = sallyport(program, filepath.Join(dir, "profile"), rules, "--processes")
		case strings.Contains(edgeName, o.only):
			start = own(serveEdge)
		}
		return profile(ctx, o, part, start, stdout)
	}
	for _, part := range []suite{calls(contestants(program, dir)), lists} {
		if !slices.ContainsFunc(part.all, func(c contestant) bool { return strings.Contains(c.name, o.only) }) {
			continue
		}
		if err := measureAll(ctx, o, part, stdout, stderr); err != nil {
			return err
		}
	}
	if strings.Contains(executorName, o.only) {
		return measureExecutor(ctx, o, dir, stdout, stderr)
	}
	return nil
}

// contestant is a server that can be measured.
type contestant struct {
	name  string
	start func(context.Context) (*server, error)
}

// edgeName is what the edge alone is called in the table.
const edgeName = "the edge alone, services stubbed"

func contestants(program, dir string) []contestant {
	return []contestant{
		{"net/http, fixed answer", own(serveBare)},
		{edgeName, own(serveEdge)},
		{"go-sdk, no security", own(serveSDK)},
		{"sallyport, one process", sallyport(program, filepath.Join(dir, "one"), rules)},
		{"sallyport, one process, no leases", sallyport(program, filepath.Join(dir, "one-asking"), rules+askAlways)},
		{"sallyport, processes", sallyport(program, filepath.Join(dir, "many"), rules, "--processes")},
		{"sallyport, processes, no leases", sallyport(program, filepath.Join(dir, "many-asking"), rules+askAlways, "--processes")},
	}
}

// cell is one load; how long it lasts is bounded by the flag besides.
type cell struct{ clients, warmup, requests int }

// suite is a request that servers are measured with.
type suite struct {
	title   string // what the request is, for a heading
	all     []contestant
	cells   []cell
	request func(o options, s *server) request
	// prepare, if there is one, waits until a server answers the request.
	prepare func(context.Context, request, *server) error
}

// calls are one small tools/call.
func calls(all []contestant) suite {
	return suite{
		title: "one tools/call of echo", all: all, cells: []cell{{1, 500, 4000}, {16, 2000, 20000}},
		request: func(o options, s *server) request { return toolCall(o.era, s.address, s.key) },
	}
}

func measureAll(ctx context.Context, o options, part suite, stdout, stderr io.Writer) error {
	results := make(map[string][]sample) // by row
	for round := range o.rounds {
		for _, c := range part.all {
			if !strings.Contains(c.name, o.only) {
				continue
			}
			fmt.Fprintf(stderr, "round %d of %d: %s …\n", round+1, o.rounds, c.name)
			if err := measure(ctx, o, part, c, results); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return report(stdout, o, part, results)
}

// measure starts a server, measures each cell once, and stops it.
func measure(ctx context.Context, o options, part suite, c contestant, results map[string][]sample) (err error) {
	s, err := c.start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	request := part.request(o, s)
	if part.prepare != nil {
		if err := part.prepare(ctx, request, s); err != nil {
			return err
		}
	}
	for _, cell := range part.cells {
		if _, err := drive(ctx, load{s.address, request, cell.clients, cell.warmup, o.limit}); err != nil {
			return fmt.Errorf("warm up: %w", err)
		}
		before, err := s.spent(ctx)
		if err != nil {
			return err
		}
		got, err := drive(ctx, load{s.address, request, cell.clients, cell.requests, o.limit})
		if err != nil {
			return err
		}
		after, err := s.spent(ctx)
		if err != nil {
			return err
		}
		row := rowKey(c.name, cell.clients)
		results[row] = append(results[row], newSample(got, s.processes, after.minus(before)))
	}
	return nil
}
