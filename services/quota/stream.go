package quota

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

type checkStream = grpc.BidiStreamingServer[quotav1.CheckStreamRequest, quotav1.CheckStreamResponse]

// CheckStream implements [quotav1.QuotaServiceServer]. A node that counts alone
// answers in order: a decision takes less than to hand it to somebody else. One
// that must ask others, or write a ledger, has up to [atOnce] checks under way.
func (s *Service) CheckStream(stream checkStream) error {
	t := &talk{s: s, stream: stream, leases: leases{s: s}, over: make(chan struct{})}
	defer t.end()
	if s.cluster != nil || len(s.plan.Load().quotas) > 0 {
		return t.together()
	}
	for {
		req, err := t.receive()
		if err != nil {
			return ended(err)
		}
		if resp := t.answer(req); resp != nil {
			if err := t.send(resp); err != nil {
				return err
			}
		}
	}
}

// ended is how a stream ends when nothing more comes.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// talk is one stream of checks.
type talk struct {
	s      *Service
	stream checkStream
	leases leases

	listening sync.Once
	helper    sync.WaitGroup // who tells of leases, see listen
	over      chan struct{}  // closed to end it

	sending sync.Mutex // a stream takes one message at a time
}

// end waits for all that the stream has begun. What is leased stays charged.
func (t *talk) end() {
	close(t.over)
	t.helper.Wait()
	t.leases.close()
}

// receive returns the next message that asks for something; what goes back of
// leases is done.
func (t *talk) receive() (*quotav1.CheckStreamRequest, error) {
	for {
		req, err := t.stream.Recv()
		if err != nil {
			return nil, err
		}
		if len(req.GetReturns()) > 0 {
			t.leases.takeBack(t.stream.Context(), req.GetReturns())
		}
		sorts := 0
		for _, there := range []bool{req.GetCheck() != nil, len(req.GetChecks()) > 0, len(req.GetPacked()) > 0} {
			if there {
				sorts++
			}
		}
		if sorts > 1 || sorts == 0 && len(req.GetReturns()) == 0 {
			return nil, fault.New(codes.InvalidArgument, faultv1.Reason_REASON_INVALID,
				"a message of the stream needs one of check, checks and packed, or returns")
		}
		if err := unpack(req); err != nil {
			return nil, err
		}
		if sorts > 0 {
			return req, nil
		}
	}
}

func (t *talk) send(resp *quotav1.CheckStreamResponse) error {
	t.sending.Lock()
	defer t.sending.Unlock()
	return t.stream.Send(resp)
}

// answer decides all checks of a message, one after the other.
func (t *talk) answer(req *quotav1.CheckStreamRequest) *quotav1.CheckStreamResponse {
	if req.GetCheck() != nil {
		var o quotav1.CheckOutcome
		t.decide(&o, req.GetCheck())
		return single(req.GetId(), &o)
	}
	all := make([]quotav1.CheckOutcome, len(req.GetChecks())) // in one piece
	resp := &quotav1.CheckStreamResponse{Id: req.GetId(), Outcomes: make([]*quotav1.CheckOutcome, len(all))}
	for i, c := range req.GetChecks() {
		all[i].Place = uint32(i)
		t.decide(&all[i], c)
		resp.Outcomes[i] = &all[i]
	}
	return resp
}

// single is the answer to a message with one check.
func single(id uint64, o *quotav1.CheckOutcome) *quotav1.CheckStreamResponse {
	resp := &quotav1.CheckStreamResponse{Id: id}
	if o.GetFailure() != nil {
		resp.Outcome = &quotav1.CheckStreamResponse_Failure{Failure: o.GetFailure()}
	} else {
		resp.Outcome = &quotav1.CheckStreamResponse_Check{Check: o.GetCheck()}
	}
	return resp
}

// decide decides one check, and gives the lease that it may ask for.
func (t *talk) decide(o *quotav1.CheckOutcome, req *quotav1.CheckRequest) {
	ctx := valueless{t.stream.Context()}
	decided, err := t.s.Check(ctx, req)
	if err != nil {
		o.Failure = checkFailure(err)
		return
	}
	if req.GetLease() > 0 && leasable(req, decided) {
		t.listen()
		decided.Lease = t.leases.give(ctx, req, decided)
	}
	o.Check = decided
}

// valueless is a context without values: the span of a stream says nothing of a
// check, and to look for it in all that a stream's context holds costs as much as
// to count the check.
type valueless struct{ context.Context }

// Value implements [context.Context].
func (valueless) Value(any) any { return nil }

// checkFailure is what the status of a unary check would say.
func checkFailure(err error) *quotav1.CheckFailure {
	failed := status.Convert(fault.Seal(err))
	failure := &quotav1.CheckFailure{Code: int32(failed.Code()), Message: failed.Message()}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		failure.Reason = quotav1.Reason(quotav1.Reason_value[f.Reason])
		if f.RetryAfter > 0 {
			failure.RetryAfter = durationpb.New(f.RetryAfter)
		}
	}
	return failure
}

// together decides the checks of all messages side by side.
func (t *talk) together() error {
	var (
		wg     sync.WaitGroup
		places = make(chan struct{}, atOnce)
		out    = outbox{talk: t, kept: make(map[*answers]bool)}
	)
	defer func() { _ = out.end() }() // where it matters it is asked below
	defer wg.Wait()
	for {
		req, err := t.receive()
		if errors.Is(err, io.EOF) {
			wg.Wait()
			return out.end()
		}
		if err != nil {
			return err
		}
		checks, alone := req.GetChecks(), req.GetCheck() != nil
		if alone {
			checks = []*quotav1.CheckRequest{req.GetCheck()}
		}
		m := &answers{id: req.GetId(), alone: alone, left: len(checks)}
		for i, c := range checks {
			select {
			case places <- struct{}{}:
			case <-t.stream.Context().Done():
				return t.stream.Context().Err()
			}
			wg.Go(func() {
				o := &quotav1.CheckOutcome{Place: uint32(i)}
				t.decide(o, c)
				out.add(m, o)
				<-places
			})
		}
	}
}
