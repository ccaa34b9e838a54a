//go:build cluster

package quota_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/embed"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota"
)

var bookings = flag.Int("bookings", 100_000, "how many ids the test of killed processes books")

// killedDir tells a process of this binary to be a quota service with a NATS server
// in a folder, and to do nothing else.
const killedDir = "SALLYPORT_TEST_KILLED_DIR"

// killedRules have periods that are nowhere near their end.
func killedRules() string {
	starts := (time.Now().UTC().Day()+14)%28 + 1
	return fmt.Sprintf(`
max_bookings: 5_000_000
rules:
  - {id: tokens, match: {tenant: "*"}, key: [tenant], quota: {amount: 1_000_000_000_000, per: month, starts: %d, unit: llm_tokens, ttl: 1h}}
  - {id: calls, match: {user: "*"}, key: [user], quota: {amount: 1_000_000_000_000, per: month, starts: %d}}
`, starts, starts)
}

func serveQuotas(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg := bus.DefaultConfig()
	cfg.Dir, cfg.Sync = dir, "2m" // a killed process loses nothing that it has given to the system
	b, err := bus.Open(cfg, "killed", embed.Start, nil)
	if err != nil {
		return err
	}
	defer b.Close()
	rules, err := read(killedRules())
	if err != nil {
		return err
	}
	svc, err := quota.New(rules, nil, nil)
	if err != nil {
		return err
	}
	svc.KeepLedger(b, rules.MaxKeys, rules.MaxBookings, nil)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := grpc.NewServer()
	svc.Register(srv)
	go func() {
		_ = svc.Run(ctx)
		srv.Stop()
	}()
	fmt.Println(lis.Addr())
	return srv.Serve(lis)
}

// victim is a quota process that is killed and started again.
type victim struct {
	t       *testing.T
	dir     string
	process *exec.Cmd
	conn    atomic.Pointer[grpc.ClientConn]
	kills   int
}

// start starts the process, and has calls go there.
func (v *victim) start(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	v.process = exec.Command(self)
	v.process.Env = append(os.Environ(), killedDir+"="+v.dir)
	v.process.Stderr = t.Output()
	out, err := v.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := v.process.Start(); err != nil {
		t.Fatal(err)
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the process does not start: %v", err)
	}
	conn, err := grpc.NewClient(strings.TrimSpace(address), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	if old := v.conn.Swap(conn); old != nil {
		_ = old.Close()
	}
}

func (v *victim) kill(t *testing.T) {
	t.Helper()
	if err := v.process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = v.process.Wait() // it was killed
	v.kills++
}

// insist calls until there is an answer.
func insist[A any](ctx context.Context, v *victim, repeated *atomic.Int64, call func(context.Context, grpc.ClientConnInterface) (A, error)) A {
	for {
		try, cancel := context.WithTimeout(ctx, 20*time.Second)
		a, err := call(try, v.conn.Load())
		cancel()
		if status.Code(err) == codes.NotFound {
			v.t.Errorf("what was booked is unknown: %v", err)
		}
		if err == nil || ctx.Err() != nil || v.t.Failed() {
			return a
		}
		repeated.Add(1)
		pause := time.NewTimer(time.Duration(rand.IntN(20)) * time.Millisecond)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// However often the process that counts, and the NATS server in it, is killed, and
// however often callers repeat what they do not know the end of: what was spent is
// the sum over distinct ids.
func TestKilledProcessesLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	v := &victim{t: t, dir: t.TempDir()}
	v.start(t)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		v.kill(t)
	})
	var next, done, repeated, tokens, refunds, calls atomic.Int64
	var callers sync.WaitGroup
	for g := range 64 {
		callers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 11))
			for n := next.Add(1); n <= int64(*bookings); n = next.Add(1) {
				book(ctx, v, r, n, &repeated, &tokens, &refunds, &calls)
				done.Add(1)
			}
		})
	}
	finished := make(chan struct{})
	go func() {
		callers.Wait()
		close(finished)
	}()
	began := time.Now()
	for at := int64(0); at < int64(*bookings); {
		at += rand.Int64N(int64(*bookings)/12) + 1 // some twenty times
		for done.Load() < at && done.Load() < int64(*bookings) {
			tick := time.NewTimer(time.Millisecond)
			select {
			case <-tick.C:
			case <-t.Context().Done():
				t.Fatal("the test is over")
			}
		}
		v.kill(t)
		v.start(t)
	}
	<-finished
	took := time.Since(began)
	for range 2 { // the second time from the snapshots of a clean stop
		for rule, want := range map[string]int64{"tokens": tokens.Load(), "calls": calls.Load()} {
			res := insist(t.Context(), v, &repeated, func(ctx context.Context, c grpc.ClientConnInterface) (*quotav1.ListUsageResponse, error) {
				return quotav1.NewQuotaAdminServiceClient(c).ListUsage(ctx, &quotav1.ListUsageRequest{Rule: rule})
			})
			var spent, reserved uint64
			for _, row := range res.GetRows() {
				spent, reserved = spent+row.GetSpent(), reserved+row.GetReserved()
			}
			if spent != uint64(want) || reserved != 0 {
				t.Errorf("%s: got %d spent and %d reserved, want %d and none", rule, spent, reserved, want)
			}
		}
		if err := v.process.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		_ = v.process.Wait()
		v.start(t)
	}
	t.Logf("%d ids in %v with %d kills and %d repetitions for want of an answer: %d tokens, %d refunds, %d calls",
		*bookings, took.Round(time.Millisecond), v.kills, repeated.Load(), tokens.Load(), refunds.Load(), calls.Load())
}

// book does what one id stands for, and now and then does it again.
func book(ctx context.Context, v *victim, r *rand.Rand, n int64, repeated, tokens, refunds, calls *atomic.Int64) {
	key := strconv.FormatInt(n, 10)
	if n%5 == 0 {
		for range 1 + r.IntN(2) {
			res := insist(ctx, v, repeated, func(ctx context.Context, c grpc.ClientConnInterface) (*quotav1.CheckResponse, error) {
				return quotav1.NewQuotaServiceClient(c).Check(ctx, &quotav1.CheckRequest{Subject: subject("user", "u"+key[:1]), IdempotencyKey: key})
			})
			if !res.GetAllowed() {
				return // never: the sum will tell
			}
		}
		calls.Add(1)
		return
	}
	actual := n % 9
	for range 1 + r.IntN(2) {
		res := insist(ctx, v, repeated, func(ctx context.Context, c grpc.ClientConnInterface) (*quotav1.ReserveResponse, error) {
			return quotav1.NewQuotaServiceClient(c).Reserve(ctx, &quotav1.ReserveRequest{
				Subject: subject("tenant", "t"+key[:1]), Estimate: 5, Unit: "llm_tokens", IdempotencyKey: key,
			})
		})
		for range 1 + r.IntN(2) {
			if n%7 == 0 {
				insist(ctx, v, repeated, func(ctx context.Context, c grpc.ClientConnInterface) (*quotav1.RefundResponse, error) {
					return quotav1.NewQuotaServiceClient(c).Refund(ctx, &quotav1.RefundRequest{ReservationId: res.GetReservationId()})
				})
				continue
			}
			insist(ctx, v, repeated, func(ctx context.Context, c grpc.ClientConnInterface) (*quotav1.CommitResponse, error) {
				return quotav1.NewQuotaServiceClient(c).Commit(ctx, &quotav1.CommitRequest{ReservationId: res.GetReservationId(), Actual: uint64(actual)})
			})
		}
	}
	if n%7 == 0 {
		refunds.Add(1)
		return
	}
	tokens.Add(actual)
}
