package line

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/devca"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
)

// long is a patience that no test uses up.
const long = time.Minute

// node is the member "a" until it is over.
type node struct {
	over   chan struct{}
	answer func(context.Context, *quotav1.ClusterRequest) *quotav1.ClusterReply
}

func (n node) Over(id string) <-chan struct{} {
	if id != "a" {
		return nil
	}
	return n.over
}

func (n node) Answer(ctx context.Context, _ string, q *quotav1.ClusterRequest) *quotav1.ClusterReply {
	select {
	case <-n.over:
		return nil
	default:
		return n.answer(ctx, q)
	}
}

// copied asks for a copy of count counters, about 600 bytes each.
func copied(sequence uint64, count int) *quotav1.ClusterRequest {
	f := &quotav1.CopyFrame{Sequence: sequence, Counters: make([]*quotav1.CounterState, count)}
	for i := range f.Counters {
		f.Counters[i] = &quotav1.CounterState{Limit: uint64(i), Words: make([]uint32, 128)}
	}
	return &quotav1.ClusterRequest{Request: &quotav1.ClusterRequest_Copy{Copy: f}}
}

// echo answers a copy with its sequence.
func echo(_ context.Context, q *quotav1.ClusterRequest) *quotav1.ClusterReply {
	return &quotav1.ClusterReply{Reply: &quotav1.ClusterReply_Copy{Copy: &quotav1.CopyReply{
		Taken: true, DroppedCounters: []uint32{uint32(q.GetCopy().GetSequence()), uint32(len(q.GetCopy().GetCounters()))},
	}}}
}

// ends are both ends of a connection.
type ends struct{ dialled, accepted net.Conn }

// bare makes connections without TLS.
func bare(t *testing.T) ends {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lis.Close() }()
	dialled, err := new(net.Dialer).DialContext(t.Context(), "tcp", lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := lis.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return kept(t, ends{dialled, accepted})
}

// secured makes connections as nodes do: with mTLS, on the port of a gRPC server.
func secured(t *testing.T) ends {
	t.Helper()
	dir := t.TempDir()
	if err := devca.Ensure(dir, "quota"); err != nil {
		t.Fatal(err)
	}
	conns := make(chan net.Conn, 1)
	creds, err := devca.Files(dir).Server("quota", rpc.Protocol{Name: Protocol, Allow: []string{"quota"}, Serve: func(c net.Conn) { conns <- c }})
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := rpc.Server{}.New(grpc.Creds(creds))
	go func() { _ = srv.Serve(lis) }() // ends with Stop
	t.Cleanup(srv.Stop)
	dialled, err := devca.Files(dir).Dial(t.Context(), "quota", "quota", lis.Addr().String(), Protocol)
	if err != nil {
		t.Fatal(err)
	}
	return kept(t, ends{dialled, <-conns})
}

func kept(t *testing.T, e ends) ends {
	t.Cleanup(func() {
		_ = e.dialled.Close()
		_ = e.accepted.Close()
	})
	return e
}

// over runs a test over both kinds of connections.
func over(t *testing.T, test func(*testing.T, ends)) {
	t.Helper()
	for name, connect := range map[string]func(*testing.T) ends{"TCP": bare, "TLS": secured} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, connect(t))
		})
	}
}

// serve serves the accepted end until the test ends, and returns what ends it and
// what Serve returned.
func serve(t *testing.T, conn net.Conn, n Node) (stop context.CancelFunc, ended func() error) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, conn, n) }()
	ended = sync.OnceValue(func() error { return <-done })
	t.Cleanup(func() {
		stop()
		_ = ended()
	})
	return stop, ended
}

func open(t *testing.T, conn net.Conn) *Line {
	t.Helper()
	l, err := Open(t.Context(), conn, "a")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func TestRequestsAreAnsweredByTurns(t *testing.T) {
	t.Parallel()
	over(t, func(t *testing.T, e ends) {
		serve(t, e.accepted, node{make(chan struct{}), echo})
		l := open(t, e.dialled)
		for i, size := range []int{1, 0, 8000, 1, 2, 8000, 0, 1} { // 8000 are 4 MB
			q := copied(uint64(i), size)
			reply, err := l.Ask(q, long)
			if err != nil {
				t.Fatal(err)
			}
			if want := echo(t.Context(), q); !proto.Equal(reply, want) {
				t.Errorf("got %v, want %v", reply, want)
			}
		}
	})
}

func TestWhoHasHungUpIsNotAsked(t *testing.T) {
	t.Parallel()
	over(t, func(t *testing.T, e ends) {
		stop, ended := serve(t, e.accepted, node{make(chan struct{}), echo})
		l := open(t, e.dialled)
		if _, err := l.Ask(copied(1, 1), long); err != nil {
			t.Fatal(err)
		}
		if l.ended() {
			t.Fatal("it has ended while it is served")
		}
		stop()
		if err := ended(); err != nil {
			t.Errorf("Serve: %v", err)
		}
		deadline := time.Now().Add(long)
		for !l.ended() { // the end is on its way through the system
			if runtime.Gosched(); time.Now().After(deadline) {
				t.Fatal("nobody has heard that it has ended")
			}
		}
		if reply, err := l.Ask(copied(2, 1), long); !errors.Is(err, bus.ErrNobody) {
			t.Errorf("got %v, %v", reply, err)
		}
	})
}

func TestARequestThatWasTakenMayHaveBeenDone(t *testing.T) {
	t.Parallel()
	over(t, func(t *testing.T, e ends) {
		serve(t, e.accepted, node{make(chan struct{}), func(context.Context, *quotav1.ClusterRequest) *quotav1.ClusterReply {
			_ = e.accepted.Close()
			return &quotav1.ClusterReply{}
		}})
		if reply, err := open(t, e.dialled).Ask(copied(1, 1), long); err == nil || errors.Is(err, bus.ErrNobody) {
			t.Errorf("got %v, %v", reply, err)
		}
	})
}

func TestALineWaitsNoLongerThanItsPatience(t *testing.T) {
	t.Parallel()
	over(t, func(t *testing.T, e ends) {
		stop, _ := serve(t, e.accepted, node{make(chan struct{}), func(ctx context.Context, _ *quotav1.ClusterRequest) *quotav1.ClusterReply {
			<-ctx.Done()
			return &quotav1.ClusterReply{}
		}})
		late := time.AfterFunc(long, stop) // for a line that has too much
		if reply, err := open(t, e.dialled).Ask(copied(1, 1), time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, %v", reply, err)
		}
		late.Stop()
	})
}

func TestCloseEndsAnAsk(t *testing.T) {
	t.Parallel()
	over(t, func(t *testing.T, e ends) {
		asked := make(chan struct{})
		serve(t, e.accepted, node{make(chan struct{}), func(ctx context.Context, _ *quotav1.ClusterRequest) *quotav1.ClusterReply {
			close(asked)
			<-ctx.Done()
			return nil
		}})
		l := open(t, e.dialled)
		go func() {
			<-asked
			l.Close()
		}()
		if reply, err := l.Ask(copied(1, 1), long); !errors.Is(err, net.ErrClosed) || errors.Is(err, bus.ErrNobody) {
			t.Errorf("got %v, %v", reply, err)
		}
	})
}

func TestServeEndsWhileItAnswers(t *testing.T) {
	t.Parallel()
	over(t, func(t *testing.T, e ends) {
		asked := make(chan struct{})
		stop, ended := serve(t, e.accepted, node{make(chan struct{}), func(ctx context.Context, _ *quotav1.ClusterRequest) *quotav1.ClusterReply {
			close(asked)
			<-ctx.Done()
			return &quotav1.ClusterReply{}
		}})
		go func() {
			<-asked
			stop()
		}()
		_, _ = open(t, e.dialled).Ask(copied(1, 1), long) // the answer may be out before the end
		if err := ended(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestAMemberThatIsNotOneAnyMoreSaysSo(t *testing.T) {
	t.Parallel()
	over(t, func(t *testing.T, e ends) {
		left, asked := make(chan struct{}), make(chan struct{})
		serve(t, e.accepted, node{left, func(ctx context.Context, _ *quotav1.ClusterRequest) *quotav1.ClusterReply {
			close(asked)
			<-ctx.Done() // it has left
			return nil
		}})
		l := open(t, e.dialled)
		go func() {
			<-asked
			close(left)
		}()
		for range 3 { // it leaves hanging up to who has asked
			if reply, err := l.Ask(copied(1, 1), long); !errors.Is(err, errNotMeant) || !errors.Is(err, bus.ErrNobody) {
				t.Fatalf("got %v, %v", reply, err)
			}
		}
	})
}

func TestALineIsForOneMember(t *testing.T) {
	t.Parallel()
	over(t, func(t *testing.T, e ends) {
		_, ended := serve(t, e.accepted, node{make(chan struct{}), echo})
		if l, err := Open(t.Context(), e.dialled, "b"); l != nil || !errors.Is(err, bus.ErrNobody) {
			t.Errorf("got %v, %v", l, err)
		}
		if err := ended(); !errors.Is(err, errNotMeant) {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestHalfARequestHasNoEffect(t *testing.T) {
	t.Parallel()
	over(t, func(t *testing.T, e ends) {
		s, l := newFrames(e.accepted), &Line{conn: e.dialled, frames: newFrames(e.dialled), ended: watch(e.dialled)}
		var begun sync.WaitGroup
		begun.Go(func() {
			_, _ = s.r.Peek(headSize)
			_ = e.dialled.SetDeadline(time.Unix(1, 0))
		})
		// 15 MB are more than the system keeps for who does not read.
		if reply, err := l.Ask(copied(1, 28_000), long); !errors.Is(err, bus.ErrNobody) || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, %v", reply, err)
		}
		begun.Wait()
		l.Close()
		if err := s.read(&quotav1.ClusterRequest{}); err == nil || err == io.EOF {
			t.Errorf("the other end: %v", err)
		}
	})
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	over(t, func(t *testing.T, e ends) { // where nobody serves
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		time.AfterFunc(time.Millisecond, cancel)
		if l, err := Open(ctx, e.dialled, "a"); l != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, %v", l, err)
		}
	})
}

func TestWhoDoesNotSayWhomALineIsForIsHungUpOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dialled, accepted := net.Pipe()
		defer func() { _ = dialled.Close() }()
		begun := time.Now()
		if err := Serve(t.Context(), accepted, node{}); !errors.Is(err, errLate) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begun); took != openWithin {
			t.Errorf("after %v", took)
		}
		if _, err := dialled.Write([]byte{0}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the connection: %v", err)
		}
	})
}

func TestAnOpenLineMayBeSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dialled, accepted := net.Pipe()
		_, ended := serve(t, accepted, node{make(chan struct{}), echo})
		l, err := Open(t.Context(), dialled, "a")
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(100 * openWithin) // no time of this machine
		if _, err := l.Ask(copied(1, 1), long); err != nil {
			t.Error(err)
		}
		l.Close()
		if err := ended(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestALineBeginsWithWhomItIsFor(t *testing.T) {
	t.Parallel()
	over(t, func(t *testing.T, e ends) {
		_, ended := serve(t, e.accepted, node{make(chan struct{}), echo})
		l := &Line{conn: e.dialled, frames: newFrames(e.dialled), ended: watch(e.dialled)}
		if reply, err := l.Ask(copied(1, 1), long); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, %v", reply, err)
		}
		if err := ended(); !errors.Is(err, errOpening) {
			t.Errorf("Serve: %v", err)
		}
	})
}
