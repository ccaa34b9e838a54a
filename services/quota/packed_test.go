package quota_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// packed is a message with the same checks, packed.
func packed(req *quotav1.CheckStreamRequest) *quotav1.CheckStreamRequest {
	all := make(map[string]bool)
	for _, c := range req.GetChecks() {
		for name := range c.GetSubject().GetAttributes() {
			all[name] = true
		}
	}
	p := &quotav1.CheckStreamRequest{Id: req.GetId(), Returns: req.GetReturns(), Names: slices.Sorted(maps.Keys(all))}
	for _, c := range req.GetChecks() {
		to := &quotav1.PackedCheck{Cost: c.Cost, IdempotencyKey: c.GetIdempotencyKey(), Lease: c.GetLease(), Estimates: c.GetEstimates()}
		for _, name := range p.GetNames() {
			to.Values = append(to.Values, c.GetSubject().GetAttributes()[name])
		}
		for len(to.Values) > 0 && to.Values[len(to.Values)-1] == "" {
			to.Values = to.Values[:len(to.Values)-1]
		}
		p.Packed = append(p.Packed, to)
	}
	return p
}

func TestPackedChecksAreChecks(t *testing.T) {
	t.Parallel()
	rules := `
rules:
  - {id: per-user, match: {user: "*"}, key: [user], limit: 5000/hour}
  - {id: per-ip, match: {ip: "*"}, key: [ip], limit: 3/hour}
  - {id: dear, match: {tool: dear}, key: [user], limit: 100/hour, cost: one}
`
	free := check("user", "bob")
	free.Cost = proto.Uint32(0)
	dear := check("user", "bob", "tool", "dear")
	dear.Cost = proto.Uint32(4)
	once := check("user", "eve", "ip", "2001:db8::1")
	once.IdempotencyKey = "k"
	leased := check("user", "fay")
	leased.Lease = 2
	req := &quotav1.CheckStreamRequest{Id: 7, Checks: []*quotav1.CheckRequest{
		check("user", "ann", "ip", "2001:db8::1"), check("ip", "2001:db8::1"), check(), check("ip", "no address"),
		free, dear, dear, once, once, check("ip", "2001:db8::1"), leased,
	}}
	var answers []*quotav1.CheckStreamResponse
	for _, req := range []*quotav1.CheckStreamRequest{req, packed(req)} {
		h := hold(t, client(t, service(t, rules)))
		h.send(req)
		answers = append(answers, h.next())
	}
	if n := len(answers[0].GetOutcomes()); n != len(req.GetChecks()) {
		t.Fatalf("got %d outcomes", n)
	}
	if answers[0].GetOutcomes()[10].GetCheck().GetLease() == nil {
		t.Error("nothing is leased")
	}
	times := protocmp.IgnoreFields(&quotav1.LimitState{}, "reset_after")
	waits := protocmp.IgnoreFields(&quotav1.CheckResponse{}, "retry_after")
	lives := protocmp.IgnoreFields(&quotav1.Lease{}, "life")
	if diff := cmp.Diff(answers[0], answers[1], protocmp.Transform(), times, waits, lives); diff != "" {
		t.Errorf("plain and packed (-plain +packed):\n%s", diff)
	}
}

// An attribute that is absent is none, however it is told.
func TestARepetitionMayBePacked(t *testing.T) {
	t.Parallel()
	c := client(t, service(t, "rules: [{id: per-user, key: [user], limit: 5/hour}]"))
	once := check("user", "ann")
	once.IdempotencyKey = "k"
	if _, err := c.Check(t.Context(), once); err != nil {
		t.Fatal(err)
	}
	h := hold(t, c)
	h.send(packed(&quotav1.CheckStreamRequest{Checks: []*quotav1.CheckRequest{once, check("ip", "2001:db8::1", "user", "bob")}}))
	if got := h.next().GetOutcomes()[0].GetCheck().GetLimits()[0].GetRemaining(); got != 4 {
		t.Errorf("%d remain after a repetition, want 4", got)
	}
}

func TestWhatIsPackedWronglyEndsTheStream(t *testing.T) {
	t.Parallel()
	for name, req := range map[string]*quotav1.CheckStreamRequest{
		"more values than names": {Names: []string{"user"}, Packed: []*quotav1.PackedCheck{{Values: []string{"a"}}, {Values: []string{"a", "b"}}}},
		"a name twice":           {Names: []string{"user", "user"}, Packed: []*quotav1.PackedCheck{{Values: []string{"a", "b"}}}},
		"an empty name":          {Names: []string{""}, Packed: []*quotav1.PackedCheck{{Values: []string{"a"}}}},
		"checks besides":         {Checks: []*quotav1.CheckRequest{check("user", "a")}, Packed: []*quotav1.PackedCheck{{}}},
		"a check besides":        {Check: check("user", "a"), Packed: []*quotav1.PackedCheck{{}}},
		"names of nothing":       {Names: []string{"user"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stream, err := client(t, service(t, testRules)).CheckStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Send(req); err != nil {
				t.Fatal(err)
			}
			got, err := stream.Recv()
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}
