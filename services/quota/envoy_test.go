package quota_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
)

const envoyRules = `
attributes: [domain, path, generic_key]
rules:
  - {id: per-ip, match: {domain: shop}, key: [ip], limit: 3/minute}
  - {id: search, match: {domain: shop, path: /search}, key: [ip], limit: 2/second}
  - {id: watched, match: {domain: shop}, limit: 1/hour, shadow: true}
  - {id: odd, match: {generic_key: odd}, limit: 5/90s}
`

func descriptor(pairs ...string) *ratelimit.RateLimitDescriptor {
	d := new(ratelimit.RateLimitDescriptor)
	for i := 0; i < len(pairs); i += 2 {
		d.Entries = append(d.Entries, &ratelimit.RateLimitDescriptor_Entry{Key: pairs[i], Value: pairs[i+1]})
	}
	return d
}

func ask(domain string, hits uint32, ds ...*ratelimit.RateLimitDescriptor) *rls.RateLimitRequest {
	return &rls.RateLimitRequest{Domain: domain, HitsAddend: hits, Descriptors: ds}
}

func TestEnvoy(t *testing.T) {
	t.Parallel()
	type descriptorStatus = rls.RateLimitResponse_DescriptorStatus
	const (
		ok   = rls.RateLimitResponse_OK
		over = rls.RateLimitResponse_OVER_LIMIT
	)
	perIP := &rls.RateLimitResponse_RateLimit{Name: "per-ip", RequestsPerUnit: 3, Unit: rls.RateLimitResponse_RateLimit_MINUTE}
	here := descriptor("remote_address", "192.0.2.1")
	asking := descriptor("remote_address", "192.0.2.1")
	asking.HitsAddend = wrapperspb.UInt64(0)
	tests := []struct {
		name   string
		before []*rls.RateLimitRequest
		req    *rls.RateLimitRequest
		want   *rls.RateLimitResponse
	}{{
		"an address is counted", nil, ask("shop", 0, here),
		&rls.RateLimitResponse{OverallCode: ok, Statuses: []*descriptorStatus{
			{Code: ok, CurrentLimit: perIP, LimitRemaining: 2, DurationUntilReset: seconds(60)},
		}},
	}, {
		"hits count as many",
		[]*rls.RateLimitRequest{ask("shop", 2, here)},
		ask("shop", 2, here),
		&rls.RateLimitResponse{OverallCode: over, Statuses: []*descriptorStatus{
			{Code: over, CurrentLimit: perIP, LimitRemaining: 1, DurationUntilReset: seconds(60)},
		}},
	}, {
		"no hits ask only",
		[]*rls.RateLimitRequest{ask("shop", 3, here)},
		ask("shop", 5, asking),
		&rls.RateLimitResponse{OverallCode: over, Statuses: []*descriptorStatus{
			{Code: over, CurrentLimit: perIP, DurationUntilReset: seconds(60)},
		}},
	}, {
		"one descriptor over its limit is enough, and each tells of its nearest limit",
		[]*rls.RateLimitRequest{ask("shop", 2, descriptor("remote_address", "192.0.2.9", "path", "/search"))},
		ask("shop", 0, here, descriptor("remote_address", "192.0.2.9", "path", "/search"), descriptor("generic_key", "odd")),
		&rls.RateLimitResponse{OverallCode: over, Statuses: []*descriptorStatus{
			{Code: ok, CurrentLimit: perIP, LimitRemaining: 2, DurationUntilReset: seconds(60)},
			{
				Code:               over,
				CurrentLimit:       &rls.RateLimitResponse_RateLimit{Name: "search", RequestsPerUnit: 2, Unit: rls.RateLimitResponse_RateLimit_SECOND},
				DurationUntilReset: seconds(1),
			},
			{Code: ok, CurrentLimit: &rls.RateLimitResponse_RateLimit{Name: "per-ip", RequestsPerUnit: 3, Unit: rls.RateLimitResponse_RateLimit_MINUTE}, LimitRemaining: 2, DurationUntilReset: seconds(60)},
		}},
	}, {
		"a window for which Envoy has no unit", nil, ask("other", 0, descriptor("generic_key", "odd")),
		&rls.RateLimitResponse{OverallCode: ok, Statuses: []*descriptorStatus{
			{Code: ok, CurrentLimit: &rls.RateLimitResponse_RateLimit{Name: "odd", RequestsPerUnit: 5}, LimitRemaining: 4, DurationUntilReset: seconds(90)},
		}},
	}, {
		"no rule matches: there is no limit", nil, ask("other", 0, here),
		&rls.RateLimitResponse{OverallCode: ok, Statuses: []*descriptorStatus{{Code: ok}}},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := rls.NewRateLimitServiceClient(rpctest.Serve(t, service(t, envoyRules).Register))
				for _, r := range tt.before {
					if _, err := c.ShouldRateLimit(t.Context(), r); err != nil {
						t.Fatal(err)
					}
				}
				got, err := c.ShouldRateLimit(t.Context(), tt.req)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, got, protocmp.Transform()); diff != "" {
					t.Errorf("ShouldRateLimit (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestEnvoyRefusesWhatItCannotKeep(t *testing.T) {
	t.Parallel()
	c := rls.NewRateLimitServiceClient(rpctest.Serve(t, service(t, envoyRules).Register))
	limited, given, much := descriptor("a", "b"), descriptor("a", "b"), descriptor("a", "b")
	limited.Limit = &ratelimit.RateLimitDescriptor_RateLimitOverride{RequestsPerUnit: 1}
	given.IsNegativeHits = true
	much.HitsAddend = wrapperspb.UInt64(1 << 40)
	var crowd []*ratelimit.RateLimitDescriptor
	var entries []string
	for i := range 65 {
		crowd = append(crowd, descriptor("a", "b"))
		entries = append(entries, fmt.Sprint("k", i), "v")
	}
	tests := []struct {
		name string
		req  *rls.RateLimitRequest
		says string
	}{
		{"no descriptor", ask("shop", 0), "descriptors: 0"},
		{"too many descriptors", ask("shop", 0, crowd...), "descriptors: 65"},
		{"a long domain", ask(strings.Repeat("d", 513), 0, descriptor("a", "b")), "domain"},
		{"a limit of its own", ask("shop", 0, limited), "descriptors[0].limit"},
		{"negative hits", ask("shop", 0, descriptor("a", "b"), given), "descriptors[1].is_negative_hits"},
		{"too many hits", ask("shop", 0, much), "descriptors[0].hits_addend"},
		{"no entry", ask("shop", 0, descriptor()), "descriptors[0].entries: 0"},
		{"too many entries", ask("shop", 0, descriptor(entries...)), "descriptors[0].entries: 65"},
		{"an entry without a key", ask("shop", 0, descriptor("", "x")), "descriptors[0].entries[0]"},
		{"a key twice", ask("shop", 0, descriptor("a", "x", "a", "y")), "descriptors[0].entries[1]"},
		{"an address twice", ask("shop", 0, descriptor("ip", "x", "remote_address", "y")), "descriptors[0].entries[1]"},
		{"the domain twice", ask("shop", 0, descriptor("domain", "x")), "descriptors[0].entries[0]"},
		{"a long key", ask("shop", 0, descriptor(strings.Repeat("k", 33), "x")), "descriptors[0].entries[0]"},
		{"a long value", ask("shop", 0, descriptor("a", strings.Repeat("v", 513))), "descriptors[0].entries[0]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := c.ShouldRateLimit(t.Context(), tt.req)
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(status.Convert(err).Message(), tt.says) {
				t.Errorf("got %v, want one that says %q", err, tt.says)
			}
		})
	}
}

// FuzzEnvoy gives the adapter any request that can be read as one.
func FuzzEnvoy(f *testing.F) {
	for _, r := range []*rls.RateLimitRequest{
		ask("shop", 0, descriptor("remote_address", "192.0.2.1")),
		ask("shop", 9, descriptor("remote_address", "::1", "path", "/search"), descriptor("generic_key", "odd")),
		ask("", 0),
	} {
		text, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	c := rls.NewRateLimitServiceClient(rpctest.Serve(f, service(f, envoyRules).Register))
	f.Fuzz(func(t *testing.T, text []byte) {
		req := new(rls.RateLimitRequest)
		if proto.Unmarshal(text, req) != nil {
			return
		}
		resp, err := c.ShouldRateLimit(t.Context(), req)
		switch {
		case err != nil && status.Code(err) != codes.InvalidArgument:
			t.Errorf("got %v", err)
		case err == nil && len(resp.GetStatuses()) != len(req.GetDescriptors()):
			t.Errorf("got %d answers to %d descriptors", len(resp.GetStatuses()), len(req.GetDescriptors()))
		}
	})
}
