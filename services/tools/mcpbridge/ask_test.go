package mcpbridge_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge"
)

const allCapabilities = `{"elicitation":{"form":{},"url":{}},"sampling":{},"roots":{}}`

func firstRound(tool, capabilities string) *providerv1.CallToolRequest {
	return &providerv1.CallToolRequest{Name: tool, Round: &providerv1.Round{ClientCapabilities: []byte(capabilities)}}
}

func nextRound(tool string, state []byte, answers string) *providerv1.CallToolRequest {
	return &providerv1.CallToolRequest{Name: tool, Round: &providerv1.Round{
		ClientCapabilities: []byte(allCapabilities), State: state, InputResponses: []byte(answers),
	}}
}

func TestQuestionsOfLegacyUpstreams(t *testing.T) {
	t.Parallel()
	for way, upstream := range map[string]func(t *testing.T) mcpbridge.Upstream{
		"over HTTP": func(t *testing.T) mcpbridge.Upstream {
			return mcpbridge.Upstream{Name: "up", URL: overHTTP(t, sdkServer(hooks{}), "legacy").URL}
		},
		"of a process": func(*testing.T) mcpbridge.Upstream {
			return mcpbridge.Upstream{Name: "up", Command: []string{os.Args[0]}, Env: map[string]string{childMode: "quiet"}, Era: "legacy"}
		},
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			c := start(t, quick(upstream(t)))
			up(t, c)
			tests := []struct {
				name, tool, capabilities string

				method, required string // of the question; empty if none is to be asked
				answers          string
				want             string
			}{{
				name: "an elicitation is answered in the next round", tool: "up_ask", capabilities: `{"elicitation":{}}`,
				method: "elicitation/create", required: `{"elicitation":{"form":{}}}`,
				answers: `{"r1":{"action":"accept","content":{"name":"Ada"}}}`, want: "accept Ada",
			}, {
				name: "the user may say no", tool: "up_ask", capabilities: allCapabilities,
				method: "elicitation/create", required: `{"elicitation":{"form":{}}}`, answers: `{"r1":{"action":"decline"}}`, want: "decline <nil>",
			}, {
				name: "an answer that is none is a cancellation", tool: "up_ask", capabilities: allCapabilities,
				method: "elicitation/create", required: `{"elicitation":{"form":{}}}`, answers: `{"r1":{"action":"perhaps"}}`, want: "cancel <nil>",
			}, {
				name: "a client that cannot be asked is not, and the call goes on", tool: "up_ask", capabilities: `{}`, want: "decline <nil>",
			}, {
				name: "nor is one that only opens pages", tool: "up_ask", capabilities: `{"elicitation":{"url":{}}}`, want: "decline <nil>",
			}, {
				name: "sampling is passed on", tool: "up_sample", capabilities: allCapabilities,
				method: "sampling/createMessage", required: `{"sampling":{}}`,
				answers: `{"r1":{"role":"assistant","model":"m","content":{"type":"text","text":"4"}}}`, want: "4",
			}, {
				name: "sampling that the client cannot do is an error for the upstream", tool: "up_sample", capabilities: `{"elicitation":{}}`, want: "refused",
			}, {
				name: "roots are passed on", tool: "up_roots", capabilities: allCapabilities,
				method: "roots/list", required: `{"roots":{}}`, answers: `{"r1":{"roots":[{"uri":"file:///x"}]}}`, want: "file:///x",
			}, {
				name: "roots that the client does not have are an error for the upstream", tool: "up_roots", capabilities: ``, want: "refused",
			}}
			for _, tt := range tests {
				t.Run(tt.name, func(t *testing.T) {
					got, err := call(t, c, firstRound(tt.tool, tt.capabilities))
					if err != nil {
						t.Fatal(err)
					}
					if tt.method != "" {
						if got.asked == nil {
							t.Fatalf("got %v, want a question", got.result)
						}
						var asked map[string]struct{ Method string }
						if err := json.Unmarshal(got.asked.GetInputRequests(), &asked); err != nil || asked["r1"].Method != tt.method || len(asked) != 1 {
							t.Errorf("got questions %s, want one of %s", got.asked.GetInputRequests(), tt.method)
						}
						if string(got.asked.GetRequiredCapabilities()) != tt.required {
							t.Errorf("got required capabilities %s, want %s", got.asked.GetRequiredCapabilities(), tt.required)
						}
						if got, err = call(t, c, nextRound(tt.tool, got.asked.GetState(), tt.answers)); err != nil {
							t.Fatal(err)
						}
					}
					if text(got.result) != tt.want {
						t.Errorf("got %v, want %q", got.result, tt.want)
					}
				})
			}
		})
	}
}

func TestParkedCalls(t *testing.T) {
	t.Parallel()
	c := start(t, quick(mcpbridge.Upstream{Name: "up", URL: overHTTP(t, sdkServer(hooks{}), "legacy").URL}))
	up(t, c)
	ask := func(t *testing.T) []byte {
		t.Helper()
		got, err := call(t, c, firstRound("up_ask", allCapabilities))
		if err != nil || got.asked == nil {
			t.Fatalf("got %v, %v, want a question", got, err)
		}
		return got.asked.GetState()
	}
	const yes = `{"r1":{"action":"accept","content":{"name":"Ada"}}}`

	t.Run("a call may ask again", func(t *testing.T) {
		got, err := call(t, c, firstRound("up_ask_twice", allCapabilities))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got.asked == nil {
				t.Fatalf("got %v, want a question", got.result)
			}
			if got, err = call(t, c, nextRound("up_ask_twice", got.asked.GetState(), `{"r1":{"action":"decline"}}`)); err != nil {
				t.Fatal(err)
			}
		}
		if text(got.result) != "decline decline" {
			t.Errorf("got %v", got.result)
		}
	})
	t.Run("what was not answered is asked again", func(t *testing.T) {
		got, err := call(t, c, nextRound("up_ask", ask(t), `{"other":{}}`))
		if err != nil || got.asked == nil {
			t.Fatalf("got %v, %v, want the question", got, err)
		}
		got, err = call(t, c, nextRound("up_ask", got.asked.GetState(), yes))
		if err != nil || text(got.result) != "accept Ada" {
			t.Errorf("got %v, %v", got.result, err)
		}
	})
	refused := func(t *testing.T, req *providerv1.CallToolRequest) {
		t.Helper()
		_, err := call(t, c, req)
		if !fault.Is(err, providerv1.Reason_REASON_ARGUMENTS) {
			t.Errorf("got error %v, want REASON_ARGUMENTS", err)
		}
	}
	t.Run("nobody else answers", func(t *testing.T) {
		state := ask(t)
		other := nextRound("up_ask", state, yes)
		other.Principal = &authv1.Principal{Id: "key:2"}
		refused(t, other)
		got, err := call(t, c, nextRound("up_ask", state, yes))
		if err != nil || text(got.result) != "accept Ada" {
			t.Errorf("the principal itself: got %v, %v", got.result, err)
		}
	})
	t.Run("a state with another's name does not help", func(t *testing.T) {
		var st map[string]any
		if err := json.Unmarshal(ask(t), &st); err != nil {
			t.Fatal(err)
		}
		st["who"] = "key:2"
		forged, err := json.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		req := nextRound("up_ask", forged, yes)
		req.Principal = &authv1.Principal{Id: "key:2"}
		refused(t, req)
	})
	t.Run("a call is answered once", func(t *testing.T) {
		state := ask(t)
		if _, err := call(t, c, nextRound("up_ask", state, yes)); err != nil {
			t.Fatal(err)
		}
		refused(t, nextRound("up_ask", state, yes))
	})
	t.Run("the state is for one tool", func(t *testing.T) {
		refused(t, nextRound("up_echo", ask(t), yes))
	})
	t.Run("what is no state is refused", func(t *testing.T) {
		refused(t, nextRound("up_ask", []byte("junk"), yes))
	})
}

func TestParkedCallsAreBounded(t *testing.T) {
	t.Parallel()
	cfg := quick(mcpbridge.Upstream{Name: "up", URL: overHTTP(t, sdkServer(hooks{}), "legacy").URL})
	cfg.MaxParkedEach = 1
	cfg.ParkFor = time.Second
	c := start(t, cfg)
	up(t, c)
	first, err := call(t, c, firstRound("up_ask", allCapabilities))
	if err != nil || first.asked == nil {
		t.Fatalf("got %v, %v, want a question", first, err)
	}
	second, err := call(t, c, firstRound("up_ask", allCapabilities))
	if err != nil || text(second.result) != "decline <nil>" {
		t.Errorf("beyond the bound: got %v, %v, want the question to be declined", second.result, err)
	}
	req := firstRound("up_ask", allCapabilities)
	req.Principal = &authv1.Principal{Id: "key:2"}
	if other, err := call(t, c, req); err != nil || other.asked == nil {
		t.Errorf("of another principal: got %v, %v, want a question", other, err)
	}
	<-time.After(cfg.ParkFor + 100*time.Millisecond)
	_, err = call(t, c, nextRound("up_ask", first.asked.GetState(), `{"r1":{"action":"accept"}}`))
	if !fault.Is(err, providerv1.Reason_REASON_ARGUMENTS) {
		t.Errorf("when it has expired: got error %v, want REASON_ARGUMENTS", err)
	}
	if again, err := call(t, c, firstRound("up_ask", allCapabilities)); err != nil || again.asked == nil {
		t.Errorf("when there is room again: got %v, %v, want a question", again, err)
	}
}

// Two calls of one process at once: nobody can tell whose a question is.
func TestQuestionsThatMayBeAnybodysAreDeclined(t *testing.T) {
	t.Parallel()
	u := mcpbridge.Upstream{Name: "up", Command: []string{os.Args[0]}, Env: map[string]string{childMode: "quiet"}, Era: "legacy"}
	for sessions, want := range map[int]string{1: "decline <nil>", 2: ""} {
		t.Run(fmt.Sprint(sessions, " sessions"), func(t *testing.T) {
			t.Parallel()
			u := u
			u.Sessions = sessions
			c := start(t, quick(u))
			up(t, c)
			first, err := call(t, c, firstRound("up_ask", allCapabilities))
			if err != nil || first.asked == nil {
				t.Fatalf("got %v, %v, want a question", first, err)
			}
			second, err := call(t, c, firstRound("up_ask", allCapabilities))
			if err != nil || text(second.result) != want || (second.asked == nil) != (want != "") {
				t.Errorf("while the first waits: got %v, %v, want %q", second, err, want)
			}
		})
	}
}

func TestQuestionsOfModernUpstreams(t *testing.T) {
	t.Parallel()
	c := start(t, quick(mcpbridge.Upstream{Name: "up", URL: overHTTP(t, sdkServer(hooks{}), "modern").URL}))
	up(t, c)
	got, err := call(t, c, firstRound("up_rounds", allCapabilities))
	if err != nil || got.asked == nil {
		t.Fatalf("got %v, %v, want a question", got, err)
	}
	var asked map[string]struct{ Method string }
	if err := json.Unmarshal(got.asked.GetInputRequests(), &asked); err != nil || asked["name"].Method != "elicitation/create" {
		t.Errorf("got questions %s", got.asked.GetInputRequests())
	}
	state := got.asked.GetState()
	got, err = call(t, c, nextRound("up_rounds", state, `{"name":{"action":"accept","content":{}}}`))
	if err != nil || text(got.result) != "the state: accept" {
		t.Errorf("got %v, %v, want the upstream to get its state and the answer", got.result, err)
	}
	other := nextRound("up_rounds", state, `{"name":{"action":"accept","content":{}}}`)
	other.Principal = &authv1.Principal{Id: "key:2"}
	if _, err := call(t, c, other); !fault.Is(err, providerv1.Reason_REASON_ARGUMENTS) {
		t.Errorf("of another principal: got error %v, want REASON_ARGUMENTS", err)
	}
	got, err = call(t, c, firstRound("up_rounds", `{}`))
	if err != nil || got.asked != nil || !got.result.GetIsError() {
		t.Errorf("for a client that cannot be asked: got %v, %v, want a result that says so", got, err)
	}
}

func TestPagesToOpen(t *testing.T) {
	t.Parallel()
	calls := 0
	s := &scripted{t: t, tools: oneTool, answers: map[string]func(http.ResponseWriter, *http.Request, json.RawMessage, json.RawMessage){
		"tools/call": func(w http.ResponseWriter, _ *http.Request, id, _ json.RawMessage) {
			if calls++; calls > 1 {
				reply(w, id, `{"content":[{"type":"text","text":"paid"}]}`)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32042,"message":"go there","data":{"elicitations":[
				{"mode":"url","elicitationId":"e","url":"https://example.com/pay","message":"Pay"}]}}}`, id)
		},
	}}
	c := start(t, quick(mcpbridge.Upstream{Name: "up", URL: s.serve().URL}))
	up(t, c)
	got, err := call(t, c, firstRound("up_t", allCapabilities))
	if err != nil || got.asked == nil || string(got.asked.GetRequiredCapabilities()) != `{"elicitation":{"url":{}}}` {
		t.Fatalf("got %v, %v, want a question for a page", got, err)
	}
	state := got.asked.GetState()
	got, err = call(t, c, nextRound("up_t", state, `{"r1":{"action":"decline"}}`))
	if err != nil || !got.result.GetIsError() || calls != 1 {
		t.Errorf("declined: got %v, %v and %d calls, want a refusal without a call", got.result, err, calls)
	}
	got, err = call(t, c, nextRound("up_t", state, `{"r1":{"action":"accept"}}`))
	if err != nil || text(got.result) != "paid" {
		t.Errorf("accepted: got %v, %v, want the call to be made again", got.result, err)
	}
}
