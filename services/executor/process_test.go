package executor_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/embed"
	"github.com/sallyport-mcp/sallyport/pkg/devca"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/services/executor"
)

// actEnv holds, in JSON, what a process of this test binary shall play instead of
// the tests.
const actEnv = "SALLYPORT_TEST_TOOL"

// TestMain lets this binary play tool services in processes of their own.
func TestMain(m *testing.M) {
	if act := os.Getenv(actEnv); act != "" {
		if err := playAct(act); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// act is a tool service that a process plays.
type act struct {
	Service string // its name
	Kind    string // how it behaves, see stage
	Label   string // what tells it apart
	Certs   string
	NATS    string
	State   string
}

func playAct(text string) error {
	var a act
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return err
	}
	cfg, err := app.Load("", "state_dir="+a.State, "bus.embedded=false", "bus.url="+a.NATS, "node="+a.Label)
	if err != nil {
		return err
	}
	cfg.TLS, cfg.Listen = devca.Files(a.Certs), map[string]string{a.Service: "127.0.0.1:0"}
	role, err := a.stage(&cfg)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return app.Run(ctx, app.Options{
		Config: cfg, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Ready: func(app.Info) { fmt.Println("ready") },
	}, role)
}

// troupe is an executor with real tool processes around it.
type troupe struct {
	t      *testing.T
	certs  string
	nats   string
	client executorv1.ExecutorServiceClient
	bus    *bus.Bus
	log    *lines
	tools  atomic.Pointer[map[string][]byte] // digests that auth knows, by tool
	news   chan struct{}                     // of one token: tools is another
	calls  atomic.Int64
}

// rehearse starts an executor with a configuration of its section.
func rehearse(t *testing.T, section string, services ...string) *troupe {
	t.Helper()
	dir := t.TempDir()
	tr := &troupe{t: t, certs: filepath.Join(dir, "certs"), log: newLines(t.Output()), news: make(chan struct{}, 1)}
	if err := devca.Ensure(tr.certs, append(services, "executor")...); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"secrets/grant.key": string(key),
		"config.yaml":       "state_dir: " + dir + "\nbus: {listen: \"127.0.0.1:0\", sync: 2m}\nroles:\n  executor:\n" + section,
	}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := app.Load(filepath.Join(dir, "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.TLS = devca.Files(tr.certs)
	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan app.Info, 1), make(chan error, 1)
	go func() {
		done <- app.Run(ctx, app.Options{
			Config: cfg, Log: slog.New(slog.NewTextHandler(tr.log, nil)), StartBus: embed.Start,
			Ready: func(i app.Info) { ready <- i },
		}, executor.Role)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the executor: %v", err)
		}
	})
	var info app.Info
	select {
	case info = <-ready:
	case err := <-done:
		done <- nil
		t.Fatalf("the executor ended: %v", err)
	}
	tr.nats = info.NATSURL
	edge := info.Env("edge")
	conn, err := edge.Conn("executor")
	if err != nil {
		t.Fatal(err)
	}
	tr.client, tr.bus = executorv1.NewExecutorServiceClient(conn), edge.Bus
	var watching sync.WaitGroup
	watching.Go(func() { tr.learn(ctx) })
	t.Cleanup(func() { stop(); watching.Wait() })
	return tr
}

// learn keeps the digests that auth would write into grants.
func (tr *troupe) learn(ctx context.Context) {
	_ = tr.bus.Watch(ctx, bus.Catalogue, func(e bus.Entry) { // it ends with ctx
		c := &executorv1.Catalogue{}
		if err := proto.Unmarshal(e.Value, c); err != nil {
			tr.t.Errorf("catalogue: %v", err)
		}
		digests := make(map[string][]byte)
		for _, e := range c.GetEntries() {
			digests[e.GetName()] = e.GetDigest()
		}
		tr.tools.Store(&digests)
		select {
		case tr.news <- struct{}{}:
		default:
		}
	}, func(bool) {})
}

// untilKnown waits until auth knows these tools.
func (tr *troupe) untilKnown(tools ...string) {
	tr.t.Helper()
	for {
		missing := false
		if now := tr.tools.Load(); now != nil {
			for _, name := range tools {
				missing = missing || (*now)[name] == nil
			}
			if !missing {
				return
			}
		}
		select {
		case <-tr.news:
		case <-tr.t.Context().Done():
			tr.t.Fatalf("auth does not know %q", tools)
		}
	}
}

// call calls a tool as an edge would, with a grant for what auth knows of it.
func (tr *troupe) call(ctx context.Context, tool, arguments string, timeout time.Duration) (*executorv1.Result, error) {
	sum := sha256.Sum256([]byte(arguments))
	req := granted(tr.t, tool, arguments, func(g *authv1.Grant) {
		g.DecisionId = fmt.Sprintf("d_%026d", tr.calls.Add(1))
		g.ArgumentsSha256, g.ToolDigest = sum[:], (*tr.tools.Load())[tool]
	})
	if timeout > 0 {
		req.Timeout = durationpb.New(timeout)
	}
	stream, err := tr.client.Call(ctx, req)
	if err != nil {
		return nil, err
	}
	for {
		resp, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if r := resp.GetResult(); r != nil {
			return r, nil
		}
	}
}

// player is a process of this binary that plays a tool service.
type player struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan error
}

// enter starts a tool service and returns when it is ready.
func (tr *troupe) enter(service, kind, label string) *player {
	tr.t.Helper()
	what, err := json.Marshal(act{
		Service: service, Kind: kind, Label: label, Certs: tr.certs, NATS: tr.nats, State: filepath.Join(tr.t.TempDir(), label),
	})
	if err != nil {
		tr.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		tr.t.Fatal(err)
	}
	p := &player{t: tr.t, cmd: exec.Command(self), done: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), actEnv+"="+string(what))
	p.cmd.Stderr = tr.t.Output()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		tr.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		tr.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	go func() { p.done <- p.cmd.Wait() }()
	tr.t.Cleanup(func() { _ = p.cmd.Process.Kill() }) // it may have ended
	if err != nil || line != "ready\n" {
		tr.t.Fatalf("%s does not start: %q, %v", service, line, err)
	}
	return p
}

// leave has the process end, and returns when it has ended well.
func (p *player) leave() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	if err := <-p.done; err != nil {
		p.t.Errorf("a tool process that was told to stop: %v", err)
	}
}

// lines is a log that can be waited for.
type lines struct {
	mu   sync.Mutex
	more sync.Cond
	text bytes.Buffer
	also interface{ Write([]byte) (int, error) }
}

func newLines(also interface{ Write([]byte) (int, error) }) *lines {
	l := &lines{also: also}
	l.more.L = &l.mu
	return l
}

// Write implements [io.Writer].
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.more.Broadcast()
	_, _ = l.text.Write(p)
	return l.also.Write(p)
}

// until waits until a text was logged so many times.
func (l *lines) until(text string, times int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for strings.Count(l.text.String(), text) < times {
		l.more.Wait()
	}
}

// count returns how often a text was logged.
func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// refusalOf names why a call was refused; "" if it was not.
func refusalOf(r *executorv1.Result, err error) string {
	switch no := r.GetRefusal(); {
	case err != nil:
		return err.Error()
	case no == nil:
		return ""
	case no.GetRetryAfter().AsDuration() > 0 && strings.Contains(no.GetMessage(), "left alone"):
		return "resting"
	case no.GetRetryAfter().AsDuration() > 0 && strings.Contains(no.GetMessage(), "too many calls"):
		return "busy"
	default:
		return strings.TrimPrefix(auditv1.Reason_name[int32(no.GetReason())], "REASON_") + " retryable=" + strconv.FormatBool(no.GetRetryable())
	}
}
