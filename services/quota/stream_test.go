package quota_test

import (
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

func TestCheckStream(t *testing.T) {
	t.Parallel()
	c := client(t, service(t, testRules))
	stream, err := c.CheckStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checks := []*quotav1.CheckRequest{
		check("user", "ann", "tool", "flat"),
		check("action", "tools/call", "ip", "no address"),
		check("user", "ann", "tool", "flat"),
		check("user", "ann", "tool", "flat"),
	}
	for i, req := range checks {
		if err := stream.Send(&quotav1.CheckStreamRequest{Id: uint64(10 + i), Check: req}); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	var allowed []bool
	for i := 0; ; i++ {
		got, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if got.GetId() != uint64(10+i) {
			t.Errorf("answer %d has id %d", i, got.GetId())
		}
		if i == 1 {
			want := &quotav1.CheckFailure{
				Code: int32(codes.InvalidArgument), Reason: quotav1.Reason_REASON_ATTRIBUTE,
				Message: got.GetFailure().GetMessage(),
			}
			if diff := cmp.Diff(want, got.GetFailure(), protocmp.Transform()); diff != "" || want.GetMessage() == "" {
				t.Errorf("a malformed attribute (-want +got):\n%s", diff)
			}
			continue
		}
		allowed = append(allowed, got.GetCheck().GetAllowed())
	}
	if diff := cmp.Diff([]bool{true, true, false}, allowed); diff != "" {
		t.Errorf("the good checks (-want +got):\n%s", diff)
	}
}

// Streams and unary checks count together, and exactly.
func TestManyStreamsAreOneCount(t *testing.T) {
	t.Parallel()
	c := client(t, service(t, "rules: [{id: a, key: [user], limit: 100/hour}]"))
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		allowed int
	)
	for range 8 {
		wg.Go(func() {
			stream, err := c.CheckStream(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			for range 50 {
				if err := stream.Send(&quotav1.CheckStreamRequest{Check: check("user", "ann")}); err != nil {
					t.Error(err)
					return
				}
				got, err := stream.Recv()
				if err != nil {
					t.Error(err)
					return
				}
				if got.GetCheck().GetAllowed() {
					mu.Lock()
					allowed++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if allowed != 100 {
		t.Errorf("%d checks passed a limit of 100", allowed)
	}
}
