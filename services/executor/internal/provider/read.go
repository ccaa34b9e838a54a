package provider

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/rules"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
)

// ErrEmpty says that a provider has answered with nothing at all, which for a
// resource means that there is none.
var ErrEmpty = errors.New("nothing in it")

// Client asks a provider for one thing. What it returns has been checked; an
// error is the provider's own, or one of this package or of package tool.
type Client struct {
	Conn grpc.ClientConnInterface
	// Check is of [NewChecker].
	Check *rules.Checker
	// Limit bounds an answer, in bytes.
	Limit int
}

func (c Client) stub() (providerv1.ProviderServiceClient, grpc.CallOption) {
	return providerv1.NewProviderServiceClient(c.Conn), grpc.MaxCallRecvMsgSize(c.Limit + 1<<16)
}

// judge looks at an answer from outside.
func (c Client) judge(m proto.Message, err error) error {
	if err != nil {
		return fault.Receive(err)
	}
	if proto.Size(m) > c.Limit {
		return tool.ErrTooLarge
	}
	if err := broken(c.Check, m); err != nil {
		return fmt.Errorf("%w: %w", tool.ErrInvalid, err)
	}
	return nil
}

// Read reads a resource.
func (c Client) Read(ctx context.Context, req *providerv1.ReadResourceRequest) (*providerv1.ReadResourceResponse, error) {
	stub, limit := c.stub()
	resp, err := stub.ReadResource(ctx, req, limit)
	if err := c.judge(resp, err); err != nil {
		return nil, err
	}
	if done, err := c.asks(resp.GetInputRequired(), len(resp.GetContents())); done {
		return resp, err
	}
	if len(resp.GetContents()) == 0 {
		return nil, ErrEmpty
	}
	for i, r := range resp.GetContents() {
		if err := resourceContents(r); err != nil {
			return nil, fmt.Errorf("%w: contents %d: %w", tool.ErrInvalid, i, err)
		}
	}
	return resp, nil
}

// Prompt renders a prompt.
func (c Client) Prompt(ctx context.Context, req *providerv1.GetPromptRequest) (*providerv1.GetPromptResponse, error) {
	stub, limit := c.stub()
	resp, err := stub.GetPrompt(ctx, req, limit)
	if err := c.judge(resp, err); err != nil {
		return nil, err
	}
	if done, err := c.asks(resp.GetInputRequired(), len(resp.GetMessages())); done {
		return resp, err
	}
	for i, m := range resp.GetMessages() {
		if m.GetContent() == nil {
			return nil, fmt.Errorf("%w: message %d without content", tool.ErrInvalid, i)
		}
		if err := content(m.GetContent()); err != nil {
			return nil, fmt.Errorf("%w: message %d: %w", tool.ErrInvalid, i, err)
		}
	}
	return resp, nil
}

// Complete suggests values.
func (c Client) Complete(ctx context.Context, req *providerv1.CompleteRequest) (*providerv1.CompleteResponse, error) {
	stub, limit := c.stub()
	resp, err := stub.Complete(ctx, req, limit)
	if err := c.judge(resp, err); err != nil {
		return nil, err
	}
	return resp, nil
}

// asks reports whether an answer is a question, and checks that it is nothing
// else.
func (c Client) asks(q *providerv1.InputRequired, rest int) (bool, error) {
	if q == nil {
		return false, nil
	}
	err := question(q, c.Limit)
	if rest > 0 {
		err = errors.New("a question and an answer")
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", tool.ErrInvalid, err)
	}
	return true, err
}
