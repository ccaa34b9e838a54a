package executor_test

import (
	"context"
	"errors"
	"math"
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	basicsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/basics/v1"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
)

// stage returns the role that the process plays: basics, with an echo that changes
// something and behaves like its kind. add_numbers is idempotent and always well.
//
//	good      answers with its label
//	other     is good, with another definition
//	killed    ends its process, as kill -9 does
//	hung      never answers, and does not heed its context
//	flooding  answers with messages without end
//	garbage   answers with bytes that are no message
//	wrong     answers with what its own rules forbid
//	huge      answers with 1 GiB, by a server that has no bounds; its add_numbers
//	          tells how many KiB it has sent
func (a act) stage(cfg *app.Config) (app.Role, error) {
	raw, err := os.ReadFile("internal/tooltest/testdata/basics.binpb")
	if err != nil {
		return app.Role{}, err
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(raw, set); err != nil {
		return app.Role{}, err
	}
	echo := set.GetFile()[0].GetService()[0].GetMethod()[0]
	options := proto.GetExtension(echo.GetOptions(), toolv1.E_Tool).(*toolv1.Tool)
	options.Risk, options.Idempotent, options.Timeout = toolv1.Risk_RISK_WRITE, false, nil
	switch a.Kind {
	case "other":
		options.Title = "Other"
	case "flooding":
		options.Stream, echo.ServerStreaming = toolv1.Stream_STREAM_PROGRESS, new(true)
	case "huge":
		address, err := a.serveHuge(cfg)
		if err != nil {
			return app.Role{}, err
		}
		cfg.Advertise = map[string]string{a.Service: address}
	}
	proto.SetExtension(echo.GetOptions(), toolv1.E_Tool, options)
	if raw, err = proto.Marshal(set); err != nil {
		return app.Role{}, err
	}
	return toolkit.Role(a.Service, raw, func(*app.Env) (app.Service, error) { return actor{act: a}, nil }), nil
}

// actor is the service.
type actor struct {
	basicsv1.UnimplementedBasicsServiceServer
	act
	sent *atomic.Int64 // bytes, if it is huge
}

func (actor) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func (a actor) Register(r grpc.ServiceRegistrar) {
	if a.Kind != "flooding" {
		basicsv1.RegisterBasicsServiceServer(r, a)
		return
	}
	desc := basicsv1.BasicsService_ServiceDesc
	desc.Methods = desc.Methods[1:]
	desc.Streams = []grpc.StreamDesc{{StreamName: "Echo", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
		for err := s.RecvMsg(new(basicsv1.EchoRequest)); ; err = s.SendMsg(&basicsv1.EchoResponse{Text: "more"}) {
			if err != nil {
				return err
			}
		}
	}}}
	r.RegisterService(&desc, a)
}

func (a actor) AddNumbers(_ context.Context, req *basicsv1.AddNumbersRequest) (*basicsv1.AddNumbersResponse, error) {
	if a.sent != nil {
		return &basicsv1.AddNumbersResponse{Sum: int32(a.sent.Load() >> 10)}, nil
	}
	return &basicsv1.AddNumbersResponse{Sum: req.GetA() + req.GetB()}, nil
}

func (a actor) Echo(context.Context, *basicsv1.EchoRequest) (*basicsv1.EchoResponse, error) {
	out := &basicsv1.EchoResponse{Text: a.Label}
	switch a.Kind {
	case "killed":
		return nil, errors.Join(syscall.Kill(os.Getpid(), syscall.SIGKILL), context.Cause(forever()))
	case "hung":
		<-forever().Done()
	case "garbage":
		out.ProtoReflect().SetUnknown([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	case "wrong":
		out.Text = string(make([]byte, 10001))
	}
	return out, nil
}

// forever is never done.
func forever() context.Context { return context.Background() }

// serveHuge serves basics without any bounds on what it sends.
func (a act) serveHuge(cfg *app.Config) (address string, err error) {
	creds, err := cfg.TLS.Server(a.Service)
	if err != nil {
		return "", err
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	srv := grpc.NewServer(grpc.Creds(creds), grpc.MaxSendMsgSize(math.MaxInt32), grpc.ForceServerCodecV2(hugeCodec{encoding.GetCodecV2(encodingproto.Name)}))
	sent := new(atomic.Int64)
	basicsv1.RegisterBasicsServiceServer(srv, actor{act: a, sent: sent})
	go func() { _ = srv.Serve(counted{lis, sent}) }() // until the process ends
	return lis.Addr().String(), nil
}

// counted counts the bytes that are sent on what it accepts.
type counted struct {
	net.Listener
	sent *atomic.Int64
}

// Accept implements [net.Listener].
func (c counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	return countedConn{conn, c.sent}, err
}

type countedConn struct {
	net.Conn
	sent *atomic.Int64
}

// Write implements [net.Conn].
func (c countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent.Add(int64(n))
	return n, err
}

// hugeSize is how large the text is that hugeCodec makes of an answer.
const hugeSize = 1 << 30

// hugeCodec makes 1 GiB of each answer of Echo, which takes 1 MiB of memory.
type hugeCodec struct{ encoding.CodecV2 }

// Marshal implements [encoding.CodecV2].
func (c hugeCodec) Marshal(v any) (mem.BufferSlice, error) {
	if _, ok := v.(*basicsv1.EchoResponse); !ok {
		return c.CodecV2.Marshal(v)
	}
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = 'x'
	}
	head := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.BytesType), hugeSize)
	out := mem.BufferSlice{mem.SliceBuffer(head)}
	for range hugeSize / len(block) {
		out = append(out, mem.SliceBuffer(block))
	}
	return out, nil
}
