package edge_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/sallyport-mcp/sallyport/services/edge"
)

// Requests over HTTP/2 that are not what they should be. Stream 1 is the attack;
// where the connection stays, stream 3 is an honest request.
func TestHostileHTTP2Requests(t *testing.T) {
	t.Parallel()
	request := func(end bool, pairs ...string) func(*h2) { return func(c *h2) { c.open(end, pairs...) } }
	withBody := func(pairs []string, bodies ...string) func(*h2) {
		return func(c *h2) {
			id := c.open(false, pairs...)
			for i, b := range bodies {
				_ = c.framer.WriteData(id, i == len(bodies)-1, []byte(b))
			}
		}
	}
	tests := []struct {
		name   string
		attack func(*h2)
		want   string
		stays  bool
	}{
		{"an honest ping", request(true, ping2()...), "1: 200", true},
		{"an honest request", withBody(post2(), pingBody), "1: 200", true},
		{"a body in many frames", withBody(post2(), strings.Split(pingBody, "")...), "1: 200", true},
		{"empty frames before the body", withBody(post2(), append(make([]string, 1000), pingBody)...), "1: 200", true},
		{"a body that is too large", withBody(post2(), slices.Repeat([]string{strings.Repeat(" ", 16<<10)}, 17)...), "1: 413", true},
		{"a body that was announced longer", withBody(post2("content-length", "400"), pingBody), "1: 400", true},
		{"a body that was announced shorter", withBody(post2("content-length", "4"), pingBody), "1: PROTOCOL_ERROR", true},
		{"two lengths, of which frames make no use", withBody(post2("content-length", "40", "content-length", "4"), pingBody), "1: 200", true},
		{"a length with a sign", withBody(post2("content-length", "+40"), pingBody), "1: PROTOCOL_ERROR", true},
		{"chunked", withBody(post2("transfer-encoding", "chunked"), chunk(pingBody)+"0\r\n\r\n"), "1: 400", true},
		{"a header for the connection", request(true, ping2("connection", "close")...), "1: 400", true},
		{"an upgrade", request(true, ping2("upgrade", "websocket")...), "1: 400", true},
		{"a name in capitals", request(true, ping2("X-Api-Key", "good")...), "1: PROTOCOL_ERROR", true},
		{"a line break in a value", request(true, ping2("x-a", "b\r\nAuthorization: Bearer good")...), "1: PROTOCOL_ERROR", true},
		{"a line feed in a value", request(true, ping2("x-a", "b\nc")...), "1: PROTOCOL_ERROR", true},
		{"a NUL in a value", request(true, ping2("x-a", "b\x00c")...), "1: PROTOCOL_ERROR", true},
		{"a line break in a name", request(true, ping2("x-a\r\nx-b", "c")...), "1: PROTOCOL_ERROR", true},
		{"a colon in a name", request(true, ping2("x-a: b", "c")...), "1: PROTOCOL_ERROR", true},
		{"a line break in the method", request(true, replace(ping2(), ":method", "GET /mcp HTTP/1.1\r\nx-a:")...), "1: PROTOCOL_ERROR", true},
		{"a space in the method", request(true, replace(ping2(), ":method", "GET /mcp")...), "1: 405", true},
		{"a line break in the path", request(true, replace(ping2(), ":path", "/ping HTTP/1.1\r\nx-a: b")...), "1: PROTOCOL_ERROR", true},
		{"a path without a slash", request(true, replace(ping2(), ":path", "ping")...), "1: PROTOCOL_ERROR", true},
		{"a whole URL as path", request(true, replace(ping2(), ":path", "https://evil.example.com/ping")...), "1: 403", true},
		{"everything", request(true, replace(replace(ping2(), ":path", "*"), ":method", "OPTIONS")...), "1: 404", true},
		{"no path", request(true, ":method", "GET", ":scheme", "https", ":authority", "localhost"), "1: PROTOCOL_ERROR", true},
		{"two paths", request(true, append([]string{":path", "/mcp"}, ping2()...)...), "1: PROTOCOL_ERROR", true},
		{"a pseudo header that nobody knows", request(true, append([]string{":evil", "x"}, ping2()...)...), "1: PROTOCOL_ERROR", true},
		{"a pseudo header after the others", request(true, ping2(":authority", "evil.example.com")...), "1: PROTOCOL_ERROR", true},
		{"another scheme", request(true, replace(ping2(), ":scheme", "ftp")...), "1: PROTOCOL_ERROR", true},
		{"another name", request(true, replace(ping2(), ":authority", "evil.example.com")...), "1: 403", true},
		{"our name as user", request(true, replace(ping2(), ":authority", "localhost@evil.example.com")...), "1: PROTOCOL_ERROR", true},
		{"another name in Host", request(true, ping2("host", "evil.example.com")...), "1: 200", true},
		{"another name, and ours in Host", request(true, replace(ping2("host", "localhost"), ":authority", "evil.example.com")...), "1: 403", true},
		{"no name but in Host", request(true, ":method", "GET", ":scheme", "https", ":path", "/ping", "host", "evil.example.com"), "1: 403", true},
		{"another origin", request(true, ping2("origin", "https://evil.example.com")...), "1: 403", true},
		{"a credential twice", request(true, ping2("x-api-key", "good")...), "1: 401", true},
		{"a credential in the trailer", func(c *h2) {
			all := post2()
			id := c.open(false, append(all[:8:8], all[10:]...)...)
			_ = c.framer.WriteHeaders(http2.HeadersFrameParam{
				StreamID: id, BlockFragment: c.headers("authorization", "Bearer good"), EndStream: true, EndHeaders: true,
			})
		}, "1: 401", false}, // it may come after the answer, on a stream that is no more
		{"a pseudo header in the trailer", func(c *h2) {
			id := c.open(false, post2()...)
			_ = c.framer.WriteHeaders(http2.HeadersFrameParam{
				StreamID: id, BlockFragment: c.headers(":path", "/ping"), EndStream: true, EndHeaders: true,
			})
		}, "1: PROTOCOL_ERROR", true},
		{"CONNECT", request(true, ":method", "CONNECT", ":authority", "evil.example.com:443"), "1: 404", true},
		{"CONNECT for WebSocket", request(false, append([]string{":protocol", "websocket"}, replace(ping2(), ":method", "CONNECT")...)...), "1: PROTOCOL_ERROR", true},
		{"TRACE", request(true, replace(replace(ping2(), ":method", "TRACE"), ":path", "/mcp")...), "1: 405", true},
		{"more headers than anybody needs", request(true, ping2(manyPairs(200)...)...), "1: 431", true},
		{"more headers than the server said it takes", request(true, ping2(manyPairs(600)...)...), "1: 431", true},
		{"a huge header", func(c *h2) {
			_ = c.framer.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 1, BlockFragment: c.headers(ping2("x-a", strings.Repeat("~", 17<<10), "x-b", strings.Repeat("~", 17<<10))...)[:16<<10], EndStream: true,
			})
			_ = c.framer.WriteContinuation(1, true, c.block.Bytes()[16<<10:])
			c.next = 3
		}, "1: 431", true},
		{"a header that is sent once and repeated by its number", func(c *h2) {
			pairs := ping2("x-bomb", strings.Repeat("b", 3000))
			for range 4000 {
				pairs = append(pairs, "x-bomb", strings.Repeat("b", 3000))
			}
			c.open(true, pairs...)
		}, "1: 431", true},
		{"a stream that depends on itself", func(c *h2) {
			_ = c.framer.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 1, BlockFragment: c.headers(ping2()...), EndStream: true, EndHeaders: true, Priority: http2.PriorityParam{StreamDep: 1},
			})
			c.next = 3
		}, "1: PROTOCOL_ERROR", true},
		{"data after the end", func(c *h2) {
			id := c.open(true, ping2()...)
			if got := c.expect(); got != "1: 200" {
				c.t.Fatalf("got %s", got)
			}
			_ = c.framer.WriteData(id, true, []byte("x"))
		}, "1: STREAM_CLOSED", true},
		{"a window that overflows", func(c *h2) {
			id := c.open(false, post2()...)
			_ = c.framer.WriteWindowUpdate(id, 1<<31-1)
		}, "1: FLOW_CONTROL_ERROR", true},
		{"data for a stream that was never opened", func(c *h2) { _ = c.framer.WriteData(99, true, []byte("x")) }, "closed, PROTOCOL_ERROR", false},
		{"a stream of the server's", func(c *h2) { c.next = 2; c.open(true, ping2()...) }, "closed, PROTOCOL_ERROR", false},
		{"a promise", func(c *h2) {
			_ = c.framer.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true})
		}, "closed, PROTOCOL_ERROR", false},
		{"an index that the table does not have", func(c *h2) {
			_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0x0f}, EndHeaders: true, EndStream: true})
		}, "closed, COMPRESSION_ERROR", false},
		{"a table larger than allowed", func(c *h2) {
			_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x3f, 0xff, 0xff, 0x7f}, EndHeaders: true, EndStream: true})
		}, "closed, COMPRESSION_ERROR", false},
		{"another frame between headers", func(c *h2) {
			_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.headers(ping2()...)})
			_ = c.framer.WritePing(false, [8]byte{})
		}, "closed, PROTOCOL_ERROR", false},
		{"a frame that is too large", func(c *h2) { _ = c.framer.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 2<<20)) }, "closed, FRAME_SIZE_ERROR", false},
		{"a ping of another length", func(c *h2) { _ = c.framer.WriteRawFrame(http2.FramePing, 0, 0, make([]byte, 7)) }, "closed, FRAME_SIZE_ERROR", false},
		{"settings of another length", func(c *h2) { _ = c.framer.WriteRawFrame(http2.FrameSettings, 0, 0, make([]byte, 7)) }, "closed, FRAME_SIZE_ERROR", false},
		{"a window that grows by nothing", func(c *h2) { _ = c.framer.WriteWindowUpdate(0, 0) }, "closed, PROTOCOL_ERROR", false},
		{"frames that nobody knows", func(c *h2) {
			for range 1000 {
				_ = c.framer.WriteRawFrame(0xfe, 0xff, 0, make([]byte, 1000))
			}
			c.open(true, ping2()...)
		}, "1: 200", true},
		{"HTTP/1.1 instead", func(c *h2) { _, _ = io.WriteString(c.conn, honestPing) }, "closed, FRAME_SIZE_ERROR", false},
	}
	var cfg *tls.Config
	w := newWorld(t, func(o *edge.Options) { cfg = secure(t, o) })
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := dialH2(t, w.edge.Addr(), cfg)
			tt.attack(c)
			if got := c.expect(); got != tt.want {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			if !tt.stays {
				return
			}
			id := c.open(true, ping2()...)
			got, want := c.expect(), fmt.Sprintf("%d: 200", id)
			for strings.HasPrefix(got, "1: ") { // what came for a stream that had been answered
				got = c.expect()
			}
			if got != want {
				t.Errorf("an honest request after it: got %q, want %q", got, want)
			}
		})
	}
}

func manyPairs(n int) []string {
	var pairs []string
	for i := range n {
		pairs = append(pairs, fmt.Sprintf("x-%d", i), "a")
	}
	return pairs
}
