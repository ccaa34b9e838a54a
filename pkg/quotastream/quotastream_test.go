package quotastream_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/quotastream"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
)

// node is the other end of a stream: what comes is told to the test, which answers.
type node struct {
	quotav1.UnimplementedQuotaServiceServer
	came   chan *quotav1.CheckStreamRequest
	answer chan *quotav1.CheckStreamResponse
	end    chan error // its client's end is told as nil
}

func (n *node) CheckStream(stream grpc.BidiStreamingServer[quotav1.CheckStreamRequest, quotav1.CheckStreamResponse]) error {
	go func() { // ends with the stream
		for {
			req, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				n.end <- nil
			}
			if err != nil {
				return
			}
			select {
			case n.came <- req:
			case <-stream.Context().Done():
				return
			}
		}
	}()
	for {
		select {
		case resp := <-n.answer:
			if err := stream.Send(resp); err != nil {
				return err
			}
		case err := <-n.end:
			return err
		}
	}
}

// open opens a stream in fake time.
func open(t *testing.T, news func(*quotav1.LeasesEnd)) (*node, *quotastream.Stream) {
	t.Helper()
	n := &node{
		came: make(chan *quotav1.CheckStreamRequest, 16), answer: make(chan *quotav1.CheckStreamResponse), end: make(chan error, 1),
	}
	conn := rpctest.Serve(t, func(r grpc.ServiceRegistrar) { quotav1.RegisterQuotaServiceServer(r, n) })
	ctx, cancel := context.WithCancel(context.Background())
	s, err := quotastream.Open(ctx, quotav1.NewQuotaServiceClient(conn), news)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		<-s.Over()
		select {
		case n.end <- nil:
		default:
		}
		<-time.After(10 * time.Second) // workers of the stream go home
	})
	return n, s
}

func check(user string) *quotav1.CheckRequest {
	return &quotav1.CheckRequest{Subject: &quotav1.Subject{Attributes: map[string]string{"user": user}}}
}

func allowed() *quotav1.CheckResponse { return &quotav1.CheckResponse{Allowed: true} }

func TestChecksGatherWhileOthersAreOnTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, s := open(t, nil)
		answers := make(chan string, 300)
		ask := func(user string) {
			t.Helper()
			if err := s.Ask(check(user), func(resp *quotav1.CheckResponse, err error) { answers <- resp.GetRule() }); err != nil {
				t.Fatal(err)
			}
		}
		ask("first")
		first := <-n.came
		ask("second")
		second := <-n.came
		if first.GetCheck() == nil || second.GetCheck() == nil {
			t.Fatalf("got %v and %v, want one check each", first, second)
		}
		for range 260 {
			ask("more")
		}
		synctest.Wait()
		if len(n.came) > 0 {
			t.Fatal("a third message is on its way")
		}
		n.answer <- &quotav1.CheckStreamResponse{Id: second.GetId(), Outcome: &quotav1.CheckStreamResponse_Check{Check: &quotav1.CheckResponse{Rule: "of the second"}}}
		if got := <-answers; got != "of the second" {
			t.Errorf("got the answer %q", got)
		}
		third := <-n.came
		if len(third.GetPacked()) != 256 {
			t.Errorf("the third has %d checks, want 256", len(third.GetPacked()))
		}
		// In parts, and in any order; what answers nothing changes nothing.
		for _, resp := range []*quotav1.CheckStreamResponse{
			{Id: third.GetId(), Outcomes: []*quotav1.CheckOutcome{{Place: 7, Check: &quotav1.CheckResponse{Rule: "7"}}}},
			{Id: third.GetId(), Outcomes: []*quotav1.CheckOutcome{{Place: 7, Check: &quotav1.CheckResponse{Rule: "7 again"}}, {Place: 256}}},
			{Id: 99, Outcome: &quotav1.CheckStreamResponse_Check{Check: &quotav1.CheckResponse{Rule: "of nothing"}}},
			{Id: third.GetId(), Outcomes: []*quotav1.CheckOutcome{{Place: 3, Check: &quotav1.CheckResponse{Rule: "3"}}}},
		} {
			n.answer <- resp
		}
		for _, want := range []string{"7", "3"} {
			if got := <-answers; got != want {
				t.Errorf("got the answer %q, want %q", got, want)
			}
		}
		fourth := <-n.came // the first is silent still, the third is not
		if len(fourth.GetPacked()) != 4 {
			t.Errorf("the fourth has %d checks, want 4", len(fourth.GetPacked()))
		}
	})
}

func TestANodeThatIsSilentIsAskedNothingMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, s := open(t, nil)
		for range 2 {
			go func() { _, _ = s.Check(context.Background(), check("a")) }()
			<-n.came
		}
		<-time.After(19 * time.Millisecond)
		go func() { _, _ = s.Check(context.Background(), check("b")) }() // waits
		synctest.Wait()
		<-time.After(2 * time.Millisecond)
		if _, err := s.Check(t.Context(), check("c")); !errors.Is(err, quotastream.ErrBusy) {
			t.Errorf("got %v, want ErrBusy", err)
		}
		n.end <- nil
	})
}

// A lease for somebody who does not wait any more goes back.
func TestLeasesThatComeTooLateGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, s := open(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error)
		go func() {
			_, err := s.Check(ctx, check("a"))
			failed <- err
		}()
		req := <-n.came
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		resp := allowed()
		resp.Lease = &quotav1.Lease{Id: 5, Checks: 30}
		n.answer <- &quotav1.CheckStreamResponse{Id: req.GetId(), Outcome: &quotav1.CheckStreamResponse_Check{Check: resp}}
		if back := (<-n.came).GetReturns(); len(back) != 1 || back[0].GetId() != 5 || back[0].GetChecks() != 30 {
			t.Errorf("got back %v", back)
		}
	})
}

func TestFailuresAreAsThoseOfACheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, s := open(t, nil)
		go func() {
			n.answer <- &quotav1.CheckStreamResponse{Id: (<-n.came).GetId(), Outcome: &quotav1.CheckStreamResponse_Failure{Failure: &quotav1.CheckFailure{
				Code: int32(codes.Unavailable), Reason: quotav1.Reason_REASON_PEERS_LOST, Message: "no word",
			}}}
		}()
		_, err := s.Check(t.Context(), check("a"))
		if status.Code(err) != codes.Unavailable || !fault.Is(err, quotav1.Reason_REASON_PEERS_LOST) || errors.Is(err, quotastream.ErrOver) {
			t.Errorf("got %v", err)
		}
	})
}

func TestTheEndOfAStreamIsToldToAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ends []*quotav1.LeasesEnd
		n, s := open(t, func(end *quotav1.LeasesEnd) { ends = append(ends, end) })
		failed := make(chan error, 3)
		for range 3 {
			go func() {
				_, err := s.Check(context.Background(), check("a"))
				failed <- err
			}()
			synctest.Wait()
		}
		n.answer <- &quotav1.CheckStreamResponse{Outcome: &quotav1.CheckStreamResponse_LeasesEnd{LeasesEnd: &quotav1.LeasesEnd{Rules: 3}}}
		synctest.Wait()
		n.end <- status.Error(codes.Unavailable, "gone")
		for range 3 {
			if err := <-failed; !errors.Is(err, quotastream.ErrOver) {
				t.Errorf("got %v, want ErrOver", err)
			}
		}
		<-s.Over()
		if _, err := s.Check(t.Context(), check("a")); !errors.Is(err, quotastream.ErrOver) || !errors.Is(s.Err(), quotastream.ErrOver) {
			t.Errorf("after the end: got %v and %v", err, s.Err())
		}
		if len(ends) != 1 || ends[0].GetRules() != 3 {
			t.Errorf("got the news %v", ends)
		}
	})
}

// What was asked is answered before the stream ends.
func TestCloseWaitsForAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, s := open(t, nil)
		got := make(chan error, 1)
		go func() {
			_, err := s.Check(context.Background(), check("a"))
			got <- err
		}()
		req := <-n.came
		s.Close()
		if _, err := s.Check(t.Context(), check("b")); !errors.Is(err, quotastream.ErrOver) {
			t.Errorf("after Close: got %v", err)
		}
		n.answer <- &quotav1.CheckStreamResponse{Id: req.GetId(), Outcome: &quotav1.CheckStreamResponse_Check{Check: allowed()}}
		if err := <-got; err != nil {
			t.Errorf("what was asked before: got %v", err)
		}
		<-s.Over()
	})
}
