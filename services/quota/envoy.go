package quota

import (
	"context"
	"math"
	"slices"
	"time"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// Bounds of a request: Envoy's types have none.
const (
	maxDescriptors = 64
	maxEntries     = 24
	maxName        = 32
	maxValue       = 512
	maxHits        = 1_000_000
)

// Attributes that Envoy calls otherwise.
const (
	remoteAddress = "remote_address"
	addressName   = "ip"
	domainName    = "domain"
)

// envoy answers Envoy's rate limit protocol, version 3, out of the same rules:
// each entry of a descriptor is an attribute, "remote_address" is ip, and the
// domain is the attribute domain. Rules that name others list them under
// attributes. Descriptors are decided and charged one by one, as Envoy expects.
type envoy struct {
	rls.UnimplementedRateLimitServiceServer
	s *Service
}

// ShouldRateLimit implements [rls.RateLimitServiceServer]. A limit in the
// request, which would take the place of a configured one, and negative hits are
// refused: neither could be kept.
func (e envoy) ShouldRateLimit(ctx context.Context, req *rls.RateLimitRequest) (*rls.RateLimitResponse, error) {
	batch, err := checksOf(req)
	if err != nil {
		return nil, err
	}
	decided, err := e.s.CheckBatch(ctx, batch)
	if err != nil {
		return nil, err
	}
	resp := &rls.RateLimitResponse{OverallCode: rls.RateLimitResponse_OK}
	for _, r := range decided.GetResults() {
		status := statusOf(r)
		if status.GetCode() == rls.RateLimitResponse_OVER_LIMIT {
			resp.OverallCode = rls.RateLimitResponse_OVER_LIMIT
		}
		resp.Statuses = append(resp.Statuses, status)
	}
	return resp, nil
}

// checksOf makes a check of each descriptor.
func checksOf(req *rls.RateLimitRequest) (*quotav1.CheckBatchRequest, error) {
	if n := len(req.GetDescriptors()); n == 0 || n > maxDescriptors {
		return nil, unreadable("descriptors: %d, and 1 to %d are taken", n, maxDescriptors)
	}
	if len(req.GetDomain()) > maxValue {
		return nil, unreadable("domain: longer than %d bytes", maxValue)
	}
	batch := new(quotav1.CheckBatchRequest)
	for i, d := range req.GetDescriptors() {
		switch {
		case d.GetLimit() != nil:
			return nil, unreadable("descriptors[%d].limit: limits are those of the rules; write an override there", i)
		case d.GetIsNegativeHits():
			return nil, unreadable("descriptors[%d].is_negative_hits: what was spent is not given back", i)
		case len(d.GetEntries()) == 0 || len(d.GetEntries()) > maxEntries:
			return nil, unreadable("descriptors[%d].entries: %d, and 1 to %d are taken", i, len(d.GetEntries()), maxEntries)
		}
		hits := uint64(max(req.GetHitsAddend(), 1)) // unset means one
		if d.GetHitsAddend() != nil {
			hits = d.GetHitsAddend().GetValue() // and here zero means to ask only
		}
		if hits > maxHits {
			return nil, unreadable("descriptors[%d].hits_addend: more than %d", i, maxHits)
		}
		attributes, err := attributesOf(req.GetDomain(), d.GetEntries(), i)
		if err != nil {
			return nil, err
		}
		batch.Checks = append(batch.Checks, &quotav1.CheckRequest{
			Subject: &quotav1.Subject{Attributes: attributes}, Cost: proto.Uint32(uint32(hits)),
		})
	}
	return batch, nil
}

func attributesOf(domain string, entries []*ratelimit.RateLimitDescriptor_Entry, descriptor int) (map[string]string, error) {
	all := map[string]string{domainName: domain}
	for j, e := range entries {
		name := e.GetKey()
		if name == remoteAddress {
			name = addressName
		}
		if _, twice := all[name]; twice || name == "" || len(name) > maxName || len(e.GetValue()) > maxValue {
			return nil, unreadable("descriptors[%d].entries[%d]: the key is empty, there twice or longer than %d bytes, or the value longer than %d",
				descriptor, j, maxName, maxValue)
		}
		all[name] = e.GetValue()
	}
	return all, nil
}

func unreadable(format string, args ...any) error {
	return fault.New(codes.InvalidArgument, faultv1.Reason_REASON_INVALID, format, args...)
}

// statusOf tells of the limit that a caller meets first: one that refused, else
// the one with the smallest part left.
func statusOf(r *quotav1.CheckResponse) *rls.RateLimitResponse_DescriptorStatus {
	status := &rls.RateLimitResponse_DescriptorStatus{Code: rls.RateLimitResponse_OK}
	if !r.GetAllowed() {
		status.Code = rls.RateLimitResponse_OVER_LIMIT
	}
	counting := slices.DeleteFunc(slices.Clone(r.GetLimits()), (*quotav1.LimitState).GetShadow)
	if len(counting) == 0 {
		return status
	}
	nearest := slices.MinFunc(counting, func(a, b *quotav1.LimitState) int {
		if a.GetExceeded() != b.GetExceeded() {
			if a.GetExceeded() {
				return -1
			}
			return 1
		}
		left := func(l *quotav1.LimitState) float64 { return float64(l.GetRemaining()) / float64(max(l.GetLimit(), 1)) }
		switch x, y := left(a), left(b); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	status.CurrentLimit = &rls.RateLimitResponse_RateLimit{
		Name: nearest.GetName(), RequestsPerUnit: clamp(nearest.GetLimit()), Unit: unitOf(nearest.GetWindow().AsDuration()),
	}
	status.LimitRemaining = clamp(nearest.GetRemaining())
	status.DurationUntilReset = nearest.GetResetAfter()
	if r.GetRetryAfter() != nil { // when another attempt can pass is what a client waits for
		status.DurationUntilReset = r.GetRetryAfter()
	}
	return status
}

func clamp(n uint64) uint32 { return uint32(min(n, math.MaxUint32)) }

// unitOf returns Envoy's unit for a window; it has none for most.
func unitOf(window time.Duration) rls.RateLimitResponse_RateLimit_Unit {
	switch window {
	case time.Second:
		return rls.RateLimitResponse_RateLimit_SECOND
	case time.Minute:
		return rls.RateLimitResponse_RateLimit_MINUTE
	case time.Hour:
		return rls.RateLimitResponse_RateLimit_HOUR
	case 24 * time.Hour:
		return rls.RateLimitResponse_RateLimit_DAY
	}
	return rls.RateLimitResponse_RateLimit_UNKNOWN
}
