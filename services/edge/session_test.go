package edge_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/edge"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/session"
)

func TestASessionIsGoodForItsPrincipalOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mint := func(key byte, principal string, life time.Duration) string {
		return testMint(t, key).Make(principal, session.Session{Version: "2025-11-25", Expires: time.Now().Add(life)})
	}
	good := w.initialize(t, `{}`).session
	tests := []struct {
		name, session, token string
		want                 int
	}{
		{"one that initialize gave out", good, "good", http.StatusOK},
		{"one that another edge with the same key gave out", mint(7, "key:anna", time.Minute), "good", http.StatusOK},
		{"one of somebody else", good, "bobs", http.StatusNotFound},
		{"one that is over", mint(7, "key:anna", -time.Second), "good", http.StatusNotFound},
		{"one under another key", mint(8, "key:anna", time.Minute), "good", http.StatusNotFound},
		{"one with a changed end", good[:len(good)-1] + flip(good[len(good)-1]), "good", http.StatusNotFound},
		{"a session is no credential", good, "nobodys", http.StatusUnauthorized},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			headers := map[string]string{"Mcp-Session-Id": tt.session}
			a := w.send(t, request{version: "2025-11-25", method: "ping", token: tt.token, headers: headers})
			if a.status != tt.want {
				t.Errorf("got %d %s, want %d", a.status, a.body, tt.want)
			}
			if strings.Contains(string(a.body), tt.session) {
				t.Errorf("the answer repeats the id: %s", a.body)
			}
		})
	}
}

func flip(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

// Keys may be rotated: the new one comes first, and ids under the old one are
// good until they end by themselves.
func TestSessionKeysRotate(t *testing.T) {
	t.Parallel()
	before := newWorld(t)
	after := newWorld(t, func(o *edge.Options) { o.Keys = testKeys(t, 9, 7) })
	if a := before.initialize(t, `{}`).at(after).send(t, request{method: "ping"}); a.status != http.StatusOK {
		t.Errorf("an id under the older key: got %d, want 200", a.status)
	}
	if a := after.initialize(t, `{}`).at(before).send(t, request{method: "ping"}); a.status != http.StatusNotFound {
		t.Errorf("an id under the newer key: got %d, want 404", a.status)
	}
	alone := newWorld(t, func(o *edge.Options) { o.Keys = nil })
	if a := alone.initialize(t, `{}`).send(t, request{method: "ping"}); a.status != http.StatusOK {
		t.Errorf("without keys: got %d, want 200 in the same process", a.status)
	}
}

func loopback() edge.Config {
	cfg := edge.DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	return cfg
}

func TestWhatASessionKeeps(t *testing.T) {
	t.Parallel()
	states := &fakeSessions{}
	w := newWorld(t, func(o *edge.Options) { o.Sessions = states }).watched(t)
	c := w.initialize(t, `{}`)
	subscribe := func(uri string) answer {
		return c.send(t, request{method: "resources/subscribe", params: `"uri":"` + uri + `"`})
	}
	for i := range 256 {
		if a := subscribe("test://" + strings.Repeat("x", i)); !strings.Contains(string(a.body), `"result":{}`) {
			t.Fatalf("subscription %d: got %s", i, a.body)
		}
	}
	if a := subscribe("test://one-more"); a.decode(t).Error.Code != -32602 || !strings.Contains(string(a.body), "256") {
		t.Errorf("got %s, want no more than 256 subscriptions", a.body)
	}
	if a := subscribe("test://x"); a.decode(t).Error.Code != 0 {
		t.Errorf("got %s for one that is there already, want it taken", a.body)
	}
	if a := subscribe("test://" + strings.Repeat("x", 600)); a.decode(t).Error.Code != -32602 {
		t.Errorf("got %s for a URI of 607 bytes, want it refused", a.body)
	}
	if state := states.all[c.id(t)]; len(state.GetSubscriptions()) != 256 {
		t.Errorf("%d subscriptions are kept, want 256", len(state.GetSubscriptions()))
	}

	states.mu.Lock()
	states.down = true
	states.mu.Unlock()
	for _, q := range []request{
		{method: "resources/subscribe", params: `"uri":"test://y"`},
		{method: "resources/unsubscribe", params: `"uri":"test://y"`},
		{method: "logging/setLevel", params: `"level":"info"`},
	} {
		if a := c.send(t, q); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "1" {
			t.Errorf("%s without a store: got %d %s, want 503", q.method, a.status, a.body)
		}
	}
	// What cannot be looked up is as if it had not been set.
	stream := c.call(t, "notes")
	if got := len(stream.ended(t)); got != 3 {
		t.Errorf("got %d messages, want two notices of info and above, and the result", got)
	}
}
