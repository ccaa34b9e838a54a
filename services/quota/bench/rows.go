package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"google.golang.org/grpc"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// row is one way to ask one sort of servers.
type row struct {
	name    string
	estate  string // name of the servers
	ask     way
	streams bool
	whose   string // with two nodes: keys of the first or the second, a hot one of the second, or all
}

// estate is a set of servers.
type estate struct {
	name    string
	kind    string
	nodes   int
	member  bool // of a cluster, even if it is the only one
	guarded bool
	rules   string
	whole   bool // checks tell all that an edge does
}

const first, second, hot = "first", "second", "hot"

var estates = []estate{
	{name: "echo", kind: kindEcho, nodes: 1},
	{name: "one", kind: kindNode, nodes: 1, rules: oneRule},
	{name: "one, member", kind: kindNode, nodes: 1, member: true, rules: oneRule + patient},
	{name: "two", kind: kindNode, nodes: 2, rules: oneRule + patient},
	{name: "two, fast", kind: kindNode, nodes: 2, rules: fastRule + patient},
	{name: "one, five rules", kind: kindNode, nodes: 1, rules: fiveRules, whole: true},
	{name: "echo, guarded", kind: kindEcho, nodes: 1, guarded: true},
	{name: "one, guarded", kind: kindNode, nodes: 1, guarded: true, rules: oneRule},
	{name: "one, guarded, five rules", kind: kindNode, nodes: 1, guarded: true, rules: fiveRules, whole: true},
}

var rows = []row{
	{name: "bare gRPC, unary echo", estate: "echo", ask: echoing},
	{name: "Check, one node", estate: "one", ask: unary},
	{name: "CheckStream, one node", estate: "one", ask: stream, streams: true},
	{name: "CheckStream, one check in a message, one node", estate: "one", ask: single, streams: true},
	{name: "CheckBatch(100), one node", estate: "one", ask: batch},
	{name: "Check, one node that dials NATS", estate: "one, member", ask: unary},
	{name: "Check, two nodes", estate: "two", ask: unary},
	{name: "Check, two nodes, keys of the node asked", estate: "two", ask: unary, whose: first},
	{name: "Check, two nodes, keys of the other node", estate: "two", ask: unary, whose: second},
	{name: "Check, two nodes, one hot key of the other node", estate: "two", ask: unary, whose: hot},
	{name: "CheckStream, two nodes", estate: "two", ask: stream, streams: true},
	{name: "CheckBatch(100), two nodes", estate: "two", ask: batch},
	{name: "Check, two nodes, fast mode", estate: "two, fast", ask: unary},
	{name: "Check, one node, five rules", estate: "one, five rules", ask: unary},
	{name: "CheckBatch(100), one node, five rules", estate: "one, five rules", ask: batch},
	{name: "echo, mTLS and interceptors", estate: "echo, guarded", ask: echoing},
	{name: "Check, mTLS and interceptors", estate: "one, guarded", ask: unary},
	{name: "CheckStream, mTLS and interceptors", estate: "one, guarded", ask: stream, streams: true},
	{name: "CheckBatch(100), mTLS and interceptors", estate: "one, guarded", ask: batch},
	{name: "Check, mTLS and interceptors, five rules", estate: "one, guarded, five rules", ask: unary},
}

// sample is one measurement of one row, for each decision.
type sample struct {
	rate   float64
	cpu    float64 // µs of all servers, NATS too
	load   float64 // µs of this process
	allocs float64 // of all servers
}

// pair is a sample, and the one of the bare echo a moment before: what else the
// machine does changes within minutes more than the code would.
type pair struct{ echo, row sample }

// both is the CPU of both ends, in µs.
func (s sample) both() float64 { return s.cpu + s.load }

func overGRPC(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	echo, err := openTarget(ctx, o, estate{name: "echo", kind: kindEcho, nodes: 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, echo.close()) }()
	results := make(map[string][]pair)
	for _, e := range estates {
		if err := measureEstate(ctx, o, e, echo, results, stderr); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return table(stdout, o, results)
}

// wanted are the rows of an estate.
func wanted(o options, e estate) []row {
	only := regexp.MustCompile(o.only)
	return slices.DeleteFunc(slices.Clone(rows), func(r row) bool {
		return r.estate != e.name || !only.MatchString(r.name)
	})
}

// open starts the servers; all of them, NATS last, are what a decision costs.
func (e estate) open(ctx context.Context, o options) (nodes, all []*process, stop func() error, err error) {
	stop = func() error {
		var errs []error
		for _, p := range all {
			errs = append(errs, p.stop())
		}
		return errors.Join(errs...)
	}
	node := nodeOptions{kind: e.kind, rules: e.rules}
	if e.guarded {
		node.tls = o.node.dir
	}
	var nats *process
	if e.nodes > 1 || e.member {
		dir, err := os.MkdirTemp(o.node.dir, "nats")
		if err != nil {
			return nil, nil, stop, err
		}
		if nats, err = start(ctx, nodeOptions{kind: kindNATS, dir: dir}); err != nil {
			return nil, nil, stop, err
		}
		node.nats = nats.Address
	}
	for range e.nodes {
		p, err := start(ctx, node)
		if err != nil {
			return nil, nil, stop, errors.Join(err, stop())
		}
		nodes, all = append(nodes, p), append(all, p)
	}
	if nats != nil {
		all = append(all, nats)
		for range 2 { // the first to be ready has to share with the others again
			for _, p := range nodes {
				if err := p.awaitReady(ctx); err != nil {
					return nil, nil, stop, errors.Join(err, stop())
				}
			}
		}
	}
	return nodes, all, stop, nil
}

// target is what rows are measured of.
type target struct {
	estate
	nodes, all []*process
	stop       func() error
	conns      []*grpc.ClientConn
	reqs       []*quotav1.CheckRequest
}

func openTarget(ctx context.Context, o options, e estate) (*target, error) {
	t := &target{estate: e}
	var err error
	if t.nodes, t.all, t.stop, err = e.open(ctx, o); err != nil {
		return nil, err
	}
	return t, t.choose(ctx, o, row{})
}

// choose prepares what a row asks, and whom.
func (t *target) choose(ctx context.Context, o options, r row) (err error) {
	var indexes []int
	asked := t.nodes
	switch r.whose {
	case first:
		err = t.nodes[0].ask(ctx, "/owned", &indexes)
		asked = t.nodes[:1]
	case second, hot:
		err = t.nodes[1].ask(ctx, "/owned", &indexes)
		asked = t.nodes[:1]
	}
	if r.whose == hot && len(indexes) > 0 {
		indexes = indexes[:1]
	}
	if t.kind == kindEcho {
		indexes = []int{0}
	}
	tls := ""
	if t.guarded {
		tls = o.node.dir
	}
	t.reqs = checks(indexes, t.whole)
	err = errors.Join(err, t.hangUp())
	if err == nil {
		t.conns, err = dial(asked, tls)
	}
	return err
}

func (t *target) hangUp() (err error) {
	for _, c := range t.conns {
		err = errors.Join(err, c.Close())
	}
	t.conns = nil
	return err
}

func (t *target) close() error { return errors.Join(t.hangUp(), t.stop()) }

func measureEstate(ctx context.Context, o options, e estate, echo *target, results map[string][]pair, stderr io.Writer) (err error) {
	rows := wanted(o, e)
	if len(rows) == 0 {
		return nil
	}
	t, err := openTarget(ctx, o, e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	bare := row{ask: echoing}
	for _, r := range rows {
		fmt.Fprintf(stderr, "%s …\n", r.name)
		if err := t.choose(ctx, o, r); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		for range 2 { // to warm up
			if _, err := r.measure(ctx, o, t); err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
		}
		profiled := make(chan error, 1)
		go func() { profiled <- profileAll(ctx, o, r, t) }()
		for range o.rounds {
			var p pair
			var err error
			if p.echo, err = bare.measure(ctx, o, echo); err == nil {
				p.row, err = r.measure(ctx, o, t)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			results[r.name] = append(results[r.name], p)
		}
		if err := <-profiled; err != nil {
			return err
		}
	}
	return nil
}

func (r row) measure(ctx context.Context, o options, t *target) (s sample, err error) {
	before, err := costOf(ctx, t.all)
	if err != nil {
		return s, err
	}
	own := ownCPU()
	n, elapsed, err := drive(ctx, r.ask, r.streams, t.conns, t.reqs, o.span)
	if err != nil {
		return s, err
	}
	own = ownCPU() - own
	after, err := costOf(ctx, t.all)
	if err != nil {
		return s, err
	}
	return sample{
		rate:   n / elapsed.Seconds(),
		cpu:    float64(after.CPU-before.CPU) / float64(time.Microsecond) / n,
		load:   float64(own) / float64(time.Microsecond) / n,
		allocs: float64(after.Allocs-before.Allocs) / n,
	}, nil
}

// profileAll writes CPU profiles of all servers of a row while it is measured, if
// they are wanted.
func profileAll(ctx context.Context, o options, r row, t *target) error {
	if o.profile == "" {
		return nil
	}
	var g errgroup.Group
	for i, p := range t.all {
		g.Go(func() error { return profile(ctx, o, fmt.Sprint(r.name, " ", i+1), p) })
	}
	return g.Wait()
}

// profile writes a CPU profile of a server while it is measured.
func profile(ctx context.Context, o options, name string, p *process) error {
	var got []byte
	if err := p.ask(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(1, int(2*o.span.Seconds()*float64(o.rounds)))), &got); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.profile, strings.NewReplacer(" ", "-", ",", "").Replace(name)+".pprof"), got, 0o600)
}

// table prints medians. Ratios are to the echo a moment before, with the middle half
// of them: in time, and in CPU of both ends, which others on the machine change less.
func table(w io.Writer, o options, results map[string][]pair) error {
	fmt.Fprintf(w, "\n%d callers over %d connections, %d addresses, limits that refuse nobody; %d cores, %s; medians of %d times %v, each after as much of the bare echo\n\n",
		callers, conns, keyCount, runtime.NumCPU(), runtime.Version(), o.rounds, o.span)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "what\tdecisions/s\tto echo\tCPU µs\tof servers\techo's CPU to it\tmiddle half\tserver allocs\t")
	for _, r := range rows {
		pairs := results[r.name]
		if len(pairs) == 0 {
			continue
		}
		of := func(q float64, figure func(pair) float64) float64 { return quantileOf(pairs, q, figure) }
		cpu := func(p pair) float64 { return p.echo.both() / p.row.both() }
		fmt.Fprintf(t, "%s\t%.0f\t%.2f\t%.1f\t%.1f\t%.2f\t%.2f–%.2f\t%.1f\t\n", r.name,
			of(0.5, func(p pair) float64 { return p.row.rate }), of(0.5, func(p pair) float64 { return p.row.rate / p.echo.rate }),
			of(0.5, func(p pair) float64 { return p.row.both() }), of(0.5, func(p pair) float64 { return p.row.cpu }),
			of(0.5, cpu), of(0.25, cpu), of(0.75, cpu), of(0.5, func(p pair) float64 { return p.row.allocs }))
	}
	return t.Flush()
}

func quantileOf(pairs []pair, q float64, figure func(pair) float64) float64 {
	values := make([]float64, len(pairs))
	for i, p := range pairs {
		values[i] = figure(p)
	}
	slices.Sort(values)
	return values[int(q*float64(len(values)-1)+0.5)]
}
