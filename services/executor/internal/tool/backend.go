package tool

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// Backend is how a tool is called, whatever is behind it: an RPC of a tool
// service ([Tool]) or a tool of a provider.
type Backend interface {
	// Decode makes a request of a call's arguments. If they are not what the tool
	// wants, the violations say why.
	Decode(arguments []byte) (proto.Message, []*executorv1.Violation, error)
	// Invoke makes a call with a request that Decode has made. An error is the
	// tool's own, as gRPC gave it, or one of this package.
	Invoke(ctx context.Context, conn grpc.ClientConnInterface, req proto.Message, c *Call) (Answer, error)
}

// Call is what a call is made with beside its request.
type Call struct {
	// Request is what the edge has sent.
	Request *executorv1.CallRequest
	// Principal is for whom.
	Principal *authv1.Principal
	// Key is the same for each attempt at this call.
	Key string
	// Round holds the client's answers, with the state as the provider gave it.
	Round *providerv1.Round
	// Limit bounds the result, in bytes.
	Limit int
	// To is told what happens before the result.
	To Caller
	// Reads says when more of a stream may be read; nil says always.
	Reads Reads
	// Reports says that the trailer is wanted, and Trailer is what came after the
	// answer or the error of the last attempt, if anything came.
	Reports bool
	Trailer metadata.MD
}

// Caller is who has made a call.
type Caller interface {
	// Send passes on progress or a notice.
	Send(*executorv1.CallResponse) error
}

// Progress passes on that the tool is getting on, if the client wants to know.
func (c *Call) Progress(p *providerv1.Progress) error {
	if !c.Request.GetWantsProgress() {
		return nil
	}
	return c.To.Send(&executorv1.CallResponse{Event: &executorv1.CallResponse_Progress{Progress: p}})
}

// Answer is how a tool has answered: in exactly one of these ways.
type Answer struct {
	// JSON is a result that is one JSON object.
	JSON []byte
	// Result is a result of any kind.
	Result *providerv1.ToolResult
	// Question is what the client has to say first.
	Question *providerv1.InputRequired
}
