package edge_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/edge"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/session"
)

// Whatever a client posts in its session as an answer is refused unless it was
// asked, and never breaks anything.
func FuzzClientAnswer(f *testing.F) {
	o := benchOptions(loopback())
	o.Keys, o.Sessions = testKeys(f, 7), &fakeSessions{}
	s, err := edge.New(o)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	id := testMint(f, 7).Make("key:anna", session.Session{Version: "2025-11-25", Capabilities: session.ElicitForm, Expires: time.Now().Add(time.Hour)})
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":"AAAAAAAAAAAAAAAAAAAAAAAAAA-AAAAAAAAAAAAAAAAAAAAAAAAAA","result":{"action":"accept"}}`,
		`{"jsonrpc":"2.0","id":"AAAAAAAAAAAAAAAAAAAAAAAAAA-AAAAAAAAAAAAAAAAAAAAAAAAAA","error":{"code":-1,"message":"no"}}`,
		`{"jsonrpc":"2.0","id":"x.>","result":{}}`,
		`{"jsonrpc":"2.0","id":7,"result":null}`,
		`{"jsonrpc":"2.0","result":{}}`,
		`{"jsonrpc":"2.0","id":"a","result":{},"error":{}}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":[1]}}`,
		`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"a"}}`,
	} {
		f.Add([]byte(seed))
	}
	known := []int{
		http.StatusOK, http.StatusAccepted, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusServiceUnavailable,
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/mcp", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer good")
		r.Header.Set("MCP-Protocol-Version", "2025-11-25")
		r.Header.Set("Mcp-Session-Id", id)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if !slices.Contains(known, w.Code) {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	})
}
