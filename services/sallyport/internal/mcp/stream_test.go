package mcp_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/mcp"
)

// A call that lasts is answered with a stream of events.
func TestCallThatIsAnsweredWithAStream(t *testing.T) {
	t.Parallel()
	const result = `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"done"}],"isError":false}}`
	tests := []struct {
		name, stream string
		fails        string
	}{
		{"one event", "data: " + result + "\n\n", ""},
		{"after keep-alives and progress", ": alive\n\nevent: message\ndata: {\"method\":\"notifications/progress\"}\n\nid: 7\r\ndata:" + result + "\r\n\r\n", ""},
		{"in several lines", "data: " + strings.Replace(result, ",", ",\ndata: ", 1) + "\n\n", ""},
		{"without its last line end", "data: " + result, ""},
		{"no result", ": alive\n\n", "not JSON"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
				_, _ = w.Write([]byte(tt.stream))
			}))
			t.Cleanup(srv.Close)
			got, err := mcp.Client{URL: srv.URL, Key: "k", Name: "t"}.Call(t.Context(), "echo", map[string]any{})
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("got %v, %v", got, err)
				}
				return
			}
			if err != nil || !strings.Contains(string(got.Raw), "done") {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}
