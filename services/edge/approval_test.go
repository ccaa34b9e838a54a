package edge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

const (
	given  = authv1.ApprovalState_APPROVAL_STATE_APPROVED
	denied = authv1.ApprovalState_APPROVAL_STATE_DENIED
)

// A legacy client is asked on the stream of the call. Whatever is no yes is a no.
func TestTheUserOfALegacyClientIsAsked(t *testing.T) {
	t.Parallel()
	const no = "A person has denied exactly this call. The reason given: too much. Do not make this call again. Decision d_"
	tests := []struct{ name, reply, want string }{
		{"yes", `"result":{"action":"accept","content":{"approve":true}}`, `got {"n":1}`},
		{"an accepted no", `"result":{"action":"accept","content":{"approve":false}}`, no},
		{"accepted without a word", `"result":{"action":"accept","content":{}}`, no},
		{"accepted with a word that is no yes", `"result":{"action":"accept","content":{"approve":"true"}}`, no},
		{"declined with a yes", `"result":{"action":"decline","content":{"approve":true}}`, no},
		{"turned away", `"result":{"action":"cancel"}`, no},
		{"an error", `"error":{"code":-1,"message":"the window was closed"}`, no},
	}
	for _, version := range []string{"2025-11-25", "2025-06-18"} {
		for _, tt := range tests {
			t.Run(tt.name+", "+version, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				c := w.initialize(t, everything, func(c *client) { c.version = version })
				stream := openEvents(t, c.request(request{params: `"name":"approve_by_user","arguments":{"n":1}`}).http(t, w.url))
				asked := stream.message(t)
				var params struct{ Mode, Message string }
				if err := json.Unmarshal(asked.Params, &params); err != nil || asked.Method != "elicitation/create" {
					t.Fatalf("got %s %s, want to be asked", asked.Method, asked.Params)
				}
				if want := "Do you approve this call of \"approve_by_user\"?\n\nTool: approve_by_user\nArguments: {\n  \"n\": 1\n}"; params.Message != want ||
					(params.Mode == "form") != (version == "2025-11-25") {
					t.Errorf("got %s, want the message %q", asked.Params, want)
				}
				if n := len(w.executor.called); n != 0 {
					t.Fatalf("the tool was called before the answer")
				}
				if a := c.reply(t, asked, tt.reply); a.status != http.StatusAccepted {
					t.Fatalf("the answer: got %d %s", a.status, a.body)
				}
				if got := stream.message(t).text(t); !strings.HasPrefix(got, tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				if got, want := len(w.executor.called), strings.Count(tt.want, "got "); got != want {
					t.Errorf("the tool was called %d times, want %d", got, want)
				}
				if got := w.auth.last(); string(got.GetApproval()) != "a_01K00000000000000000000000" || got.GetApprovalRefused() == (tt.want != no) {
					t.Errorf("auth was told of approval %q, refused %v", got.GetApproval(), got.GetApprovalRefused())
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
				if events := w.audit.take(); len(events) != 0 {
					t.Errorf("the edge has recorded %v, which auth has", events)
				}
			})
		}
	}
}

// Where the client cannot ask its user, or only an operator can approve, the call
// is held until somebody has decided.
func TestACallIsHeldUntilItIsApproved(t *testing.T) {
	t.Parallel()
	const asks, none = `{"elicitation":{}}`, `{}`
	tests := []struct {
		name, tool, capabilities string
		headers                  map[string]string
		legacy, stateless        bool
		say                      authv1.ApprovalState
		want                     string
	}{
		{name: "an operator approves", tool: "approve_by_operator", capabilities: asks, say: given, want: "got {}"},
		{name: "an operator denies", tool: "approve_by_operator", capabilities: asks, say: denied, want: "A person has denied exactly this call."},
		{name: "a client that cannot ask", tool: "approve_by_user", capabilities: none, say: given, want: "got {}"},
		{name: "a client that can ask with pages only", tool: "approve_by_user", capabilities: `{"elicitation":{"url":{}}}`, say: given, want: "got {}"},
		{name: "an answer that is no stream", tool: "approve_by_operator", capabilities: asks, headers: map[string]string{"Accept": "application/json"}, say: given, want: "got {}"},
		{name: "a legacy client", tool: "approve_by_operator", capabilities: asks, legacy: true, say: given, want: "got {}"},
		{name: "a legacy client that cannot ask", tool: "approve_by_user", capabilities: none, legacy: true, say: given, want: "got {}"},
		{name: "a legacy client that does not listen", tool: "approve_by_user", capabilities: asks, legacy: true, headers: map[string]string{"Accept": "application/json"}, say: given, want: "got {}"},
		{name: "a legacy client without a session", tool: "approve_by_user", legacy: true, stateless: true, say: denied, want: "A person has denied exactly this call."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(o *edge.Options) { o.Config.StreamAfter = time.Millisecond })
			headers := map[string]string{"Accept": "application/json, text/event-stream"}
			for name, value := range tt.headers {
				headers[name] = value
			}
			q := request{params: `"name":"` + tt.tool + `"`, capabilities: tt.capabilities, headers: headers}
			switch {
			case tt.stateless:
				q.version = "2025-11-25"
			case tt.legacy:
				q = w.initialize(t, tt.capabilities).request(q)
			}
			stream := make(chan *events, 1)
			go func() { stream <- openEvents(t, q.http(t, w.url)) }()
			w.auth.approvals.held(t, 1)
			if n := len(w.executor.called); n != 0 {
				t.Fatal("the tool was called before anybody has approved")
			}
			var s *events
			if tt.headers == nil { // it begins before anybody has decided
				s = <-stream
			}
			w.auth.approvals.say(tt.say)
			if s == nil {
				s = <-stream
			}
			if got := s.message(t).text(t); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if kind := s.resp.Header.Get("Content-Type"); tt.headers == nil && kind != "text/event-stream" {
				t.Errorf("got %s, want a stream that was kept alive", kind)
			}
			if got, want := len(w.executor.called), strings.Count(tt.want, "got "); got != want {
				t.Errorf("the tool was called %d times, want %d", got, want)
			}
		})
	}
}

// What nobody decides in time can be called again, and says so.
func TestACallIsHeldForSoLong(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*edge.Config)
	}{
		{"nobody decides", func(c *edge.Config) { c.ApprovalWait = 20 * time.Millisecond }},
		{"calls are not held", func(c *edge.Config) { c.ApprovalWait = 0 }},
		{"no more calls are held", func(c *edge.Config) { c.MaxApprovalWaits = 0 }},
		{"no more calls are held of anybody", func(c *edge.Config) { c.MaxApprovalWaitsPerKey = 0 }},
	}
	for _, tt := range tests {
		for _, tool := range []string{"approve_by_user", "approve_by_operator"} {
			t.Run(tt.name+", "+tool, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, func(o *edge.Options) { tt.change(&o.Config) })
				q := request{params: `"name":"` + tool + `"`}
				a := w.send(t, q)
				r := a.decode(t).Result
				want := "A person has to approve payments. The call waits for approval a_01K00000000000000000000000, for 15 min more. " +
					"An operator can give it (sallyport approvals approve a_01K00000000000000000000000)"
				if tool == "approve_by_user" {
					want += ", or the user of a client that can ask him"
				}
				want += ". Call again with exactly the same arguments after that, not before. Decision d_01K00000000000000000000000."
				if len(r.Content) != 1 || r.Content[0].Text != want || !r.IsError {
					t.Errorf("got %s, want %q", a.body, want)
				}
				if d := r.Meta.Decision; d["verdict"] != "APPROVAL" || d["reason"] != "APPROVAL_REQUIRED" || d["approval_id"] != "a_01K00000000000000000000000" ||
					d["decision_id"] != "d_01K00000000000000000000000" || d["policy"] != "payments-approved" {
					t.Errorf("got %v", d)
				}
				if n := len(w.executor.called); n != 0 {
					t.Error("the tool was called")
				}
				w.auth.approvals.say(given)
				if a := w.send(t, q); a.reason(t) != "" || !strings.Contains(string(a.body), "got {}") {
					t.Errorf("once it is approved: got %s", a.body)
				}
				if a := w.send(t, q); a.reason(t) != "APPROVAL_REQUIRED" {
					t.Errorf("once more: got %s", a.body)
				}
			})
		}
	}
}

// Nobody is waited for on behalf of a client that is gone.
func TestWaitingEndsWithTheClient(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		legacy bool
		leave  func(t *testing.T, c *client, s func())
	}{
		{"the connection is lost", false, func(_ *testing.T, _ *client, lose func()) { lose() }},
		{"the connection of a session is lost", true, func(_ *testing.T, _ *client, lose func()) { lose() }},
		{"the call is cancelled", true, func(t *testing.T, c *client, _ func()) {
			c.post(t, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			q := request{params: `"name":"approve_by_operator"`}
			var c *client
			if tt.legacy {
				c = w.initialize(t, everything)
				q = c.request(q)
			}
			ctx, lose := context.WithCancel(t.Context())
			defer lose()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if resp, err := http.DefaultClient.Do(q.http(t, w.url).WithContext(ctx)); err == nil {
					_ = resp.Body.Close()
				}
			}()
			w.auth.approvals.held(t, 1)
			tt.leave(t, c, lose)
			w.auth.approvals.held(t, 0)
			<-ended
			w.auth.approvals.say(given)
			w.stop(t)
			if n := len(w.executor.called); n != 0 {
				t.Error("the tool was called for nobody")
			}
		})
	}
}

func TestWaitingEndsWithTheServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := make(chan answer, 1)
	r := request{params: `"name":"approve_by_operator"`}.http(t, w.url)
	go func() { got <- do(t, r) }()
	w.auth.approvals.held(t, 1)
	w.stop(t)
	if a := <-got; a.reason(t) != "APPROVAL_REQUIRED" || !strings.Contains(string(a.body), "waits for approval") {
		t.Errorf("got %s", a.body)
	}
}

func TestSoManyCallsAreHeld(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*edge.Config)
		other  bool // another principal's call is held
	}{
		{"of one principal", func(c *edge.Config) { c.MaxApprovalWaitsPerKey = 2 }, true},
		{"of all", func(c *edge.Config) { c.MaxApprovalWaits = 2 }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(o *edge.Options) { tt.change(&o.Config) })
			call := func(n int, token string) request {
				return request{params: fmt.Sprintf(`"name":"approve_by_operator","arguments":{"n":%d}`, n), token: token}
			}
			all := make(chan answer, 4)
			held := 0
			hold := func(q request) {
				held++
				r := q.http(t, w.url)
				go func() { all <- do(t, r) }()
				w.auth.approvals.held(t, held)
			}
			hold(call(1, "good"))
			hold(call(2, "good"))
			if a := w.send(t, call(3, "good")); a.reason(t) != "APPROVAL_REQUIRED" {
				t.Errorf("the third: got %s", a.body)
			}
			if tt.other {
				hold(call(3, "bobs"))
			} else if a := w.send(t, call(3, "bobs")); a.reason(t) != "APPROVAL_REQUIRED" {
				t.Errorf("of another: got %s", a.body)
			}
			w.auth.approvals.say(given)
			for range held {
				if a := <-all; a.reason(t) != "" {
					t.Errorf("held: got %s", a.body)
				}
			}
			hold1 := call(4, "good").http(t, w.url)
			go func() { all <- do(t, hold1) }()
			w.auth.approvals.held(t, 1) // there is room again
			w.auth.approvals.say(denied)
			<-all
		})
	}
}

// A tool may ask the user something, too. Each of its rounds is a call that has to
// be approved, and what was brought for the tool gets there.
func TestApprovalsAndRounds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	state := ""
	send := func(responses string) answer {
		t.Helper()
		q := request{params: `"name":"approve_asks","arguments":{"n":1}`, capabilities: `{"elicitation":{}}`}
		if state != "" {
			q.params += `,"requestState":"` + state + `","inputResponses":{` + responses + `}`
		}
		a := w.send(t, q)
		var r struct {
			Result struct{ RequestState string }
		}
		if err := json.Unmarshal(a.body, &r); err != nil {
			t.Fatal(err)
		}
		state = r.Result.RequestState
		return a
	}
	steps := []struct{ bring, want string }{
		{"", `"approval":{"method"`},
		{`"approval":{"action":"accept","content":{"approve":true}}`, `"user_name":{"method"`},
		{`"user_name":{"action":"accept","content":{"name":"Anna"}}`, `"approval":{"method"`},
		{`"approval":{"action":"accept","content":{"approve":true}}`, `answers {\"user_name\":{\"action\":\"accept\",\"content\":{\"name\":\"Anna\"}}} of`},
	}
	for i, s := range steps {
		if a := send(s.bring); !bytes.Contains(a.body, []byte(s.want)) {
			t.Fatalf("step %d: got %s, want %s", i, a.body, s.want)
		}
	}
	first := w.executor.called[0].GetRound()
	if first.GetInputResponses() != nil || first.GetState() != nil {
		t.Errorf("the tool was told the answer about the approval: %v", first)
	}
	if n := len(w.executor.called); n != 2 {
		t.Errorf("the tool was called %d times, want 2", n)
	}
}

// An answer for another principal, or at an edge with other keys, is none.
func TestAnswersAboutApprovalsAreSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := newWorld(t, func(o *edge.Options) { o.Keys = testKeys(t, 8) })
	state := ask(t, w, "approve_by_user")
	q := request{
		params: `"name":"approve_by_user","requestState":"` + state + `","inputResponses":{"approval":{"action":"accept","content":{"approve":true}}}`, capabilities: `{"elicitation":{}}`,
	}
	bobs := q
	bobs.token = "bobs"
	for name, got := range map[string]answer{"another principal": w.send(t, bobs), "an edge with other keys": other.send(t, q)} {
		if r := got.reason(t); r != "APPROVAL_REQUIRED" {
			t.Errorf("%s: got %s", name, got.body)
		}
	}
	if got := w.auth.last().GetApproval(); got != nil {
		t.Errorf("auth was told of approval %q by another principal", got)
	}
	if a := w.send(t, q); a.reason(t) != "" {
		t.Errorf("the client itself: got %s", a.body)
	}
	if n := len(w.executor.called); n != 1 {
		t.Errorf("the tool was called %d times, want 1", n)
	}
}

// A legacy user who does not answer in time has not refused: an operator can
// approve, and the call can be made again.
func TestAUserWhoDoesNotAnswerHasNotRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) { o.Config.AnswerTimeout = 20 * time.Millisecond })
	c := w.initialize(t, everything)
	stream := c.call(t, "approve_by_user")
	stream.message(t)
	if m := stream.message(t); m.Method != "notifications/cancelled" {
		t.Errorf("got %s, want the question withdrawn", m.Method)
	}
	if got := stream.message(t).text(t); !strings.Contains(got, "The call waits for approval a_") {
		t.Errorf("got %q", got)
	}
	if got := w.auth.last(); got.GetApproval() != nil {
		t.Errorf("auth was told of an answer: %q", got.GetApproval())
	}
	if events := w.audit.take(); len(events) != 0 {
		t.Errorf("the edge has recorded %v", events)
	}
}

func TestAnApprovalCannotBeWaitedForWithoutAuth(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.auth.approvals.lost = true
	a := w.send(t, request{params: `"name":"approve_by_operator"`})
	if a.status != http.StatusServiceUnavailable || a.reason(t) != "DEPENDENCY_UNAVAILABLE" {
		t.Errorf("got %d %s, want 503", a.status, a.body)
	}
	checkRecord(t, w, a, auditv1.Reason_REASON_DEPENDENCY_UNAVAILABLE)
}
