package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// ofCluster measures how long what takes in a cluster of two, and of three for
// what a killed node leaves.
func ofCluster(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	nodes, _, stop, err := estate{kind: kindNode, nodes: 2, rules: oneRule + patient}.open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	fmt.Fprintln(stderr, "from an admission to the heir's word …")
	all, err := told(nodes[0], "/copies")(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "\na cluster\n  from an admission to the heir's word that it has it: p50 %v, p99 %v, longest %v\n",
		quantile(all, 0.5), quantile(all, 0.99), quantile(all, 1))
	for round := range takeovers {
		fmt.Fprintf(stderr, "takeover %d of %d …\n", round+1, takeovers)
		if err := takeover(ctx, o, stdout); err != nil {
			return fmt.Errorf("takeover: %w", err)
		}
	}
	return nil
}

// takeovers is how many are measured.
const takeovers = 3

// takeover kills one of three nodes, and measures until the others decide about
// all keys again.
func takeover(ctx context.Context, o options, stdout io.Writer) (err error) {
	nodes, all, _, err := estate{kind: kindNode, nodes: 3, rules: oneRule}.open(ctx, o)
	if err != nil {
		return err
	}
	defer func() {
		for _, p := range all {
			if p != nodes[2] {
				err = errors.Join(err, p.stop())
			}
		}
	}()
	var indexes []int
	if err := nodes[2].ask(ctx, "/owned", &indexes); err != nil {
		return err
	}
	conns, err := dial(nodes[:1], "")
	if err != nil {
		return err
	}
	c := quotav1.NewQuotaServiceClient(conns[0])
	if err := nodes[2].kill(); err != nil {
		return err
	}
	killed := time.Now()
	asked := 0
	for i := range indexes {
		if i%(len(indexes)/100+1) > 0 {
			continue // all slots of a node are taken over at once: some keys will do
		}
		asked++
		for {
			req := checkOf(indexes[i], false)
			if _, err := c.Check(ctx, req); err == nil {
				break
			}
			if time.Since(killed) > 30*time.Second || ctx.Err() != nil {
				return errors.New("no decision for 30 s")
			}
		}
	}
	fmt.Fprintf(stdout, "  after kill -9, until %d keys of the node are decided about again: %v\n", asked, time.Since(killed).Round(time.Millisecond))
	for _, c := range conns {
		err = errors.Join(err, c.Close())
	}
	return err
}
