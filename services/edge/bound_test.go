package edge_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

// bounds are the deadlines that peers were asked with.
type bounds struct{ auth, quota, executor time.Time }

type boundAuth struct {
	authv1.AuthServiceClient
	seen *bounds
}

func (b boundAuth) Authorize(ctx context.Context, req *authv1.AuthorizeRequest, opts ...grpc.CallOption) (*authv1.AuthorizeResponse, error) {
	b.seen.auth, _ = ctx.Deadline()
	return b.AuthServiceClient.Authorize(ctx, req, opts...)
}

type boundQuota struct {
	quotav1.QuotaServiceClient
	seen *bounds
}

func (b boundQuota) Check(ctx context.Context, req *quotav1.CheckRequest, opts ...grpc.CallOption) (*quotav1.CheckResponse, error) {
	b.seen.quota, _ = ctx.Deadline()
	return b.QuotaServiceClient.Check(ctx, req, opts...)
}

type boundExecutor struct {
	executorv1.ExecutorServiceClient
	seen *bounds
}

func (b boundExecutor) Call(ctx context.Context, req *executorv1.CallRequest, opts ...grpc.CallOption) (grpc.ServerStreamingClient[executorv1.CallResponse], error) {
	b.seen.executor, _ = ctx.Deadline()
	return b.ExecutorServiceClient.Call(ctx, req, opts...)
}

// Those who decide on a call have one bound together, and the call has its own.
func TestBoundsOfACall(t *testing.T) {
	t.Parallel()
	const peers, call = 20 * time.Second, 40 * time.Second
	var seen bounds
	w := newWorld(t, func(o *edge.Options) {
		o.Config.PeerTimeout, o.Config.CallTimeout = peers, call
		o.Auth, o.Quota, o.Executor = boundAuth{o.Auth, &seen}, boundQuota{o.Quota, &seen}, boundExecutor{o.Executor, &seen}
	})
	begin := time.Now()
	if a := w.send(t, request{}); a.status != http.StatusOK {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	if !seen.auth.Equal(seen.quota) || seen.auth.Before(begin.Add(peers)) || seen.auth.After(time.Now().Add(peers)) {
		t.Errorf("auth has until %v and quota until %v, want one bound of %v", seen.auth, seen.quota, peers)
	}
	if seen.executor.Before(begin.Add(call)) || seen.executor.After(time.Now().Add(call)) {
		t.Errorf("the executor has until %v, want %v", seen.executor, call)
	}
}
