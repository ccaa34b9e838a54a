package remote_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/devca"
	guardv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/guard/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/remote"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/span"
)

// server is a guard that answers as a function says.
type server struct {
	guardv1.UnimplementedGuardServiceServer
	answer func(context.Context, *guardv1.CheckRequest) (*guardv1.CheckResponse, error)
	asked  atomic.Int32
	stop   func()
}

// Check implements [guardv1.GuardServiceServer].
func (s *server) Check(ctx context.Context, req *guardv1.CheckRequest) (*guardv1.CheckResponse, error) {
	s.asked.Add(1)
	return s.answer(ctx, req)
}

// serve starts a guard on a port and returns a connection as the executor has it.
func serve(t testing.TB, s *server) grpc.ClientConnInterface {
	t.Helper()
	return serveWith(t, s, insecure.NewCredentials(), insecure.NewCredentials())
}

func serveWith(t testing.TB, s *server, own, client credentials.TransportCredentials) grpc.ClientConnInterface {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.Creds(own))
	guardv1.RegisterGuardServiceServer(srv, s)
	s.stop = srv.Stop
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(listener) // until it is stopped
	}()
	conn, err := rpc.Dial(listener.Addr().String(), nil, grpc.WithTransportCredentials(client))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		srv.Stop()
		<-done
	})
	return conn
}

// patient has the defaults, but for a deadline that a slow machine keeps.
func patient() remote.Config {
	cfg := remote.DefaultConfig()
	cfg.Address, cfg.Deadline = "guard", 10*time.Second
	cfg.Isolation.QueueWait = 10 * time.Second
	return cfg
}

func open(t testing.TB, cfg remote.Config, s *server) *remote.Guard {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	g, err := remote.New(cfg, serve(t, s), func(bool) {})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func always(answer *guardv1.CheckResponse) *server {
	return &server{answer: func(context.Context, *guardv1.CheckRequest) (*guardv1.CheckResponse, error) { return answer, nil }}
}

func finding(rule string, part, start, end uint32) *guardv1.Finding {
	return &guardv1.Finding{Rule: rule, Part: part, Start: start, End: end}
}

var texts = []remote.Text{{Text: "hello"}, {Name: "q", Text: "où est-il?"}}

// A verdict that keeps the contract comes back, by text.
func TestVerdict(t *testing.T) {
	t.Parallel()
	var got *guardv1.CheckRequest
	s := &server{answer: func(_ context.Context, req *guardv1.CheckRequest) (*guardv1.CheckResponse, error) {
		got = req
		return &guardv1.CheckResponse{Verdict: guardv1.Verdict_VERDICT_REDACT, Score: 0.75, Findings: []*guardv1.Finding{
			finding("b", 1, 4, 7), finding("a", 1, 0, 3), finding("c", 1, 6, 9), finding("whole", 0, 0, 0),
		}}, nil
	}}
	v, failure := open(t, patient(), s).Check(t.Context(), "t", guardv1.Side_SIDE_RESULT, texts)
	want := remote.Verdict{Kind: guardv1.Verdict_VERDICT_REDACT, Score: 0.75, Found: [][]span.Found{
		{{Start: 0, End: 5, Rule: "whole", Instead: "[removed: whole]"}},
		{{Start: 0, End: 3, Rule: "a", Instead: "[removed: a]"}, {Start: 4, End: 9, Rule: "b", Instead: "[removed: b]"}},
	}}
	if diff := cmp.Diff(want, v); diff != "" || failure != "" {
		t.Errorf("%q, verdict (-want +got):\n%s", failure, diff)
	}
	asked := &guardv1.CheckRequest{Tool: "t", Side: guardv1.Side_SIDE_RESULT, Parts: []*guardv1.Part{{Text: "hello"}, {Name: "q", Text: "où est-il?"}}}
	if !proto.Equal(asked, got) {
		t.Errorf("asked %v", got)
	}
}

// A guard that stalls, lies, answers too much, fails or dies has said nothing.
func TestFailures(t *testing.T) {
	t.Parallel()
	const allow, redact, block = guardv1.Verdict_VERDICT_ALLOW, guardv1.Verdict_VERDICT_REDACT, guardv1.Verdict_VERDICT_BLOCK
	says := func(v guardv1.Verdict, score float64, all ...*guardv1.Finding) *server {
		return always(&guardv1.CheckResponse{Verdict: v, Score: score, Findings: all})
	}
	huge := &guardv1.CheckResponse{Verdict: allow} // and a field that nobody knows
	huge.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 99, protowire.BytesType), make([]byte, 64<<10)))
	dies := &server{}
	dies.answer = func(ctx context.Context, _ *guardv1.CheckRequest) (*guardv1.CheckResponse, error) {
		go dies.stop()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	tests := []struct {
		name   string
		server *server
		want   remote.Failure
	}{
		{"no verdict", always(&guardv1.CheckResponse{}), remote.Invalid},
		{"a verdict that is not known", says(17, 0, finding("x", 0, 0, 0)), remote.Invalid},
		{"a block without a ground", says(block, 1), remote.Invalid},
		{"a ground to allow", says(allow, 0, finding("x", 0, 0, 0)), remote.Invalid},
		{"a score beyond 1", says(block, 1.5, finding("x", 0, 0, 0)), remote.Invalid},
		{"a part that was not sent", says(redact, 0, finding("x", 2, 0, 1)), remote.Invalid},
		{"beyond the text", says(redact, 0, finding("x", 0, 0, 6)), remote.Invalid},
		{"an end before the start", says(redact, 0, finding("x", 0, 3, 2)), remote.Invalid},
		{"an empty span", says(redact, 0, finding("x", 0, 3, 3)), remote.Invalid},
		{"from within a character", says(redact, 0, finding("x", 1, 2, 5)), remote.Invalid},
		{"to within a character", says(redact, 0, finding("x", 1, 0, 2)), remote.Invalid},
		{"one of two is good", says(redact, 0, finding("x", 0, 0, 2), finding("y", 0, 0, 60)), remote.Invalid},
		{"a rule that is prose", says(redact, 0, finding("Call me at once", 0, 0, 1)), remote.Invalid},
		{"a rule in our own words", says(redact, 0, finding("failed:timeout", 0, 0, 1)), remote.Invalid},
		{"more findings than there may be", says(redact, 0, slices.Repeat([]*guardv1.Finding{finding("x", 0, 0, 1)}, 257)...), remote.Invalid},
		{"a huge answer", always(huge), remote.Invalid},
		{"an error", &server{answer: func(context.Context, *guardv1.CheckRequest) (*guardv1.CheckResponse, error) {
			return nil, status.Error(codes.Internal, "no model")
		}}, remote.Unavailable},
		{"not implemented", &server{answer: func(context.Context, *guardv1.CheckRequest) (*guardv1.CheckResponse, error) {
			return nil, status.Error(codes.Unimplemented, "")
		}}, remote.Unavailable},
		{"it dies over it", dies, remote.Unavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v, failure := open(t, patient(), tt.server).Check(t.Context(), "t", guardv1.Side_SIDE_RESULT, texts)
			if failure != tt.want || v.Kind != 0 || len(v.Found) > 0 {
				t.Errorf("got %q, %+v, want %q", failure, v, tt.want)
			}
		})
	}
}

// What is at the address must prove to be the guard.
func TestGuardProvesWhoItIs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := devca.Ensure(dir, "executor", "guard", "basics"); err != nil {
		t.Fatal(err)
	}
	for role, want := range map[string]remote.Failure{"guard": "", "basics": remote.Unavailable} {
		own, err := devca.Files(dir).Server(role)
		if err != nil {
			t.Fatal(err)
		}
		client, err := devca.Files(dir).Client("executor", "guard")
		if err != nil {
			t.Fatal(err)
		}
		s := always(&guardv1.CheckResponse{Verdict: guardv1.Verdict_VERDICT_ALLOW})
		g, err := remote.New(patient(), serveWith(t, s, own, client), func(bool) {})
		if err != nil {
			t.Fatal(err)
		}
		if _, failure := g.Check(t.Context(), "t", guardv1.Side_SIDE_RESULT, texts); failure != want || want != "" && s.asked.Load() > 0 {
			t.Errorf("%s: got %q, want %q", role, failure, want)
		}
	}
}

// A guard that never answers costs the deadline, and is left alone in the end.
func TestStallingGuardIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := &server{answer: func(ctx context.Context, _ *guardv1.CheckRequest) (*guardv1.CheckResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	cfg := patient()
	cfg.Deadline = 20 * time.Millisecond
	cfg.Isolation.Breaker.MinCalls, cfg.Isolation.Breaker.Window, cfg.Isolation.Breaker.Rest = 3, time.Hour, time.Hour
	g := open(t, cfg, s)
	var got []remote.Failure
	for range 5 {
		_, failure := g.Check(t.Context(), "t", guardv1.Side_SIDE_ARGUMENTS, texts)
		got = append(got, failure)
	}
	if diff := cmp.Diff([]remote.Failure{remote.Timeout, remote.Timeout, remote.Timeout, remote.Resting, remote.Resting}, got); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
	if n := s.asked.Load(); n > 3 {
		t.Errorf("it was asked %d times", n)
	}
}

// No more checks are in flight than there may be.
func TestChecksInFlightAreBounded(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	s := &server{answer: func(context.Context, *guardv1.CheckRequest) (*guardv1.CheckResponse, error) {
		entered <- struct{}{}
		<-release
		return &guardv1.CheckResponse{Verdict: guardv1.Verdict_VERDICT_ALLOW}, nil
	}}
	cfg := patient()
	cfg.Isolation.MaxInFlight, cfg.Isolation.QueueWait = 1, 0
	g := open(t, cfg, s)
	first := make(chan remote.Failure, 1)
	go func() {
		_, failure := g.Check(context.WithoutCancel(t.Context()), "t", guardv1.Side_SIDE_RESULT, texts)
		first <- failure
	}()
	<-entered
	if _, failure := g.Check(t.Context(), "t", guardv1.Side_SIDE_RESULT, texts); failure != remote.Busy {
		t.Errorf("second: %q", failure)
	}
	close(release)
	if failure := <-first; failure != "" {
		t.Errorf("first: %q", failure)
	}
}

// A caller who goes away says nothing of the guard.
func TestCallersWhoGoAway(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := &server{answer: func(asked context.Context, _ *guardv1.CheckRequest) (*guardv1.CheckResponse, error) {
		cancel()
		<-asked.Done()
		return nil, asked.Err()
	}}
	cfg := patient()
	cfg.Isolation.Breaker.MinCalls = 1
	g := open(t, cfg, s)
	for range 3 {
		if _, failure := g.Check(ctx, "t", guardv1.Side_SIDE_RESULT, texts); failure != remote.Cancelled {
			t.Errorf("got %q", failure)
		}
	}
}

// Long texts are cut between characters, and of too much the rest is not sent.
func TestPartsAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 40<<10) // 80 KiB
	for _, tt := range []struct {
		name   string
		texts  []remote.Text
		limit  int
		parts  string
		unsent bool
	}{
		{"all", []remote.Text{{Text: "x" + long}, {Text: "end"}}, 1 << 20, "65535 16386+ 3", false},
		{"not all of a text", []remote.Text{{Text: long}}, 66_001, "65536 464+", true},
		{"not all texts", []remote.Text{{Text: strings.Repeat("x", 1024)}, {Text: "y"}}, 1024, "1024", true},
		{"names count", []remote.Text{{Name: strings.Repeat("n", 300), Text: strings.Repeat("x", 900)}}, 1024, "768", true},
		{"no room for a name", []remote.Text{{Text: strings.Repeat("x", 1000)}, {Name: "very-long-for-24-bytes-left", Text: "y"}}, 1024, "1000", true},
		{"very many", slices.Repeat([]remote.Text{{Text: "x"}}, 20_000), 1 << 20, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var parts []string
			var count int
			s := &server{answer: func(_ context.Context, req *guardv1.CheckRequest) (*guardv1.CheckResponse, error) {
				for _, p := range req.GetParts() {
					parts = append(parts, fmt.Sprint(len(p.GetText()))+map[bool]string{true: "+"}[p.GetContinues()])
					if !utf8.ValidString(p.GetText()) {
						t.Error("a character was cut")
					}
				}
				count = len(req.GetParts())
				last := uint32(count - 1)
				return &guardv1.CheckResponse{Verdict: guardv1.Verdict_VERDICT_BLOCK, Findings: []*guardv1.Finding{finding("x", last, 0, 0)}}, nil
			}}
			cfg := patient()
			cfg.MaxTextBytes = tt.limit
			v, failure := open(t, cfg, s).Check(t.Context(), "t", guardv1.Side_SIDE_RESULT, tt.texts)
			if failure != "" || v.Unsent != tt.unsent {
				t.Fatalf("%q, %v", failure, v.Unsent)
			}
			if got := strings.Join(parts, " "); tt.parts != "" && got != tt.parts || count > 16384 {
				t.Errorf("%d parts: %s", count, got)
			}
		})
	}
}

// direct is a connection that has an answer, whatever it is asked.
type direct struct {
	grpc.ClientConnInterface
	answer []byte
}

func (d *direct) Invoke(_ context.Context, _ string, _, reply any, _ ...grpc.CallOption) error {
	return proto.Unmarshal(d.answer, reply.(proto.Message))
}

// Whatever the answer, what was found is within the texts and can be replaced.
func FuzzAnswer(f *testing.F) {
	for _, m := range []*guardv1.CheckResponse{
		{Verdict: guardv1.Verdict_VERDICT_ALLOW, Score: 1},
		{Verdict: guardv1.Verdict_VERDICT_REDACT, Findings: []*guardv1.Finding{finding("a", 1, 0, 3), finding("b", 1, 1, 9), finding("c", 0, 0, 0)}},
		{Verdict: 9, Findings: []*guardv1.Finding{finding("a", 1<<31, 1<<31, 1<<31+1)}},
	} {
		raw, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, "hello", "où est-il?")
	}
	conn, cfg := &direct{}, patient()
	cfg.Isolation.Breaker.MinCalls = 0
	g, err := remote.New(cfg, conn, func(bool) {})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, answer []byte, first, second string) {
		if !utf8.ValidString(first) || !utf8.ValidString(second) || first == "" || second == "" {
			return
		}
		conn.answer = answer
		all := []remote.Text{{Text: first}, {Name: second, Text: second}}
		v, failure := g.Check(t.Context(), "t", guardv1.Side_SIDE_RESULT, all)
		if failure != "" {
			return
		}
		n := 0
		for i, found := range v.Found {
			if !utf8.ValidString(span.Replace(all[i].Text, found)) {
				t.Errorf("%q: %+v", all[i].Text, found)
			}
			n += len(found)
		}
		if (n == 0) != (v.Kind == guardv1.Verdict_VERDICT_ALLOW) {
			t.Errorf("%v with %d findings", v.Kind, n)
		}
	})
}
