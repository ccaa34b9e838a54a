package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sync/errgroup"
)

// profile writes a CPU profile and one of allocations of each process of a server
// under 16 clients, and prints the top of them together.
func profile(ctx context.Context, o options, part suite, start func(context.Context) (*server, error), stdout io.Writer) (err error) {
	s, err := start(ctx)
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
	const clients = 16
	if _, err := drive(ctx, load{s.address, request, clients, 2000, o.limit}); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	// The load has no end of its own: the profile, which takes the limit, ends it.
	loading, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	var g errgroup.Group
	g.Go(func() error {
		const more = 2 * time.Second // to be sure that there is load until the end
		_, err := drive(loading, load{s.address, request, clients, math.MaxInt32, o.limit + more})
		if loading.Err() != nil {
			return nil // whatever was in flight was cut off
		}
		return err
	})
	var fetches errgroup.Group
	var files, allocs []string
	for _, p := range s.processes {
		file := o.profile
		if len(s.processes) > 1 {
			file += "." + p.name
		}
		files, allocs = append(files, file), append(allocs, file+".allocs")
		fetches.Go(func() error {
			// The second tells of everything since the start, nearly all of it calls.
			return errors.Join(
				fetchProfile(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", p.admin, int(o.limit.Seconds())), file),
				fetchProfile(ctx, p.admin+"/debug/pprof/allocs", file+".allocs"),
			)
		})
	}
	err = fetches.Wait()
	stopLoad()
	if err := errors.Join(err, g.Wait()); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "Where the time is spent:")
	if err := pprof(ctx, stdout, append([]string{"-top", "-nodecount=40"}, files...)...); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "\nOn whose behalf (cum), by what has a name outside of the runtime's inner parts:")
	if err := pprof(ctx, stdout, append([]string{"-top", "-cum", "-nodecount=60", "-show=" + interesting}, files...)...); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "\nWho allocates:")
	return pprof(ctx, stdout, append([]string{"-sample_index=alloc_space", "-top", "-nodecount=30"}, allocs...)...)
}

// interesting are the functions that say on whose behalf time is spent: those of
// the services, the entry points of libraries, and what the runtime costs.
const interesting = `sallyport/services/|sallyport/pkg/(audit|bus|telemetry)\.|sallyport/pkg/rpc\.(validate|cloner\.Copy)` +
	`|protovalidate\.\(\*validator\)|grpchan/inprocgrpc\.\(\*Channel\)|inprocgrpc.*Copy|grpc\.\(\*(Server|ClientConn)\)|transport\.\(\*(loopyWriter|http2Client|http2Server)\)|otelgrpc` +
	`|nats-server.*\.\(\*(client|stream|fileStore|consumer)\)|nats\.go\.\(\*Conn\)|sqlite\.\(\*(conn|stmt)\)|otel/sdk/(trace|metric)` +
	`|net/http\.\(\*(conn|response|Server)\)|^runtime\.(mallocgc|gcBgMarkWorker|newstack|schedule|bgsweep|gcAssistAlloc)$|^syscall\.(write|read|fsync|pwrite)$`

func pprof(ctx context.Context, stdout io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"tool", "pprof"}, args...)...)
	cmd.Stdout, cmd.Stderr = stdout, os.Stderr
	return cmd.Run()
}

func fetchProfile(ctx context.Context, url, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end below
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("profile: got %s", resp.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}
