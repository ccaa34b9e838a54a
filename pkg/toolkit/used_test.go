package toolkit_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	basicsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/basics/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
)

// frugal is a tool that reports what it is told to.
type frugal struct {
	basics
	report func(context.Context)
}

func (f frugal) Echo(ctx context.Context, r *basicsv1.EchoRequest) (*basicsv1.EchoResponse, error) {
	f.report(ctx)
	if r.GetText() == "fail" {
		return nil, status.Error(codes.NotFound, "no")
	}
	return &basicsv1.EchoResponse{}, nil
}

func TestToolReportsWhatItHasUsed(t *testing.T) {
	t.Parallel()
	toolkit.Used(t.Context(), "rows", 1) // outside of a call nothing happens
	tests := []struct {
		name   string
		report func(context.Context)
		want   map[string]uint64
		wrong  bool
	}{
		{"nothing", func(context.Context) {}, nil, false},
		{"one unit", func(ctx context.Context) { toolkit.Used(ctx, "rows", 42) }, map[string]uint64{"rows": 42}, false},
		{"none of it", func(ctx context.Context) { toolkit.Used(ctx, "rows", 0) }, map[string]uint64{"rows": 0}, false},
		{"several times", func(ctx context.Context) {
			toolkit.Used(ctx, "rows", 40)
			toolkit.Used(ctx, "llm_tokens", 1_000_000_000_000)
			toolkit.Used(ctx, "rows", 2)
		}, map[string]uint64{"rows": 42, "llm_tokens": 1_000_000_000_000}, false},
		{"too much", func(ctx context.Context) { toolkit.Used(ctx, "rows", 1_000_000_000_001) }, nil, true},
		{"what is no unit", func(ctx context.Context) { toolkit.Used(ctx, "rows\r\nx", 1) }, nil, true},
	}
	for _, tt := range tests {
		for _, text := range []string{"well", "fail"} {
			t.Run(tt.name+", "+text, func(t *testing.T) {
				t.Parallel()
				c := basicsv1.NewBasicsServiceClient(rpctest.Serve(t, func(r grpc.ServiceRegistrar) {
					basicsv1.RegisterBasicsServiceServer(r, frugal{report: tt.report})
				}))
				var trailer metadata.MD
				if _, err := c.Echo(t.Context(), &basicsv1.EchoRequest{Text: text}, grpc.Trailer(&trailer)); (err != nil) != (text == "fail") {
					t.Fatal(err)
				}
				got, err := toolkit.UsedOf(trailer)
				if diff := cmp.Diff(tt.want, got); diff != "" || (err != nil) != tt.wrong {
					t.Errorf("got %v, error %v (-want +got):\n%s", got, err, diff)
				}
			})
		}
	}
}

func TestUsedIsReadStrictly(t *testing.T) {
	t.Parallel()
	var most []string
	for i := range 65 {
		most = append(most, fmt.Sprintf("u%d=1", i))
	}
	tests := []struct {
		values []string
		want   string // part of the error; "" for none
	}{
		{[]string{"rows=0"}, ""},
		{[]string{"rows=0000000000007"}, ""},
		{most[:64], ""},
		{most, "65 values"},
		{[]string{""}, "no equals sign"},
		{[]string{"rows"}, "no equals sign"},
		{[]string{"=1"}, "the unit"},
		{[]string{"Rows=1"}, "the unit"},
		{[]string{"1rows=1"}, "the unit"},
		{[]string{"_rows=1"}, "the unit"},
		{[]string{" rows=1"}, "the unit"},
		{[]string{strings.Repeat("r", 33) + "=1"}, "the unit"},
		{[]string{"rows="}, "the amount"},
		{[]string{"rows=-1"}, "the amount"},
		{[]string{"rows=+1"}, "the amount"},
		{[]string{"rows=1 "}, "the amount"},
		{[]string{"rows=1.5"}, "the amount"},
		{[]string{"rows=1e3"}, "the amount"},
		{[]string{"rows=1_000"}, "the amount"},
		{[]string{"rows=1,tokens=2"}, "the amount"},
		{[]string{"rows=٣"}, "the amount"},
		{[]string{"rows=00000000000001"}, "the amount"},
		{[]string{"rows=1000000000001"}, "more than 1000000000000"},
		{[]string{"rows=1000000000000", "rows=1"}, "add up"},
		{[]string{"rows=1", "rows"}, "value 2 of 2"},
	}
	for _, tt := range tests {
		got, err := toolkit.UsedOf(metadata.MD{"sallyport-used": tt.values})
		if err == nil != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || got != nil) {
			t.Errorf("%q: got %v, error %v, want error %q", tt.values, got, err, tt.want)
		}
	}
}

// FuzzUsedOf checks that whatever a tool reports is refused or within bounds, and
// says the same when it is written anew.
func FuzzUsedOf(f *testing.F) {
	for _, seed := range []string{"rows=42", "rows=1\nrows=2\nllm_tokens=1000000000000", "rows=-1", "=", "a=1,b=2", "rows=00\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := toolkit.UsedOf(metadata.MD{"sallyport-used": strings.Split(text, "\n")})
		if err != nil {
			if got != nil {
				t.Errorf("got %v with error %v", got, err)
			}
			return
		}
		var again []string
		for _, unit := range slices.Sorted(maps.Keys(got)) {
			if got[unit] > toolkit.MaxUsed || len(unit) > 32 {
				t.Errorf("got %s=%d", unit, got[unit])
			}
			again = append(again, fmt.Sprintf("%s=%d", unit, got[unit]))
		}
		if same, err := toolkit.UsedOf(metadata.MD{"sallyport-used": again}); err != nil || !maps.Equal(same, got) {
			t.Errorf("%q again: got %v, error %v, want %v", again, same, err, got)
		}
	})
}
