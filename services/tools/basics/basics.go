// Package basics is a tool service with two tools that need nothing: to try
// Sallyport, and to measure it. It keeps no state and reaches nothing.
package basics

import (
	"context"
	"math"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	basicsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/basics/v1"
)

// Service has the two tools. The zero value is ready to use.
type Service struct {
	basicsv1.UnimplementedBasicsServiceServer
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { basicsv1.RegisterBasicsServiceServer(r, s) }

// Run waits for ctx to end: there is nothing to do besides calls.
func (*Service) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Echo implements [basicsv1.BasicsServiceServer].
func (*Service) Echo(_ context.Context, req *basicsv1.EchoRequest) (*basicsv1.EchoResponse, error) {
	return &basicsv1.EchoResponse{Text: req.GetText()}, nil
}

// AddNumbers implements [basicsv1.BasicsServiceServer].
func (*Service) AddNumbers(_ context.Context, req *basicsv1.AddNumbersRequest) (*basicsv1.AddNumbersResponse, error) {
	sum := int64(req.GetA()) + int64(req.GetB())
	if sum < math.MinInt32 || sum > math.MaxInt32 {
		return nil, fault.New(codes.OutOfRange, faultv1.Reason_REASON_INVALID, "the sum of a and b does not fit a 32-bit integer")
	}
	return &basicsv1.AddNumbersResponse{Sum: int32(sum)}, nil
}
