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
	"runtime"
	"syscall"
	"time"
)

// process is a server that was started.
type process struct {
	announcement
	cmd   *exec.Cmd
	stdin io.Closer
}

// start starts this program as a server.
func start(ctx context.Context, o nodeOptions) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.CommandContext(ctx, self, "-serve", o.kind, "-nats", o.nats, "-tls", o.tls, "-rules", o.rules, "-dir", o.dir)}
	p.cmd.Stderr = os.Stderr
	p.cmd.WaitDelay = 5 * time.Second
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &p.announcement)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read where it listens: %w", err), p.stop())
	}
	return p, nil
}

// stop ends it in peace.
func (p *process) stop() error { return errors.Join(p.stdin.Close(), p.cmd.Wait()) }

// kill ends it as a crash does.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it says that it was killed
	return err
}

// ask reads what the process tells under a path.
func (p *process) ask(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Admin+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read or not, it is over
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", path, resp.Status, bytes.TrimSpace(body))
	}
	if raw, ok := into.(*[]byte); ok {
		*raw = body
		return nil
	}
	return json.Unmarshal(body, into)
}

// awaitReady waits until a member serves its part.
func (p *process) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		var ready bool
		err := p.ask(ctx, "/ready", &ready)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", err)
		}
	}
}

// cost is what processes have used up since they started.
type cost struct {
	CPU    time.Duration
	Allocs uint64
}

func costOf(ctx context.Context, all []*process) (sum cost, err error) {
	for _, p := range all {
		var c cost
		if err := p.ask(ctx, "/cost", &c); err != nil {
			return sum, err
		}
		sum.Allocs += c.Allocs
		sum.CPU += c.CPU
	}
	return sum, nil
}

// ownCost is that of this process.
func ownCost(w http.ResponseWriter, _ *http.Request) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	_ = json.NewEncoder(w).Encode(cost{CPU: ownCPU(), Allocs: m.Mallocs}) // the reader will see
}

// ownCPU is the CPU time of this process.
func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail with these arguments
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
