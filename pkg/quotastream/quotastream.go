// Package quotastream asks the quota service for decisions on one stream, which
// costs a fraction of as many calls.
//
// Checks that come while others are on their way wait for these and then go in one
// message, packed: under load messages grow, without it nobody waits. There are no timers.
// The package opens a stream once; to open another when it has ended is for whoever
// uses it, and so is what to do about leases.
package quotastream

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

const (
	// perMessage is how many checks, and how many returns, one message has at most.
	perMessage = 256
	// onTheWay is how many messages may be without any answer.
	onTheWay = 2
	// maxWaiting bounds the checks, and the returns, that wait to be sent.
	maxWaiting = 16 * perMessage
	// patience is how long the node may be silent before it is asked nothing more.
	patience = 20 * time.Millisecond
)

// ErrBusy means that nothing was asked, since the node is slow to answer just now.
var ErrBusy = errors.New("the stream waits for answers already")

// ErrOver is part of why a check failed whose stream has ended: whether it was
// charged is not known.
var ErrOver = errors.New("the stream has ended")

// errEnded is why a stream ended that the node ended without an error.
var errEnded = fault.New(codes.Unavailable, faultv1.Reason_REASON_NOT_READY, "the quota node has ended the stream")

// Client is the part of the generated client that opens streams.
type Client interface {
	CheckStream(ctx context.Context, opts ...grpc.CallOption) (grpc.BidiStreamingClient[quotav1.CheckStreamRequest, quotav1.CheckStreamResponse], error)
}

// Stream is one stream. Its methods are safe for concurrent use.
type Stream struct {
	stream grpc.BidiStreamingClient[quotav1.CheckStreamRequest, quotav1.CheckStreamResponse]
	news   func(*quotav1.LeasesEnd)
	wake   chan struct{}
	over   chan struct{}

	mu      sync.Mutex
	waiting []question
	returns []*quotav1.LeaseReturn
	flights map[uint64]*flight
	silent  []*flight // of which nothing was heard, the oldest first
	last    uint64
	closing bool
	err     error // why it is over
}

// question is a check and what to do with its answer.
type question struct {
	check  *quotav1.CheckRequest
	answer func(*quotav1.CheckResponse, error)
}

// flight is a message on its way.
type flight struct {
	sent      time.Time
	heard     bool
	left      int
	questions []question // those that were answered have no answer func any more
}

// Open opens a stream, which lasts until ctx is done, [Stream.Close], or the node
// or the connection ends it. That it cannot be opened is told by the first check at
// the latest. News are passed on one after the other, by the goroutine that receives
// answers: nil for none.
func Open(ctx context.Context, c Client, news func(*quotav1.LeasesEnd)) (*Stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := c.CheckStream(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	s := &Stream{
		stream: stream, news: news, wake: make(chan struct{}, 1), over: make(chan struct{}), flights: make(map[uint64]*flight),
	}
	go func() { // ends with the stream, hence with ctx
		defer cancel()
		s.receive()
	}()
	go s.send() // ends when receive does
	return s, nil
}

// Check asks for a decision and waits for it. When ctx ends before it comes it is
// not known whether the check was charged. The request must not be changed any
// more. A lease that comes too late goes back.
func (s *Stream) Check(ctx context.Context, check *quotav1.CheckRequest) (*quotav1.CheckResponse, error) {
	type answer struct {
		resp *quotav1.CheckResponse
		err  error
	}
	got := make(chan answer) // without room: whoever does not wait any more takes nothing
	gone := ctx.Done()
	err := s.Ask(check, func(resp *quotav1.CheckResponse, err error) {
		select {
		case got <- answer{resp, err}:
		case <-gone:
			if l := resp.GetLease(); l.GetId() != 0 {
				s.Return(&quotav1.LeaseReturn{Id: l.GetId(), Checks: l.GetChecks()})
			}
		}
	})
	if err != nil {
		return nil, err
	}
	select {
	case a := <-got:
		return a.resp, a.err
	case <-gone:
		return nil, ctx.Err()
	}
}

// Ask asks for a decision, and calls answer once when it is there, or when it can
// not come any more. It is called by the goroutine that receives all answers, and
// must not wait for any. If Ask returns an error, it is not called.
func (s *Stream) Ask(check *quotav1.CheckRequest, answer func(*quotav1.CheckResponse, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case s.closing:
		return ErrOver
	case len(s.waiting) >= maxWaiting, len(s.silent) >= onTheWay && time.Since(s.silent[0].sent) > patience:
		return ErrBusy
	}
	s.waiting = append(s.waiting, question{check, answer})
	s.rouse()
	return nil
}

// Return gives back what was not used of leases. It may get lost, and then stays
// charged.
func (s *Stream) Return(returns ...*quotav1.LeaseReturn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.closing || len(s.returns)+len(returns) > maxWaiting {
		return
	}
	s.returns = append(s.returns, returns...)
	s.rouse()
}

// Close ends the stream once all answers are there. Nothing more can be asked.
func (s *Stream) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	s.rouse()
}

// Over is closed when the stream has ended and no answer is owed.
func (s *Stream) Over() <-chan struct{} { return s.over }

// Err is why the stream ended, once it is over.
func (s *Stream) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *Stream) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// send sends what waits, whenever it may.
func (s *Stream) send() {
	var p packer
	for {
		select {
		case <-s.wake:
		case <-s.over:
			return
		}
		for {
			req, questions, end := s.next()
			if end {
				_ = s.stream.CloseSend() // receive hears how it ended
				return
			}
			if req == nil {
				break
			}
			if len(questions) > 1 {
				p.pack(req, questions)
			}
			if s.stream.Send(req) != nil {
				return // so does receive, and why
			}
		}
	}
}

// next takes what waits for the next message; nil if there is nothing to send yet. More
// questions than one are to be put into it.
func (s *Stream) next() (req *quotav1.CheckStreamRequest, questions []question, end bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.waiting), perMessage)
	if len(s.silent) >= onTheWay {
		n = 0
	}
	returns := s.returns[:min(len(s.returns), perMessage)]
	if n == 0 && len(returns) == 0 {
		return nil, nil, s.closing && len(s.waiting) == 0
	}
	s.last++
	req = &quotav1.CheckStreamRequest{Id: s.last, Returns: slices.Clone(returns)}
	if s.returns = s.returns[len(returns):]; len(s.returns) == 0 {
		s.returns = nil
	}
	if n == 0 {
		return req, nil, false
	}
	f := &flight{sent: time.Now(), left: n, questions: s.waiting[:n:n]}
	if s.waiting = s.waiting[n:]; len(s.waiting) == 0 {
		s.waiting = nil
	}
	s.flights[s.last] = f
	s.silent = append(s.silent, f)
	if n == 1 {
		req.Check = f.questions[0].check
	}
	return req, f.questions, false
}

// receive takes answers until the stream ends, and then fails what is without one.
func (s *Stream) receive() {
	for {
		resp, err := s.stream.Recv()
		if err != nil {
			s.fail(err)
			return
		}
		if resp.GetLeasesEnd() != nil {
			if s.news != nil {
				s.news(resp.GetLeasesEnd())
			}
			continue
		}
		f := s.hear(resp)
		if f == nil {
			continue // it answers nothing that was asked
		}
		switch {
		case resp.GetCheck() != nil:
			s.told(resp.GetId(), f, 0, resp.GetCheck(), nil)
		case resp.GetFailure() != nil:
			s.told(resp.GetId(), f, 0, nil, failed(resp.GetFailure()))
		}
		for _, o := range resp.GetOutcomes() {
			if o.GetFailure() != nil {
				s.told(resp.GetId(), f, o.GetPlace(), nil, failed(o.GetFailure()))
			} else {
				s.told(resp.GetId(), f, o.GetPlace(), o.GetCheck(), nil)
			}
		}
	}
}

// hear finds the message that an answer belongs to, and lets others go if it is the
// first.
func (s *Stream) hear(resp *quotav1.CheckStreamResponse) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flights[resp.GetId()]
	if f == nil || f.heard {
		return f
	}
	f.heard = true
	s.silent = slices.DeleteFunc(s.silent, func(other *flight) bool { return other == f })
	if len(s.waiting) > 0 || s.closing {
		s.rouse()
	}
	return f
}

// told passes on an answer. Only receive calls it.
func (s *Stream) told(id uint64, f *flight, place uint32, resp *quotav1.CheckResponse, err error) {
	if int(place) >= len(f.questions) || f.questions[place].answer == nil {
		return
	}
	answer := f.questions[place].answer
	f.questions[place].answer = nil
	if f.left--; f.left == 0 {
		s.mu.Lock()
		delete(s.flights, id)
		s.mu.Unlock()
	}
	answer(resp, err)
}

// fail ends the stream.
func (s *Stream) fail(err error) {
	if errors.Is(err, io.EOF) {
		err = errEnded
	}
	err = errors.Join(ErrOver, err)
	s.mu.Lock()
	s.err = err
	owed := s.waiting
	for _, f := range s.flights {
		owed = append(owed, f.questions...)
	}
	s.waiting, s.flights, s.silent = nil, nil, nil
	s.mu.Unlock()
	close(s.over)
	for _, q := range owed {
		if q.answer != nil {
			q.answer(nil, err)
		}
	}
}

// failed makes an error of a failure, as that of a unary check would be.
func failed(f *quotav1.CheckFailure) error {
	code := codes.Code(f.GetCode())
	if code == codes.OK || code > codes.Unauthenticated {
		code = codes.Unknown
	}
	e := fault.New(code, f.GetReason(), "%s", f.GetMessage())
	if f.GetRetryAfter() != nil {
		e = e.After(f.GetRetryAfter().AsDuration())
	}
	return e
}
