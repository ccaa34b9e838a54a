package rpc_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/devca"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/identity"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
)

// service answers Peek by what the subject's attribute "do" says.
type service struct {
	quotav1.UnimplementedQuotaServiceServer
	seen chan context.Context
}

func (s service) Peek(ctx context.Context, req *quotav1.PeekRequest) (*quotav1.PeekResponse, error) {
	if s.seen != nil {
		s.seen <- ctx
	}
	switch req.GetSubject().GetAttributes()["do"] {
	case "wait":
		<-ctx.Done()
		return nil, ctx.Err()
	case "panic":
		panic("secret")
	case "fail":
		return nil, errors.New("secret")
	case "fault":
		return nil, fault.New(codes.NotFound, quotav1.Reason_REASON_ATTRIBUTE, "for you").Because(errors.New("secret"))
	}
	return &quotav1.PeekResponse{Check: &quotav1.CheckResponse{Rule: identity.Caller(ctx)}}, nil
}

func peek(do string) *quotav1.PeekRequest {
	return &quotav1.PeekRequest{Subject: &quotav1.Subject{Attributes: map[string]string{"do": do}}}
}

const quotaService = "sallyport.quota.v1.QuotaService"

// shapes are the two ways to reach a service: what holds in one must hold in the
// other.
func shapes(t *testing.T, caller string, svc service) map[string]quotav1.QuotaServiceClient {
	t.Helper()
	srv := rpc.Server{Allow: map[string][]string{quotaService: {"edge"}}}
	register := func(r grpc.ServiceRegistrar) { quotav1.RegisterQuotaServiceServer(r, svc) }

	return map[string]quotav1.QuotaServiceClient{
		"memory": quotav1.NewQuotaServiceClient(srv.Local(caller, nil, register)),
		"mtls":   quotav1.NewQuotaServiceClient(overTLS(t, srv, "quota", caller, register)),
	}
}

// overTLS serves what register adds as role, and returns a connection to it of
// caller.
func overTLS(t *testing.T, srv rpc.Server, role, caller string, register func(grpc.ServiceRegistrar)) grpc.ClientConnInterface {
	t.Helper()
	dir := t.TempDir()
	if err := devca.Ensure(dir, role, caller); err != nil {
		t.Fatal(err)
	}
	creds, err := devca.Files(dir).Server(role)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := srv.New(grpc.Creds(creds))
	register(g)
	go func() { _ = g.Serve(lis) }() // ends with Stop
	t.Cleanup(g.Stop)
	client, err := devca.Files(dir).Client(caller, role)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := rpc.Dial(lis.Addr().String(), nil, grpc.WithTransportCredentials(client))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestErrorsAreSealedInBothShapes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		req  *quotav1.PeekRequest
		code codes.Code
	}{
		{"a panic is our fault and says nothing", peek("panic"), codes.Internal},
		{"a plain error says nothing", peek("fail"), codes.Internal},
		{"a fault says what it was written to say", peek("fault"), codes.NotFound},
		{"a request that breaks its contract is refused", &quotav1.PeekRequest{}, codes.InvalidArgument},
	}
	for shape, client := range shapes(t, "edge", service{}) {
		for _, tt := range tests {
			t.Run(shape+"/"+tt.name, func(t *testing.T) {
				_, err := client.Peek(t.Context(), tt.req)
				if status.Code(err) != tt.code {
					t.Errorf("got %v, want code %v", err, tt.code)
				}
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("leaks: %v", err)
				}
				if tt.code == codes.NotFound && !fault.Is(err, quotav1.Reason_REASON_ATTRIBUTE) {
					t.Errorf("got %#v, want the fault that was raised", err)
				}
			})
		}
	}
}

func TestOnlyListedRolesAreLetIn(t *testing.T) {
	t.Parallel()
	for _, caller := range []string{"edge", "audit"} {
		for shape, client := range shapes(t, caller, service{}) {
			resp, err := client.Peek(t.Context(), peek(""))
			switch {
			case caller == "edge" && (err != nil || resp.GetCheck().GetRule() != "edge"):
				t.Errorf("%s: edge: got %v, %v", shape, resp, err)
			case caller != "edge" && (status.Code(err) != codes.PermissionDenied || !fault.Is(err, faultv1.Reason_REASON_PEER_UNKNOWN)):
				t.Errorf("%s: %s: got %v, want PermissionDenied", shape, caller, err)
			}
		}
	}
}

func TestDeadlineAndMetadataCrossButValuesDoNot(t *testing.T) {
	t.Parallel()
	type key struct{}
	for shape := range shapes(t, "edge", service{}) {
		seen := make(chan context.Context, 1)
		client := shapes(t, "edge", service{seen: seen})[shape]
		ctx := metadata.AppendToOutgoingContext(context.WithValue(t.Context(), key{}, "x"), "m", "v")
		if _, err := client.Peek(ctx, peek("")); err != nil {
			t.Fatal(err)
		}
		got := <-seen
		if d, ok := got.Deadline(); !ok || time.Until(d) > rpc.DefaultDeadline {
			t.Errorf("%s: deadline %v, %v; want the default", shape, d, ok)
		}
		if got.Value(key{}) != nil {
			t.Errorf("%s: a value of the caller's context crossed", shape)
		}
		if md, _ := metadata.FromIncomingContext(got); len(md.Get("m")) != 1 {
			t.Errorf("%s: metadata %v", shape, md)
		}
	}
}

func TestCanceledCallIsCanceledInBothShapes(t *testing.T) {
	t.Parallel()
	seen := make(chan context.Context)
	for shape, client := range shapes(t, "edge", service{seen: seen}) {
		for range 50 { // who leaves first is a matter of luck
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-seen
				cancel()
			}()
			if _, err := client.Peek(ctx, peek("wait")); status.Code(err) != codes.Canceled {
				t.Fatalf("%s: got %v, want Canceled", shape, err)
			}
		}
	}
}

func TestOptionsOfACallAreHeededInBothShapes(t *testing.T) {
	t.Parallel()
	for shape, client := range shapes(t, "edge", service{}) {
		var to peer.Peer
		if _, err := client.Peek(t.Context(), peek(""), grpc.Peer(&to)); err != nil || to.Addr == nil {
			t.Errorf("%s: the peer is %v (%v)", shape, to.Addr, err)
		}
		if _, err := client.Peek(t.Context(), peek(""), grpc.MaxCallRecvMsgSize(2)); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%s: an answer that is too large: got %v", shape, err)
		}
	}
}

func TestPeerMustBeTheRoleThatWasDialled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := devca.Ensure(dir, "quota", "edge"); err != nil {
		t.Fatal(err)
	}
	creds, err := devca.Files(dir).Server("quota")
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := rpc.Server{}.New(grpc.Creds(creds))
	go func() { _ = g.Serve(lis) }() // ends with Stop
	t.Cleanup(g.Stop)
	client, err := devca.Files(dir).Client("edge", "auth") // but quota answers there
	if err != nil {
		t.Fatal(err)
	}
	conn, err := rpc.Dial(lis.Addr().String(), nil, grpc.WithTransportCredentials(client))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := quotav1.NewQuotaServiceClient(conn).Peek(ctx, peek("")); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want Unavailable", err)
	}
}

func TestMissingIdentityIsAnErrorThatNamesTheFile(t *testing.T) {
	t.Parallel()
	id := devca.Files(filepath.Join(t.TempDir(), "nowhere"))
	if _, err := id.Server("edge"); err == nil || !strings.Contains(err.Error(), "tls.ca") {
		t.Errorf("got %v", err)
	}
}
