package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// ofFast measures how soon one of two nodes knows what the other has admitted in
// fast mode: from the answer to a check until the other's answers show it. Asking is
// part of it, so the time is that or less.
func ofFast(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	nodes, _, stop, err := estate{kind: kindNode, nodes: 2, rules: fastRule + patient}.open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	conns, err := dial(nodes, "")
	if err != nil {
		return err
	}
	defer func() {
		for _, c := range conns {
			err = errors.Join(err, c.Close())
		}
	}()
	here, there := quotav1.NewQuotaServiceClient(conns[0]), quotav1.NewQuotaServiceClient(conns[1])
	fmt.Fprintln(stderr, "fast mode …")
	left := func(i int) (uint64, error) {
		resp, err := there.Peek(ctx, &quotav1.PeekRequest{Subject: checkOf(i, false).GetSubject()})
		if err != nil {
			return 0, err
		}
		return resp.GetCheck().GetLimits()[0].GetRemaining(), nil
	}
	var all []time.Duration
	for i := range some / 5 {
		before, err := left(i)
		if err != nil {
			return err
		}
		if _, err := here.Check(ctx, checkOf(i, false)); err != nil {
			return err
		}
		admitted := time.Now()
		for now := before; now == before; {
			if now, err = left(i); err != nil {
				return err
			}
		}
		all = append(all, time.Since(admitted))
	}
	slices.Sort(all)
	fmt.Fprintf(stdout, "\nfast mode, two nodes, one caller\n  from an admission until the other node knows of it: p50 %v, p99 %v, longest %v\n", quantile(all, 0.5), quantile(all, 0.99), quantile(all, 1))
	return nil
}
