package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/time/rate"
)

// Bounds on a child process.
const (
	stopGrace    = 2 * time.Second  // after the end of its input, and again after SIGTERM
	writeTimeout = 10 * time.Second // for it to take a message
	maxLogLine   = 1024             // of its standard error
	logRate      = 20               // lines a second
	logBurst     = 100
)

// Command is a program that speaks MCP over its standard streams.
type Command struct {
	// Args are the program and its arguments.
	Args []string
	// Env is its whole environment, as "KEY=value".
	Env []string
	// Dir is where it runs; empty means where we do.
	Dir string
}

// child is a running program, the leader of its own process group.
type child struct {
	cmd    *exec.Cmd
	in     *os.File // its standard input
	out    *os.File // its standard output
	errOut *os.File // its standard error
	log    *slog.Logger
	logged chan struct{} // closed when its standard error has ended
	exited chan struct{}
	err    error // how it ended; written before exited is closed
	ready  atomic.Bool
}

func startChild(c Command, log *slog.Logger) (*child, error) {
	path, err := exec.LookPath(c.Args[0])
	if err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	p := &child{cmd: &exec.Cmd{
		Path: path, Args: c.Args, Env: c.Env, Dir: c.Dir,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}, log: log, logged: make(chan struct{}), exited: make(chan struct{})}
	if p.cmd.Env == nil {
		p.cmd.Env = []string{} // nil would mean ours
	}
	// Pipes of our own: those of os/exec would make Wait wait for grandchildren.
	var theirs [3]*os.File
	if theirs[0], p.in, err = os.Pipe(); err == nil {
		if p.out, theirs[1], err = os.Pipe(); err == nil {
			p.errOut, theirs[2], err = os.Pipe()
		}
	}
	if err == nil {
		p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = theirs[0], theirs[1], theirs[2]
		err = p.cmd.Start()
	}
	for _, f := range theirs {
		_ = f.Close() // the child has its own; of nil it is an error without effect
	}
	if err != nil {
		for _, f := range []*os.File{p.in, p.out, p.errOut} {
			_ = f.Close()
		}
		return nil, fmt.Errorf("start the server: %w", err)
	}
	go func() {
		defer close(p.logged)
		p.logStderr()
	}()
	go func() {
		defer close(p.exited)
		p.err = p.cmd.Wait()
		p.signal(syscall.SIGKILL) // what it leaves behind, which may hold the pipes open
	}()
	return p, nil
}

// signal signals the whole process group.
func (p *child) signal(sig syscall.Signal) {
	if err := syscall.Kill(-p.cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		p.log.Warn("a server's processes cannot be signalled", "err", err)
	}
}

// stop ends the process: by the end of its input, then by signals. It returns
// when the process and all of its group are gone.
func (p *child) stop() {
	_ = p.in.Close()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		select {
		case <-p.exited:
		case <-time.After(stopGrace):
			p.signal(sig)
		}
	}
	<-p.exited
	select { // what it has said last
	case <-p.logged:
	case <-time.After(stopGrace): // a process that left the group holds the pipe
	}
	_, _ = p.out.Close(), p.errOut.Close()
	<-p.logged
}

// write gives the process a message, with a newline at its end.
func (p *child) write(line []byte) error {
	if err := p.in.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := p.in.Write(line)
	return err
}

// logStderr logs what the process says of itself: in small pieces, not too many,
// without control characters. Until it is ready that is for the operator; after
// that it may speak of what it was asked, so that it is for debugging only.
func (p *child) logStderr() {
	lines := bufio.NewReaderSize(p.errOut, maxLogLine)
	limit := rate.NewLimiter(logRate, logBurst)
	dropped := 0
	for {
		line, _, err := lines.ReadLine() // of a longer line, the pieces
		if err != nil {
			return
		}
		if !limit.Allow() {
			dropped++
			continue
		}
		level := slog.LevelInfo
		if p.ready.Load() {
			level = slog.LevelDebug
		}
		p.log.Log(context.Background(), level, "a server's standard error", "line", Printable(string(line)), "dropped_before", dropped)
		dropped = 0
	}
}

// Printable returns s with a space for each run of what cannot be printed.
func Printable(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }), " ")
}

// readLine reads a line of at most max bytes, without its end.
func readLine(r *bufio.Reader, max int) ([]byte, error) {
	var line []byte
	for {
		chunk, err := r.ReadSlice('\n')
		if len(line)+len(chunk) > max {
			return nil, ErrTooLarge
		}
		line = append(line, chunk...)
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
		default:
			if errors.Is(err, os.ErrClosed) {
				err = io.EOF
			}
			return nil, err
		}
	}
}
