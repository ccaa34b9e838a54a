package provider

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
)

// Invoke implements [tool.Backend].
func (t *Tool) Invoke(ctx context.Context, conn grpc.ClientConnInterface, req proto.Message, c *tool.Call) (tool.Answer, error) {
	c.Trailer = nil
	checked := req.(*providerv1.CallToolRequest)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream, however this ends
	stream, err := providerv1.NewProviderServiceClient(conn).CallTool(ctx, &providerv1.CallToolRequest{
		Name: checked.GetName(), Arguments: checked.GetArguments(), Principal: c.Principal, IdempotencyKey: c.Key,
		WantsProgress: c.Request.GetWantsProgress(), LogLevel: c.Request.GetLogLevel(), Round: c.Round,
	}, grpc.MaxCallRecvMsgSize(4*c.Limit+1<<16))
	if err != nil {
		return tool.Answer{}, errors.Join(tool.ErrNotSent, fault.Receive(err))
	}
	passing := newPass(c)
	var answer tool.Answer
	reading := c.Read()
	for {
		if err := reading.Next(ctx); err != nil {
			return tool.Answer{}, err
		}
		resp, err := stream.Recv()
		if err != nil && c.Reports {
			c.Trailer = stream.Trailer()
		}
		answered := answer.Result != nil || answer.Question != nil
		switch {
		case errors.Is(err, io.EOF) && answered:
			return answer, nil
		case errors.Is(err, io.EOF):
			return tool.Answer{}, fmt.Errorf("%w: the stream ended without a result", tool.ErrInvalid)
		case err != nil && answered && ctx.Err() == nil:
			return tool.Answer{}, fmt.Errorf("%w: an error after the result: %w", tool.ErrInvalid, concealed{err})
		case err != nil:
			return tool.Answer{}, fault.Receive(err)
		case answered:
			return tool.Answer{}, fmt.Errorf("%w: a message after the result", tool.ErrInvalid)
		}
		reading.Got(proto.Size(resp))
		if answer, err = t.event(resp, passing, c.Limit); err != nil {
			return tool.Answer{}, err
		}
	}
}

// concealed keeps an error's text for the log, and from being taken for what the
// provider says of the call.
type concealed struct{ cause error }

// Error implements error.
func (h concealed) Error() string { return h.cause.Error() }

// event checks one message of a call, and passes it on if it is not its end.
func (t *Tool) event(resp *providerv1.CallToolResponse, passing *pass, limit int) (tool.Answer, error) {
	if r := resp.GetResult(); r != nil {
		if err := sized(r, limit); err != nil {
			return tool.Answer{}, err
		}
	}
	if err := broken(t.check, resp); err != nil {
		return tool.Answer{}, fmt.Errorf("%w: %w", tool.ErrInvalid, err)
	}
	switch e := resp.GetEvent().(type) {
	case *providerv1.CallToolResponse_Progress:
		return tool.Answer{}, passing.progress(e.Progress)
	case *providerv1.CallToolResponse_Notice:
		return tool.Answer{}, passing.notice(e.Notice)
	case *providerv1.CallToolResponse_InputRequired:
		if err := question(e.InputRequired, limit); err != nil {
			return tool.Answer{}, fmt.Errorf("%w: %w", tool.ErrInvalid, err)
		}
		return tool.Answer{Question: e.InputRequired}, nil
	case *providerv1.CallToolResponse_Result:
		if err := t.result(e.Result); err != nil {
			return tool.Answer{}, fmt.Errorf("%w: %w", tool.ErrInvalid, err)
		}
		return tool.Answer{Result: e.Result}, nil
	}
	return tool.Answer{}, fmt.Errorf("%w: a message of a kind that is not known", tool.ErrInvalid)
}
