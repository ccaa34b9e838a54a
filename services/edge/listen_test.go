package edge_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/edge"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/session"
)

const (
	toolsChanged     = "notifications/tools/list_changed"
	promptsChanged   = "notifications/prompts/list_changed"
	resourcesChanged = "notifications/resources/list_changed"
	resourceUpdated  = "notifications/resources/updated"
)

// listen opens a modern stream and takes its acknowledgement.
func (w *world) listen(t testing.TB, filter string, token ...string) (e *events, agreed string) {
	t.Helper()
	q := request{
		method: "subscriptions/listen", params: `"notifications":` + filter,
		headers: map[string]string{"Accept": "application/json, text/event-stream"},
	}
	if len(token) > 0 {
		q.token = token[0]
	}
	e = openEvents(t, q.http(t, w.url))
	if e.resp.StatusCode != http.StatusOK {
		return e, ""
	}
	m := e.message(t)
	if m.Method != "notifications/subscriptions/acknowledged" {
		t.Fatalf("got %s first, want the acknowledgement", m.Method)
	}
	return e, string(m.Params)
}

// listening waits until the edge has n streams.
func (w *world) listening(t testing.TB, n int) {
	t.Helper()
	until(t, fmt.Sprintf("there are %d streams", n), func() bool { return w.edge.Listening() == n })
}

const subscription = `"_meta":{"io.modelcontextprotocol/subscriptionId":1}`

func TestListenTellsWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t).watched(t)
	all, agreed := w.listen(t, `{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true,`+
		`"resourceSubscriptions":["test://b","secret://x","test://a","test://b"]}`)
	want := `{` + subscription + `,"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true,` +
		`"resourceSubscriptions":["test://b","test://a"]}}`
	if agreed != want {
		t.Errorf("agreed on %s, want %s", agreed, want)
	}
	prompts, agreed := w.listen(t, `{"promptsListChanged":true,"toolsListChanged":false}`)
	if want := `{` + subscription + `,"notifications":{"promptsListChanged":true}}`; agreed != want {
		t.Errorf("agreed on %s, want %s", agreed, want)
	}

	w.change(t, "v2", tool("new", toolv1.Risk_RISK_READ))
	if m := all.message(t); m.Method != toolsChanged || string(m.Params) != `{`+subscription+`}` {
		t.Errorf("got %s %s, want the tools changed", m.Method, m.Params)
	}
	w.tell(t, &executorv1.WatchResponse{UpdatedUris: []string{"test://c", "test://a"}})
	if m := all.message(t); m.Method != resourceUpdated || string(m.Params) != `{"uri":"test://a",`+subscription+`}` {
		t.Errorf("got %s %s, want one resource updated", m.Method, m.Params)
	}
	w.tell(t, &executorv1.WatchResponse{PromptsChanged: true, ResourcesChanged: true})
	if diff := cmp.Diff([]string{promptsChanged, resourcesChanged}, all.methods(t, 2)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// All before that was not for this one.
	if m := prompts.message(t); m.Method != promptsChanged {
		t.Errorf("got %s, want only what was asked for", m.Method)
	}
}

// A list is another for a caller only if it is for this caller.
func TestListenTellsOfToolsThatTheCallerMayCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t).watched(t)
	w.auth.hide("hidden")
	stream, _ := w.listen(t, `{"toolsListChanged":true,"promptsListChanged":true}`)

	w.change(t, "v2", tool("hidden", toolv1.Risk_RISK_READ))
	w.tell(t, &executorv1.WatchResponse{PromptsChanged: true})
	if m := stream.message(t); m.Method != promptsChanged {
		t.Errorf("got %s, want nothing of a tool that is hidden", m.Method)
	}
	// Policies allow it from now on; those that permit nothing else go unnoticed.
	w.auth.hide()
	changed := *w.policies.changed.Load()
	changed("p1")
	if diff := cmp.Diff([]string{promptsChanged, toolsChanged}, stream.methods(t, 2)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Each process of auth tells the version when it starts.
	changed("p1")
	w.change(t, "v3", tool("hidden", toolv1.Risk_RISK_WRITE))
	if m := stream.message(t); m.Method != toolsChanged {
		t.Errorf("got %s, want only that the tool has another risk", m.Method)
	}
}

func TestListenTellsOfResourcesThatTheCallerMayReadNow(t *testing.T) {
	t.Parallel()
	w := newWorld(t).watched(t)
	stream, _ := w.listen(t, `{"resourceSubscriptions":["test://a","test://b"]}`)
	w.auth.hide("test://a")
	w.tell(t, &executorv1.WatchResponse{UpdatedUris: []string{"test://a", "test://b"}})
	if m := stream.message(t); !strings.Contains(string(m.Params), "test://b") {
		t.Errorf("got %s %s, want the one that may be read", m.Method, m.Params)
	}
}

// While the executor could not be watched, anything may have changed.
func TestListenAfterTheWatchBroke(t *testing.T) {
	t.Parallel()
	w := newWorld(t).watched(t)
	stream, _ := w.listen(t, `{"toolsListChanged":true,"promptsListChanged":true,"resourceSubscriptions":["test://a"]}`)
	w.executor.mu.Lock()
	w.executor.version, w.executor.more = "v1.1", []*executorv1.Tool{tool("new", toolv1.Risk_RISK_READ)}
	w.executor.mu.Unlock()
	w.executor.news <- nil
	if diff := cmp.Diff([]string{promptsChanged, resourceUpdated, toolsChanged}, stream.methods(t, 3)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestListenEnds(t *testing.T) {
	t.Parallel()
	const result = `{"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"sallyport","title":"Sallyport","version":"1.2.3"},` +
		`"io.modelcontextprotocol/subscriptionId":1}}`
	for name, end := range map[string]func(*testing.T, *world){
		"when the server stops": func(t *testing.T, w *world) { w.stop(t) },
		"when the credential is revoked": func(_ *testing.T, w *world) {
			w.auth.revoke()
			(*w.notices.changed.Load())()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			stream, _ := w.listen(t, `{"toolsListChanged":true}`)
			legacy := w.initialize(t, `{}`).listen(t)
			end(t, w)
			if m := stream.message(t); string(m.Result) != result || string(m.ID) != "1" {
				t.Errorf("got %s %s %s, want the result of the request", m.Method, m.ID, m.Result)
			}
			if rest := stream.ended(t); len(rest) > 0 {
				t.Errorf("got %v after the result", rest)
			}
			if rest := legacy.ended(t); len(rest) > 0 {
				t.Errorf("got %v at the end of a legacy stream", rest)
			}
		})
	}
}

// A notice about the credential of somebody else ends nothing.
func TestListenGoesOnWhileTheCredentialIsGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t).watched(t)
	stream, _ := w.listen(t, `{"promptsListChanged":true}`)
	(*w.notices.changed.Load())()
	w.tell(t, &executorv1.WatchResponse{PromptsChanged: true})
	if m := stream.message(t); m.Method != promptsChanged {
		t.Errorf("got %s, want the stream to go on", m.Method)
	}
}

func TestStreamsAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) { o.Config.MaxStreamsPerKey, o.Config.MaxStreams = 2, 3 })
	c := w.initialize(t, `{}`)
	first, _ := w.listen(t, `{"toolsListChanged":true}`)
	c.listen(t)
	third, _ := w.listen(t, `{"toolsListChanged":true}`)
	if third.resp.StatusCode != http.StatusTooManyRequests || third.resp.Header.Get("Retry-After") == "" {
		t.Errorf("the third of one principal: got %d, want 429 and when to try again", third.resp.StatusCode)
	}
	if get := c.listen(t); get.resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the third of one principal, by GET: got %d, want 429", get.resp.StatusCode)
	}
	if bobs, _ := w.listen(t, `{"toolsListChanged":true}`, "bobs"); bobs.resp.StatusCode != http.StatusOK {
		t.Errorf("the first of another principal: got %d, want 200", bobs.resp.StatusCode)
	}
	if bobs, _ := w.listen(t, `{"toolsListChanged":true}`, "bobs"); bobs.resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the fourth of all: got %d, want 429", bobs.resp.StatusCode)
	}
	first.close()
	w.listening(t, 2)
	if again, _ := w.listen(t, `{"toolsListChanged":true}`); again.resp.StatusCode != http.StatusOK {
		t.Errorf("after one was closed: got %d, want 200", again.resp.StatusCode)
	}
}

func TestASessionsStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t).watched(t)
	c := w.initialize(t, `{}`)
	stream := c.listen(t)
	if got := stream.resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("got type %q", got)
	}
	for _, uri := range []string{"test://a", "test://b", "test://c"} {
		if a := c.send(t, request{method: "resources/subscribe", params: `"uri":"` + uri + `"`}); a.decode(t).Error.Code != 0 {
			t.Fatalf("subscribe: got %s", a.body)
		}
	}
	c.send(t, request{method: "resources/unsubscribe", params: `"uri":"test://b"`})
	w.auth.hide("test://c")
	w.tell(t, &executorv1.WatchResponse{UpdatedUris: []string{"test://b", "test://c", "test://d", "test://a"}})
	if m := stream.message(t); m.Method != resourceUpdated || string(m.Params) != `{"uri":"test://a"}` {
		t.Errorf("got %s %s, want the one that is subscribed to and may be read", m.Method, m.Params)
	}
	w.change(t, "v2", tool("new", toolv1.Risk_RISK_READ))
	if m := stream.message(t); m.Method != toolsChanged || string(m.Params) != `{}` {
		t.Errorf("got %s %s, want the tools changed", m.Method, m.Params)
	}
	w.tell(t, &executorv1.WatchResponse{PromptsChanged: true, ResourcesChanged: true})
	if diff := cmp.Diff([]string{promptsChanged, resourcesChanged}, stream.methods(t, 2)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	found := false
	for _, check := range w.quota.checked {
		a := check.GetSubject().GetAttributes()
		found = found || a["action"] == "GET" && a["context"] == c.id(t)
	}
	if !found {
		t.Error("the stream was not charged as GET in the context of the session")
	}
}

// No message goes out on two streams of one client: it is for the newest, and
// when that is gone, for the one before.
func TestTheNewestStreamOfASessionHears(t *testing.T) {
	t.Parallel()
	w := newWorld(t).watched(t)
	c := w.initialize(t, `{}`)
	older, newer := c.listen(t), c.listen(t)
	w.tell(t, &executorv1.WatchResponse{PromptsChanged: true})
	if m := newer.message(t); m.Method != promptsChanged {
		t.Errorf("the newer: got %s", m.Method)
	}
	newer.close()
	w.listening(t, 1)
	w.tell(t, &executorv1.WatchResponse{ResourcesChanged: true})
	if m := older.message(t); m.Method != resourcesChanged {
		t.Errorf("the older: got %s, want only what came later", m.Method)
	}
}

// A client that comes back may have missed something.
func TestAStreamThatIsResumed(t *testing.T) {
	t.Parallel()
	w := newWorld(t).watched(t)
	c := w.initialize(t, `{}`)
	c.send(t, request{method: "resources/subscribe", params: `"uri":"test://a"`})
	stream := c.listen(t, "Last-Event-ID", "ABC")
	want := []string{promptsChanged, resourcesChanged, resourceUpdated, toolsChanged}
	if diff := cmp.Diff(want, stream.methods(t, 4)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestASessionsStreamEndsWithIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := &client{w: w, version: "2025-11-25", token: "good"}
	c.session = testMint(t, 7).Make("key:anna", session.Session{Version: "2025-11-25", Expires: time.Now().Add(2 * time.Second)})
	c.listen(t).ended(t)
	if a := c.send(t, request{method: "ping"}); a.status != http.StatusNotFound {
		t.Errorf("after that: got %d, want 404", a.status)
	}
}

func TestAThousandListenersAndASlowOne(t *testing.T) {
	t.Parallel()
	const many = 1000
	w := newWorld(t, func(o *edge.Options) {
		o.Config.MaxConnectionsPerAddress, o.Config.MaxStreamsPerKey = 2*many, 2*many
		o.Config.KeepAlive, o.Config.WriteTimeout = 2*time.Second, 4*time.Second
	}).watched(t)

	// The slow one never reads, and hears of a lot.
	uris := make([]string, 256)
	for i := range uris {
		uris[i] = fmt.Sprintf("test://%03d/%s", i, strings.Repeat("x", 480))
	}
	var slow net.Conn
	dial := func(filter string) net.Conn {
		body := `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
			`"io.modelcontextprotocol/clientCapabilities":{}},"notifications":` + filter + `}}`
		head := "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: text/event-stream\r\nAuthorization: Bearer good\r\n" +
			"MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: subscriptions/listen\r\n"
		conn, err := net.Dial("tcp", w.edge.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", head, len(body), body); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	slow = dial(`{"toolsListChanged":true,"resourceSubscriptions":["` + strings.Join(uris, `","`) + `"]}`)
	if err := slow.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	conns := make([]net.Conn, many)
	for i := range conns {
		conns[i] = dial(`{"toolsListChanged":true}`)
	}
	reads := func(conn net.Conn, text string) error {
		if err := conn.SetReadDeadline(time.Now().Add(2 * patience)); err != nil {
			return err
		}
		var got bytes.Buffer
		one := make([]byte, 512)
		for !strings.Contains(got.String(), text) {
			n, err := conn.Read(one)
			got.Write(one[:n])
			if err != nil {
				return fmt.Errorf("after %d bytes: %w", got.Len(), err)
			}
		}
		return nil
	}
	every := func(text string) {
		var wait sync.WaitGroup
		for _, conn := range conns {
			wait.Go(func() {
				if err := reads(conn, text); err != nil {
					t.Errorf("no %s: %v", text, err)
				}
			})
		}
		wait.Wait()
	}
	every("acknowledged")
	w.change(t, "v2", tool("new", toolv1.Risk_RISK_READ))
	every(toolsChanged)

	// The slow one is dropped when it does not read for too long.
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		defer func() { _ = slow.Close() }()
		for w.edge.Listening() > many {
			select {
			case w.executor.news <- &executorv1.WatchResponse{ToolsVersion: "v2", HasResources: true, HasPrompts: true, UpdatedUris: uris}:
			case <-t.Context().Done():
				return
			}
		}
	}()
	<-gone
	w.change(t, "v3")
	every(toolsChanged)
	if n, err := io.Copy(io.Discard, slow); err == nil && n == 0 {
		t.Error("the slow one heard nothing at all")
	}
}
