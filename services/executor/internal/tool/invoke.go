package tool

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/transcode"
)

// ErrTooLarge says that a result is larger than it may be.
var ErrTooLarge = transcode.ErrTooLarge

// ErrInvalid says that a result is not what the tool's own contract promises.
var ErrInvalid = errors.New("the result breaks the tool's own rules")

// ErrNotSent is joined to an error of a call that never left the process.
var ErrNotSent = errors.New("not sent")

// How many messages are passed on as progress: so many at once, and so many in each
// second after that. Progress beyond is left out; it may be lost by its nature.
const (
	burst  = 100
	steady = 20
)

// Invoke implements [Backend]: it calls the tool and returns the result as a
// JSON object. Each message that a stream sends before its result is progress.
func (t *Tool) Invoke(ctx context.Context, conn grpc.ClientConnInterface, req proto.Message, c *Call) (Answer, error) {
	c.Trailer = nil
	resp, err := t.receive(ctx, conn, req, c)
	if err != nil {
		return Answer{}, err
	}
	broken, err := t.checkOut.Check(resp)
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if len(broken) > 0 {
		return Answer{}, fmt.Errorf("%w: %s %s", ErrInvalid, broken[0].GetPointer(), broken[0].GetMessage())
	}
	out, err := t.out.Encode(resp, c.Limit)
	if err != nil && !errors.Is(err, ErrTooLarge) {
		err = fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return Answer{JSON: out}, err
}

func (t *Tool) receive(ctx context.Context, conn grpc.ClientConnInterface, req proto.Message, c *Call) (*dynamicpb.Message, error) {
	// JSON may be shorter than the message it is made of, but not by much.
	size := grpc.MaxCallRecvMsgSize(4 * c.Limit)
	if t.stream != toolv1.Stream_STREAM_UNSPECIFIED {
		return t.collect(ctx, conn, req, c, size)
	}
	resp := t.out.New()
	var to peer.Peer
	var room [3]grpc.CallOption
	options := append(room[:0], size, grpc.Peer(&to))
	if c.Reports {
		options = append(options, grpc.Trailer(&c.Trailer))
	}
	if err := conn.Invoke(ctx, t.method, req, resp, options...); err != nil {
		if err = fault.Receive(err); to.Addr == nil {
			err = errors.Join(ErrNotSent, err)
		}
		return nil, err
	}
	return resp, nil
}

// collect reads a stream: the result is its last message, or all of them
// merged.
func (t *Tool) collect(ctx context.Context, conn grpc.ClientConnInterface, req proto.Message, c *Call, opts ...grpc.CallOption) (*dynamicpb.Message, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream, however this ends
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, t.method, opts...)
	if err != nil {
		return nil, errors.Join(ErrNotSent, fault.Receive(err))
	}
	if err := stream.SendMsg(req); err != nil && !errors.Is(err, io.EOF) { // EOF: the error comes by RecvMsg
		return nil, fault.Receive(err)
	}
	if err := stream.CloseSend(); err != nil {
		return nil, fault.Receive(err)
	}
	var result *dynamicpb.Message
	passed := rate.NewLimiter(steady, burst)
	reading := c.Read()
	for {
		if err := reading.Next(ctx); err != nil {
			return nil, err
		}
		m := t.out.New()
		err := stream.RecvMsg(m)
		if err != nil && c.Reports {
			c.Trailer = stream.Trailer()
		}
		switch {
		case errors.Is(err, io.EOF) && result == nil:
			return nil, fmt.Errorf("%w: no message", ErrInvalid)
		case errors.Is(err, io.EOF):
			return result, nil
		case err != nil:
			return nil, fault.Receive(err)
		}
		reading.Got(proto.Size(m))
		switch {
		case result == nil:
			result = m
		case t.stream == toolv1.Stream_STREAM_PARTS:
			proto.Merge(result, m)
		default:
			if passed.Allow() {
				if err := c.Progress(&providerv1.Progress{Progress: float64(reading.messages - 1)}); err != nil {
					return nil, err
				}
			}
			result = m
		}
		if t.stream == toolv1.Stream_STREAM_PARTS && reading.total > 4*c.Limit {
			return nil, ErrTooLarge
		}
	}
}
