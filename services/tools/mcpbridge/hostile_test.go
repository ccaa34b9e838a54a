package mcpbridge_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge"
)

type answer = func(w http.ResponseWriter, r *http.Request, id, params json.RawMessage)

func TestDefinitions(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"properties":{"a":`, 40) + `{}` + strings.Repeat(`}}`, 40)
	tests := []struct {
		name, tool string
		filter     mcpbridge.Filter
		want       *providerv1.ToolDefinition // nil: it is left out
	}{{
		name: "hints become no options, and what is not known is no harm",
		tool: `{"name":"t","title":"T","description":"does\u200b it","inputSchema":{"type":"object","x":1.50},"outputSchema":true,
			"annotations":{"readOnlyHint":true,"title":"other"},"_meta":{"a":1},"icons":[{"src":"https://x/i.png","sizes":["8x8"]},{"src":"javascript:1"}],"novel":[]}`,
		want: &providerv1.ToolDefinition{
			Name: "up_t", Title: "T", Description: "does\u200b it", InputSchema: []byte(`{"type":"object","x":1.50}`), OutputSchema: []byte(`true`),
			Meta: []byte(`{"a":1}`), Icons: []*providerv1.Icon{{Src: "https://x/i.png", Sizes: []string{"8x8"}}},
		},
	}, {
		name: "a title among the hints is one", tool: `{"name":"t","inputSchema":{"type":"object"},"annotations":{"title":"T"}}`,
		want: &providerv1.ToolDefinition{Name: "up_t", Title: "T", InputSchema: []byte(`{"type":"object"}`)},
	}, {
		name: "a name with other characters", tool: `{"name":"a b","inputSchema":{"type":"object"}}`,
	}, {
		name: "a name that is too long with its prefix", tool: `{"name":"` + strings.Repeat("n", 62) + `","inputSchema":{"type":"object"}}`,
	}, {
		name: "no name", tool: `{"inputSchema":{"type":"object"}}`,
	}, {
		name: "a schema of another type", tool: `{"name":"t","inputSchema":{"type":"string"}}`,
	}, {
		name: "no schema", tool: `{"name":"t"}`,
	}, {
		name: "a schema that is none", tool: `{"name":"t","inputSchema":"x"}`,
	}, {
		name: "a schema with a key twice", tool: `{"name":"t","inputSchema":{"type":"object","type":"string"}}`,
	}, {
		name: "a schema that is too deep", tool: `{"name":"t","inputSchema":{"type":"object","properties":{"a":` + deep + `}}}`,
	}, {
		name: "a schema that is too large", tool: `{"name":"t","inputSchema":{"type":"object","description":"` + strings.Repeat("x", 262144) + `"}}`,
	}, {
		name: "a description that is too long", tool: `{"name":"t","inputSchema":{"type":"object"},"description":"` + strings.Repeat("x", 16385) + `"}`,
	}, {
		name: "a tool that is a task", tool: `{"name":"t","inputSchema":{"type":"object"},"execution":{"taskSupport":"required"}}`,
	}, {
		name: "no object", tool: `7`,
	}, {
		name: "one that is denied", tool: `{"name":"delete_all","inputSchema":{"type":"object"}}`, filter: mcpbridge.Filter{Deny: []string{"delete_*"}},
	}, {
		name: "one that is not allowed", tool: `{"name":"t","inputSchema":{"type":"object"}}`, filter: mcpbridge.Filter{Allow: []string{"o*"}},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{t: t, tools: `[{"name":"other","inputSchema":{"type":"object"}},` + tt.tool + `]`}
			c := start(t, quick(mcpbridge.Upstream{Name: "up", URL: s.serve().URL, Tools: tt.filter}))
			up(t, c)
			list, err := c.ListTools(t.Context(), &providerv1.ListToolsRequest{})
			if err != nil {
				t.Fatal(err)
			}
			options := &toolv1.Tool{Trust: toolv1.Trust_TRUST_UNTRUSTED, Outbound: true, Tags: []string{"up"}}
			want := []*providerv1.ToolDefinition{{Name: "up_other", InputSchema: []byte(`{"type":"object"}`), Options: options}}
			if tt.want != nil {
				tt.want.Options = options
				want = append(want, tt.want)
			}
			if diff := cmp.Diff(want, list.GetTools(), protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestResults(t *testing.T) {
	t.Parallel()
	broken := "The tool's server gave an answer that breaks the protocol. The tool may have done its work."
	tests := []struct {
		name, result string
		want         *providerv1.ToolResult
	}{{
		name:   "a block of an unknown type goes on as it is",
		result: `{"content":[{"type":"hologram","x":1e400, "y":"<"}]}`,
		want:   &providerv1.ToolResult{Content: []*providerv1.Content{{Kind: &providerv1.Content_Other{Other: []byte(`{"type":"hologram","x":1e400,"y":"<"}`)}}}},
	}, {
		name:   "structured content keeps its order and digits, and half characters are replaced",
		result: `{"content":[],"structuredContent":{"z":12345678901234567890,"a":"\ud800"},"_meta":{"k":1}}`,
		want:   &providerv1.ToolResult{Structured: []byte(`{"z":12345678901234567890,"a":"` + "\ufffd" + `"}`), Meta: []byte(`{"k":1}`)},
	}, {
		name: "a key twice breaks the protocol", result: `{"content":[],"structuredContent":{"a":1,"a":2}}`,
		want: &providerv1.ToolResult{IsError: true, Content: textBlock(broken)},
	}, {
		name: "an image that is none breaks it", result: `{"content":[{"type":"image","data":"%%%","mimeType":"image/png"}]}`,
		want: &providerv1.ToolResult{IsError: true, Content: textBlock(broken)},
	}, {
		name: "text without text breaks it", result: `{"content":[{"type":"text"}]}`,
		want: &providerv1.ToolResult{IsError: true, Content: textBlock(broken)},
	}, {
		name: "too many blocks break it", result: `{"content":[` + strings.Repeat(`{"type":"text","text":"x"},`, 1024) + `{"type":"text","text":"x"}]}`,
		want: &providerv1.ToolResult{IsError: true, Content: textBlock(broken)},
	}, {
		name: "a result of an extension breaks it", result: `{"resultType":"task","content":[]}`,
		want: &providerv1.ToolResult{IsError: true, Content: textBlock(broken)},
	}, {
		name: "a result that is too large says so", result: `{"content":[{"type":"text","text":"` + strings.Repeat("x", 70_000) + `"}]}`,
		want: &providerv1.ToolResult{IsError: true, Content: textBlock("The tool's result is larger than the 65536 bytes that are taken. Ask it for less.")},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{t: t, tools: oneTool, answers: answering(tt.result)}
			c := start(t, quick(mcpbridge.Upstream{Name: "up", URL: s.serve().URL, MaxResultBytes: 64 << 10}))
			up(t, c)
			got, err := call(t, c, &providerv1.CallToolRequest{Name: "up_t"})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.result, protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer answer
		text   string // of the result; empty: the call fails
		code   codes.Code
	}{{
		name: "an endless stream of events", text: "The tool's result is larger than the 65536 bytes that are taken. Ask it for less.",
		answer: func(w http.ResponseWriter, r *http.Request, _, _ json.RawMessage) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: ")
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat("x", 4096)); err != nil {
					return
				}
			}
		},
	}, {
		name: "100 MB", text: "The tool's result is larger than the 65536 bytes that are taken. Ask it for less.",
		answer: func(w http.ResponseWriter, _ *http.Request, _, _ json.RawMessage) {
			w.Header().Set("Content-Type", "application/json")
			for range 100 << 8 {
				if _, err := io.WriteString(w, strings.Repeat(" ", 4096)); err != nil {
					return
				}
			}
		},
	}, {
		name: "a flood of notifications", code: codes.Unavailable,
		answer: func(w http.ResponseWriter, r *http.Request, _, _ json.RawMessage) {
			w.Header().Set("Content-Type", "text/event-stream")
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, `data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`+"\n\n"); err != nil {
					return
				}
			}
		},
	}, {
		name: "a stream that ends", code: codes.Unavailable,
		answer: func(w http.ResponseWriter, _ *http.Request, _, _ json.RawMessage) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, ": nothing\n\n")
		},
	}, {
		name: "the answer to another request", code: codes.Unavailable,
		answer: func(w http.ResponseWriter, _ *http.Request, _, _ json.RawMessage) {
			reply(w, json.RawMessage(`"other"`), `{"content":[]}`)
		},
	}, {
		name: "a page", code: codes.Unavailable,
		answer: func(w http.ResponseWriter, _ *http.Request, _, _ json.RawMessage) {
			_, _ = io.WriteString(w, "<html>")
		},
	}, {
		name: "no JSON", code: codes.Unavailable,
		answer: func(w http.ResponseWriter, _ *http.Request, _, _ json.RawMessage) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{")
		},
	}, {
		name: "an overloaded server", code: codes.Unavailable,
		answer: func(w http.ResponseWriter, _ *http.Request, _, _ json.RawMessage) {
			w.WriteHeader(http.StatusTooManyRequests)
		},
	}, {
		name: "a server that does not let us in", code: codes.Unavailable,
		answer: func(w http.ResponseWriter, _ *http.Request, _, _ json.RawMessage) {
			w.WriteHeader(http.StatusUnauthorized)
		},
	}, {
		name: "a tool that is gone", code: codes.NotFound,
		answer: func(w http.ResponseWriter, _ *http.Request, id, _ json.RawMessage) { fail(w, id, -32601, "no") },
	}, {
		name: "a server that does not answer in time", code: codes.DeadlineExceeded,
		answer: func(_ http.ResponseWriter, r *http.Request, _, _ json.RawMessage) { <-r.Context().Done() },
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{t: t, tools: oneTool, answers: map[string]answer{"tools/call": tt.answer}}
			u := mcpbridge.Upstream{Name: "up", URL: s.serve().URL, MaxResultBytes: 64 << 10, Timeout: 5 * time.Second}
			if tt.code == codes.DeadlineExceeded {
				u.Timeout = 50 * time.Millisecond
			}
			c := start(t, quick(u))
			up(t, c)
			got, err := call(t, c, &providerv1.CallToolRequest{Name: "up_t"})
			if status.Code(err) != tt.code || text(got.result) != tt.text {
				t.Errorf("got %v, %v, want %q, %v", got.result, err, tt.text, tt.code)
			}
		})
	}
}

func TestCataloguesAreBounded(t *testing.T) {
	t.Parallel()
	var all []string
	for i := range 10_000 {
		all = append(all, fmt.Sprintf(`{"name":"t%d","inputSchema":{"type":"object"}}`, i))
	}
	many := &scripted{t: t, tools: "[" + strings.Join(all, ",") + "]"}
	page := 0
	endless := &scripted{t: t, answers: map[string]answer{"tools/list": func(w http.ResponseWriter, _ *http.Request, id, _ json.RawMessage) {
		page++
		reply(w, id, fmt.Sprintf(`{"tools":[{"name":"t%d","inputSchema":{"type":"object"}}],"nextCursor":"again"}`, page))
	}}}
	twice := &scripted{t: t, tools: `[{"name":"t","inputSchema":{"type":"object"}},{"name":"t","inputSchema":{"type":"object"},"description":"x"}]`}
	for _, tt := range []struct {
		name   string
		server *scripted
		want   int
	}{
		{"10,000 tools", many, 1000},
		{"pages without an end", endless, 1000},
		{"the same tool twice", twice, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := start(t, quick(mcpbridge.Upstream{Name: "up", URL: tt.server.serve().URL}))
			up(t, c)
			if got := len(toolNames(t, c)); got != tt.want {
				t.Errorf("got %d tools, want %d", got, tt.want)
			}
		})
	}
}

func TestOneUpstreamDoesNotHurtAnother(t *testing.T) {
	t.Parallel()
	hanging, err := net.Listen("tcp", "127.0.0.1:0") // accepts nothing, and so never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hanging.Close() })
	good := (&scripted{t: t, tools: oneTool, answers: answering(`{"content":[{"type":"text","text":"ok"}]}`)}).serve()
	slow := &scripted{t: t, tools: oneTool, answers: map[string]answer{
		"tools/call": func(_ http.ResponseWriter, r *http.Request, _, _ json.RawMessage) { <-r.Context().Done() },
	}}
	c := start(t, quick(
		mcpbridge.Upstream{Name: "hanging", URL: "http://" + hanging.Addr().String()},
		mcpbridge.Upstream{Name: "missing", Command: []string{"/no/such/program"}},
		mcpbridge.Upstream{Name: "slow", URL: slow.serve().URL, MaxInFlight: 1},
		mcpbridge.Upstream{Name: "good", URL: good.URL},
	))
	until(t, c, "two are up", func(names []string) bool { return len(names) == 2 })
	busy := make(chan error, 3)
	for range cap(busy) { // one is in flight, one waits, one is refused
		go func() {
			_, err := callCtx(t.Context(), c, &providerv1.CallToolRequest{Name: "slow_t"})
			busy <- err
		}()
	}
	if err := <-busy; !fault.Is(err, providerv1.Reason_REASON_UPSTREAM) {
		t.Errorf("beyond the bound: got error %v, want REASON_UPSTREAM", err)
	}
	for range 20 {
		got, err := call(t, c, &providerv1.CallToolRequest{Name: "good_t"})
		if err != nil || text(got.result) != "ok" {
			t.Fatalf("got %v, %v", got.result, err)
		}
	}
}

func TestUpstreamsThatGoAndComeBack(t *testing.T) {
	t.Parallel()
	s := &scripted{t: t, tools: oneTool, answers: answering(`{"content":[{"type":"text","text":"ok"}]}`)}
	var now swappable
	now.set(s)
	gone := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	srv := serve(t, &now)
	cfg := quick(mcpbridge.Upstream{Name: "up", URL: srv.URL})
	cfg.Keep = 300 * time.Millisecond
	c := start(t, cfg)
	up(t, c)
	now.set(gone)
	_, err := call(t, c, &providerv1.CallToolRequest{Name: "up_t"})
	if !fault.Is(err, providerv1.Reason_REASON_UPSTREAM) {
		t.Errorf("down: got error %v, want REASON_UPSTREAM", err)
	}
	if names := toolNames(t, c); !slices.Contains(names, "up_t") {
		t.Errorf("down: got tools %v, want them to stay listed for a while", names)
	}
	until(t, c, "the tools are no longer listed", func(names []string) bool { return len(names) == 0 })
	now.set(s)
	up(t, c)
	if got, err := call(t, c, &providerv1.CallToolRequest{Name: "up_t"}); err != nil || text(got.result) != "ok" {
		t.Errorf("back: got %v, %v", got.result, err)
	}
}

func TestTheFirstUpstreamIsAskedForAResource(t *testing.T) {
	t.Parallel()
	with := func(text string) mcpbridge.Upstream {
		s := &scripted{t: t, tools: oneTool, caps: `{"tools":{},"resources":{}}`, answers: map[string]answer{
			"resources/list": func(w http.ResponseWriter, _ *http.Request, id, _ json.RawMessage) {
				reply(w, id, `{"resources":[{"uri":"test://same","name":"`+text+`"}]}`)
			},
			"resources/read": func(w http.ResponseWriter, _ *http.Request, id, _ json.RawMessage) {
				reply(w, id, `{"contents":[{"uri":"test://same","text":"`+text+`"}]}`)
			},
		}}
		return mcpbridge.Upstream{Name: text, URL: s.serve().URL}
	}
	c := start(t, quick(with("first"), with("second")))
	until(t, c, "both are up", func(names []string) bool { return len(names) == 2 })
	got, err := c.ReadResource(t.Context(), &providerv1.ReadResourceRequest{Uri: "test://same"})
	if err != nil || got.GetContents()[0].GetText() != "first" {
		t.Errorf("got %v, %v, want the first one's", got, err)
	}
}
