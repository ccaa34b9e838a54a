package edge_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/edge"
)

// reply answers a question of the server.
func (c *client) reply(t testing.TB, asked message, answer string) answer {
	t.Helper()
	return c.post(t, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,%s}`, asked.ID, answer))
}

// text is the text of a tool's result.
func (m message) text(t testing.TB) string {
	t.Helper()
	var r struct{ Content []struct{ Text string } }
	if err := json.Unmarshal(m.Result, &r); err != nil || len(r.Content) != 1 {
		t.Fatalf("got %s %s %s, want a result with one text", m.Method, m.Result, m.Error)
	}
	return r.Content[0].Text
}

func TestAToolAsksTheClient(t *testing.T) {
	t.Parallel()
	const accept = `"result":{"action":"accept","content":{"name":"Anna"}}`
	const declared = `{"elicitation":{"form":{},"url":{}},"sampling":{"tools":{}},"roots":{}}`
	tests := []struct {
		name, tool, version string
		replies             map[string]string // by method
		wantParams          string            // of the first question
		want                string            // text of the result
	}{{
		name: "a form", tool: "asks_form", version: "2025-11-25",
		replies:    map[string]string{"elicitation/create": accept},
		wantParams: `{"mode":"form","message":"Who?","requestedSchema":{"type":"object","properties":{"name":{"type":"string"}}}}`,
		want:       `answers {"who":{"action":"accept","content":{"name":"Anna"}}} state S1 capabilities ` + declared,
	}, {
		name: "a form in the older revision, which has no modes", tool: "asks_form", version: "2025-06-18",
		replies:    map[string]string{"elicitation/create": accept},
		wantParams: `{"message":"Who?","requestedSchema":{"type":"object","properties":{"name":{"type":"string"}}}}`,
		want:       `answers {"who":{"action":"accept","content":{"name":"Anna"}}} state S1 capabilities {"elicitation":{"form":{}},"sampling":{},"roots":{}}`,
	}, {
		name: "a page, whose visit is named", tool: "asks_page", version: "2025-11-25",
		replies:    map[string]string{"elicitation/create": `"result":{"action":"accept"}`},
		wantParams: `{"mode":"url","message":"Go","url":"https://example.com/x","elicitationId":"ID"}`,
		want:       `answers {"go":{"action":"accept"}} state S1 capabilities ` + declared,
	}, {
		name: "an error counts as a user who turns away", tool: "asks_form", version: "2025-11-25",
		replies: map[string]string{"elicitation/create": `"error":{"code":-1,"message":"the window was closed"}`},
		want:    `answers {"who":{"action":"cancel"}} state S1 capabilities ` + declared,
	}, {
		name: "another question after the first", tool: "asks_again", version: "2025-11-25",
		replies: map[string]string{"elicitation/create": accept},
		want:    `answers {"second":{"action":"accept","content":{"name":"Anna"}}} state two capabilities ` + declared,
	}, {
		name: "a model that does not answer ends the call", tool: "asks_all", version: "2025-11-25",
		replies: map[string]string{"elicitation/create": accept, "roots/list": `"result":{"roots":[]}`, "sampling/createMessage": `"error":{"code":-1,"message":"no"}`},
		want:    "The client did not do what the tool has asked it for (sampling/createMessage), so the call cannot go on",
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := w.initialize(t, everything, func(c *client) { c.version = tt.version })
			stream := c.call(t, tt.tool)
			first := true
			for {
				m := stream.message(t)
				if m.Result != nil || m.Error != nil {
					if got := m.text(t); !strings.HasPrefix(got, tt.want) {
						t.Errorf("got %s, want %s", got, tt.want)
					}
					break
				}
				if m.Method == "notifications/cancelled" {
					continue
				}
				if params := strings.ReplaceAll(string(m.Params), string(m.ID), `"ID"`); first && tt.wantParams != "" && params != tt.wantParams {
					t.Errorf("got params %s, want %s", params, tt.wantParams)
				}
				first = false
				reply, ok := tt.replies[m.Method]
				if !ok {
					t.Fatalf("asked for %s", m.Method)
				}
				if a := c.reply(t, m, reply); a.status != http.StatusAccepted && a.status != http.StatusBadRequest || len(a.body) > 0 && a.status == http.StatusAccepted {
					t.Errorf("the answer: got %d %s, want 202 and nothing", a.status, a.body)
				}
			}
			if rest := stream.ended(t); len(rest) > 0 {
				t.Errorf("got %v after the result", rest)
			}
			for _, call := range w.executor.called {
				if got := string(call.GetGrant()); got != "grant for "+tt.tool {
					t.Errorf("a round was called with grant %q", got)
				}
			}
			if got, want := len(w.auth.authorized), len(w.executor.called); got != want {
				t.Errorf("%d decisions for %d rounds, want one for each", got, want)
			}
			calls := 0
			for _, check := range w.quota.checked {
				if check.GetSubject().GetAttributes()["action"] == "tools/call" {
					calls++
				}
			}
			if calls != 1 {
				t.Errorf("%d charges for one call, want 1", calls)
			}
		})
	}
}

func TestAllQuestionsOfARoundAreAskedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.initialize(t, everything)
	stream := c.call(t, "asks_all")
	asked := map[string]message{}
	for range 3 {
		m := stream.message(t)
		asked[m.Method] = m
	}
	// In any order.
	for _, a := range []struct{ method, result string }{
		{"roots/list", `{"roots":[{"uri":"file:///src"}]}`},
		{"elicitation/create", `{"action":"decline"}`},
		{"sampling/createMessage", `{"role":"assistant","content":{"type":"text","text":"Hello"},"model":"m"}`},
	} {
		if got := c.reply(t, asked[a.method], `"result":`+a.result); got.status != http.StatusAccepted {
			t.Fatalf("%s: got %d %s", a.method, got.status, got.body)
		}
	}
	text := stream.message(t).text(t)
	answers, _, _ := strings.Cut(strings.TrimPrefix(text, "answers "), " state ")
	var got map[string]any
	if err := json.Unmarshal([]byte(answers), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"who":     map[string]any{"action": "decline"},
		"folders": map[string]any{"roots": []any{map[string]any{"uri": "file:///src"}}},
		"model":   map[string]any{"role": "assistant", "model": "m", "content": map[string]any{"type": "text", "text": "Hello"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

func TestWhoMayNotAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.initialize(t, everything)
	stream := c.call(t, "asks_form")
	asked := stream.message(t)
	stolen := *c
	stolen.token = "bobs"
	for name, tt := range map[string]struct {
		client *client
		want   int
	}{
		"another session of the same client":  {w.initialize(t, everything), http.StatusBadRequest},
		"a session of another principal":      {w.initialize(t, everything, func(c *client) { c.token = "bobs" }), http.StatusBadRequest},
		"another principal with this session": {&stolen, http.StatusNotFound},
	} {
		if a := tt.client.reply(t, asked, `"result":{"action":"accept","content":{"name":"Mallory"}}`); a.status != tt.want {
			t.Errorf("%s: got %d %s, want %d", name, a.status, a.body, tt.want)
		}
	}
	if a := c.reply(t, asked, `"result":{"action":"decline"}`); a.status != http.StatusAccepted {
		t.Errorf("the client itself: got %d %s, want 202", a.status, a.body)
	}
	if a := c.reply(t, asked, `"result":{"action":"accept"}`); a.status != http.StatusBadRequest {
		t.Errorf("the same answer again: got %d %s, want 400", a.status, a.body)
	}
	if got := stream.message(t).text(t); !strings.HasPrefix(got, `answers {"who":{"action":"decline"}}`) {
		t.Errorf("got %s, want the first answer of the client itself", got)
	}
}

// In the legacy era a lost connection says nothing about the call: whoever has
// seen the question may still answer it.
func TestAnAnswerMayComeAfterTheStreamIsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.initialize(t, everything)
	stream := c.call(t, "asks_form")
	asked := stream.message(t)
	stream.close()
	if a := c.reply(t, asked, `"result":{"action":"accept"}`); a.status != http.StatusAccepted {
		t.Fatalf("got %d %s, want 202", a.status, a.body)
	}
	until(t, "the tool is called with it", func() bool {
		w.executor.mu.Lock()
		defer w.executor.mu.Unlock()
		return len(w.executor.called) == 2
	})
	if got := string(w.executor.last().GetRound().GetInputResponses()); got != `{"who":{"action":"accept"}}` {
		t.Errorf("the tool got %s", got)
	}
}

func TestAQuestionHasItsTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) {
		o.Config.AnswerTimeout, o.Config.CallTimeout, o.Config.KeepAlive = 300*time.Millisecond, 50*time.Millisecond, 20*time.Millisecond
	})
	c := w.initialize(t, everything)
	stream := c.call(t, "asks_form")
	asked := stream.message(t)
	if m := stream.message(t); m.Method != "notifications/cancelled" || !strings.Contains(string(m.Params), string(asked.ID)) {
		t.Errorf("got %s %s, want the question withdrawn", m.Method, m.Params)
	}
	if got := stream.message(t).text(t); !strings.HasPrefix(got, "Nobody answered in time") {
		t.Errorf("got %s", got)
	}
}

// The limit of a call is for the tool, not for the person it asks.
func TestAPersonMayTakeLongerThanATool(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) { o.Config.CallTimeout = 100 * time.Millisecond })
	c := w.initialize(t, everything)
	stream := c.call(t, "asks_form")
	asked := stream.message(t)
	<-time.After(300 * time.Millisecond)
	c.reply(t, asked, `"result":{"action":"accept"}`)
	if got := stream.message(t).text(t); !strings.HasPrefix(got, "answers") {
		t.Errorf("got %s, want the result", got)
	}
}

func TestASessionHasSoManyQuestions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.initialize(t, everything)
	var streams []*events
	for range 32 {
		s := c.call(t, "asks_form")
		s.message(t)
		streams = append(streams, s)
	}
	a := c.send(t, request{params: `"name":"asks_form"`})
	if a.reason(t) != "CONCURRENCY_EXCEEDED" {
		t.Errorf("the 33rd: got %s, want it refused", a.body)
	}
	if first := w.initialize(t, everything).call(t, "asks_form").message(t); first.Method != "elicitation/create" {
		t.Errorf("another session: got %s, want it asked", first.Method)
	}
	_ = streams
}

func TestQuestionsEndWithTheServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.initialize(t, everything)
	stream := c.call(t, "asks_form")
	stream.message(t)
	w.stop(t)
	if m := stream.message(t); m.Method != "notifications/cancelled" {
		t.Errorf("got %s, want the question withdrawn", m.Method)
	}
	if got := stream.message(t).text(t); !strings.Contains(got, "stopping") {
		t.Errorf("got %s, want what happened", got)
	}
}
