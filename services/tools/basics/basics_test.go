package basics_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	basicsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/basics/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/tools/basics"
)

func client(t *testing.T) basicsv1.BasicsServiceClient {
	t.Helper()
	return basicsv1.NewBasicsServiceClient(rpctest.Serve(t, new(basics.Service).Register))
}

func TestEcho(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		wantCode   codes.Code
	}{
		{name: "text comes back", text: "hello"},
		{name: "all of Unicode comes back", text: "héllo \u202e \x00 👩‍🚀\r\n"},
		{name: "ten thousand characters come back", text: strings.Repeat("é", 10000)},
		{name: "one more is refused", text: strings.Repeat("é", 10001), wantCode: codes.InvalidArgument},
		{name: "nothing is refused", text: "", wantCode: codes.InvalidArgument},
	}
	c := client(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := c.Echo(t.Context(), &basicsv1.EchoRequest{Text: tt.text})
			if status.Code(err) != tt.wantCode {
				t.Fatalf("Echo: got error %v, want code %v", err, tt.wantCode)
			}
			if err == nil && got.GetText() != tt.text {
				t.Errorf("Echo: got %q, want %q", got.GetText(), tt.text)
			}
		})
	}
}

func TestAddNumbers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		a, b     *int32
		want     int32
		wantCode codes.Code
	}{
		{name: "two numbers are added", a: proto.Int32(2), b: proto.Int32(40), want: 42},
		{name: "zeros count as given", a: proto.Int32(0), b: proto.Int32(0), want: 0},
		{name: "extremes of both signs fit", a: proto.Int32(math.MaxInt32), b: proto.Int32(math.MinInt32), want: -1},
		{name: "the largest sum fits", a: proto.Int32(math.MaxInt32 - 1), b: proto.Int32(1), want: math.MaxInt32},
		{name: "a larger one does not", a: proto.Int32(math.MaxInt32), b: proto.Int32(1), wantCode: codes.OutOfRange},
		{name: "the smallest sum fits", a: proto.Int32(math.MinInt32 + 1), b: proto.Int32(-1), want: math.MinInt32},
		{name: "a smaller one does not", a: proto.Int32(math.MinInt32), b: proto.Int32(-1), wantCode: codes.OutOfRange},
		{name: "a missing number is refused", a: proto.Int32(1), wantCode: codes.InvalidArgument},
	}
	c := client(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := c.AddNumbers(t.Context(), &basicsv1.AddNumbersRequest{A: tt.a, B: tt.b})
			if status.Code(err) != tt.wantCode {
				t.Fatalf("AddNumbers: got error %v, want code %v", err, tt.wantCode)
			}
			if err != nil && !fault.Is(err, faultv1.Reason_REASON_INVALID) {
				t.Errorf("AddNumbers: got error %v, want REASON_INVALID", err)
			}
			if got.GetSum() != tt.want {
				t.Errorf("AddNumbers: got %d, want %d", got.GetSum(), tt.want)
			}
		})
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := new(basics.Service).Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
}
