package quota

import (
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

type checkStream = grpc.BidiStreamingServer[quotav1.CheckStreamRequest, quotav1.CheckStreamResponse]

// CheckStream implements [quotav1.QuotaServiceServer]. A node that counts alone
// answers in order: a decision takes less than to hand it to somebody else. One
// that must ask others, or write a ledger, has up to [atOnce] under way.
func (s *Service) CheckStream(stream checkStream) error {
	if s.cluster != nil || len(s.plan.Load().quotas) > 0 {
		return s.streamTogether(stream)
	}
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(s.streamed(stream, req)); err != nil {
			return err
		}
	}
}

func (s *Service) streamTogether(stream checkStream) error {
	var (
		wg     sync.WaitGroup
		places = make(chan struct{}, atOnce)
		mu     sync.Mutex // a stream takes one message at a time
		broken error
	)
	defer wg.Wait()
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			wg.Wait()
			return broken
		}
		if err != nil {
			return err
		}
		select {
		case places <- struct{}{}:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
		wg.Go(func() {
			resp := s.streamed(stream, req)
			mu.Lock()
			defer mu.Unlock()
			if broken == nil {
				broken = stream.Send(resp) // if it fails, so does the next Recv
			}
			<-places
		})
	}
}

// streamed answers one check.
func (s *Service) streamed(stream checkStream, req *quotav1.CheckStreamRequest) *quotav1.CheckStreamResponse {
	resp := &quotav1.CheckStreamResponse{Id: req.GetId()}
	decided, err := s.Check(stream.Context(), req.GetCheck())
	if err == nil {
		resp.Outcome = &quotav1.CheckStreamResponse_Check{Check: decided}
		return resp
	}
	failed := status.Convert(fault.Seal(err))
	failure := &quotav1.CheckFailure{Code: int32(failed.Code()), Message: failed.Message()}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		failure.Reason = quotav1.Reason(quotav1.Reason_value[f.Reason])
		if f.RetryAfter > 0 {
			failure.RetryAfter = durationpb.New(f.RetryAfter)
		}
	}
	resp.Outcome = &quotav1.CheckStreamResponse_Failure{Failure: failure}
	return resp
}
