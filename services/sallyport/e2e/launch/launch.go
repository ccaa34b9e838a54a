// Package launch runs a built sallyport binary for tests and measurements: it
// starts `sallyport dev --json`, reads the one line that says where everything
// is, and takes care that no process is left behind.
//
// It knows the command line only, as any script would; it shares no code with
// the program it starts.
package launch

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

const (
	startTimeout = 90 * time.Second
	stopTimeout  = 30 * time.Second
	keepOutput   = 64 << 10
)

// Ready is the line that `sallyport dev --json` prints.
type Ready struct {
	MCPURL    string    `json:"mcp_url"`
	MCPURLs   []string  `json:"mcp_urls"`
	AdminURL  string    `json:"admin_url"`
	NATSURL   string    `json:"nats_url"`
	StateDir  string    `json:"state_dir"`
	Keys      Keys      `json:"keys"`
	Processes []Process `json:"processes"`
}

// Keys are the demo keys.
type Keys struct {
	Admin   string `json:"admin"`
	Analyst string `json:"analyst"`
	Intern  string `json:"intern"`
}

// Process is one process of the system.
type Process struct {
	Name     string `json:"name"`
	PID      int    `json:"pid"`
	Address  string `json:"address"`
	AdminURL string `json:"admin_url"`
}

// Options say what to start.
type Options struct {
	// Binary is the program that [Build] has made.
	Binary string
	// StateDir is where it keeps its state. Use one per system.
	StateDir string
	// Config is the content of its configuration file; empty for none.
	Config string
	// Args are added to `dev --json`.
	Args []string
	// Env is added to the environment, which is otherwise that of this process
	// without what would change the result: OTEL_ and SALLYPORT_ variables.
	Env []string
}

// System is a running Sallyport, of one process or several.
type System struct {
	// Ready tells where everything is.
	Ready Ready

	cmd    *exec.Cmd
	output *tail
	extra  chan string // what came on standard output after the one line
	exited chan struct{}
	err    error // of Wait; read it after exited is closed
}

// Build compiles the sallyport program into dir and returns its path.
func Build(ctx context.Context, dir string) (string, error) {
	path := dir + "/sallyport"
	out, err := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/sallyport-mcp/sallyport/services/sallyport").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build sallyport: %w\n%s", err, out)
	}
	return path, nil
}

// Start runs a system until [System.Stop]. It returns when the system has
// said that it is ready.
func Start(ctx context.Context, o Options) (*System, error) {
	args := []string{"dev", "--json", "--listen", "127.0.0.1:0", "--state", o.StateDir}
	if o.Config != "" {
		file := o.StateDir + ".yaml"
		if err := os.WriteFile(file, []byte(o.Config), 0o600); err != nil {
			return nil, fmt.Errorf("write the configuration: %w", err)
		}
		args = append(args, "--config", file)
	}
	s := &System{
		cmd:    exec.Command(o.Binary, append(args, o.Args...)...),
		output: &tail{limit: keepOutput},
		extra:  make(chan string, 1),
		exited: make(chan struct{}),
	}
	s.cmd.Env = append(environment(), o.Env...)
	s.cmd.Stderr = s.output
	s.cmd.SysProcAttr = attributes()
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	line := make(chan []byte, 1)
	started := make(chan error, 1)
	go s.run(stdout, started, line)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start sallyport: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case b := <-line:
		err = json.Unmarshal(b, &s.Ready)
	case <-s.exited:
		err = fmt.Errorf("it ended before it was ready: %w", s.err)
	case <-ctx.Done():
		err = fmt.Errorf("not ready in time: %w", ctx.Err())
	}
	if err != nil {
		_, stopErr := s.Stop()
		return nil, fmt.Errorf("sallyport dev: %w\n%s", errors.Join(err, stopErr), s.Output())
	}
	return s, nil
}

// run owns the process from start to end. It keeps its thread, because the kernel
// ends the child when the thread that started it ends (see attributes).
func (s *System) run(stdout io.Reader, started chan<- error, line chan<- []byte) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := s.cmd.Start()
	started <- err
	if err != nil {
		close(s.exited)
		return
	}
	r := bufio.NewReaderSize(stdout, 64<<10)
	if b, err := r.ReadBytes('\n'); err == nil {
		line <- b
	}
	rest, _ := io.ReadAll(r) // a broken pipe ends it too
	s.extra <- string(rest)
	s.err = s.cmd.Wait()
	close(s.exited)
}

// Stop asks the system to stop, as an init system would, and waits for it. It
// returns what was printed on standard output after the one line. Whatever does
// not stop in time is killed, which is an error; so is a process that outlives
// the one that started it.
func (s *System) Stop() (extra string, err error) {
	pid := s.cmd.Process.Pid
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-s.exited:
		err = s.err
	case <-time.After(stopTimeout):
		err = errors.New("it did not stop in time and was killed")
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL) // whatever is left of its group
	for _, p := range s.Ready.Processes {
		if p.PID != pid && alive(p.PID) {
			err = errors.Join(err, fmt.Errorf("process %s (pid %d) outlived it and was killed", p.Name, p.PID))
			_ = syscall.Kill(p.PID, syscall.SIGKILL) // it may have ended meanwhile
		}
	}
	<-s.exited
	select {
	case extra = <-s.extra:
	default:
	}
	return extra, err
}

// Output returns the end of what the system has logged.
func (s *System) Output() string { return s.output.String() }

func environment() []string {
	var env []string
	for _, e := range os.Environ() {
		if !bytes.HasPrefix([]byte(e), []byte("OTEL_")) && !bytes.HasPrefix([]byte(e), []byte("SALLYPORT_")) {
			env = append(env, e)
		}
	}
	return env
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }
