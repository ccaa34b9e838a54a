//go:build cluster

package quota_test

import (
	"sync"
	"sync/atomic"
	"testing"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// TestStreamsOfSeveralNodesAreOneCount sends the checks of one caller through a
// stream to each node.
func TestStreamsOfSeveralNodesAreOneCount(t *testing.T) {
	server := natsServer(t)
	members := []*member{join(t, server.URL(), patientRules), join(t, server.URL(), patientRules)}
	var wg sync.WaitGroup
	var allowed atomic.Int64
	for _, m := range members {
		wg.Go(func() {
			stream, err := m.CheckStream(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			const checks = 300 // more than are decided at once
			wg.Go(func() {
				for id := range uint64(checks) {
					if err := stream.Send(&quotav1.CheckStreamRequest{Id: id, Check: check("action", "tools/call", "ip", "192.0.2.1")}); err != nil {
						t.Error(err)
						return
					}
				}
				if err := stream.CloseSend(); err != nil {
					t.Error(err)
				}
			})
			seen := make(map[uint64]bool)
			for range checks {
				got, err := stream.Recv()
				if err != nil {
					t.Error(err)
					return
				}
				if seen[got.GetId()] || got.GetFailure() != nil {
					t.Errorf("got %v", got)
				}
				seen[got.GetId()] = true
				if got.GetCheck().GetAllowed() {
					allowed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got := allowed.Load(); got != 10 {
		t.Errorf("%d checks passed a limit of 10", got)
	}
}
