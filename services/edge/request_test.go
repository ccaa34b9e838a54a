package edge_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// request is a request as tests write it; the zero value is a correct modern
// call of echo.
type request struct {
	method       string            // tools/call
	params       string            // members of params besides _meta
	meta         string            // more members of _meta
	version      string            // 2026-07-28; a legacy one makes a legacy request
	token        string            // good
	client       string            // tests
	headers      map[string]string // more headers
	capabilities string            // {}
	body         string            // instead of all that
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// result is the part of answers that tests look at.
type result struct {
	ID     json.RawMessage `json:"id"`
	Result struct {
		Content []struct{ Text string }
		IsError bool
		Tools   []struct{ Name string }
		Next    string `json:"nextCursor"`
		Meta    struct {
			Decision map[string]any `json:"dev.sallyport/decision"`
		} `json:"_meta"`
	}
	Error struct {
		Code    int
		Message string
		Data    map[string]any
	}
}

func (a answer) decode(t testing.TB) result {
	t.Helper()
	var r result
	if err := json.Unmarshal(a.body, &r); err != nil {
		t.Fatalf("the answer is not JSON: %v: %s", err, a.body)
	}
	return r
}

// reason is the reason code, wherever in the answer it stands.
func (a answer) reason(t testing.TB) string {
	t.Helper()
	r := a.decode(t)
	for _, from := range []map[string]any{r.Error.Data, r.Result.Meta.Decision} {
		if reason, ok := from["reason"].(string); ok {
			return reason
		}
	}
	return ""
}

func or(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

func (q request) http(t testing.TB, url string) *http.Request {
	t.Helper()
	method, version := or(q.method, "tools/call"), or(q.version, "2026-07-28")
	params := q.params
	if q.method == "" && params == "" {
		params = `"name":"echo","arguments":{"text":"hi"}`
	}
	members := []string{}
	if version == "2026-07-28" {
		members = append(members, `"io.modelcontextprotocol/protocolVersion":"`+version+`"`,
			`"io.modelcontextprotocol/clientInfo":{"name":"`+or(q.client, "tests")+`","version":"1"}`,
			`"io.modelcontextprotocol/clientCapabilities":`+or(q.capabilities, "{}"))
	}
	if q.meta != "" {
		members = append(members, q.meta)
	}
	all := []string{`"_meta":{` + strings.Join(members, ",") + `}`}
	if params != "" {
		all = append(all, params)
	}
	body := or(q.body, `{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{`+strings.Join(all, ",")+`}}`)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/mcp", bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+or(q.token, "good"))
	r.Header.Set("MCP-Protocol-Version", version)
	if version == "2026-07-28" {
		r.Header.Set("Mcp-Method", method)
		if _, name, ok := strings.Cut(params, `"name":"`); ok && method == "tools/call" {
			name, _, _ = strings.Cut(name, `"`)
			r.Header.Set("Mcp-Name", name)
		}
	}
	for name, value := range q.headers {
		r.Header.Del(name)
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	return r
}

func (w *world) send(t testing.TB, q request) answer {
	t.Helper()
	return do(t, q.http(t, w.url))
}

func do(t testing.TB, r *http.Request) answer {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, body}
}
