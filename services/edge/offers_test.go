package edge_test

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

// capabilities are what the server says of itself.
func capabilities(t *testing.T, w *world, version string) string {
	t.Helper()
	q := request{method: "server/discover"}
	if version == "2025-11-25" {
		q = request{method: "initialize", version: version, params: `"protocolVersion":"2025-11-25","capabilities":{}`}
	}
	var r struct {
		Result struct{ Capabilities json.RawMessage }
	}
	a := w.send(t, q)
	if err := json.Unmarshal(a.body, &r); err != nil || r.Result.Capabilities == nil {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	return string(r.Result.Capabilities)
}

// What is declared is served, and nothing else.
func TestWhatIsOfferedIsDeclaredAndServed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		news *executorv1.WatchResponse
		want string
	}{
		{"nothing but tools", &executorv1.WatchResponse{}, `{"tools":{"listChanged":true},"logging":{}}`},
		{
			"resources", &executorv1.WatchResponse{HasResources: true},
			`{"tools":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"logging":{}}`,
		},
		{
			"prompts and completion", &executorv1.WatchResponse{HasPrompts: true, HasCompletion: true},
			`{"tools":{"listChanged":true},"prompts":{"listChanged":true},"completions":{},"logging":{}}`,
		},
	}
	methods := map[string]func(*executorv1.WatchResponse) bool{
		"resources/list":           (*executorv1.WatchResponse).GetHasResources,
		"resources/templates/list": (*executorv1.WatchResponse).GetHasResources,
		"resources/read":           (*executorv1.WatchResponse).GetHasResources,
		"prompts/list":             (*executorv1.WatchResponse).GetHasPrompts,
		"prompts/get":              (*executorv1.WatchResponse).GetHasPrompts,
		"completion/complete":      (*executorv1.WatchResponse).GetHasCompletion,
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			before := capabilities(t, w, "")
			w.executor.news <- tt.news
			for _, version := range []string{"2026-07-28", "2025-11-25"} {
				got := capabilities(t, w, version)
				for got == before && t.Context().Err() == nil { // the news is on its way
					got = capabilities(t, w, version)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", version, diff)
				}
				for method, has := range methods {
					q := request{method: method, version: version, params: `"name":"greet","uri":"test://a"`, headers: map[string]string{}}
					if version == "2026-07-28" {
						q.headers["Mcp-Name"] = map[string]string{"resources/read": "test://a", "prompts/get": "greet"}[method]
					}
					if code := w.send(t, q).decode(t).Error.Code; (code != -32601) != has(tt.news) {
						t.Errorf("%s, %s: got code %d", version, method, code)
					}
				}
			}
		})
	}
}

// silentExecutor never says what there is.
type silentExecutor struct {
	executorv1.ExecutorServiceClient
}

func (silentExecutor) Watch(ctx context.Context, _ *executorv1.WatchRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[executorv1.WatchResponse], error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Fails closed: while nobody knows what there is, nothing is said of it.
func TestWhatIsOfferedIsNotKnownYet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) {
		o.Executor, o.Config.PeerTimeout = silentExecutor{o.Executor}, 50*time.Millisecond
	})
	for _, q := range []request{
		{method: "server/discover"},
		{method: "resources/list"},
		{method: "prompts/list", version: "2025-11-25"},
		{method: "initialize", version: "2025-11-25", params: `"protocolVersion":"2025-11-25"`},
	} {
		if a := w.send(t, q); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "1" {
			t.Errorf("%s: got %d %s, want 503 with Retry-After", q.method, a.status, a.body)
		}
	}
	if a := w.send(t, request{}); a.status != http.StatusOK {
		t.Errorf("a call: got %d %s, want it served", a.status, a.body)
	}
}
