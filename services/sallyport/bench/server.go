package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"time"

	"github.com/sallyport-mcp/sallyport/services/sallyport/e2e/launch"
)

// server is one that runs and can be called at /mcp of its address.
type server struct {
	address   string
	key       string
	page      int // how many tools a list answers with
	processes []process
	stop      func() error
}

// process is one process of a server.
type process struct {
	name  string
	pid   int
	admin string // URL under which /metrics is, and of Sallyport's /debug/pprof
}

// rules are the default rules of quota, with limits that nobody reaches.
const rules = `
roles:
  quota:
    rules:
      - {id: per-ip-calls, match: {action: tools/call}, key: [ip], limit: 1000000000/minute}
      - {id: per-key, match: {key: "*"}, key: [key], limit: 1000000000/minute}
      - {id: summarize-logs-per-ip, match: {tool: summarize_logs}, key: [ip], limit: 5/minute}
      - {id: steps-explicit, match: {context_source: [explicit, trace, session]}, key: [user, context], limit: 1000000000/hour, kind: steps}
      - {id: per-ip-other, match: {action: "!tools/call"}, key: [ip], limit: 1000000000/minute}
`

// askAlways makes the edge ask quota about each call.
const askAlways = "  edge: {quota_leases: false}\n"

// sallyport starts the real program, with everything on.
func sallyport(program, stateDir, config string, args ...string) func(context.Context) (*server, error) {
	return func(ctx context.Context) (*server, error) {
		if err := os.RemoveAll(stateDir); err != nil {
			return nil, err
		}
		i, err := launch.Start(ctx, launch.Options{Binary: program, StateDir: stateDir, Config: config, Args: args})
		if err != nil {
			return nil, err
		}
		s := &server{key: i.Ready.Keys.Analyst}
		s.stop = func() error {
			_, err := i.Stop()
			return err
		}
		if s.address, err = host(i.Ready.MCPURL); err != nil {
			return nil, errors.Join(err, s.stop())
		}
		for _, p := range i.Ready.Processes {
			if p.AdminURL == "" {
				return nil, errors.Join(fmt.Errorf("process %s has no admin_url", p.Name), s.stop())
			}
			s.processes = append(s.processes, process{p.Name, p.PID, p.AdminURL})
		}
		return s, nil
	}
}

func host(mcpURL string) (string, error) {
	u, err := url.Parse(mcpURL)
	if err != nil {
		return "", fmt.Errorf("mcp_url: %w", err)
	}
	return u.Host, nil
}

// own starts this program as one of its own servers. It ends when its standard
// input does, hence also if this process dies.
func own(name string) func(context.Context) (*server, error) {
	return func(ctx context.Context) (*server, error) {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, self, "-serve", name)
		cmd.Stderr = os.Stderr
		cmd.WaitDelay = 5 * time.Second
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		s := &server{stop: func() error {
			return errors.Join(stdin.Close(), cmd.Wait())
		}}
		line, err := bufio.NewReader(stdout).ReadBytes('\n')
		var at addresses
		if err == nil {
			err = json.Unmarshal(line, &at)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read where it listens: %w", err), s.stop())
		}
		s.address, s.key = at.MCP, benchKey
		s.processes = []process{{name, cmd.Process.Pid, "http://" + at.Admin}}
		return s, nil
	}
}
