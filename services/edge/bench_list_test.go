package edge_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"google.golang.org/grpc"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

// manyTools is how many tools an edge has to list at once.
const manyTools = 1000

// manyExecutor has many tools, of the size of our own, and sends them once.
type manyExecutor struct {
	stubExecutor
	tools []*executorv1.Tool
}

func (e manyExecutor) ListTools(_ context.Context, req *executorv1.ListToolsRequest, _ ...grpc.CallOption) (*executorv1.ListToolsResponse, error) {
	if req.GetKnownVersion() == "v1" {
		return &executorv1.ListToolsResponse{Version: "v1"}, nil
	}
	return &executorv1.ListToolsResponse{Version: "v1", Tools: e.tools}, nil
}

// BenchmarkListMany is tools/list of many tools by the edge alone: all of them on
// one page, and a page of as many as there are by default. What auth needs to
// filter them is measured beside auth: BenchmarkFilterManyTools.
func BenchmarkListMany(b *testing.B) {
	var e manyExecutor
	for i := range manyTools {
		e.tools = append(e.tools, &executorv1.Tool{Definition: &providerv1.ToolDefinition{
			Name: fmt.Sprintf("tool_%d", i), Description: "Looks something up, by its name. It changes nothing.",
			InputSchema:  []byte(`{"type":"object","properties":{"name":{"description":"Name of the thing.","type":"string","minLength":1,"maxLength":64}},"required":["name"],"additionalProperties":false}`),
			OutputSchema: []byte(`{"type":"object","properties":{"summary":{"description":"A sentence about it.","type":"string","maxLength":1000}},"required":["summary"],"additionalProperties":false}`),
		}})
	}
	slices.SortFunc(e.tools, func(a, b *executorv1.Tool) int {
		return bytes.Compare([]byte(a.GetDefinition().GetName()), []byte(b.GetDefinition().GetName()))
	})
	for _, page := range []int{manyTools, edge.DefaultConfig().PageSize} {
		b.Run(fmt.Sprintf("page=%d", page), func(b *testing.B) {
			cfg := edge.DefaultConfig()
			cfg.Listen, cfg.PageSize = "127.0.0.1:0", page
			options := benchOptions(cfg)
			auth := &bitsAuth{AuthServiceClient: options.Auth}
			auth.set(true)
			options.Auth, options.Executor = auth, e
			s, err := edge.New(options)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = s.Close() })
			r := request{method: "tools/list"}.http(b, "http://127.0.0.1:8080")
			body, err := io.ReadAll(r.Body)
			if err != nil {
				b.Fatal(err)
			}
			r.RemoteAddr, r.Host = "127.0.0.1:4711", "127.0.0.1:8080"
			first, reader := httptest.NewRecorder(), bytes.NewReader(body)
			r.Body = io.NopCloser(reader)
			s.ServeHTTP(first, r)
			if n := bytes.Count(first.Body.Bytes(), []byte(`"inputSchema"`)); first.Code != http.StatusOK || n != page {
				b.Fatalf("got %d with %d tools: %.200s", first.Code, n, first.Body)
			}
			w := &discard{header: make(http.Header)}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				reader.Reset(body)
				s.ServeHTTP(w, r)
			}
		})
	}
}
