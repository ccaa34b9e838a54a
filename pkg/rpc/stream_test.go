package rpc_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
)

// caller streams by what the tool is called.
type caller struct {
	executorv1.UnimplementedExecutorServiceServer
	gone chan error // how the handler's context ended
}

func (c caller) Call(req *executorv1.CallRequest, s grpc.ServerStreamingServer[executorv1.CallResponse]) error {
	switch req.GetTool() {
	case "panic":
		panic("secret")
	case "fail":
		return errors.New("secret")
	case "wait":
		if err := s.Send(progress(0)); err != nil {
			return err
		}
		<-s.Context().Done()
		c.gone <- s.Context().Err()
		return s.Context().Err()
	}
	for i := range 20 { // more than are in flight
		if err := s.Send(progress(float64(i))); err != nil {
			return err
		}
	}
	return nil
}

func progress(p float64) *executorv1.CallResponse {
	return &executorv1.CallResponse{Event: &executorv1.CallResponse_Progress{Progress: &providerv1.Progress{Progress: p}}}
}

func streamShapes(t *testing.T, svc caller) map[string]executorv1.ExecutorServiceClient {
	t.Helper()
	srv := rpc.Server{Allow: map[string][]string{"sallyport.executor.v1.ExecutorService": {"edge"}}}
	register := func(r grpc.ServiceRegistrar) { executorv1.RegisterExecutorServiceServer(r, svc) }
	return map[string]executorv1.ExecutorServiceClient{
		"memory": executorv1.NewExecutorServiceClient(srv.Local("edge", nil, register)),
		"mtls":   executorv1.NewExecutorServiceClient(overTLS(t, srv, "executor", "edge", register)),
	}
}

func callOf(tool string) *executorv1.CallRequest {
	return &executorv1.CallRequest{Grant: []byte("g"), Tool: tool, Arguments: []byte("{}")}
}

func TestStreamArrivesWholeAndInOrder(t *testing.T) {
	t.Parallel()
	for shape, client := range streamShapes(t, caller{}) {
		s, err := client.Call(t.Context(), callOf("x"))
		if err != nil {
			t.Fatal(err)
		}
		for want := 0; ; want++ {
			m, err := s.Recv()
			if errors.Is(err, io.EOF) {
				if want != 20 {
					t.Errorf("%s: %d messages, want 20", shape, want)
				}
				break
			}
			if err != nil || m.GetProgress().GetProgress() != float64(want) {
				t.Fatalf("%s: message %d is %v, %v", shape, want, m, err)
			}
		}
	}
}

func TestStreamErrorsAreSealed(t *testing.T) {
	t.Parallel()
	for shape, client := range streamShapes(t, caller{}) {
		for tool, want := range map[string]codes.Code{"panic": codes.Internal, "fail": codes.Internal, "": codes.InvalidArgument} {
			s, err := client.Call(t.Context(), callOf(tool))
			if err == nil {
				_, err = s.Recv()
			}
			if status.Code(err) != want || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %q: got %v, want %v", shape, tool, err, want)
			}
		}
	}
}

func TestCancelReachesTheHandlerOfAStream(t *testing.T) {
	t.Parallel()
	gone := make(chan error, 1)
	for shape, client := range streamShapes(t, caller{gone: gone}) {
		ctx, cancel := context.WithCancel(t.Context())
		s, err := client.Call(ctx, callOf("wait"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: the handler's context ended with %v", shape, err)
		}
		if _, err := s.Recv(); status.Code(err) != codes.Canceled {
			t.Errorf("%s: got %v, want Canceled", shape, err)
		}
	}
}

func TestIsolatedHandlerCannotHoldItsCaller(t *testing.T) {
	t.Parallel()
	seen, release := make(chan context.Context, 1), make(chan struct{})
	defer close(release)
	srv := rpc.Server{Isolated: true, Allow: map[string][]string{quotaService: {"edge"}}}
	client := quotaClient(srv, stubborn{release: release, seen: seen})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-seen
		cancel()
	}()
	if _, err := client.Peek(ctx, peek("")); status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want Canceled", err)
	}
}

// stubborn does not heed its context.
type stubborn struct {
	quotav1.UnimplementedQuotaServiceServer
	seen    chan context.Context
	release chan struct{}
}

func (s stubborn) Peek(ctx context.Context, _ *quotav1.PeekRequest) (*quotav1.PeekResponse, error) {
	s.seen <- ctx
	<-s.release
	return &quotav1.PeekResponse{}, nil
}

func quotaClient(srv rpc.Server, impl quotav1.QuotaServiceServer) quotav1.QuotaServiceClient {
	return quotav1.NewQuotaServiceClient(srv.Local("edge", nil, func(r grpc.ServiceRegistrar) { quotav1.RegisterQuotaServiceServer(r, impl) }))
}
