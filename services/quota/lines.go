package quota

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
)

// Conn is a connection that can be closed.
type Conn interface {
	grpc.ClientConnInterface
	Close() error
}

// peer serves other quota nodes.
type peer struct {
	quotav1.UnimplementedQuotaPeerServiceServer

	node *cluster.Node
}

// errNotMeant ends a line to a member that this node is not.
var errNotMeant = fault.New(codes.FailedPrecondition, faultv1.Reason_REASON_NOT_READY, "this node is not the member that is meant")

type exchange = grpc.BidiStreamingServer[quotav1.ExchangeRequest, quotav1.ExchangeResponse]

// Exchange implements [quotav1.QuotaPeerServiceServer].
func (p peer) Exchange(stream exchange) error {
	first, err := stream.Recv()
	if err != nil {
		return ended(err)
	}
	over := p.node.Over(first.GetTo())
	if over == nil {
		return errNotMeant
	}
	if err := stream.Send(&quotav1.ExchangeResponse{}); err != nil {
		return err
	}
	answered := make(chan error, 1)
	go func() { answered <- p.answer(stream, first.GetTo()) }() // ends with the stream
	select {
	case err := <-answered:
		return ended(err)
	case <-over:
		return nil // who waits for an answer learns that there comes none
	}
}

func (p peer) answer(stream exchange, id string) error {
	for {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		reply := p.node.Answer(stream.Context(), id, req.GetRequest())
		if reply == nil {
			return errNotMeant
		}
		if err := stream.Send(&quotav1.ExchangeResponse{Reply: reply}); err != nil {
			return err
		}
	}
}

// line opens lines over connections; nil if there are none.
func (p Peers) line() func(context.Context, string, string) (cluster.Line, error) {
	if p.Dial == nil {
		return nil
	}
	return func(ctx context.Context, address, id string) (cluster.Line, error) {
		conn, err := p.Dial(address)
		if err != nil {
			return nil, err
		}
		life, end := context.WithCancel(context.Background()) // until the line is closed
		l := &line{end: end, conn: conn}
		stop := context.AfterFunc(ctx, l.Close)
		err = l.open(life, id)
		if !stop() || err != nil {
			l.Close()
			return nil, errors.Join(err, ctx.Err())
		}
		return l, nil
	}
}

// line is a [cluster.Line].
type line struct {
	conn   Conn
	stream grpc.BidiStreamingClient[quotav1.ExchangeRequest, quotav1.ExchangeResponse]
	end    context.CancelFunc
}

func (l *line) open(life context.Context, id string) (err error) {
	if l.stream, err = quotav1.NewQuotaPeerServiceClient(l.conn).Exchange(life); err != nil {
		return err
	}
	if err := l.stream.Send(&quotav1.ExchangeRequest{To: id}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_, err = l.stream.Recv() // says why, if it has ended
	return err
}

// Ask implements [cluster.Line].
func (l *line) Ask(q *quotav1.ClusterRequest) (*quotav1.ClusterReply, error) {
	if err := l.stream.Send(&quotav1.ExchangeRequest{Request: q}); errors.Is(err, io.EOF) {
		return nil, bus.ErrNobody // it had ended before
	} else if err != nil {
		return nil, err
	}
	resp, err := l.stream.Recv()
	if status.Code(err) == codes.FailedPrecondition {
		return nil, bus.ErrNobody
	}
	return resp.GetReply(), err
}

// Close implements [cluster.Line].
func (l *line) Close() {
	l.end()
	_ = l.conn.Close() // nothing is to be saved
}
