// Package supervise runs the processes of a system on one machine: it hands each
// its sockets, waits until it is ready, starts it again when it dies, and stops
// all in order.
package supervise

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	readyTimeout = time.Minute
	stopTimeout  = 15 * time.Second
)

// Spec is a process to run.
type Spec struct {
	Name string
	// Program and its arguments. In an argument "{ready}" becomes the number of
	// the descriptor on which the process says that it is ready, and "{socket}"
	// that of the socket for Listen. Its standard input ends when we end.
	Program string
	Args    []string
	// Listen is the TCP address of the socket to hand over; empty for none.
	Listen string
	// Socket is one that listens there already, where others were told the address
	// before the process starts; nobody can take its port meanwhile. Start closes
	// it: the process has its own of it.
	Socket net.Listener
	// LogFile gets what the process prints.
	LogFile string
}

// Ready is what a process says when it is ready.
type Ready struct {
	PID       int               `json:"pid"`
	AdminURL  string            `json:"admin_url"`
	NATSURL   string            `json:"nats_url"`
	Addresses map[string]string `json:"addresses"`
}

// Process is a running one.
type Process struct {
	Spec

	log      *slog.Logger
	stdin    io.WriteCloser // our life, as the process sees it
	stopping chan struct{}
	stopOnce sync.Once
	ended    chan struct{}

	mu    sync.Mutex
	cmd   *exec.Cmd
	ready Ready
}

// Start starts a process, waits until it is ready, and from then on starts it
// again whenever it ends, until Stop. changed is called after each new start; it
// may be nil.
func Start(ctx context.Context, spec Spec, log *slog.Logger, changed func()) (*Process, error) {
	p := &Process{Spec: spec, log: log, stopping: make(chan struct{}), ended: make(chan struct{})}
	lis := spec.Socket
	if lis == nil && spec.Listen != "" {
		var err error
		if lis, err = net.Listen("tcp", spec.Listen); err != nil {
			return nil, fmt.Errorf("%s: %w", spec.Name, err)
		}
	}
	if p.Socket = nil; lis != nil { // settle on a port, so that a restart has the same
		p.Listen = lis.Addr().String()
	}
	if err := p.start(ctx, lis); err != nil {
		return nil, err
	}
	go p.keep(changed)
	return p, nil
}

// PID of the process as it runs now.
func (p *Process) PID() int { p.mu.Lock(); defer p.mu.Unlock(); return p.ready.PID }

// Ready returns what the process last said.
func (p *Process) Ready() Ready { p.mu.Lock(); defer p.mu.Unlock(); return p.ready }

// start runs the program once and waits until it is ready. It closes lis.
func (p *Process) start(ctx context.Context, lis net.Listener) error {
	files, closeFiles, readyEnd, err := inherit(lis)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	defer func() { _ = readyEnd.Close() }() // only read from
	out, err := os.OpenFile(p.LogFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		closeFiles()
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	args := make([]string, len(p.Args))
	for i, a := range p.Args {
		args[i] = strings.NewReplacer("{ready}", "3", "{socket}", "4").Replace(a)
	}
	cmd := exec.Command(p.Program, args...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, files
	// A group of its own: Ctrl-C at the terminal is for us, who stop the others
	// in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		closeFiles()
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	err = cmd.Start()
	closeFiles()
	_ = out.Close() // the process has it
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	p.mu.Lock()
	p.cmd = cmd
	p.mu.Unlock()

	said := make(chan error, 1)
	var ready Ready
	go func() { said <- json.NewDecoder(bufio.NewReader(readyEnd)).Decode(&ready) }()
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	select {
	case err = <-said:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%s was not ready within %v; its log is %s", p.Name, readyTimeout, p.LogFile)
		}
		return fmt.Errorf("%s did not start: %s (its log is %s)", p.Name, lastLine(p.LogFile), p.LogFile)
	}
	p.mu.Lock()
	p.ready = ready
	p.mu.Unlock()
	return nil
}

// inherit returns the files to hand over: the pipe on which readiness is told,
// and the socket.
func inherit(lis net.Listener) (files []*os.File, closeAll func(), readyEnd *os.File, err error) {
	readyEnd, w, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	files = []*os.File{w}
	closeAll = func() {
		for _, f := range files {
			_ = f.Close() // the process has its own
		}
	}
	if tcp, ok := lis.(*net.TCPListener); ok {
		f, err := tcp.File()
		_ = tcp.Close()
		if err != nil {
			closeAll()
			_ = readyEnd.Close()
			return nil, nil, nil, err
		}
		files = append(files, f)
	}
	return files, closeAll, readyEnd, nil
}

// keep waits for the process and starts it again, at most once a second.
func (p *Process) keep(changed func()) {
	defer close(p.ended)
	for {
		err := p.cmd.Wait()
		select {
		case <-p.stopping:
			return
		default:
		}
		p.log.Warn("a process has ended and is started again", "name", p.Name, "err", err, "last", lastLine(p.LogFile))
		for {
			select {
			case <-p.stopping:
				return
			case <-time.After(time.Second):
			}
			if err = p.again(); err == nil {
				break
			}
			p.log.Warn("a process does not start", "name", p.Name, "err", err)
		}
		if changed != nil {
			changed()
		}
	}
}

func (p *Process) again() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-p.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	if p.Listen == "" {
		return p.start(ctx, nil)
	}
	lis, err := net.Listen("tcp", p.Listen)
	if err != nil {
		return err
	}
	return p.start(ctx, lis)
}

// Stop asks the process to end, and ends it if it does not.
func (p *Process) Stop() {
	p.stopOnce.Do(func() {
		close(p.stopping)
		p.mu.Lock()
		cmd := p.cmd
		p.mu.Unlock()
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-p.ended:
		case <-time.After(stopTimeout):
			p.log.Warn("a process does not stop and is killed", "name", p.Name)
			_ = cmd.Process.Kill()
			<-p.ended
		}
		_ = p.stdin.Close()
	})
}

// StopAll stops processes at the same time.
func StopAll(ps []*Process) {
	var wg sync.WaitGroup
	for _, p := range ps {
		wg.Go(p.Stop)
	}
	wg.Wait()
}

// lastLine returns the end of a log, for an error message.
func lastLine(file string) string {
	f, err := os.Open(filepath.Clean(file))
	if err != nil {
		return "no log"
	}
	defer func() { _ = f.Close() }() // only read
	if info, err := f.Stat(); err == nil && info.Size() > 4096 {
		_, _ = f.Seek(-4096, io.SeekEnd)
	}
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil || len(b) == 0 {
		return "it said nothing"
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}
