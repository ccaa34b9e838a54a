package tool_test

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tooltest"
)

// parrot answers with the request.
type parrot struct{ grpc.ClientConnInterface }

func (parrot) Invoke(_ context.Context, _ string, args, reply any, _ ...grpc.CallOption) error {
	raw, err := proto.Marshal(args.(proto.Message))
	if err != nil {
		return err
	}
	return proto.Unmarshal(raw, reply.(proto.Message))
}

// refusing is a connection that cannot be used.
type refusing struct{ grpc.ClientConnInterface }

func (refusing) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return status.Error(codes.Unavailable, "connection refused")
}

func TestInvokeTellsWhatWasNotSent(t *testing.T) {
	t.Parallel()
	echo := tooltest.Tools(t, "basics")["echo"]
	req, _, err := echo.Decode([]byte(`{"text":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := echo.Invoke(t.Context(), refusing{}, req, &tool.Call{Limit: 1 << 20}); !errors.Is(err, tool.ErrNotSent) {
		t.Errorf("Invoke: %v, want %v", err, tool.ErrNotSent)
	}
}
