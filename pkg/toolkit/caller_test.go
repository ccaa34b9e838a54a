package toolkit_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/testing/protocmp"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	basicsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/basics/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
)

// asking is a tool that says for whom it is called.
type asking struct {
	basics
	got chan *authv1.Principal
}

func (a asking) Echo(ctx context.Context, _ *basicsv1.EchoRequest) (*basicsv1.EchoResponse, error) {
	a.got <- toolkit.CallerOf(ctx)
	return &basicsv1.EchoResponse{}, nil
}

func TestToolGetsToKnowTheCaller(t *testing.T) {
	t.Parallel()
	tool := asking{got: make(chan *authv1.Principal, 1)}
	c := basicsv1.NewBasicsServiceClient(rpctest.Serve(t, func(r grpc.ServiceRegistrar) { basicsv1.RegisterBasicsServiceServer(r, tool) }))
	whole := &authv1.Principal{Id: "key:7", Owner: "ann", Name: "n", CredentialId: "7", Tenant: "acme", Roles: []string{"analyst", "dév"}}
	told := &authv1.Principal{Id: "key:7", Tenant: "acme", Roles: []string{"analyst", "dév"}}
	twice := toolkit.WithCaller(toolkit.WithCaller(t.Context(), whole), whole)
	tests := []struct {
		name string
		ctx  context.Context
		want *authv1.Principal
	}{
		{"of one that was set, what tools need", toolkit.WithCaller(t.Context(), whole), told},
		{"none", t.Context(), nil},
		{"nobody", toolkit.WithCaller(t.Context(), nil), nil},
		{"two are none", twice, nil},
		{"nonsense", metadata.AppendToOutgoingContext(t.Context(), "sallyport-caller-bin", "\xff"), nil},
	}
	for _, tt := range tests {
		if _, err := c.Echo(tt.ctx, &basicsv1.EchoRequest{Text: "a"}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, <-tool.got, protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
