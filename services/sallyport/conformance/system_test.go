//go:build conformance

package conformance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/sallyport/e2e/launch"
)

// config has the quota service on the path of every call, with limits of each
// kind that the suite stays below.
const config = `
roles:
  executor:
    joining: {conformance: {default: {trust: trusted}}} # its texts are compared byte by byte
  quota:
    rules:
      - {id: calls-per-address, match: {action: tools/call}, key: [ip], limit: 60000/minute}
      - {id: other-per-address, match: {action: "!tools/call"}, key: [ip], limit: 60000/minute}
      - {id: all-per-key, match: {key: "*"}, key: [key], limit: 60000/minute}
      - {id: at-once, match: {action: tools/call}, key: [user], concurrency: {max: 1000, ttl: 5m}}
`

// system is a running Sallyport that the provider with the fixtures has joined.
type system struct {
	url, bearer string
	front       *front // before several edges; else nil
}

// start runs a system for the test's time, and fails the test if it does not stop
// in order.
func start(t *testing.T, args []string, edges int) system {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	i, err := launch.Start(t.Context(), launch.Options{Binary: program, StateDir: dir, Config: config, Args: args})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := i.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		if out := i.Output(); t.Failed() && out != "" {
			t.Logf("standard error ends with:\n%s", out)
		}
	})
	if len(i.Ready.MCPURLs) != edges {
		t.Fatalf("mcp_urls: got %v, want %d", i.Ready.MCPURLs, edges)
	}
	join(t, dir)
	// An analyst may read, and has to get by without more.
	s := system{url: i.Ready.MCPURL, bearer: i.Ready.Keys.Analyst}
	for _, url := range i.Ready.MCPURLs {
		awaitFixtures(t, url, s.bearer)
	}
	if edges > 1 {
		s.front = startFront(t, hosts(t, i.Ready.MCPURLs))
		s.url = "http://" + s.front.address + "/mcp"
	}
	return s
}

func hosts(t *testing.T, urls []string) []string {
	t.Helper()
	var all []string
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, u.Host)
	}
	return all
}

// join starts the provider as README.md tells for a tool service of one's own.
func join(t *testing.T, state string) {
	t.Helper()
	cert := exec.CommandContext(t.Context(), program, "--state", state, "cert", "conformance")
	if out, err := cert.CombinedOutput(); err != nil {
		t.Fatalf("cert: %v\n%s", err, out)
	}
	cmd := exec.Command(provider, "-config", filepath.Join(state, "run", "config.yaml"),
		"-set", "listen.conformance=127.0.0.1:0", "-set", "node=conformance", "-set", "admin=127.0.0.1:0")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // before the system stops
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("conformanced: %v", err)
		}
		if t.Failed() {
			t.Logf("conformanced says:\n%s", tail(log.String()))
		}
	})
}

// awaitFixtures waits until an edge lists the fixtures. If it never does, the
// suite still runs, and says more than that.
func awaitFixtures(t *testing.T, url, bearer string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		names, err := tools(t.Context(), url, bearer)
		if slices.Contains(names, "test_simple_text") {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Errorf("%s does not list the fixtures; the last answer has %v, %v", url, names, err)
			return
		}
	}
}

// tools asks for the names of the tools that a key may call.
func tools(ctx context.Context, url, bearer string) ([]string, error) {
	const body = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + bearer, "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list",
	} {
		req.Header.Set(name, value)
	}
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // read below
	var answer struct {
		Result struct {
			Tools []struct {
				Name string `json:"name"`
			} `json:"tools"`
		} `json:"result"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("tools/list: %s: %w", resp.Status, err)
	}
	var names []string
	for _, tool := range answer.Result.Tools {
		names = append(names, tool.Name)
	}
	return names, nil
}
