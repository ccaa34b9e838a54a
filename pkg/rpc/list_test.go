package rpc_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/devca"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
)

func TestReplicasShareTheCalls(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := devca.Ensure(dir, "quota", "edge"); err != nil {
		t.Fatal(err)
	}
	creds, err := devca.Files(dir).Server("quota")
	if err != nil {
		t.Fatal(err)
	}
	var addresses []string
	var servers []*grpc.Server
	var seen []chan context.Context
	for range 3 {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		svc := service{seen: make(chan context.Context, 1000)}
		g := rpc.Server{Allow: map[string][]string{quotaService: {"edge"}}}.New(grpc.Creds(creds))
		quotav1.RegisterQuotaServiceServer(g, svc)
		go func() { _ = g.Serve(lis) }() // ends with Stop
		t.Cleanup(g.Stop)
		addresses, servers, seen = append(addresses, lis.Addr().String()), append(servers, g), append(seen, svc.seen)
	}
	client, err := devca.Files(dir).Client("edge", "quota")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := rpc.Dial(strings.Join(addresses, ", "), nil, grpc.WithTransportCredentials(client))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := quotav1.NewQuotaServiceClient(conn)
	for n := 0; len(seen[0]) == 0 || len(seen[1]) == 0 || len(seen[2]) == 0; n++ {
		if _, err := c.Peek(t.Context(), peek("")); err != nil {
			t.Fatal(err)
		}
		if n == 900 {
			t.Fatalf("after %d calls they had %d, %d and %d", n, len(seen[0]), len(seen[1]), len(seen[2]))
		}
	}
	servers[1].Stop()
	for range 50 { // Peek is tried again, at another one
		if _, err := c.Peek(t.Context(), peek("")); err != nil {
			t.Fatalf("after one has gone: %v", err)
		}
	}
}
