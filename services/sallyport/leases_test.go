package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sallyport-mcp/sallyport/pkg/audit"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/edge"
	"github.com/sallyport-mcp/sallyport/services/quota"
)

// These tests run edges and the quota service as they are, in fake time and over
// memory; auth and the executor say yes to everything.

type yesAuth struct{ authv1.AuthServiceClient }

// principal is called by the token.
func principal(c *authv1.Credential) *authv1.Principal {
	return &authv1.Principal{Id: "user:" + c.GetToken(), CredentialId: c.GetToken(), Tenant: "default"}
}

func (yesAuth) Authenticate(_ context.Context, req *authv1.AuthenticateRequest, _ ...grpc.CallOption) (*authv1.AuthenticateResponse, error) {
	return &authv1.AuthenticateResponse{Principal: principal(req.GetCredential()), ValidFor: durationpb.New(time.Minute)}, nil
}

func (yesAuth) Authorize(_ context.Context, req *authv1.AuthorizeRequest, _ ...grpc.CallOption) (*authv1.AuthorizeResponse, error) {
	return &authv1.AuthorizeResponse{
		Decision:  &authv1.Decision{Id: audit.NewDecisionID(), Verdict: auditv1.Verdict_VERDICT_ALLOW},
		Principal: principal(req.GetCredential()), Grant: []byte("grant"), Cost: 1,
	}, nil
}

type yesExecutor struct {
	executorv1.ExecutorServiceClient
}

func (yesExecutor) Watch(ctx context.Context, _ *executorv1.WatchRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[executorv1.WatchResponse], error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (yesExecutor) ListTools(context.Context, *executorv1.ListToolsRequest, ...grpc.CallOption) (*executorv1.ListToolsResponse, error) {
	return &executorv1.ListToolsResponse{Version: "1"}, nil
}

func (yesExecutor) Call(context.Context, *executorv1.CallRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[executorv1.CallResponse], error) {
	return &yesResult{}, nil
}

type yesResult struct {
	grpc.ServerStreamingClient[executorv1.CallResponse]
	told bool
}

func (r *yesResult) Recv() (*executorv1.CallResponse, error) {
	if r.told {
		return nil, io.EOF
	}
	r.told = true
	return &executorv1.CallResponse{Event: &executorv1.CallResponse_Result{Result: &executorv1.Result{Result: &providerv1.ToolResult{
		Content: []*providerv1.Content{{Kind: &providerv1.Content_Text{Text: "done"}}},
	}}}}, nil
}

type noRecord struct{}

func (noRecord) Record(context.Context, *auditv1.Event) error { return nil }

// asked counts what an edge asks, and can cut it off.
type asked struct {
	quotav1.QuotaServiceClient
	checks atomic.Int64

	mu  sync.Mutex
	cut []context.CancelFunc
}

func (a *asked) Check(ctx context.Context, req *quotav1.CheckRequest, opts ...grpc.CallOption) (*quotav1.CheckResponse, error) {
	a.checks.Add(1)
	return a.QuotaServiceClient.Check(ctx, req, opts...)
}

func (a *asked) CheckStream(ctx context.Context, opts ...grpc.CallOption) (grpc.BidiStreamingClient[quotav1.CheckStreamRequest, quotav1.CheckStreamResponse], error) {
	ctx, cancel := context.WithCancel(ctx)
	a.mu.Lock()
	a.cut = append(a.cut, cancel)
	a.mu.Unlock()
	s, err := a.QuotaServiceClient.CheckStream(ctx, opts...)
	return askedStream{s, a}, err
}

func (a *asked) cutOff() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, cancel := range a.cut {
		cancel()
	}
	a.cut = nil
}

type askedStream struct {
	grpc.BidiStreamingClient[quotav1.CheckStreamRequest, quotav1.CheckStreamResponse]
	a *asked
}

func (s askedStream) Send(req *quotav1.CheckStreamRequest) error {
	n := len(req.GetChecks()) + len(req.GetPacked())
	if req.GetCheck() != nil {
		n++
	}
	s.a.checks.Add(int64(n))
	return s.BidiStreamingClient.Send(req)
}

// noListener is one that nobody can connect to: requests are given to the handler.
type noListener struct {
	closed chan struct{}
	once   sync.Once
}

func (l *noListener) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

func (l *noListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (*noListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080} }

// leasing is an edge.
type leasing struct {
	t     *testing.T
	edge  *edge.Service
	asked *asked
	stop  func()
}

func newLeasing(t *testing.T, c quotav1.QuotaServiceClient) *leasing {
	t.Helper()
	cfg := edge.DefaultConfig()
	l := &leasing{t: t, asked: &asked{QuotaServiceClient: c}}
	var err error
	l.edge, err = edge.New(edge.Options{
		Config: cfg, Auth: yesAuth{}, Quota: l.asked, Executor: yesExecutor{}, Audit: noRecord{}, Version: "1",
		Log:    slog.New(slog.NewTextHandler(t.Output(), nil)),
		Listen: func(string) (net.Listener, error) { return &noListener{closed: make(chan struct{})}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.edge.Run(ctx) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(l.stop)
	synctest.Wait() // the stream is there
	return l
}

// call makes one call, and returns whether it was allowed, and RateLimit.
func (l *leasing) call(token, address string) (allowed bool, limits string) {
	l.t.Helper()
	const body = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{},"_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"tests","version":"1"},` +
		`"io.modelcontextprotocol/clientCapabilities":{}}}}`
	r := httptest.NewRequestWithContext(l.t.Context(), http.MethodPost, "http://localhost/mcp", strings.NewReader(body))
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Authorization": "Bearer " + token,
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "echo",
	} {
		r.Header.Set(name, value)
	}
	r.RemoteAddr = address + ":4711"
	w := httptest.NewRecorder()
	l.edge.ServeHTTP(w, r)
	switch {
	case w.Code != http.StatusOK:
		l.t.Fatalf("got %d %s", w.Code, w.Body)
	case bytes.Contains(w.Body.Bytes(), []byte(`"isError":true`)):
		if !bytes.Contains(w.Body.Bytes(), []byte(`"verdict":"DENY"`)) {
			l.t.Fatalf("got %s", w.Body)
		}
		return false, w.Header().Get("RateLimit")
	}
	return true, w.Header().Get("RateLimit")
}

// quotaOf is a quota service by rules, which are read from a file if there is one.
func quotaOf(t *testing.T, rules, file string) quotav1.QuotaServiceClient {
	t.Helper()
	cfg := quota.DefaultConfig()
	if file != "" {
		cfg.RulesFiles = quota.Strings{file}
	} else if err := yaml.Unmarshal([]byte(rules), &cfg); err != nil {
		t.Fatal(err)
	}
	svc, err := quota.New(cfg, nil, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		<-time.After(10 * time.Second) // the workers of the streams go home
	})
	return quotav1.NewQuotaServiceClient(rpctest.Serve(t, svc.Register))
}

func inFakeTime(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// What a hot caller costs under large limits, and that answers stay right.
func TestCallsWithinALeaseAskNobody(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T) {
		c := quotaOf(t, "rules: [{id: per-ip, key: [ip], limit: 100000/hour}, {id: per-key, key: [key], limit: 200000/hour}]", "")
		l := newLeasing(t, c)
		const calls = 2000
		for n := 1; n <= calls; n++ {
			ok, limits := l.call("ann", "192.0.2.1")
			if want := fmt.Sprintf(`"per-ip";r=%d;`, 100_000-n); !ok || !strings.HasPrefix(limits, want) {
				t.Fatalf("call %d: %v, %s, want %s", n, ok, limits, want)
			}
			<-time.After(time.Millisecond)
		}
		if n := l.asked.checks.Load(); n > calls/20 {
			t.Errorf("quota was asked %d times about %d calls", n, calls)
		}
		<-time.After(2 * time.Second) // what is left goes back
		resp, err := c.Usage(t.Context(), &quotav1.UsageRequest{Subject: &quotav1.Subject{Attributes: map[string]string{"ip": "192.0.2.1", "key": "ann"}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.GetLimits()[0].GetRemaining(); got != 100_000-calls {
			t.Errorf("%d are left, want %d", got, 100_000-calls)
		}
	})
}

// Small limits, step budgets and the like are asked about each time, and are exact
// over edges.
func TestSmallLimitsAreAlwaysAsked(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]string{
		"5 a minute":                "rules: [{id: a, key: [ip], limit: 5/minute}]",
		"beside a large one":        "rules: [{id: a, key: [ip], limit: 5/minute}, {id: b, key: [user], limit: 1000000/minute}]",
		"a step budget":             "rules: [{id: a, key: [user], limit: 5/hour, kind: steps}, {id: b, limit: 1000000/minute}]",
		"a loop":                    "rules: [{id: a, key: [user, context, call], limit: 5/minute, kind: loop}, {id: b, limit: 1000000/minute}]",
		"by an override":            "rules: [{id: a, key: [user], limit: 1000000/minute, overrides: [{when: {client: tests/1}, limit: 5/minute}]}]",
		"counted smoothly":          "rules: [{id: a, key: [user], limit: 5/hour, algorithm: gcra}]",
		"with a penalty":            "rules: [{id: a, key: [user], limit: 5/minute, penalty: extend}]",
		"a large one with a budget": "rules: [{id: a, key: [user], limit: 1000000/minute}, {id: b, key: [user, context], limit: 5/hour, kind: steps}]",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inFakeTime(t, func(t *testing.T) {
				c := quotaOf(t, rules, "")
				edges := []*leasing{newLeasing(t, c), newLeasing(t, c), newLeasing(t, c)}
				allowed, asked := 0, int64(0)
				const calls = 60
				for n := range calls {
					if ok, _ := edges[n%3].call("ann", "192.0.2.1"); ok {
						allowed++
					}
					<-time.After(time.Millisecond)
				}
				for _, l := range edges {
					asked += l.asked.checks.Load()
					l.stop()
				}
				if allowed != 5 || asked != calls {
					t.Errorf("%d were allowed of 5, and quota was asked %d times about %d calls", allowed, asked, calls)
				}
			})
		})
	}
}

// Other rules hold from the moment in which they are told, whatever was leased.
func TestAReloadEndsLeases(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "rules.yaml")
		write := func(rules string) {
			if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("rules: [{id: a, key: [user], limit: 1000000/hour}]")
		c := quotaOf(t, "", file)
		l := newLeasing(t, c)
		for range 100 {
			l.call("ann", "192.0.2.1")
		}
		if n := l.asked.checks.Load(); n > 20 {
			t.Fatalf("quota was asked %d times about 100 calls", n)
		}
		write("rules: [{id: b, key: [user], limit: 3/hour}]")
		for {
			resp, err := c.Peek(t.Context(), &quotav1.PeekRequest{Subject: &quotav1.Subject{}})
			if err != nil {
				t.Fatal(err)
			}
			if resp.GetCheck().GetLimits()[0].GetName() == "b" {
				break
			}
			l.call("ann", "192.0.2.1") // has a lease all the time
			<-time.After(10 * time.Millisecond)
		}
		synctest.Wait() // the edge has heard of it
		before, allowed := l.asked.checks.Load(), 0
		for range 20 {
			if ok, _ := l.call("ann", "192.0.2.1"); ok {
				allowed++
			}
		}
		if asked := l.asked.checks.Load() - before; allowed != 3 || asked != 20 {
			t.Errorf("by the new rules %d of 3 were allowed, and quota was asked %d times about 20 calls", allowed, asked)
		}
	})
}

// An edge that loses its stream asks about each call, until it has another.
func TestALostStreamEndsLeases(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T) {
		l := newLeasing(t, quotaOf(t, "rules: [{id: a, key: [user], limit: 1000000/hour}]", ""))
		call := func(calls int) int64 {
			before := l.asked.checks.Load()
			for range calls {
				if ok, _ := l.call("ann", "192.0.2.1"); !ok {
					t.Fatal("it is refused")
				}
			}
			return l.asked.checks.Load() - before
		}
		if n := call(100); n > 20 {
			t.Fatalf("quota was asked %d times about 100 calls", n)
		}
		l.asked.cutOff()
		synctest.Wait()
		if n := call(10); n != 10 {
			t.Errorf("without a stream quota was asked %d times about 10 calls", n)
		}
		<-time.After(6 * time.Second)
		call(2)
		if n := call(100); n > 20 {
			t.Errorf("on the next stream quota was asked %d times about 100 calls", n)
		}
	})
}

// No window of any limit admits more over several edges, some of which die with
// leases and some of which lose their streams.
func TestNoWindowAdmitsMoreOverEdges(t *testing.T) {
	t.Parallel()
	var calls, asked int64
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inFakeTime(t, func(t *testing.T) {
				c, a := edgesAtRandom(t, rand.New(rand.NewPCG(seed, 2)))
				calls, asked = calls+c, asked+a
			})
		})
	}
	if t.Logf("quota was asked %d times about %d calls", asked, calls); asked > calls*9/10 {
		t.Error("hardly any call was leased, so nothing was tested")
	}
}

// admission is a call that was allowed.
type admission struct {
	at       time.Time
	user, ip string
}

func edgesAtRandom(t *testing.T, rng *rand.Rand) (calls, asked int64) {
	window := time.Duration(1+rng.IntN(2)) * time.Second
	byUser, byIP := 600+rng.IntN(600), 900+rng.IntN(600)
	c := quotaOf(t, fmt.Sprintf("rules: [{id: a, key: [user], limit: %d/%d seconds}, {id: b, key: [ip], limit: %d/%d seconds}]",
		byUser, window/time.Second, byIP, window/time.Second), "")
	var all []*leasing
	edges := make([]*leasing, 3)
	for i := range edges {
		edges[i] = newLeasing(t, c)
		all = append(all, edges[i])
	}
	var admitted []admission
	users, ips := []string{"ann", "bob"}, []string{"192.0.2.1", "192.0.2.2"}
	for end := time.Now().Add(3 * window); time.Now().Before(end); {
		i, user, ip := rng.IntN(3), users[rng.IntN(2)], ips[rng.IntN(2)]
		for range rng.IntN(90) {
			calls++
			if ok, _ := edges[i].call(user, ip); ok {
				admitted = append(admitted, admission{time.Now(), user, ip})
			}
		}
		switch rng.IntN(40) {
		case 0: // it dies, another comes
			edges[i].asked.cutOff()
			edges[i] = newLeasing(t, c)
			all = append(all, edges[i])
		case 1:
			edges[i].asked.cutOff()
		case 2, 3, 4, 5: // what is leased meanwhile gets old
			<-time.After(window / 8)
		}
		<-time.After(time.Duration(rng.Int64N(int64(window / 30))))
	}
	for _, l := range all {
		l.stop()
		asked += l.asked.checks.Load()
	}
	for _, user := range users {
		checkWindows(t, admitted, func(a admission) bool { return a.user == user }, window, byUser)
	}
	for _, ip := range ips {
		checkWindows(t, admitted, func(a admission) bool { return a.ip == ip }, window, byIP)
	}
	return calls, asked
}

// checkWindows counts those that are meant in each window.
func checkWindows(t *testing.T, admitted []admission, meant func(admission) bool, window time.Duration, limit int) {
	t.Helper()
	var in []time.Time
	for _, a := range admitted {
		if !meant(a) {
			continue
		}
		in = append(in, a.at)
		for a.at.Sub(in[0]) >= window {
			in = in[1:]
		}
		if len(in) > limit {
			t.Errorf("%d were admitted in a window of %v, %d is the limit", len(in), window, limit)
			return
		}
	}
}
