package quota_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

const linedRules = `
cluster: {enabled: true, lease: 10s, patience: 5s}
rules: [{id: per-ip, key: [ip], limit: 10/hour}]
`

// lined starts members, and waits until none asks another over NATS.
func lined(t *testing.T, count int) []*member {
	t.Helper()
	url := natsServer(t).URL()
	var members []*member
	for range count {
		members = append(members, startOn(t, onBus(url), linedRules))
	}
	n := 0
	await(t, "lines", func() bool {
		var before, after int64
		for _, m := range members {
			before += m.wire.asked.Load()
		}
		for _, m := range members {
			for range 20 { // some of which are the others' to decide
				n++
				if _, err := m.Check(t.Context(), check("ip", fmt.Sprintf("2001:db8:1:%x::1", n%0xffff))); err != nil {
					return false
				}
			}
		}
		for _, m := range members {
			after += m.wire.asked.Load()
			if m.svc.Ready(t.Context()) != nil {
				return false
			}
		}
		return before == after
	})
	return members
}

func TestNodesDecideOverLines(t *testing.T) {
	t.Parallel()
	members := lined(t, 3)
	for i := range 100 {
		allowed := 0
		for j := range 15 {
			res, err := members[j%3].Check(t.Context(), check("ip", fmt.Sprintf("2001:db8:2:%x::1", i)))
			if err != nil {
				t.Fatal(err)
			}
			if res.GetAllowed() {
				allowed++
			}
		}
		if allowed != 10 {
			t.Errorf("admitted %d of 10", allowed)
		}
	}
	for _, m := range members {
		m.server.Stop() // which ends the lines to this one
	}
	lost, before := 0, members[0].wire.asked.Load()
	for i := range 300 {
		if _, err := members[i%3].svc.Check(t.Context(), check("ip", fmt.Sprintf("2001:db8:3:%x::1", i))); err != nil {
			lost++
		}
	}
	if lost > 6 { // one for each line
		t.Errorf("%d checks were not decided when lines broke", lost)
	}
	if members[0].wire.asked.Load() == before {
		t.Error("nothing goes over NATS without lines")
	}
}

func TestOnlyNodesOpenLines(t *testing.T) {
	t.Parallel()
	url := natsServer(t).URL()
	m := startOn(t, onBus(url), linedRules)
	await(t, "the node to serve", func() bool { return m.svc.Ready(t.Context()) == nil })
	for name, test := range map[string]struct {
		role  string
		first *quotav1.ExchangeRequest
		want  codes.Code
	}{
		"an edge":              {"edge", &quotav1.ExchangeRequest{To: "x"}, codes.PermissionDenied},
		"for another member":   {"quota", &quotav1.ExchangeRequest{To: "x"}, codes.FailedPrecondition},
		"for nobody":           {"quota", &quotav1.ExchangeRequest{}, codes.FailedPrecondition},
		"for what is no id":    {"quota", &quotav1.ExchangeRequest{To: strings.Repeat("x", 65)}, codes.InvalidArgument},
		"with too many groups": {"quota", &quotav1.ExchangeRequest{Request: tooMany()}, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := dialAs(t, url, test.role, m.address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			stream, err := quotav1.NewQuotaPeerServiceClient(conn).Exchange(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_ = stream.Send(test.first) // what is wrong is told to who receives
			if _, err := stream.Recv(); status.Code(err) != test.want {
				t.Errorf("got %v", err)
			}
		})
	}
}

func tooMany() *quotav1.ClusterRequest {
	f := &quotav1.AskFrame{Groups: make([]*quotav1.AskGroup, 513)}
	for i := range f.Groups {
		f.Groups[i] = &quotav1.AskGroup{}
	}
	return &quotav1.ClusterRequest{Request: &quotav1.ClusterRequest_Asks{Asks: f}}
}
