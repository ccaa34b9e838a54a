package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sallyport-mcp/sallyport/pkg/devca"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	basicsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/basics/v1"
	"github.com/sallyport-mcp/sallyport/pkg/quotastream"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
	"github.com/sallyport-mcp/sallyport/pkg/telemetry"
)

const (
	// callers is how many calls, or checks of streams, are under way at a time.
	callers = 64
	// conns is how many connections they share.
	conns = 4
	// keyCount is how many addresses the checks come from.
	keyCount = 10_000
	// batchSize is how many checks a batch has.
	batchSize = 100
)

// One rule, as a bare rate limiter has it, and five of the sort that Sallyport's
// defaults are. Nobody reaches the limits.
const (
	oneRule   = "rules: [{id: per-ip, key: [ip], limit: 1000000000/minute}]"
	fastRule  = "rules: [{id: per-ip, key: [ip], limit: 1000000000/minute, mode: fast}]"
	fiveRules = `
rules:
  - {id: per-ip-calls, match: {action: tools/call}, key: [ip], limit: 1000000000/minute}
  - {id: per-tool, match: {tool: echo}, key: [ip], limit: 1000000000/minute}
  - {id: per-key, match: {key: "*"}, key: [key], limit: 1000000000/minute}
  - {id: steps, match: {context_source: [explicit, trace, session]}, key: [user, context], limit: 1000000000/hour, kind: steps}
  - {id: same-call, match: {action: tools/call}, key: [user, context, call], limit: 1000000000/minute, kind: loop, cost: one}
`
)

// patient makes nodes bear it when other things keep the machine busy: here
// nobody dies.
const patient = "\ncluster: {enabled: true, lease: 10s, patience: 5s}"

// checkOf is the check of one address; a whole one tells all that an edge does.
func checkOf(i int, whole bool) *quotav1.CheckRequest {
	a := map[string]string{"ip": fmt.Sprintf("10.%d.%d.1", i/256, i%256)}
	if whole {
		for name, value := range map[string]string{
			"key": fmt.Sprintf("k%d", i), "user": "ann@example.com", "tenant": "acme", "tool": "echo", "action": "tools/call",
			"context": fmt.Sprintf("4bf92f3577b34da6a3ce929d0e0e%04x", i), "context_source": "trace", "role": "analyst",
			"client": "claude-code", "call": fmt.Sprintf("echo:c29tZSBieXRlcyBvZiBh%04x", i),
		} {
			a[name] = value
		}
	}
	return &quotav1.CheckRequest{Subject: &quotav1.Subject{Attributes: a}}
}

// checks are those of some addresses, all if none are named.
func checks(indexes []int, whole bool) []*quotav1.CheckRequest {
	var all []*quotav1.CheckRequest
	for _, i := range indexes {
		all = append(all, checkOf(i, whole))
	}
	for i := 0; indexes == nil && i < keyCount; i++ {
		all = append(all, checkOf(i, whole))
	}
	return all
}

// way is how decisions are asked for. It asks until ctx is done, and adds what was
// decided to n.
type way func(ctx context.Context, conn grpc.ClientConnInterface, checks []*quotav1.CheckRequest, n *atomic.Int64) error

var errRefused = errors.New("refused")

// unary asks for one at a time.
func unary(ctx context.Context, conn grpc.ClientConnInterface, checks []*quotav1.CheckRequest, n *atomic.Int64) error {
	c := quotav1.NewQuotaServiceClient(conn)
	for i := range forever(ctx) {
		resp, err := c.Check(context.Background(), checks[i%len(checks)])
		if err != nil {
			return err
		}
		if !resp.GetAllowed() {
			return errRefused
		}
		n.Add(1)
	}
	return nil
}

// batch asks for many at a time.
func batch(ctx context.Context, conn grpc.ClientConnInterface, checks []*quotav1.CheckRequest, n *atomic.Int64) error {
	c := quotav1.NewQuotaServiceClient(conn)
	for i := range forever(ctx) {
		from := i * batchSize % (len(checks) - batchSize)
		resp, err := c.CheckBatch(context.Background(), &quotav1.CheckBatchRequest{Checks: checks[from : from+batchSize]})
		if err != nil {
			return err
		}
		for _, r := range resp.GetResults() {
			if !r.GetAllowed() {
				return errRefused
			}
		}
		n.Add(int64(len(resp.GetResults())))
	}
	return nil
}

// streamed is how many checks of one stream are under way.
const streamed = 512

// stream keeps many checks of one stream under way, each in the message that its
// client makes of those that wait.
func stream(ctx context.Context, conn grpc.ClientConnInterface, checks []*quotav1.CheckRequest, n *atomic.Int64) error {
	s, err := quotastream.Open(context.Background(), quotav1.NewQuotaServiceClient(conn), nil)
	if err != nil {
		return err
	}
	places := make(chan struct{}, streamed)
	var failed atomic.Pointer[error]
	answered := func(resp *quotav1.CheckResponse, err error) {
		if err == nil && !resp.GetAllowed() {
			err = errRefused
		}
		if err != nil {
			failed.CompareAndSwap(nil, &err)
		}
		n.Add(1)
		<-places
	}
	for i := range forever(ctx) {
		places <- struct{}{}
		for err := quotastream.ErrBusy; err != nil; {
			if err = s.Ask(checks[i%len(checks)], answered); err != nil && !errors.Is(err, quotastream.ErrBusy) {
				return err
			}
		}
		if failed.Load() != nil {
			break
		}
	}
	s.Close()
	<-s.Over()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// single keeps one check in each message of a stream, as many under way.
func single(ctx context.Context, conn grpc.ClientConnInterface, checks []*quotav1.CheckRequest, n *atomic.Int64) error {
	s, err := quotav1.NewQuotaServiceClient(conn).CheckStream(context.Background())
	if err != nil {
		return err
	}
	places := make(chan struct{}, streamed)
	var g errgroup.Group
	g.Go(func() error {
		for i := range forever(ctx) {
			places <- struct{}{}
			if err := s.Send(&quotav1.CheckStreamRequest{Id: uint64(i), Check: checks[i%len(checks)]}); err != nil {
				return err // and the other side ends too
			}
		}
		return s.CloseSend()
	})
	var failed error
	for failed == nil {
		resp, err := s.Recv()
		if err != nil {
			failed = err
			break
		}
		if !resp.GetCheck().GetAllowed() {
			failed = fmt.Errorf("%w: %v", errRefused, resp.GetFailure())
		}
		n.Add(1)
		<-places
	}
	if failed.Error() == "EOF" {
		return g.Wait()
	}
	return failed
}

// echoing sends texts to a bare echo.
func echoing(ctx context.Context, conn grpc.ClientConnInterface, _ []*quotav1.CheckRequest, n *atomic.Int64) error {
	c := basicsv1.NewBasicsServiceClient(conn)
	req := &basicsv1.EchoRequest{Text: strings.Repeat("x", 48)}
	for range forever(ctx) {
		if _, err := c.Echo(context.Background(), req); err != nil {
			return err
		}
		n.Add(1)
	}
	return nil
}

// forever counts until ctx is done.
func forever(ctx context.Context) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for i := 0; ctx.Err() == nil && yield(i); i++ {
		}
	}
}

// dial opens connections to servers in turn.
func dial(servers []*process, tls string) ([]*grpc.ClientConn, error) {
	var all []*grpc.ClientConn
	for i := range conns {
		target := servers[i%len(servers)].Address
		conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if tls != "" {
			conn, err = dialGuarded(target, tls)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, conn)
	}
	return all, nil
}

func dialGuarded(target, dir string) (*grpc.ClientConn, error) {
	creds, err := devca.Files(dir).Client("edge", "quota")
	if err != nil {
		return nil, err
	}
	tel, err := telemetry.Start(context.Background(), "bench", "bench", slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	observer, err := tel.Observer("edge")
	if err != nil {
		return nil, err
	}
	return rpc.Dial(target, observer, grpc.WithTransportCredentials(creds))
}

// drive asks over all connections for a while, and returns how many decisions
// were made in what time. Each stream is one caller for its connection.
func drive(ctx context.Context, ask way, streams bool, conns []*grpc.ClientConn, checks []*quotav1.CheckRequest, span time.Duration) (float64, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	each := callers / len(conns)
	if streams {
		each = 1
	}
	var n atomic.Int64
	var g errgroup.Group
	begin := time.Now()
	for i, conn := range conns {
		for j := range each {
			// Each begins elsewhere, so that callers do not meet in one count.
			at := (i*each + j) * len(checks) / (len(conns) * each)
			mine := append(checks[at:len(checks):len(checks)], checks[:at]...)
			g.Go(func() error { return ask(ctx, conn, mine, &n) })
		}
	}
	err := g.Wait()
	return float64(n.Load()), time.Since(begin), err
}
