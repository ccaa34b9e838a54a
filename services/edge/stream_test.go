package edge_test

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/edge"
)

// openStream sends a request and returns the answer as it begins.
func openStream(t *testing.T, w *world, q request) (*http.Response, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r := q.http(t, w.url).WithContext(ctx)
	r.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" || resp.StatusCode != http.StatusOK {
		t.Fatalf("got %d %s, want an event stream", resp.StatusCode, got)
	}
	return resp, cancel
}

func waiting(t *testing.T, change ...func(*edge.Options)) *world {
	t.Helper()
	w := newWorld(t, append([]func(*edge.Options){func(o *edge.Options) {
		o.Config.StreamAfter, o.Config.KeepAlive = time.Millisecond, time.Millisecond
	}}, change...)...)
	w.executor.begun, w.executor.ended = make(chan struct{}, 1), make(chan error, 1)
	w.executor.release = make(chan struct{})
	return w
}

// A call that lasts becomes a stream that is kept alive, and its result is the
// last event.
func TestALongCallIsKeptAlive(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2026-07-28", "2025-11-25"} {
		w := waiting(t)
		resp, _ := openStream(t, w, request{params: `"name":"waits"`, version: version})
		if resp.Header.Get("X-Accel-Buffering") != "no" || resp.Header.Get("Sallyport-Decision-Id") == "" || resp.Header.Get("RateLimit") == "" {
			t.Errorf("got headers %v", resp.Header)
		}
		comments, last := 0, ""
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), ":") {
				if comments++; comments == 3 {
					close(w.executor.release)
				}
			}
			if lines.Text() != "" {
				last = lines.Text()
			}
		}
		// It ends without an error and without a result, which is the executor's
		// mistake and told as an event.
		if comments < 3 || !strings.HasPrefix(last, `data: {"jsonrpc":"2.0","id":1,"`) {
			t.Errorf("%s: got %d comments and at last %q", version, comments, last)
		}
	}
}

// Closing the stream cancels the call down to the tool in the modern era, and
// only there.
func TestClosingTheStreamCancels(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2026-07-28", "2025-11-25"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			w := waiting(t)
			_, cancel := openStream(t, w, request{params: `"name":"waits"`, version: version})
			<-w.executor.begun
			cancel()
			if version == "2026-07-28" {
				if err := <-w.executor.ended; err == nil {
					t.Error("the tool was not told")
				}
				return
			}
			w.send(t, request{}) // is served while the call goes on
			select {
			case err := <-w.executor.ended:
				t.Errorf("the call has ended: %v", err)
			default:
			}
			close(w.executor.release)
			if err := <-w.executor.ended; err != nil {
				t.Errorf("the call was cancelled: %v", err)
			}
		})
	}
}

// A client that takes no events in time is dropped, and its call cancelled, so
// that it holds neither the tool nor memory.
func TestASlowReaderIsDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) { o.Config.WriteTimeout, o.Config.CallTimeout = 100*time.Millisecond, time.Hour })
	w.executor.ended = make(chan error, 1)
	conn := raw(t, w.edge.Addr(), "")
	if tcp, ok := conn.(*net.TCPConn); !ok || tcp.SetReadBuffer(4096) != nil {
		t.Fatal("the connection has no buffer to make small")
	}
	r := request{params: `"name":"floods"`, meta: `"progressToken":1`}.http(t, w.url)
	r.Header.Set("Accept", "text/event-stream")
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-w.executor.ended:
		if err == nil {
			t.Error("the tool was not told")
		}
	case <-time.After(15 * time.Second):
		t.Error("the tool still runs")
	}
}

// Progress does not make a call last any longer, and the end is an event, too.
func TestATimeoutInAStreamIsAnEvent(t *testing.T) {
	t.Parallel()
	w := waiting(t, func(o *edge.Options) { o.Config.CallTimeout = time.Second })
	resp, _ := openStream(t, w, request{params: `"name":"waits"`})
	var last string
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data: ") {
			last = lines.Text()
		}
	}
	if !strings.Contains(last, "TOOL_TIMEOUT") || !strings.Contains(last, `"id":1`) {
		t.Errorf("got %q", last)
	}
}
