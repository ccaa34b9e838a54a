package rpc_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
)

// trailing sets trailers, and fails if it shall.
type trailing struct {
	executorv1.UnimplementedExecutorServiceServer
}

func (trailing) ListTools(ctx context.Context, r *executorv1.ListToolsRequest) (*executorv1.ListToolsResponse, error) {
	for _, value := range []string{"1", "2"} {
		if err := grpc.SetTrailer(ctx, metadata.Pairs("x-told", value)); err != nil && r.GetKnownVersion() != "unasked" {
			return nil, err
		}
	}
	if r.GetKnownVersion() == "fail" {
		return nil, status.Error(codes.NotFound, "no")
	}
	return &executorv1.ListToolsResponse{}, nil
}

func (trailing) Call(r *executorv1.CallRequest, s grpc.ServerStreamingServer[executorv1.CallResponse]) error {
	s.SetTrailer(metadata.Pairs("x-told", "1"))
	if err := s.Send(progress(1)); err != nil {
		return err
	}
	if err := grpc.SetTrailer(s.Context(), metadata.Pairs("x-told", "2")); err != nil {
		return err
	}
	if r.GetTool() == "fail" {
		return status.Error(codes.NotFound, "no")
	}
	return nil
}

// Trailers come with an answer and with an error, over memory as over the network.
func TestTrailersAreCarried(t *testing.T) {
	t.Parallel()
	want := []string{"1", "2"}
	for _, isolated := range []bool{false, true} {
		srv := rpc.Server{Isolated: isolated, Allow: map[string][]string{"sallyport.executor.v1.ExecutorService": {"edge"}}}
		register := func(r grpc.ServiceRegistrar) { executorv1.RegisterExecutorServiceServer(r, trailing{}) }
		for shape, client := range map[string]executorv1.ExecutorServiceClient{
			"memory": executorv1.NewExecutorServiceClient(srv.Local("edge", nil, register)),
			"mtls":   executorv1.NewExecutorServiceClient(overTLS(t, srv, "executor", "edge", register)),
		} {
			for _, how := range []string{"well", "fail"} {
				var got metadata.MD
				_, err := client.ListTools(t.Context(), &executorv1.ListToolsRequest{KnownVersion: how}, grpc.Trailer(&got))
				if diff := cmp.Diff(want, got.Get("x-told")); diff != "" || (err != nil) != (how == "fail") {
					t.Errorf("%s, %s: error %v, trailer (-want +got):\n%s", shape, how, err, diff)
				}
				stream, err := client.Call(t.Context(), callOf(how))
				if err != nil {
					t.Fatal(err)
				}
				for err == nil {
					_, err = stream.Recv()
				}
				if diff := cmp.Diff(want, stream.Trailer().Get("x-told")); diff != "" || errors.Is(err, io.EOF) == (how == "fail") {
					t.Errorf("%s, stream, %s: error %v, trailer (-want +got):\n%s", shape, how, err, diff)
				}
			}
			if _, err := client.ListTools(t.Context(), &executorv1.ListToolsRequest{KnownVersion: "unasked"}); err != nil {
				t.Errorf("%s: a trailer that nobody asked for: %v", shape, err)
			}
		}
	}
}
