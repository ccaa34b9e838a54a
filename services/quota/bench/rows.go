package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

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

func overGRPC(ctx context.Context, o options, stdout, stderr io.Writer) error {
	results := make(map[string][]sample)
	for round := range o.rounds {
		for _, e := range estates {
			if err := measureEstate(ctx, o, e, round, results, stderr); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
		}
	}
	return table(stdout, o, results)
}

// wanted are the rows of an estate.
func wanted(o options, e estate) []row {
	return slices.DeleteFunc(slices.Clone(rows), func(r row) bool {
		return r.estate != e.name || o.only != "" && e.name != "echo" && !strings.Contains(r.name, o.only)
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

func measureEstate(ctx context.Context, o options, e estate, round int, results map[string][]sample, stderr io.Writer) (err error) {
	rows := wanted(o, e)
	if len(rows) == 0 {
		return nil
	}
	nodes, all, stop, err := e.open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for _, r := range rows {
		fmt.Fprintf(stderr, "round %d of %d: %s …\n", round+1, o.rounds, r.name)
		s, err := r.measure(ctx, o, e, nodes, all)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		results[r.name] = append(results[r.name], s)
	}
	return nil
}

func (r row) measure(ctx context.Context, o options, e estate, nodes, all []*process) (s sample, err error) {
	var indexes []int
	asked := nodes
	switch r.whose {
	case first:
		err = nodes[0].ask(ctx, "/owned", &indexes)
		asked = nodes[:1]
	case second, hot:
		err = nodes[1].ask(ctx, "/owned", &indexes)
		asked = nodes[:1]
	}
	if r.whose == hot && len(indexes) > 0 {
		indexes = indexes[:1]
	}
	if err != nil {
		return s, err
	}
	tls := ""
	if e.guarded {
		tls = o.node.dir
	}
	conns, err := dial(asked, tls)
	if err != nil {
		return s, err
	}
	defer func() {
		for _, c := range conns {
			err = errors.Join(err, c.Close())
		}
	}()
	var reqs []*quotav1.CheckRequest
	if e.kind == kindNode {
		reqs = checks(indexes, e.whole)
	} else {
		reqs = checks([]int{0}, false)
	}
	if _, _, err := drive(ctx, r.ask, r.streams, conns, reqs, o.span/4); err != nil {
		return s, err
	}
	profiled := make(chan error, 1)
	if o.profile != "" {
		go func() {
			var g errgroup.Group
			for i, p := range all {
				g.Go(func() error { return profile(ctx, o, fmt.Sprint(r.name, " ", i+1), p) })
			}
			profiled <- g.Wait()
		}()
	} else {
		profiled <- nil
	}
	before, err := costOf(ctx, all)
	if err != nil {
		return s, err
	}
	own := ownCPU()
	n, elapsed, err := drive(ctx, r.ask, r.streams, conns, reqs, o.span)
	if err != nil {
		return s, err
	}
	own = ownCPU() - own
	after, err := costOf(ctx, all)
	if err != nil {
		return s, err
	}
	return sample{
		rate:   n / elapsed.Seconds(),
		cpu:    float64(after.cpu-before.cpu) / float64(time.Microsecond) / n,
		load:   float64(own) / float64(time.Microsecond) / n,
		allocs: float64(after.allocs-before.allocs) / n,
	}, <-profiled
}

// profile writes a CPU profile of a server while it is measured.
func profile(ctx context.Context, o options, name string, p *process) error {
	var got []byte
	if err := p.ask(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(1, int(o.span.Seconds()))), &got); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.profile, strings.NewReplacer(" ", "-", ",", "").Replace(name)+".pprof"), got, 0o600)
}

// table prints medians, and how many decisions cost as much as one bare echo: in
// time, and in CPU of both ends, which others on the machine do not change.
func table(w io.Writer, o options, results map[string][]sample) error {
	fmt.Fprintf(w, "\n%d callers over %d connections, %d addresses, limits that refuse nobody; %d cores, %s; medians of %d\n\n",
		callers, conns, keyCount, runtime.NumCPU(), runtime.Version(), o.rounds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "what\tdecisions/s\tto echo\tCPU µs\tof servers\techo's CPU to it\tserver allocs\t")
	var baseRate, baseCPU float64
	for _, r := range rows {
		samples := results[r.name]
		if len(samples) == 0 {
			continue
		}
		rate := median(samples, func(s sample) float64 { return s.rate })
		cpu := median(samples, func(s sample) float64 { return s.cpu + s.load })
		baseRate, baseCPU = cmp.Or(baseRate, rate), cmp.Or(baseCPU, cpu)
		fmt.Fprintf(t, "%s\t%.0f\t%.2f\t%.1f\t%.1f\t%.2f\t%.1f\t\n", r.name, rate, rate/baseRate, cpu,
			median(samples, func(s sample) float64 { return s.cpu }), baseCPU/cpu, median(samples, func(s sample) float64 { return s.allocs }))
	}
	return t.Flush()
}

func median(samples []sample, figure func(sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = figure(s)
	}
	slices.Sort(values)
	return values[len(values)/2]
}
