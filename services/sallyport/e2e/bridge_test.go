//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/pkg/freeport"
	"github.com/sallyport-mcp/sallyport/services/sallyport/e2e/launch"
)

// everything is the protocol's own example server.
const everything = "node_modules/@modelcontextprotocol/server-everything/dist/index.js"

// TestUpstream puts the example server behind the bridge, over both transports,
// and uses it with every client.
func TestUpstream(t *testing.T) {
	for _, setup := range []struct {
		name string
		args []string
	}{
		{"one process", nil},
		{"processes", []string{"--processes", "--replicas", "edge=2"}},
	} {
		t.Run(setup.name, func(t *testing.T) {
			upstream := startUpstream(t, freeport.Port(t))
			ready := start(t, launch.Options{Config: bridged(t, upstream.port), Args: setup.args})
			awaitTools(t, ready, "everything_echo", "remote_echo")
			cells := &cells{failed: make(map[string]bool)}
			t.Cleanup(func() { cells.print("upstream, " + setup.name) })
			t.Run("clients", func(t *testing.T) {
				for n, c := range clients() {
					t.Run(c.name, func(t *testing.T) {
						t.Parallel()
						d := c.open(t)
						for i, s := range federated() {
							t.Run(s.name, func(t *testing.T) {
								if s.skips(c) {
									return
								}
								defer func() { cells.set(c.name, s.name, t.Failed()) }()
								r := run{client: c, number: n, driver: d, ready: ready, turn: i}
								switch {
								case s.op == opCancel && s.clients == inspectors:
									r.checkKilled(t, s.scenario)
								case s.op == opCancel:
									r.check(t, s.scenario)
									r.awaitCancelled(t, s.tool)
								default:
									r.check(t, s.scenario)
								}
							})
						}
					})
				}
			})
			upstream.dies(t)
			call := instruction{Op: opCall, URL: ready.MCPURL, Key: ready.Keys.Analyst, Era: modern, Tool: "remote_echo", Arguments: map[string]any{"message": "x"}}
			awaitResult(t, call, "is gone", func(r *result) bool {
				return r.IsError && strings.Contains(r.text(), "cannot be reached")
			})
			call.Tool = "everything_echo"
			awaitResult(t, call, "the other upstream is not hurt", func(r *result) bool { return !r.IsError })
			upstream.lives(t)
			call.Tool = "remote_echo"
			awaitResult(t, call, "is back", func(r *result) bool { return !r.IsError })
		})
	}
}

// federatedScenario is a row about tools of an upstream server.
type federatedScenario struct {
	scenario

	clients only
}

// only says which clients a row is for. The Inspector's command line cannot show
// progress, can give up a call only by its own end, and has nobody to ask.
type only int

const (
	all only = iota
	inspectors
	others
)

func (s federatedScenario) skips(c client) bool {
	inspector := strings.HasPrefix(c.name, "inspector-")
	return s.clients == inspectors && !inspector || s.clients == others && inspector
}

// federated are the rows. What asks the user is at the upstream over HTTP: over
// standard input and output it cannot be told whose call a question is about
// when there are several.
func federated() []federatedScenario {
	allowed := map[string]any{"verdict": "ALLOW"}
	cancelled := map[string]string{
		"v1":            "McpError -32001: MCP error -32001: changed my mind",
		"v2-legacy":     "changed my mind",
		"v2-auto":       "changed my mind",
		"v2-pinned":     "changed my mind",
		"go-modern":     "context canceled",
		"go-legacy":     "context canceled",
		"remote-legacy": "changed my mind",
		"remote-modern": "changed my mind",
	}
	return []federatedScenario{{scenario: scenario{
		name: "echo",
		key:  analyst, op: opCall, tool: "everything_echo",
		args: map[string]any{"message": "grüß Gott"},
		want: want{text: []string{"Echo: grüß Gott"}, decision: allowed},
	}}, {scenario: scenario{
		name: "structured content",
		key:  analyst, op: opCall, tool: "remote_get-structured-content",
		args: map[string]any{"location": "Chicago"},
		want: want{structured: map[string]any{"temperature": float64(36)}, decision: allowed},
	}}, {scenario: scenario{
		name: "an argument of the wrong type",
		key:  analyst, op: opCall, tool: "everything_get-sum",
		args: map[string]any{"a": "one", "b": 2},
		want: want{isError: true, text: []string{"/a"}, decision: nil},
	}}, {scenario: scenario{
		name: "an error of the tool itself",
		key:  analyst, op: opCall, tool: "everything_get-resource-reference",
		args: map[string]any{"resourceType": "Text", "resourceId": 0.5},
		want: want{isError: true, text: []string{"Invalid resourceId"}},
	}}, {scenario: scenario{
		name: "a tool that policy denies",
		key:  intern, op: opCall, tool: "everything_gzip-file-as-resource",
		args: map[string]any{},
		want: want{isError: true, text: []string{"destroys data", "Decision d_"}},
		instead: map[string]string{
			"inspector-legacy": "tool_not_found exit 5: ",
			"inspector-modern": "tool_not_found exit 5: ",
		},
	}}, {scenario: scenario{
		name: "progress",
		key:  analyst, op: opProgress, tool: "remote_trigger-long-running-operation",
		args: map[string]any{"duration": 0.4, "steps": 4},
		want: want{text: []string{"Long running operation completed"}, progress: []float64{1, 2, 3, 4}},
	}, clients: others}, {scenario: scenario{
		name: "progress",
		key:  analyst, op: opCall, tool: "remote_trigger-long-running-operation",
		args: map[string]any{"duration": 0.4, "steps": 4},
		want: want{text: []string{"Long running operation completed"}},
	}, clients: inspectors}, {scenario: scenario{
		name: "a call that is given up",
		key:  analyst, op: opCancel, tool: "remote_trigger-long-running-operation",
		args:    map[string]any{"duration": 60, "steps": 300},
		instead: cancelled,
	}, clients: others}, {scenario: scenario{
		// It has to last until it was seen to have begun, and goes on in one era.
		name: "a call that is given up",
		key:  analyst, op: opCancel, tool: "remote_trigger-long-running-operation",
		args: map[string]any{"duration": 20, "steps": 4},
	}, clients: inspectors}, {scenario: scenario{
		name: "a question to the user",
		key:  analyst, op: opCall, tool: "remote_trigger-elicitation-request",
		args: map[string]any{},
		want: want{text: []string{"Ada Lovelace"}, decision: allowed},
	}, clients: others}, {scenario: scenario{
		name: "a question to the user",
		key:  analyst, op: opCall, tool: "remote_trigger-elicitation-request",
		args: map[string]any{},
		want: want{text: []string{"User declined"}, decision: allowed},
	}, clients: inspectors}}
}

// bridged is a configuration with the example server behind the bridge twice.
func bridged(t *testing.T, port string) string {
	t.Helper()
	program, err := filepath.Abs(everything)
	if err != nil {
		t.Fatal(err)
	}
	runtime, err := filepath.Abs(node(t))
	if err != nil {
		t.Fatal(err)
	}
	return config + fmt.Sprintf(`
  quota:
    rules: []
  executor:
    default_timeout: 1m
    joining:
      mcpbridge:
        default: {risk: read, outbound: false} # without this a server that says nothing is a way out
        tools:
          everything_gzip-file-as-resource: {risk: destructive}
  mcpbridge:
    backoff_max: 1s
    upstreams:
      - name: everything
        command: [%q, %q, stdio]
        inherit: [PATH, HOME]
      - name: remote
        url: http://127.0.0.1:%s/mcp
`, runtime, program, port)
}

// upstream is the example server over HTTP.
type upstream struct {
	port, program string
	cmd           *exec.Cmd
}

func startUpstream(t *testing.T, port string) *upstream {
	t.Helper()
	u := &upstream{port: port, program: node(t)}
	u.lives(t)
	t.Cleanup(func() { u.dies(t) })
	return u
}

func (u *upstream) lives(t *testing.T) {
	t.Helper()
	u.cmd = exec.Command(u.program, everything, "streamableHttp")
	u.cmd.Env = append(os.Environ(), "PORT="+u.port)
	if err := u.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	until(ctx, t, "the example server", func() error {
		resp, err := http.Get("http://127.0.0.1:" + u.port + "/mcp")
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
}

func (u *upstream) dies(t *testing.T) {
	t.Helper()
	if u.cmd == nil {
		return
	}
	_ = u.cmd.Process.Signal(syscall.SIGKILL)
	_ = u.cmd.Wait() // it was killed
	u.cmd = nil
}

// awaitTools waits until tools are listed: upstream servers may join late.
func awaitTools(t *testing.T, ready launch.Ready, names ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	until(ctx, t, "the upstream tools", func() error {
		for _, url := range ready.MCPURLs {
			got, err := goSDK{}.do(ctx, instruction{Op: opList, URL: url, Key: ready.Keys.Analyst})
			if err != nil {
				return err
			}
			all := strings.Join(got.Tools, " ")
			for _, name := range names {
				if !strings.Contains(all, name) {
					return fmt.Errorf("%s is not among %s (%v)", name, all, got.Failure)
				}
			}
		}
		return nil
	})
}

// awaitResult calls until the result is as wanted.
func awaitResult(t *testing.T, in instruction, what string, good func(*result) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	until(ctx, t, in.Tool+" "+what, func() error {
		got, err := goSDK{}.do(ctx, in)
		if err != nil {
			return err
		}
		if got.Result == nil || !good(got.Result) {
			return fmt.Errorf("got %s", describe(got))
		}
		return nil
	})
}

// awaitCancelled waits until the call that this client has given up is on record
// as cancelled: it was, through to the bridge.
func (r run) awaitCancelled(t *testing.T, tool string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	until(ctx, t, "the cancellation", func() error {
		out := output(ctx, t, program, "--state", r.ready.StateDir, "audit", "tail", "-n", "1000", "--tool", tool, "-o", "json")
		for line := range strings.Lines(out) {
			var e struct {
				Actor   struct{ Client string }
				Outcome struct{ Reason string }
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				return err
			}
			if e.Outcome.Reason == "REASON_CANCELLED" && strings.HasPrefix(e.Actor.Client, r.client.calls()) {
				return nil
			}
		}
		return fmt.Errorf("no call of %s by %s was cancelled", tool, r.client.calls())
	})
}

// calls is what a client calls itself.
func (c client) calls() string {
	switch {
	case c.name == "v1":
		return "e2e-v1/"
	case strings.HasPrefix(c.name, "v2-"):
		return "e2e-v2-" + c.era + "/"
	case strings.HasPrefix(c.name, "go-"):
		return "e2e-go-" + c.era + "/"
	}
	return "e2e-remote-" + c.era // it adds to the name that it is in between
}

// compareProgress checks what the client was told while it waited. Clients forget
// whom to tell when the result comes in the same breath as the last progress.
func compareProgress(t *testing.T, want, got []float64) {
	t.Helper()
	if cmp.Equal(want[:len(want)-1], got) {
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
}
