package edge_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	edgev1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/edge/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/seal"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/session"
)

// testKeys are the keys of edges in tests, the same for the same bytes.
func testKeys(t testing.TB, fill ...byte) *seal.Keys {
	t.Helper()
	var files []string
	for _, b := range fill {
		file := filepath.Join(t.TempDir(), "edge.key")
		if err := os.WriteFile(file, bytes.Repeat([]byte{b}, 32), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	keys, err := seal.Load(files, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// testMint makes session ids as edges with these keys do.
func testMint(t testing.TB, fill ...byte) *session.Mint {
	t.Helper()
	m, err := session.New(testKeys(t, fill...).Derive("session-id"), "2025-11-25", "2025-06-18")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// fakePolicies tell when the test calls changed.
type fakePolicies struct{ changed atomic.Pointer[func(string)] }

func (p *fakePolicies) Listen(ctx context.Context, changed func(string)) {
	p.changed.Store(&changed)
	<-ctx.Done()
}

// fakeSessions keep what was set in memory.
type fakeSessions struct {
	mu   sync.Mutex
	down bool
	all  map[string]*edgev1.SessionState
}

func (s *fakeSessions) Get(_ context.Context, id string) (*edgev1.SessionState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errDown
	}
	return proto.CloneOf(s.all[id]), nil
}

func (s *fakeSessions) Update(_ context.Context, id string, change func(*edgev1.SessionState) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return errDown
	}
	state := &edgev1.SessionState{}
	proto.Merge(state, s.all[id])
	if err := change(state); err != nil {
		return err
	}
	if s.all == nil {
		s.all = make(map[string]*edgev1.SessionState)
	}
	s.all[id] = state
	return nil
}

func bob() *authv1.Principal {
	return &authv1.Principal{Id: "key:bob", Name: "Bob", CredentialId: "8Yl3bcdefg", Tenant: "default"}
}

func (a *fakeAuth) isRevoked() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.revoked
}

func (a *fakeAuth) isHidden(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hidden[name]
}

// hide makes tools and resources such that nobody may know of them.
func (a *fakeAuth) hide(names ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hidden = make(map[string]bool)
	for _, name := range names {
		a.hidden[name] = true
	}
}

func (a *fakeAuth) revoke() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.revoked = true
}

// subscribe allows all but resources of the scheme secret, and all but one client.
func (a *fakeAuth) subscribe(req *authv1.AuthorizeRequest) *authv1.AuthorizeResponse {
	d := &authv1.Decision{Id: "d_01K00000000000000000000001", Verdict: auditv1.Verdict_VERDICT_ALLOW}
	if strings.HasPrefix(req.GetTarget(), "secret:") || req.GetOrigin().GetClient() == "eavesdropper/1" {
		d.Verdict, d.Reason, d.Message = auditv1.Verdict_VERDICT_DENY, auditv1.Reason_REASON_POLICY_DENIED, "no policy permits it"
	}
	return &authv1.AuthorizeResponse{Decision: d, Principal: anna(), Grant: []byte("grant")}
}

// watched waits until the edge knows what the executor has besides tools.
func (w *world) watched(t testing.TB) *world {
	t.Helper()
	until(t, "the edge has heard the executor", func() bool {
		a := w.send(t, request{version: "2025-11-25", method: "resources/unsubscribe", params: `"uri":"test://x"`})
		return a.status == http.StatusOK
	})
	return w
}

// change makes the catalogue another one, with one more tool, and tells so.
func (w *world) change(t testing.TB, version string, more ...*executorv1.Tool) {
	t.Helper()
	w.executor.mu.Lock()
	w.executor.version, w.executor.more = version, more
	w.executor.mu.Unlock()
	w.tell(t, &executorv1.WatchResponse{ToolsVersion: version})
}

// tell has the executor say something. What it has is added.
func (w *world) tell(t testing.TB, news *executorv1.WatchResponse) {
	t.Helper()
	w.executor.mu.Lock()
	news.ToolsVersion = or(w.executor.version, "v1")
	w.executor.mu.Unlock()
	news.HasResources, news.HasPrompts, news.HasCompletion = true, true, true
	select {
	case w.executor.news <- news:
	case <-time.After(patience):
		t.Fatal("the edge does not watch the executor")
	}
}

// until waits for what happens without telling.
func until(t testing.TB, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !happened(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("it does not happen that %s", what)
		}
	}
}

// asking is what the tools do that ask the client, or tell it something.
func (e *fakeExecutor) asking(tool string) func(*providerv1.Round, talkStream) error {
	ask := func(stream talkStream, requests, state string) error {
		return stream.Send(&executorv1.CallResponse{Event: &executorv1.CallResponse_InputRequired{InputRequired: &providerv1.InputRequired{
			InputRequests: []byte(requests), State: []byte(state),
		}}})
	}
	say := func(stream talkStream, text string) error {
		return stream.Send(&executorv1.CallResponse{Event: &executorv1.CallResponse_Result{Result: &executorv1.Result{Result: &providerv1.ToolResult{
			Content: []*providerv1.Content{{Kind: &providerv1.Content_Text{Text: text}}},
		}}}})
	}
	told := func(r *providerv1.Round) string {
		return fmt.Sprintf("answers %s state %s capabilities %s", r.GetInputResponses(), r.GetState(), r.GetClientCapabilities())
	}
	once := func(requests string) func(*providerv1.Round, talkStream) error {
		return func(r *providerv1.Round, stream talkStream) error {
			if r.GetInputResponses() == nil {
				return ask(stream, requests, "S1")
			}
			return say(stream, told(r))
		}
	}
	const form = `{"method":"elicitation/create","params":{"mode":"form","message":"Who?","requestedSchema":{"type":"object","properties":{"name":{"type":"string"}}}}}`
	const page = `{"method":"elicitation/create","params":{"mode":"url","message":"Go","url":"https://example.com/x"}}`
	const model = `{"method":"sampling/createMessage","params":{"messages":[{"role":"user","content":{"type":"text","text":"Hi"}}],"maxTokens":10}}`
	switch tool {
	case "asks_form":
		return once(`{"who":` + form + `}`)
	case "asks_page":
		return once(`{"go":` + page + `}`)
	case "asks_all":
		return once(`{"who":` + form + `,"model":` + model + `,"folders":{"method":"roots/list"}}`)
	case "asks_nonsense":
		return once(`{"x":{"method":"tools/call","params":{}}}`)
	case "asks_again":
		return func(r *providerv1.Round, stream talkStream) error {
			switch string(r.GetState()) {
			case "":
				return ask(stream, `{"first":`+form+`}`, "one")
			case "one":
				return ask(stream, `{"second":`+form+`}`, "two")
			}
			return say(stream, told(r))
		}
	case "asks_forever":
		return func(_ *providerv1.Round, stream talkStream) error { return ask(stream, `{}`, "again") }
	case "asks_nothing":
		return func(r *providerv1.Round, stream talkStream) error {
			if r.GetState() == nil {
				return ask(stream, ``, "S2")
			}
			return say(stream, told(r))
		}
	case "needs_roots":
		return func(_ *providerv1.Round, stream talkStream) error {
			return stream.Send(&executorv1.CallResponse{Event: &executorv1.CallResponse_InputRequired{InputRequired: &providerv1.InputRequired{
				RequiredCapabilities: []byte(`{"roots":{},"com.example/holograms":{}}`),
			}}})
		}
	case "notes":
		return func(_ *providerv1.Round, stream talkStream) error {
			for _, n := range []*providerv1.Notice{
				{Level: "debug", Data: []byte(`"details"`)},
				{Level: "info", Logger: "steps", Data: []byte(`{"step":1}`)},
				{Level: "error", Data: []byte(`}} not JSON`)},
				{Level: "loud", Data: []byte(`"no such level"`)},
				{Level: "error", Data: []byte("[1,\n2]")},
			} {
				if err := stream.Send(&executorv1.CallResponse{Event: &executorv1.CallResponse_Notice{Notice: n}}); err != nil {
					return err
				}
			}
			return say(stream, "done")
		}
	}
	return nil
}

// everything is what a client declares that can be asked for anything.
const everything = `{"elicitation":{"form":{},"url":{}},"sampling":{"tools":{}},"roots":{"listChanged":true}}`

// client is a legacy client in a session.
type client struct {
	w       *world
	session string
	version string
	token   string
}

// initialize begins a session.
func (w *world) initialize(t testing.TB, capabilities string, change ...func(*client)) *client {
	t.Helper()
	c := &client{w: w, version: "2025-11-25", token: "good"}
	for _, f := range change {
		f(c)
	}
	a := w.send(t, request{
		token: c.token, version: c.version, method: "initialize", headers: map[string]string{"MCP-Protocol-Version": ""},
		params: `"protocolVersion":"` + c.version + `","capabilities":` + capabilities + `,"clientInfo":{"name":"old","version":"1"}`,
	})
	c.session = a.header.Get("Mcp-Session-Id")
	if a.status != http.StatusOK || c.session == "" {
		t.Fatalf("initialize: got %d %s with session %q", a.status, a.body, c.session)
	}
	return c
}

// id is the part of the session's id that others may see.
func (c *client) id(t testing.TB) string {
	t.Helper()
	s, ok := testMint(t, 7).Open(c.session, "key:anna", time.Now())
	if !ok {
		t.Fatalf("the session %q is not one of this edge", c.session)
	}
	return s.ID
}

// at is the same client at another edge.
func (c *client) at(w *world) *client {
	other := *c
	other.w = w
	return &other
}

// request is one that the client would send in its session.
func (c *client) request(q request) request {
	headers := map[string]string{"Mcp-Session-Id": c.session, "Accept": "application/json, text/event-stream"}
	for name, value := range q.headers {
		headers[name] = value
	}
	q.headers, q.version, q.token = headers, or(q.version, c.version), or(q.token, c.token)
	return q
}

func (c *client) send(t testing.TB, q request) answer {
	t.Helper()
	return c.w.send(t, c.request(q))
}

// post sends a message whole.
func (c *client) post(t testing.TB, body string) answer {
	t.Helper()
	return c.send(t, request{body: body})
}

// call calls a tool and returns the answer as a stream.
func (c *client) call(t testing.TB, tool string) *events {
	t.Helper()
	return openEvents(t, c.request(request{params: `"name":"` + tool + `"`}).http(t, c.w.url))
}

// listen opens the session's stream, and waits until the edge says it is there.
func (c *client) listen(t testing.TB, headers ...string) *events {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.w.url+"/mcp", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	r.Header.Set("MCP-Protocol-Version", c.version)
	r.Header.Set("Mcp-Session-Id", c.session)
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	e := openEvents(t, r)
	if e.resp.StatusCode == http.StatusOK {
		if first := e.next(t); first.id == "" || first.data != "" {
			t.Fatalf("got %+v first, want an event with an id and no data", first)
		}
	}
	return e
}

// heard is one event of a stream.
type heard struct{ id, data string }

// message is what an event holds.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

func (e heard) message(t testing.TB) message {
	t.Helper()
	var m message
	if err := json.Unmarshal([]byte(e.data), &m); err != nil {
		t.Fatalf("an event is not JSON: %v: %q", err, e.data)
	}
	return m
}

// events is an answer that is a stream, read as it comes.
type events struct {
	resp  *http.Response
	came  chan heard // closed at the end
	close func()
}

func openEvents(t testing.TB, r *http.Request) *events {
	t.Helper()
	ctx, cancel := context.WithCancel(r.Context())
	resp, err := http.DefaultClient.Do(r.WithContext(ctx))
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	e := &events{resp: resp, came: make(chan heard, 1024)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(e.came)
		read(resp.Body, e.came)
	}()
	e.close = sync.OnceFunc(func() {
		cancel()
		<-done
		_ = resp.Body.Close()
	})
	t.Cleanup(e.close)
	return e
}

// read takes a stream apart as a browser would, or takes a body of JSON for one
// event.
func read(body io.Reader, came chan<- heard) {
	lines := bufio.NewReader(body)
	var e heard
	has := false
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			if strings.HasPrefix(line, "{") {
				came <- heard{data: line}
			}
			return
		}
		line = strings.TrimRight(line, "\r\n")
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if has {
				came <- e
			}
			e, has = heard{}, false
		case field == "data":
			e.data, has = e.data+value, true
		case field == "id":
			e.id, has = value, true
		}
	}
}

// next waits for an event.
func (e *events) next(t testing.TB) heard {
	t.Helper()
	select {
	case got, ok := <-e.came:
		if !ok {
			t.Fatal("the stream has ended, want one more event")
		}
		return got
	case <-time.After(patience):
		t.Fatal("no event comes")
	}
	return heard{}
}

// message waits for the next message.
func (e *events) message(t testing.TB) message {
	t.Helper()
	return e.next(t).message(t)
}

// ended waits for the end of the stream and returns the methods of what came
// before it.
func (e *events) ended(t testing.TB) (methods []string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case got, ok := <-e.came:
			if !ok {
				return methods
			}
			methods = append(methods, got.message(t).Method)
		case <-deadline:
			t.Fatal("the stream does not end")
		}
	}
}

// methods waits for n messages and returns their methods, sorted.
func (e *events) methods(t testing.TB, n int) []string {
	t.Helper()
	var all []string
	for range n {
		all = append(all, e.message(t).Method)
	}
	slices.Sort(all)
	return all
}
