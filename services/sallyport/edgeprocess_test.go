//go:build cluster

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/instance"
)

// edgeProcess is an edge that joins an instance, and that a test may kill or pause.
type edgeProcess struct {
	t       *testing.T
	cmd     *exec.Cmd
	address string
	admin   string
	exited  chan struct{}
}

func startEdge(t *testing.T, i instance.Instance, name string) *edgeProcess {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ready, told, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ready.Close() }()
	e := &edgeProcess{t: t, exited: make(chan struct{})}
	e.cmd = exec.Command(self, "run", "edge", "-config", runConfig(i.StateDir), "-ready-fd", "3",
		"-set", "node="+name, "-set", "admin=127.0.0.1:0", "-set", "roles.edge.listen=127.0.0.1:0", "-set", "log=error")
	e.cmd.ExtraFiles = []*os.File{told}
	e.cmd.Stdout, e.cmd.Stderr = t.Output(), t.Output()
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	life, err := e.cmd.StdinPipe() // it ends with it
	if err != nil {
		t.Fatal(err)
	}
	err = e.cmd.Start()
	_ = told.Close()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(e.exited)
		_ = e.cmd.Wait() // those that a test kills say so
		_ = life.Close()
	}()
	t.Cleanup(func() {
		e.signal(syscall.SIGCONT)
		e.kill()
	})
	line, err := bufio.NewReader(ready).ReadBytes('\n')
	if err != nil {
		t.Fatalf("%s did not become ready: %v", name, err)
	}
	var info app.Info
	if err := json.Unmarshal(line, &info); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	e.address, e.admin = info.Addresses["edge"], info.AdminURL
	return e
}

// signal sends a signal to a process that may have ended.
func (e *edgeProcess) signal(s syscall.Signal) {
	e.t.Helper()
	if err := e.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		e.t.Error(err)
	}
}

// kill ends the process as a crash does.
func (e *edgeProcess) kill() {
	e.t.Helper()
	e.signal(syscall.SIGKILL)
	<-e.exited
}

// checksLeased is how many checks a process has let pass by leases.
func checksLeased(t *testing.T, admin string) (n int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, admin+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(body) {
		if bytes.HasPrefix(line, []byte("sallyport_edge_checks_leased")) {
			value, err := strconv.ParseFloat(string(bytes.TrimSpace(line[bytes.LastIndexByte(line, ' '):])), 64)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			n += int(value)
		}
	}
	return n
}

// signalProcess sends a signal to a process of an instance.
func signalProcess(t *testing.T, i instance.Instance, name string, s syscall.Signal) {
	t.Helper()
	for _, p := range i.Processes {
		if p.Name == name {
			if err := syscall.Kill(p.PID, s); err != nil {
				t.Error(err)
			}
			return
		}
	}
	t.Fatalf("there is no process %s", name)
}

// after is closed when a time is over that processes are paused for.
func after(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// pass is when a request that was let pass was under way.
type pass struct{ sent, received time.Duration }

// passes are those of one count.
type passes struct {
	mu  sync.Mutex
	all []pass
}

func (p *passes) add(one pass) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, one)
}

// mostIn is the most that any window surely has let pass: of requests that lie in
// it as a whole, for when in a request it was decided nobody knows.
func (p *passes) mostIn(window time.Duration) (most int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, first := range p.all {
		n := 0
		for _, o := range p.all {
			if o.sent >= first.sent && o.received < first.sent+window {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// within is how many lie between two times as a whole.
func (p *passes) within(from, to time.Duration) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.all {
		if o.sent > from && o.received < to {
			n++
		}
	}
	return n
}

// crowd is what clients do to edges, which may be others at any time.
type crowd struct {
	t       *testing.T
	began   time.Time
	edges   []atomic.Pointer[edgeProcess]
	unknown atomic.Int64 // requests without an answer, or a decision
	over    chan struct{}
	clients sync.WaitGroup
}

func newCrowd(t *testing.T, edges ...*edgeProcess) *crowd {
	c := &crowd{t: t, began: time.Now(), edges: make([]atomic.Pointer[edgeProcess], len(edges)), over: make(chan struct{})}
	for i, e := range edges {
		c.edges[i].Store(e)
	}
	return c
}

// decision is what became of a request.
type decision int

const (
	undecided decision = iota
	refused
	passed
)

// ask makes a request at an edge: a tool call, or one that needs less.
func (c *crowd) ask(ctx context.Context, edge int, a agent, tool bool, to *passes) decision {
	sent := time.Since(c.began)
	at := c.edges[edge].Load().address
	var ok bool
	var answer string
	var err error
	if tool {
		ok, answer, err = a.call(ctx, at, "echo", `{"text":"x"}`)
	} else {
		ok, answer, err = a.discover(ctx, at)
	}
	switch {
	case ok:
		to.add(pass{sent, time.Since(c.began)})
		return passed
	case err == nil && strings.Contains(answer, "QUOTA_EXCEEDED"):
		return refused
	case err == nil && !strings.Contains(answer, "UNAVAILABLE"):
		c.t.Errorf("got %s", answer)
	}
	c.unknown.Add(1)
	return undecided
}

// join adds a client of one edge, which goes on until the end: at once when it was let
// pass, or after pace. It does nothing for a while where next says nothing.
func (c *crowd) join(edge int, pace time.Duration, next func() (agent, *passes)) {
	c.clients.Go(func() {
		wait := time.NewTimer(0)
		defer wait.Stop()
		for n := 0; ; n++ {
			select {
			case <-c.over:
				return
			case <-wait.C:
			}
			if a, to := next(); to != nil && c.ask(c.t.Context(), edge, a, n%8 == 7, to) == passed {
				wait.Reset(pace)
			} else {
				wait.Reset(20 * time.Millisecond)
			}
		}
	})
}

// end waits for all clients.
func (c *crowd) end() {
	close(c.over)
	c.clients.Wait()
}

func edgeNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint("own-edge-", i+1))
	}
	return names
}
