package mcpbridge_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge"
)

// ways are the ways to reach a server of the SDK.
func ways(t *testing.T, run func(t *testing.T, c providerv1.ProviderServiceClient)) {
	httpWays(t, func(t *testing.T, c providerv1.ProviderServiceClient, _ *mcp.Server, _ hooks) { run(t, c) })
	for _, era := range []string{"modern", "legacy"} {
		t.Run("a process in the "+era+" era", func(t *testing.T) {
			t.Parallel()
			c := start(t, quick(mcpbridge.Upstream{Name: "up", Command: []string{os.Args[0]}, Env: map[string]string{childMode: "quiet"}, Era: era}))
			up(t, c)
			run(t, c)
		})
	}
}

// httpWays are those of them in which the server is in this process.
func httpWays(t *testing.T, run func(t *testing.T, c providerv1.ProviderServiceClient, s *mcp.Server, h hooks)) {
	for _, era := range []string{"modern", "legacy"} {
		t.Run("HTTP in the "+era+" era", func(t *testing.T) {
			t.Parallel()
			h := hooks{waiting: make(chan struct{}, 8), cancelled: make(chan struct{}, 8)}
			s := sdkServer(h)
			srv := overHTTP(t, s, era)
			c := start(t, quick(mcpbridge.Upstream{Name: "up", URL: srv.URL}))
			up(t, c)
			run(t, c, s, h)
		})
	}
}

func TestCall(t *testing.T) {
	t.Parallel()
	ways(t, func(t *testing.T, c providerv1.ProviderServiceClient) {
		tests := []struct {
			name string
			req  *providerv1.CallToolRequest

			want         *providerv1.ToolResult
			wantProgress []float64
			wantNotices  []string
			wantReason   fault.Reason
			wantCode     codes.Code
		}{{
			name: "arguments arrive as they are",
			req:  &providerv1.CallToolRequest{Name: "up_echo", Arguments: []byte(`{"b":12345678901234567890,"a":1.0}`)},
			want: &providerv1.ToolResult{Content: textBlock(`{"b":12345678901234567890,"a":1.0}`)},
		}, {
			name: "a result is passed on whole",
			req:  &providerv1.CallToolRequest{Name: "up_everything"},
			want: &providerv1.ToolResult{
				IsError: true, Structured: []byte(`{"n":1}`),
				Content: []*providerv1.Content{
					{Kind: &providerv1.Content_Text{Text: "hi"}, Annotations: &providerv1.Annotations{Audience: []string{"user"}, Priority: ptr(0.5)}},
					{Kind: &providerv1.Content_Image{Image: &providerv1.Media{Data: []byte{1, 2}, MimeType: "image/png"}}},
					{Kind: &providerv1.Content_Audio{Audio: &providerv1.Media{Data: []byte{3}, MimeType: "audio/wav"}}},
					{Kind: &providerv1.Content_Resource{Resource: &providerv1.ResourceContents{
						Uri: "test://r", MimeType: "text/plain", Body: &providerv1.ResourceContents_Text{Text: "body"},
					}}},
					{Kind: &providerv1.Content_ResourceLink{ResourceLink: &providerv1.ResourceLink{Uri: "test://l", Name: "l"}}},
				},
			},
		}, {
			name: "an error of the upstream is for the model to read",
			req:  &providerv1.CallToolRequest{Name: "up_fails"},
			want: &providerv1.ToolResult{IsError: true, Content: textBlock("The tool's server answered with error 4711: out of paper")},
		}, {
			name:       "bad arguments are a fault",
			req:        &providerv1.CallToolRequest{Name: "up_picky"},
			wantCode:   codes.InvalidArgument,
			wantReason: providerv1.Reason_REASON_ARGUMENTS,
		}, {
			name:       "a tool without the prefix is not known",
			req:        &providerv1.CallToolRequest{Name: "echo"},
			wantCode:   codes.NotFound,
			wantReason: providerv1.Reason_REASON_UNKNOWN,
		}, {
			name:         "progress grows",
			req:          &providerv1.CallToolRequest{Name: "up_progress", WantsProgress: true},
			want:         &providerv1.ToolResult{Content: textBlock("done")},
			wantProgress: []float64{1, 2, 3},
		}, {
			name: "without a wish there is no progress",
			req:  &providerv1.CallToolRequest{Name: "up_progress"},
			want: &providerv1.ToolResult{Content: textBlock("done")},
		}, {
			name:        "log messages are of the level that is wanted",
			req:         &providerv1.CallToolRequest{Name: "up_log", LogLevel: "info"},
			want:        &providerv1.ToolResult{Content: textBlock("done")},
			wantNotices: []string{`info "info"`, `error "error"`},
		}, {
			name: "without a level there are none",
			req:  &providerv1.CallToolRequest{Name: "up_log"},
			want: &providerv1.ToolResult{Content: textBlock("done")},
		}}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				got, err := call(t, c, tt.req)
				if status.Code(err) != tt.wantCode {
					t.Fatalf("got error %v, want code %v", err, tt.wantCode)
				}
				if tt.wantReason != nil && !fault.Is(err, tt.wantReason) {
					t.Errorf("got error %v, want reason %v", err, tt.wantReason)
				}
				if diff := cmp.Diff(tt.want, got.result, protocmp.Transform(), protocmp.IgnoreFields(&providerv1.ToolResult{}, "meta")); diff != "" {
					t.Errorf("result (-want +got):\n%s", diff)
				}
				var progress []float64
				for _, p := range got.progress {
					progress = append(progress, p.GetProgress())
				}
				if !slices.Equal(progress, tt.wantProgress) {
					t.Errorf("got progress %v, want %v", progress, tt.wantProgress)
				}
				var notices []string
				for _, n := range got.notices {
					notices = append(notices, n.GetLevel()+" "+string(n.GetData()))
				}
				if !slices.Equal(notices, tt.wantNotices) {
					t.Errorf("got notices %q, want %q", notices, tt.wantNotices)
				}
			})
		}
	})
}

func textBlock(s string) []*providerv1.Content {
	return []*providerv1.Content{{Kind: &providerv1.Content_Text{Text: s}}}
}

func ptr[T any](v T) *T { return &v }

func TestReadAndComplete(t *testing.T) {
	t.Parallel()
	ways(t, func(t *testing.T, c providerv1.ProviderServiceClient) {
		list, err := c.ListResources(t.Context(), &providerv1.ListResourcesRequest{})
		if err != nil || len(list.GetResources()) != 1 || list.GetResources()[0].GetUri() != "test://a" || len(list.GetTemplates()) != 1 {
			t.Fatalf("ListResources: got %v, %v", list, err)
		}
		prompts, err := c.ListPrompts(t.Context(), &providerv1.ListPromptsRequest{})
		if err != nil || len(prompts.GetPrompts()) != 1 || prompts.GetPrompts()[0].GetName() != "up_greet" {
			t.Fatalf("ListPrompts: got %v, %v", prompts, err)
		}
		for _, tt := range []struct {
			name, uri string
			want      *providerv1.ResourceContents
			reason    fault.Reason
		}{
			{name: "one that is listed", uri: "test://a", want: &providerv1.ResourceContents{Uri: "test://a", Body: &providerv1.ResourceContents_Text{Text: "contents of a"}}},
			{name: "one of a template", uri: "test://t/1", want: &providerv1.ResourceContents{Uri: "test://t/1", Body: &providerv1.ResourceContents_Blob{Blob: []byte{1}}}},
			{name: "one that the upstream does not have", uri: "test://t/missing", reason: providerv1.Reason_REASON_UNKNOWN},
			{name: "one that nobody has", uri: "other://x", reason: providerv1.Reason_REASON_UNKNOWN},
		} {
			t.Run(tt.name, func(t *testing.T) {
				got, err := c.ReadResource(t.Context(), &providerv1.ReadResourceRequest{Uri: tt.uri})
				if tt.reason != nil {
					if !fault.Is(err, tt.reason) {
						t.Fatalf("got error %v, want %v", err, tt.reason)
					}
					return
				}
				if err != nil || len(got.GetContents()) != 1 {
					t.Fatalf("got %v, %v", got, err)
				}
				got.Contents[0].MimeType = "" // the SDK fills it in
				if diff := cmp.Diff(tt.want, got.GetContents()[0], protocmp.Transform()); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
		got, err := c.GetPrompt(t.Context(), &providerv1.GetPromptRequest{Name: "up_greet", Arguments: map[string]string{"city": "Paris"}})
		if err != nil || got.GetMessages()[0].GetContent().GetText() != "hello Paris" {
			t.Errorf("GetPrompt: got %v, %v", got, err)
		}
		values, err := c.Complete(t.Context(), &providerv1.CompleteRequest{Prompt: "up_greet", Argument: "city", Value: "Pa"})
		if err != nil || !slices.Equal(values.GetValues(), []string{"Paris"}) {
			t.Errorf("Complete: got %v, %v", values, err)
		}
	})
}

func TestChangesAreTold(t *testing.T) {
	t.Parallel()
	httpWays(t, func(t *testing.T, c providerv1.ProviderServiceClient, s *mcp.Server, _ hooks) {
		s.AddTool(&mcp.Tool{Name: "late", InputSchema: map[string]any{"type": "object"}}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return &mcp.CallToolResult{}, nil
		})
		until(t, c, "the new tool is listed", func(names []string) bool { return slices.Contains(names, "up_late") })

		w, err := c.Watch(t.Context(), &providerv1.WatchRequest{})
		if err != nil {
			t.Fatal(err)
		}
		first, err := w.Recv()
		if err != nil || !first.GetHasTools() || !first.GetHasResources() || !first.GetHasPrompts() || !first.GetHasCompletion() {
			t.Fatalf("got %v, %v, want all", first, err)
		}
		again := time.NewTicker(20 * time.Millisecond) // the subscription may not be there yet
		defer again.Stop()
		go func() {
			for {
				select {
				case <-again.C:
					_ = s.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: "test://a"})
				case <-t.Context().Done():
					return
				}
			}
		}()
		for {
			m, err := w.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if slices.Equal(m.GetUpdatedUris(), []string{"test://a"}) {
				return
			}
		}
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	httpWays(t, func(t *testing.T, c providerv1.ProviderServiceClient, _ *mcp.Server, h hooks) {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-h.waiting
			cancel()
		}()
		_, err := callCtx(ctx, c, &providerv1.CallToolRequest{Name: "up_wait"})
		if status.Code(err) != codes.Canceled {
			t.Errorf("got error %v, want Canceled", err)
		}
		<-h.cancelled // hangs unless the upstream is told
	})
}

func TestUpstreamsThatForgetSessionsAreReconnectedTo(t *testing.T) {
	t.Parallel()
	// The handler is replaced: as if the server had been restarted.
	s := sdkServer(hooks{})
	fresh := func() http.Handler {
		return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil)
	}
	var now swappable
	now.set(fresh())
	srv := serve(t, &now)
	cfg := quick(mcpbridge.Upstream{Name: "up", URL: srv.URL})
	cfg.CheckEvery = mcpbridge.DefaultConfig().CheckEvery // the call itself has to find out
	c := start(t, cfg)
	up(t, c)
	now.set(fresh())
	got, err := call(t, c, &providerv1.CallToolRequest{Name: "up_echo", Arguments: []byte(`{"a":1}`)})
	if err != nil || text(got.result) != `{"a":1}` {
		t.Errorf("got %v, %v, want the call to work", got.result, err)
	}
}

func TestArgumentsAreMirroredForModernServers(t *testing.T) {
	t.Parallel()
	for era, want := range map[string]string{"modern": "[eu]", "legacy": "[]"} {
		t.Run(era, func(t *testing.T) {
			t.Parallel()
			c := start(t, quick(mcpbridge.Upstream{Name: "up", URL: overHTTP(t, sdkServer(hooks{}), era).URL}))
			up(t, c)
			got, err := call(t, c, &providerv1.CallToolRequest{Name: "up_mirrored", Arguments: []byte(`{"region":"eu"}`)})
			if err != nil || text(got.result) != want {
				t.Errorf("got %v, %v, want %s", got.result, err, want)
			}
		})
	}
}

// A legacy server may end a stream before the answer and have it asked for again.
func TestStreamsAreResumed(t *testing.T) {
	t.Parallel()
	var id json.RawMessage
	s := &scripted{t: t, tools: oneTool, answers: map[string]answer{"tools/call": func(w http.ResponseWriter, _ *http.Request, request, _ json.RawMessage) {
		id = request
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "id: 7\nretry: 1\ndata:\n\n")
	}}}
	srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.Header.Get("Last-Event-ID") == "7" {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, `data: {"jsonrpc":"2.0","id":`+string(id)+`,"result":{"content":[{"type":"text","text":"late"}]}}`+"\n\n")
			return
		}
		s.ServeHTTP(w, r)
	}))
	c := start(t, quick(mcpbridge.Upstream{Name: "up", URL: srv.URL}))
	up(t, c)
	got, err := call(t, c, &providerv1.CallToolRequest{Name: "up_t"})
	if err != nil || text(got.result) != "late" {
		t.Errorf("got %v, %v", got.result, err)
	}
}
