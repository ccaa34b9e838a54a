package toolkit_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	basicsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/basics/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
)

// telling is a tool that says where in a task it is called.
type telling struct {
	basics
	got chan toolkit.Chain
}

func (t telling) Echo(ctx context.Context, _ *basicsv1.EchoRequest) (*basicsv1.EchoResponse, error) {
	t.got <- toolkit.ChainOf(ctx)
	return &basicsv1.EchoResponse{}, nil
}

func TestToolGetsToKnowTheChain(t *testing.T) {
	t.Parallel()
	tool := telling{got: make(chan toolkit.Chain, 1)}
	c := basicsv1.NewBasicsServiceClient(rpctest.Serve(t, func(r grpc.ServiceRegistrar) { basicsv1.RegisterBasicsServiceServer(r, tool) }))
	tests := []struct {
		name string
		ctx  context.Context
		want toolkit.Chain
	}{
		{"one that was set", toolkit.Chain{Context: "task:7", Hops: 3}.With(t.Context()), toolkit.Chain{Context: "task:7", Hops: 3}},
		{"none", t.Context(), toolkit.Chain{}},
		{"nonsense", metadata.AppendToOutgoingContext(t.Context(), "sallyport-hops", "-1"), toolkit.Chain{}},
	}
	for _, tt := range tests {
		if _, err := c.Echo(tt.ctx, &basicsv1.EchoRequest{Text: "a"}); err != nil {
			t.Fatal(err)
		}
		if got := <-tool.got; got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}
