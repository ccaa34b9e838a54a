package edge_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

// told is one answer: its HTTP status, and the JSON-RPC code if it is an error
// of that kind.
type told struct{ status, code int }

// attack is what a hostile client writes to a connection of its own, all at
// once, and what has to come of it.
type attack struct {
	name  string
	bytes string
	want  []told
	// stays means that the connection is good for another request after that,
	// else it has to be closed.
	stays bool
}

// smuggled is in what must not be served. Its presence in an argument that
// reaches the executor fails the test.
const smuggled = "smuggled"

// calls returns all calls so far.
func (e *fakeExecutor) calls() []*executorv1.CallRequest {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.called)
}

// patience is how long an answer or the end of a connection may take, on a
// machine that is busy with other tests.
const patience = 10 * time.Second

// runAttacks carries out attacks on one edge, and then looks at what its peers were
// asked for.
func runAttacks(t *testing.T, w *world, attacks []attack) {
	t.Helper()
	// All at once: much of the time is spent waiting.
	got, fates := make([][]told, len(attacks)), make([]string, len(attacks))
	var all sync.WaitGroup
	for i, a := range attacks {
		conn := raw(t, w.edge.Addr(), "")
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		// The edge may answer before it has read all.
		all.Go(func() { _, _ = io.WriteString(conn, a.bytes) })
		all.Go(func() {
			defer func() { _ = conn.Close() }()
			got[i], fates[i] = a.carryOut(conn)
		})
	}
	all.Wait()
	for i, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			if !slices.Equal(a.want, got[i]) {
				t.Errorf("answers: got %v, want %v", got[i], a.want)
			}
			want := fateClosed
			if a.stays {
				want = fateStays
			}
			if fates[i] != want {
				t.Errorf("the connection: %s, want: %s", fates[i], want)
			}
		})
	}
	for _, call := range w.executor.calls() {
		if strings.Contains(string(call.GetArguments()), smuggled) {
			t.Errorf("a smuggled request was carried out: %s", call.GetArguments())
		}
	}
	if a := w.send(t, request{}); a.status != http.StatusOK {
		t.Errorf("after all that an honest client gets %d %s", a.status, a.body)
	}
}

// readTold reads one answer to a request that starts like this.
func readTold(r *bufio.Reader, request string) (told, error) {
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		return told{}, err
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return told{}, err
	}
	one := told{status: resp.StatusCode}
	var message struct{ Error struct{ Code int } }
	if json.Unmarshal(body, &message) == nil {
		one.code = message.Error.Code
	}
	return one, nil
}

const honestPing = "GET /ping HTTP/1.1\r\nHost: localhost\r\nX-API-Key: good\r\n\r\n"

// What may become of a connection.
const (
	fateClosed = "it is closed"
	fateStays  = "it serves the next request"
	fateOpen   = "it is left open, and nothing comes"
)

// carryOut reads the answers to an attack that was written to conn, and sees what
// becomes of the connection.
func (a attack) carryOut(conn net.Conn) (got []told, fate string) {
	r := bufio.NewReader(conn)
	for range a.want {
		one, err := readTold(r, a.bytes)
		if err != nil {
			return got, "error: " + err.Error()
		}
		got = append(got, one)
	}
	if a.stays {
		if _, err := io.WriteString(conn, honestPing); err != nil {
			return got, fateClosed
		}
	}
	one, err := readTold(r, honestPing)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return got, fateOpen
	case err != nil:
		return got, fateClosed
	case a.stays && one == told{200, 0}:
		return got, fateStays
	default:
		return append(got, one), "there is another answer"
	}
}

const (
	legacyHead = head + "MCP-Protocol-Version: 2025-11-25\r\n"
	pingBody   = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	theftBody  = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo","arguments":{"text":"` + smuggled + `"}}}`
)

// post is a legacy request with more headers and a body of any kind.
func post(headers, body string) string {
	return legacyHead + headers + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

// chunks is a legacy request whose body is written as it stands.
func chunks(headers, body string) string {
	return legacyHead + headers + "Transfer-Encoding: chunked\r\n\r\n" + body
}

// chunk is one chunk.
func chunk(text string) string {
	return strconv.FormatInt(int64(len(text)), 16) + "\r\n" + text + "\r\n"
}

// theft is a request that would be carried out if it were taken for one.
var theft = post("", theftBody)

// drip writes a byte now and then until it is stopped by an error.
func drip(conn net.Conn, text string, pause time.Duration) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for i := range len(text) {
		<-tick.C
		if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
			return
		}
	}
}

// A request that comes a byte at a time is given up in time, however busy the
// client looks.
func TestHostileSlowClients(t *testing.T) {
	t.Parallel()
	const bodyTimeout = 500 * time.Millisecond
	const headerTimeout, lingerTimeout = time.Second, time.Second
	tests := []struct {
		name   string
		at     string // once
		slowly string // a byte now and then
		pause  time.Duration
		within time.Duration
		line   bool // it may break off within a line
		want   []told
	}{
		{"a request line", "", "POST /mcp HTTP/1.1\r\n", 100 * time.Millisecond, headerTimeout, true, nil},
		{"headers", head, "X-Slow: " + strings.Repeat("x", 100), 100 * time.Millisecond, headerTimeout, true, nil},
		{"headers without end", head, strings.Repeat("x: y\r\n", 100), 50 * time.Millisecond, headerTimeout, true, nil},
		{"nothing but line breaks", "", strings.Repeat("\r\n", 100), 100 * time.Millisecond, headerTimeout, true, nil},
		{"the next headers on a connection", honestPing, head + strings.Repeat("x", 100), 50 * time.Millisecond, headerTimeout, true, []told{{200, 0}}},
		{"a body", legacyHead + "Content-Length: 40\r\n\r\n", pingBody, 20 * time.Millisecond, bodyTimeout, false, []told{{408, -31408}}},
		{
			"chunks of one byte", legacyHead + "Transfer-Encoding: chunked\r\n\r\n", strings.Repeat(chunk("x"), 50),
			20 * time.Millisecond, bodyTimeout, false,
			[]told{{408, -31408}},
		},
		{
			"a trailer", chunks("", chunk(pingBody)), "0\r\n" + strings.Repeat("x: y\r\n", 50),
			10 * time.Millisecond, bodyTimeout, false,
			[]told{{400, -32700}},
		},
		{
			"a body that no credential pays for", strings.Replace(legacyHead, "good", "bad", 1) + "Content-Length: 400\r\n\r\n",
			strings.Repeat(" ", 100), 50 * time.Millisecond, lingerTimeout, false,
			[]told{{401, -31401}},
		},
		{
			"a body that nobody asked for", honestPing[:len(honestPing)-2] + "Transfer-Encoding: chunked\r\n\r\n",
			strings.Repeat(" ", 100), 50 * time.Millisecond, lingerTimeout, false,
			[]told{{200, 0}},
		},
		{
			"a body after an expectation that nobody knows", legacyHead + "Expect: the unexpected\r\nContent-Length: 400\r\n\r\n",
			strings.Repeat(" ", 200), 50 * time.Millisecond, headerTimeout + bodyTimeout, false,
			[]told{{417, 0}},
		},
	}
	w := newWorld(t, func(o *edge.Options) {
		o.Config.HeaderTimeout, o.Config.BodyTimeout = headerTimeout, bodyTimeout
	})
	// All at once: the time is spent waiting.
	fates := make([]fate, len(tests))
	var all sync.WaitGroup
	for i, tt := range tests {
		conn := raw(t, w.edge.Addr(), tt.at)
		all.Go(func() { drip(conn, tt.slowly, tt.pause) })
		all.Go(func() { fates[i] = awaitFate(conn, tt.at) })
	}
	all.Wait()
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, took := fates[i].told, fates[i].took
			if fates[i].open {
				t.Error("the connection stays open, want it closed")
			}
			if n := len(tt.want); tt.line && len(got) == n+1 && got[n] == (told{400, 0}) {
				got = got[:n] // net/http says so where a line breaks off
			}
			if !slices.Equal(tt.want, got) {
				t.Errorf("answers: got %v, want %v", got, tt.want)
			}
			if took > tt.within+patience {
				t.Errorf("given up after %v, want about %v", took, tt.within)
			}
		})
	}
}

// fate is what becomes of a connection.
type fate struct {
	told []told
	open bool // even when nobody waits any longer
	took time.Duration
}

// awaitFate reads from a connection until it ends, and closes it.
func awaitFate(conn net.Conn, request string) (f fate) {
	begin := time.Now()
	r := bufio.NewReader(conn)
	one, err := readTold(r, request)
	for ; err == nil; one, err = readTold(r, request) {
		f.told = append(f.told, one)
	}
	f.open, f.took = errors.Is(err, os.ErrDeadlineExceeded), time.Since(begin)
	_ = conn.Close()
	return f
}
