package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/instance"
)

const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`

// answer is what came back, as far as the tests look at it.
type answer struct {
	status   int
	code     int    // JSON-RPC, 0 if it is none
	reason   string // "" if there is none
	decision string
	isError  bool
	text     string // everything, for leaks
}

// post sends a body as a modern client would, with headers changed by the pairs.
func post(t *testing.T, url, key, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	h := map[string]string{
		"Content-Type": "application/json", "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "echo",
	}
	if key != "" {
		h["Authorization"] = "Bearer " + key
	}
	for i := 0; i < len(headers); i += 2 {
		h[headers[i]] = headers[i+1]
	}
	for k, v := range h {
		if v != "" {
			req.Header.Set(k, v)
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	type facts struct {
		Reason     string `json:"reason"`
		DecisionID string `json:"decision_id"`
	}
	var msg struct {
		Error *struct {
			Code int   `json:"code"`
			Data facts `json:"data"`
		} `json:"error"`
		Result *struct {
			IsError bool             `json:"isError"`
			Meta    map[string]facts `json:"_meta"`
		} `json:"result"`
	}
	_ = json.Unmarshal(raw, &msg) // some answers have no body
	a := answer{status: resp.StatusCode, text: string(raw), decision: resp.Header.Get("Sallyport-Decision-Id")}
	if msg.Error != nil {
		a.code, a.reason = msg.Error.Code, msg.Error.Data.Reason
	}
	if msg.Result != nil {
		a.isError, a.reason = msg.Result.IsError, msg.Result.Meta["dev.sallyport/decision"].Reason
	}
	return a
}

func echo(text string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":` + text + `},` + meta + `}}`
}

// Each kind of bad input has its answer, through the whole system, is on record,
// and leaks nothing of the inside.
func TestBadInput(t *testing.T) {
	t.Parallel()
	i, _ := dev(t, t.TempDir())
	admin := i.Keys["admin"]
	forged := admin[:len(admin)-10] + "0000000000"
	tests := []struct {
		name    string
		key     string
		body    string
		headers []string
		status  int
		code    int
		reason  string // in the answer
		record  string // in the audit record, "" for the same
	}{
		{name: "no key", body: echo(`"x"`), status: 401, code: -31401, reason: "UNAUTHENTICATED"},
		{name: "a key that is none", key: "hello", body: echo(`"x"`), status: 401, code: -31401, reason: "UNAUTHENTICATED", record: "CREDENTIAL_MALFORMED"},
		{name: "a forged key", key: forged, body: echo(`"x"`), status: 401, code: -31401, reason: "UNAUTHENTICATED", record: "CREDENTIAL_MALFORMED"},
		{name: "not JSON", key: admin, body: `{`, status: 400, code: -32700, reason: "MALFORMED_REQUEST"},
		{name: "trailing bytes", key: admin, body: echo(`"x"`) + "x", status: 400, code: -32700, reason: "MALFORMED_REQUEST"},
		{name: "a duplicate key", key: admin, body: echo(`"x","te\u0078t":"y"`), status: 400, code: -32700, reason: "MALFORMED_REQUEST"},
		{name: "bad UTF-8", key: admin, body: echo("\"\xff\""), status: 400, code: -32700, reason: "MALFORMED_REQUEST"},
		{name: "a lone surrogate", key: admin, body: echo(`"\ud800"`), status: 400, code: -32700, reason: "MALFORMED_REQUEST"},
		{name: "too deep", key: admin, body: echo(strings.Repeat("[", 40) + strings.Repeat("]", 40)), status: 400, code: -32600, reason: "MALFORMED_REQUEST"},
		{name: "too large", key: admin, body: echo(`"` + strings.Repeat("x", 300<<10) + `"`), status: 413, code: -31413, reason: "PAYLOAD_TOO_LARGE"},
		{name: "a batch", key: admin, body: "[" + echo(`"x"`) + "]", status: 400, code: -32600, reason: "MALFORMED_REQUEST"},
		{name: "an unknown method", key: admin, body: strings.Replace(echo(`"x"`), "tools/call", "tools/burn", 1), headers: []string{"Mcp-Method", "tools/burn"}, status: 404, code: -32601, reason: "METHOD_UNKNOWN"},
		{name: "an unknown version", key: admin, body: strings.Replace(echo(`"x"`), "2026-07-28", "1900-01-01", 1), headers: []string{"MCP-Protocol-Version", "1900-01-01"}, status: 400, code: -32022, reason: "UNSUPPORTED_VERSION"},
		{name: "a header that differs", key: admin, body: echo(`"x"`), headers: []string{"Mcp-Name", "add_numbers"}, status: 400, code: -32020, reason: "HEADER_MISMATCH"},
		{name: "a foreign origin", key: admin, body: echo(`"x"`), headers: []string{"Origin", "http://evil.example.com"}, status: 403, code: -31403, reason: "ORIGIN_REFUSED"},
		{name: "an unknown tool", key: admin, body: strings.Replace(echo(`"x"`), `"echo"`, `"burn"`, 1), headers: []string{"Mcp-Name", "burn"}, status: 400, code: -32602, reason: "TOOL_UNKNOWN"},
		{name: "a wrong type", key: admin, body: echo(`7`), status: 200, reason: "INVALID_ARGUMENTS"},
		{name: "a missing field", key: admin, body: strings.Replace(echo(`"x"`), `"text":"x"`, "", 1), status: 200, reason: "INVALID_ARGUMENTS"},
		{name: "an extra field", key: admin, body: echo(`"x","loud":true`), status: 200, reason: "INVALID_ARGUMENTS"},
		{name: "a value that breaks a rule", key: admin, body: echo(`""`), status: 200, reason: "INVALID_ARGUMENTS"},
		{name: "not allowed", key: i.Keys["intern"], body: strings.Replace(echo(`"x"`), `"echo"`, `"delete_customer_account"`, 1), headers: []string{"Mcp-Name", "delete_customer_account"}, status: 200, reason: "POLICY_DENIED"},
	}
	for _, tt := range tests {
		got := post(t, i.MCPURL, tt.key, tt.body, tt.headers...)
		if got.status != tt.status || got.code != tt.code || got.reason != tt.reason {
			t.Errorf("%s: got HTTP %d, code %d, reason %s; want %d, %d, %s\n%s", tt.name, got.status, got.code, got.reason, tt.status, tt.code, tt.reason, got.text)
		}
		if tt.status == 200 && !got.isError {
			t.Errorf("%s: the result is no error: %s", tt.name, got.text)
		}
		for _, leak := range []string{"goroutine", ".go:", "127.0.0.1", "rpc error", i.StateDir, admin} {
			if strings.Contains(got.text, leak) {
				t.Errorf("%s: the answer holds %q: %s", tt.name, leak, got.text)
			}
		}
		record := tt.record
		if record == "" {
			record = tt.reason
		}
		awaitReason(t, i, record)
	}
}

// awaitReason waits until the record has an event with a reason.
func awaitReason(t *testing.T, i instance.Instance, reason string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		_, stdout, _ := sallyport(t, i, "audit", "tail", "-n", "500", "-o", "json")
		if strings.Contains(stdout, `"REASON_`+reason+`"`) {
			return
		}
	}
	t.Errorf("no event with the reason %s", reason)
}

func TestExpiredKeyIsRefused(t *testing.T) {
	t.Parallel()
	i, _ := dev(t, t.TempDir(), "--config", unlimited(t))
	code, stdout, stderr := sallyport(t, i, "key", "create", "short", "--role", "admin", "--expires", "1s", "-o", "json")
	var key struct{ Key string }
	if err := json.Unmarshal([]byte(stdout), &key); code != exitOK || err != nil {
		t.Fatalf("key create: %d %s %v", code, stderr, err)
	}
	if got := post(t, i.MCPURL, key.Key, echo(`"x"`)); got.status != 200 {
		t.Fatalf("a new key: got %d", got.status)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for post(t, i.MCPURL, key.Key, echo(`"x"`)).status != 401 {
		if ctx.Err() != nil {
			t.Fatal("an expired key still works")
		}
	}
	awaitReason(t, i, "CREDENTIAL_EXPIRED")
}

// A process that is killed is missed by nobody but those who need it, and is
// back without anything else being restarted.
func TestProcessesDieAndComeBack(t *testing.T) {
	t.Parallel()
	i, _ := dev(t, t.TempDir(), "--config", unlimited(t), "--processes") // it polls, for as long as a slow machine needs
	pid := func(name string) int {
		for _, p := range i.Processes {
			if p.Name == name {
				return p.PID
			}
		}
		t.Fatalf("no process %s", name)
		return 0
	}
	sum := strings.Replace(echo(`"x"`), `{"text":"x"}`, `{"a":1,"b":2}`, 1)
	sum = strings.Replace(sum, `"echo"`, `"add_numbers"`, 1)
	logs := strings.NewReplacer(`{"text":"x"}`, `{}`, `"echo"`, `"summarize_logs"`).Replace(echo(`"x"`))
	tests := []struct {
		process string
		during  func() error // holds at some moment while it is away
	}{
		{"basics", func() error {
			if got := post(t, i.MCPURL, i.Keys["admin"], sum, "Mcp-Name", "add_numbers"); got.reason != "TOOL_UNAVAILABLE" {
				return fmt.Errorf("add_numbers: %s", got.text)
			}
			if got := post(t, i.MCPURL, i.Keys["admin"], logs, "Mcp-Name", "summarize_logs"); got.status != 200 || got.isError {
				return fmt.Errorf("another tool service is hurt: %s", got.text)
			}
			return nil
		}},
		{"auth", func() error { return unavailable(post(t, i.MCPURL, i.Keys["admin"], sum, "Mcp-Name", "add_numbers")) }},
		{"quota", func() error { return unavailable(post(t, i.MCPURL, i.Keys["admin"], sum, "Mcp-Name", "add_numbers")) }},
		{"executor", func() error {
			if got := post(t, i.MCPURL, i.Keys["admin"], sum, "Mcp-Name", "add_numbers"); got.reason != "DEPENDENCY_UNAVAILABLE" {
				return fmt.Errorf("add_numbers: %s", got.text)
			}
			return nil
		}},
	}
	for _, tt := range tests {
		if err := syscall.Kill(pid(tt.process), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, tt.process+" is away", tt.during)
		eventually(t, tt.process+" is back", func() error {
			if got := post(t, i.MCPURL, i.Keys["admin"], sum, "Mcp-Name", "add_numbers"); got.status != 200 || got.isError {
				return fmt.Errorf("HTTP %d %s", got.status, got.text)
			}
			return nil
		})
	}
}

func unavailable(a answer) error {
	if a.status != http.StatusServiceUnavailable {
		return fmt.Errorf("HTTP %d %s", a.status, a.text)
	}
	return nil
}

// unlimited is a configuration without limits, for tests that poll.
func unlimited(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "unlimited.yaml")
	if err := os.WriteFile(file, []byte("roles: {quota: {rules: []}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// eventually tries until there is no error.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var err error
	for {
		if err = try(); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
}
