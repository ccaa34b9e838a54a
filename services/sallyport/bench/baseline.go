package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Names of our own servers.
const (
	serveBare = "bare"
	serveSDK  = "sdk"
	serveEdge = "edge"
)

// addresses are where one of our own servers listens.
type addresses struct {
	MCP   string `json:"mcp"`
	Admin string `json:"admin"` // of /metrics
}

// serve is one of the servers that Sallyport is compared with, or a part of it. It
// prints its addresses as JSON and serves until in ends.
func serve(ctx context.Context, name string, in io.Reader, out io.Writer) error {
	var handler http.Handler
	switch name {
	case serveBare:
		handler = bare()
	case serveSDK:
		handler = sdk()
	case serveEdge:
		return edgeAlone(ctx, in, out)
	default:
		return fmt.Errorf("-serve %q: want %s, %s or %s", name, serveBare, serveSDK, serveEdge)
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", handler)
	mux.HandleFunc("GET /metrics", memory)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, in)
		ended <- errors.Join(err, srv.Close())
	}()
	if err := json.NewEncoder(out).Encode(addresses{lis.Addr().String(), lis.Addr().String()}); err != nil {
		return err
	}
	if err := srv.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-ended
}

// bare reads a request and writes the answer to it that is always the same: the
// least that any server in Go can do.
func bare() http.Handler {
	answer := []byte(`{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[{"type":"text","text":"{\"text\":\"` + marker +
		`\"}"}],"structuredContent":{"text":"` + marker + `"},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"bare","version":"1.0.0"}}}}`)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, "the body could not be read", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer) // a client that went away gets nothing
	})
}

type echo struct {
	Text string `json:"text"`
}

// sdk is the official SDK's server as its documentation would have it: stateless,
// answers in JSON, one typed tool.
func sdk() http.Handler {
	s := mcp.NewServer(&mcp.Implementation{Name: "bench", Version: "1.0.0"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "echo", Description: "Returns the text unchanged."},
		func(_ context.Context, _ *mcp.CallToolRequest, in echo) (*mcp.CallToolResult, echo, error) {
			return nil, in, nil
		})
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s },
		&mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true})
}

// memory tells how much was allocated, under the names that Prometheus' client
// uses.
func memory(w http.ResponseWriter, _ *http.Request) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Fprintf(w, "%s %d\n%s %d\n", mallocsMetric, m.Mallocs, bytesMetric, m.TotalAlloc)
}
