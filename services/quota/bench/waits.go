package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	basicsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/basics/v1"
)

// subjectEcho is where bare requests are answered.
const subjectEcho = "bench.echo"

// wait is a way to wait for one answer.
type wait struct {
	what string
	all  func(context.Context) ([]time.Duration, error) // sorted
}

// ofOne measures how long one caller waits for a check, beside what messages take
// that carry nothing over the same hops: with each node and NATS a process of its
// own, most of it is that the machine wakes one process after the other.
func ofOne(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	nodes, all, stop, err := estate{kind: kindNode, nodes: 2, rules: oneRule + patient}.open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	natsURL := all[len(all)-1].Address
	bare, err := start(ctx, nodeOptions{kind: kindEcho, nats: natsURL})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.stop()) }()
	whole, err := start(ctx, nodeOptions{kind: kindWhole, rules: oneRule + patient, dir: o.node.dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, whole.stop()) }()
	if err := whole.awaitReady(ctx); err != nil {
		return err
	}
	echoes, err := dial([]*process{bare}, "")
	if err != nil {
		return err
	}
	quotas, err := dial(nodes[:1], "")
	if err != nil {
		return err
	}
	defer func() {
		for _, c := range slices.Concat(echoes, quotas) {
			err = errors.Join(err, c.Close())
		}
	}()
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "\none caller\tp50\tp99\tlongest\n")
	for _, w := range []wait{
		{"bare TCP, two processes", func(ctx context.Context) ([]time.Duration, error) { return overTCP(ctx, bare.TCP) }},
		{"bare gRPC echo, two processes", func(ctx context.Context) ([]time.Duration, error) { return overEcho(ctx, echoes[0]) }},
		{"bare NATS request, three processes", func(ctx context.Context) ([]time.Duration, error) { return overNATS(ctx, natsURL) }},
		{"a check of another node's key without gRPC, three processes", told(nodes[0], "/forwarded")},
		{"Check, own key", func(ctx context.Context) ([]time.Duration, error) { return ofKeys(ctx, quotas[0], nodes[0]) }},
		{"Check, another node's key", func(ctx context.Context) ([]time.Duration, error) { return ofKeys(ctx, quotas[0], nodes[1]) }},
		{"bare NATS request, all in one process", told(whole, "/bare")},
		{"a check of another node's key without gRPC, all in one process", told(whole, "/forwarded")},
	} {
		fmt.Fprintf(stderr, "one caller: %s …\n", w.what)
		all, err := w.all(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", w.what, err)
		}
		fmt.Fprintf(t, "%s\t%v\t%v\t%v\n", w.what, quantile(all, 0.5), quantile(all, 0.99), quantile(all, 1))
	}
	return t.Flush()
}

// quantile is of times that are sorted.
func quantile(all []time.Duration, q float64) time.Duration {
	return all[min(int(q*float64(len(all))), len(all)-1)].Round(time.Microsecond)
}

// told is what a process has measured of itself.
func told(p *process, path string) func(context.Context) ([]time.Duration, error) {
	return func(ctx context.Context) (all []time.Duration, err error) {
		err = p.ask(ctx, path, &all)
		return all, err
	}
}

// timed does something again and again, one after the other.
func timed(do func(i int) error) ([]time.Duration, error) {
	all := make([]time.Duration, 0, some)
	for i := range some + some/10 {
		begin := time.Now()
		if err := do(i); err != nil {
			return nil, err
		}
		if i >= some/10 { // the first are to warm up
			all = append(all, time.Since(begin))
		}
	}
	slices.Sort(all)
	return all, nil
}

// bareSize is how long a message without a meaning is, as long as an ask.
const bareSize = 64

func overTCP(ctx context.Context, address string) (all []time.Duration, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	buf := make([]byte, bareSize)
	return timed(func(int) error {
		if _, err := conn.Write(buf); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, buf)
		return err
	})
}

func overEcho(ctx context.Context, conn grpc.ClientConnInterface) ([]time.Duration, error) {
	c := basicsv1.NewBasicsServiceClient(conn)
	req := &basicsv1.EchoRequest{Text: string(make([]byte, bareSize))}
	return timed(func(int) error {
		_, err := c.Echo(ctx, req)
		return err
	})
}

func overNATS(ctx context.Context, url string) ([]time.Duration, error) {
	b, err := bus.Open(bus.Config{URL: url, Sync: "always", Replicas: 1}, "bench", nil, nil)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return requests(ctx, b)
}

func requests(ctx context.Context, b *bus.Bus) ([]time.Duration, error) {
	data := make([]byte, bareSize)
	return timed(func(int) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := b.Conn().RequestWithContext(ctx, subjectEcho, data)
		return err
	})
}

// ofKeys asks one node for keys that one owns.
func ofKeys(ctx context.Context, conn grpc.ClientConnInterface, owner *process) ([]time.Duration, error) {
	var indexes []int
	if err := owner.ask(ctx, "/owned", &indexes); err != nil {
		return nil, err
	}
	reqs, c := checks(indexes, false), quotav1.NewQuotaServiceClient(conn)
	return timed(func(i int) error {
		_, err := c.Check(ctx, reqs[i%len(reqs)])
		return err
	})
}

// answerEchoes answers bare requests and bytes over TCP; it returns where.
func answerEchoes(ctx context.Context, b *bus.Bus) (string, error) {
	if _, err := b.Conn().Subscribe(subjectEcho, func(m *nats.Msg) { _ = m.Respond(m.Data) }); err != nil { // whoever asks will miss it
		return "", err
	}
	if err := b.Conn().Flush(); err != nil {
		return "", err
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	context.AfterFunc(ctx, func() { _ = lis.Close() }) // the process ends
	go func() {                                        // ends with the listener
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			go func() { // ends when the other hangs up
				_, _ = io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{conn}) // in user space, as servers do
				_ = conn.Close()
			}()
		}
	}()
	return lis.Addr().String(), nil
}
