package edge_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

// Floods end with the connection or are bounded, and others are served meanwhile.
func TestHostileHTTP2Floods(t *testing.T) {
	t.Parallel()
	const many = 5000
	flood := func(frame func(*h2, int) error) func(*h2) {
		return func(c *h2) {
			for i := range many {
				if frame(c, i) != nil { // cut off
					return
				}
			}
		}
	}
	tests := []struct {
		name   string
		attack func(*h2)
		// cutOff means that the connection has to end; else it may.
		cutOff bool
	}{
		{"pings", flood(func(c *h2, _ int) error { return c.framer.WritePing(false, [8]byte{}) }), false},
		{"answers to pings that were not sent", flood(func(c *h2, _ int) error { return c.framer.WritePing(true, [8]byte{}) }), false},
		{"settings", flood(func(c *h2, i int) error {
			return c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i)})
		}), false},
		{"settings of the table's size", flood(func(c *h2, i int) error {
			return c.framer.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(i)})
		}), false},
		{"priorities", flood(func(c *h2, i int) error {
			return c.framer.WritePriority(uint32(2*i+1), http2.PriorityParam{StreamDep: uint32(2*i + 3)})
		}), false},
		{"windows", flood(func(c *h2, _ int) error { return c.framer.WriteWindowUpdate(0, 1) }), false},
		{"malformed requests", flood(func(c *h2, _ int) error {
			c.open(true, ":method", "GET")
			return nil
		}), false},
		{"requests without a credential", flood(func(c *h2, _ int) error {
			c.open(true, ":method", "GET", ":scheme", "https", ":authority", "localhost", ":path", "/ping")
			return nil
		}), false},
		{"empty headers", func(c *h2) {
			_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1})
			flood(func(c *h2, i int) error { return c.framer.WriteContinuation(1, i == many-1, nil) })(c)
		}, false},
		{"headers without end", func(c *h2) {
			block := c.headers("x-a", strings.Repeat("a", 8<<10))
			_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block})
			flood(func(c *h2, _ int) error { return c.framer.WriteContinuation(1, false, block) })(c)
		}, true},
		{"resets of streams that were never opened", flood(func(c *h2, _ int) error { return c.framer.WriteRSTStream(1, http2.ErrCodeCancel) }), true},
	}
	var cfg *tls.Config
	w := newWorld(t, func(o *edge.Options) { cfg = secure(t, o) })
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			honest := dialH2(t, w.edge.Addr(), cfg)
			c := dialH2(t, w.edge.Addr(), cfg)
			attacked := make(chan struct{})
			go func() {
				defer close(attacked)
				tt.attack(c)
			}()
			for range 10 {
				id := honest.open(true, ping2()...)
				if got, want := honest.expect(), fmt.Sprintf("%d: 200", id); got != want {
					t.Fatalf("an honest request meanwhile: got %q, want %q", got, want)
				}
			}
			<-attacked
			if !tt.cutOff {
				c.next = 1<<20 + 1
			}
			var id uint32
			for got := "begin"; !strings.HasPrefix(got, "closed"); got = c.expect() {
				if tt.cutOff {
					continue
				}
				stream, how, _ := strings.Cut(got, ": ")
				if stream == strconv.Itoa(int(id)) && how == "200" {
					break
				}
				// At first it may be refused, since so much is going on.
				if got == "begin" || stream == strconv.Itoa(int(id)) {
					id = c.open(true, ping2()...)
				}
			}
		})
	}
}

// blockingAuth answers when it is released, whether the caller still waits or
// not, and notes how many callers wait at once.
type blockingAuth struct {
	authv1.AuthServiceClient
	waiting, most atomic.Int64
	begun         chan struct{}
	release       chan struct{}
}

// DescribeResource knows of no OAuth.
func (*blockingAuth) DescribeResource(context.Context, *authv1.DescribeResourceRequest, ...grpc.CallOption) (*authv1.DescribeResourceResponse, error) {
	return &authv1.DescribeResourceResponse{}, nil
}

func (a *blockingAuth) Authenticate(ctx context.Context, req *authv1.AuthenticateRequest, _ ...grpc.CallOption) (*authv1.AuthenticateResponse, error) {
	if req.GetCredential().GetToken() != "slow" {
		return &authv1.AuthenticateResponse{Principal: anna()}, nil
	}
	n := a.waiting.Add(1)
	defer a.waiting.Add(-1)
	for most := a.most.Load(); n > most && !a.most.CompareAndSwap(most, n); most = a.most.Load() {
	}
	a.begun <- struct{}{}
	<-a.release
	return &authv1.AuthenticateResponse{}, ctx.Err()
}

// A client that opens streams and resets them at once makes work that goes on
// after the reset. It gets no more of it than a client that keeps to the limit of
// streams, and is cut off.
func TestHostileRapidReset(t *testing.T) {
	t.Parallel()
	const streams = 100
	auth := &blockingAuth{begun: make(chan struct{}, 10_000), release: make(chan struct{})}
	var cfg *tls.Config
	w := newWorld(t, func(o *edge.Options) {
		cfg = secure(t, o)
		o.Auth = auth
	})
	defer close(auth.release)
	c := dialH2(t, w.edge.Addr(), cfg)
	for range 10_000 {
		id := c.open(true, replace(ping2(), "x-api-key", "slow")...)
		if err := c.framer.WriteRSTStream(id, http2.ErrCodeCancel); err != nil { // cut off
			break
		}
	}
	if got, want := c.expect(), "closed, ENHANCE_YOUR_CALM"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if most := auth.most.Load(); most > streams {
		t.Errorf("%d requests of one connection were served at once, want at most %d", most, streams)
	}
	honest := dialH2(t, w.edge.Addr(), cfg)
	honest.open(true, ping2()...)
	if got, want := honest.expect(), "1: 200"; got != want {
		t.Errorf("an honest client: got %q, want %q", got, want)
	}
}

// Streams beyond the limit are refused, and the others are served.
func TestHostileManyStreams(t *testing.T) {
	t.Parallel()
	const streams = 100
	auth := &blockingAuth{begun: make(chan struct{}, 10_000), release: make(chan struct{})}
	var cfg *tls.Config
	w := newWorld(t, func(o *edge.Options) {
		cfg = secure(t, o)
		o.Auth = auth
	})
	c := dialH2(t, w.edge.Addr(), cfg)
	for range streams {
		c.open(true, replace(ping2(), "x-api-key", "slow")...)
		<-auth.begun
	}
	for range 1000 {
		id := c.open(true, ping2()...)
		got := c.expect()
		if got != fmt.Sprintf("%d: %s", id, http2.ErrCodeProtocol) && got != fmt.Sprintf("%d: %s", id, http2.ErrCodeRefusedStream) {
			t.Fatalf("a stream beyond the limit: got %q", got)
		}
	}
	close(auth.release)
	for range streams {
		if got := c.expect(); !strings.HasSuffix(got, ": 401") {
			t.Fatalf("a stream within the limit: got %q", got)
		}
	}
	id := c.open(true, ping2()...)
	if got, want := c.expect(), fmt.Sprintf("%d: 200", id); got != want {
		t.Errorf("an honest request after it: got %q, want %q", got, want)
	}
}

// A client that asks and asks and reads nothing is cut off when it has taken
// nothing for the time that it has to receive an answer.
func TestHostileDeafClient(t *testing.T) {
	t.Parallel()
	var cfg *tls.Config
	listener := &watchedListener{buffer: 4 << 10}
	w := newWorld(t, func(o *edge.Options) {
		cfg = secure(t, o)
		o.Config.WriteTimeout = 300 * time.Millisecond
		listener.watch(o)
	})
	// Before the connection is made: a window that shrinks later can bring both
	// directions to a halt.
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		failed := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10)
		})
		return errors.Join(failed, err)
	}}
	tcp, err := dialer.DialContext(t.Context(), "tcp", w.edge.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	c := newH2(t, tls.Client(tcp, cfg))
	for range 9000 { // fewer than net/http would take for a flood
		if err := c.framer.WritePing(false, [8]byte{}); err != nil { // cut off
			break
		}
	}
	// The kernel may find room for a few bytes now and then, and to say goodbye TLS
	// takes some seconds of its own.
	listener.wait(t, 3*patience, func(open, _ int) bool { return open == 0 })
}

// A client that takes no answer by the protocol's own means is not waited for
// either, and costs no more than its stream.
func TestHostileClosedWindow(t *testing.T) {
	t.Parallel()
	var cfg *tls.Config
	w := newWorld(t, func(o *edge.Options) {
		cfg = secure(t, o)
		o.Config.WriteTimeout = 100 * time.Millisecond
	})
	c := dialH2(t, w.edge.Addr(), cfg)
	_ = c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	c.open(true, ping2()...)
	if got, want := c.expect(), "1: 200"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	if got := c.expect(); !strings.HasPrefix(got, "1: ") {
		t.Errorf("got %q, want the stream reset", got)
	}
}

// A client that begins TLS and does not go on is cut off.
func TestHostileSlowHandshake(t *testing.T) {
	t.Parallel()
	listener := &watchedListener{}
	w := newWorld(t, func(o *edge.Options) {
		secure(t, o)
		o.Config.HeaderTimeout = 500 * time.Millisecond
		listener.watch(o)
	})
	for _, hello := range []string{"", "\x16\x03\x01", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"} {
		raw(t, w.edge.Addr(), hello)
	}
	listener.wait(t, patience, func(open, read int) bool { return open == 3 && read == 14 })
	listener.wait(t, patience, func(open, _ int) bool { return open == 0 })
}
