package quotastream_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/quotastream"
)

// asked returns the message that checks arrive in.
func asked(t *testing.T, n *node, s *quotastream.Stream, checks []*quotav1.CheckRequest) *quotav1.CheckStreamRequest {
	t.Helper()
	ask := func(check *quotav1.CheckRequest) {
		t.Helper()
		if err := s.Ask(check, func(*quotav1.CheckResponse, error) {}); err != nil {
			t.Fatal(err)
		}
	}
	answer := func(req *quotav1.CheckStreamRequest) {
		resp := &quotav1.CheckStreamResponse{Id: req.GetId()}
		for i := range len(req.GetChecks()) + len(req.GetPacked()) {
			resp.Outcomes = append(resp.Outcomes, &quotav1.CheckOutcome{Place: uint32(i), Check: allowed()})
		}
		if req.GetCheck() != nil {
			resp.Outcome = &quotav1.CheckStreamResponse_Check{Check: allowed()}
		}
		n.answer <- resp
	}
	ask(check("first"))
	first := <-n.came
	ask(check("second"))
	second := <-n.came
	for _, c := range checks {
		ask(c)
	}
	answer(first)
	third := <-n.came
	answer(second)
	answer(third)
	synctest.Wait()
	return third
}

// plain are the checks that a node makes of a message.
func plain(req *quotav1.CheckStreamRequest) []*quotav1.CheckRequest {
	all := req.GetChecks()
	for _, p := range req.GetPacked() {
		attributes := make(map[string]string)
		for i, value := range p.GetValues() {
			if value != "" {
				attributes[req.GetNames()[i]] = value
			}
		}
		all = append(all, &quotav1.CheckRequest{
			Subject: &quotav1.Subject{Attributes: attributes},
			Cost:    p.Cost, IdempotencyKey: p.GetIdempotencyKey(), Lease: p.GetLease(), Estimates: p.GetEstimates(),
		})
	}
	return all
}

func TestWhatIsPackedIsWhatWasAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, s := open(t, nil)
		rng := rand.New(rand.NewPCG(1, 1))
		for range 100 {
			var checks []*quotav1.CheckRequest
			names := 1 + rng.IntN(40) // more than a message can have, now and then
			for range 2 + rng.IntN(20) {
				attributes := make(map[string]string)
				for range rng.IntN(12) {
					attributes[fmt.Sprint("name", rng.IntN(names))] = fmt.Sprint("value", rng.IntN(5))
				}
				c := &quotav1.CheckRequest{Subject: &quotav1.Subject{Attributes: attributes}}
				switch rng.IntN(4) {
				case 0:
					c.Cost = proto.Uint32(rng.Uint32N(3))
				case 1:
					c.IdempotencyKey = "once"
				case 2:
					c.Lease, c.Estimates = 5, []*quotav1.Estimate{{Unit: "tokens", Amount: 7}}
				}
				checks = append(checks, c)
			}
			got := asked(t, n, s, checks)
			if len(got.GetNames()) > 32 {
				t.Errorf("a message has %d names", len(got.GetNames()))
			}
			if diff := cmp.Diff(checks, plain(got), protocmp.Transform()); diff != "" {
				t.Fatalf("asked, and what arrived (-want +got):\n%s", diff)
			}
		}
	})
}

// Names of checks that are not met any more give way to others.
func TestManyNamesAreSaidInFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, s := open(t, nil)
		many := func(from, count int) *quotav1.CheckRequest {
			attributes := make(map[string]string)
			for i := range count {
				attributes[fmt.Sprint("name", from+i)] = "x"
			}
			return &quotav1.CheckRequest{Subject: &quotav1.Subject{Attributes: attributes}}
		}
		for _, test := range []struct {
			what   string
			checks []*quotav1.CheckRequest
			names  int // 0 for none: not packed
		}{
			{"as many as there may be", []*quotav1.CheckRequest{many(0, 20), many(20, 12)}, 32},
			{"others", []*quotav1.CheckRequest{many(100, 20), many(110, 20)}, 30},
			{"too many", []*quotav1.CheckRequest{many(200, 20), many(220, 13)}, 0},
			{"few", []*quotav1.CheckRequest{many(0, 3), many(1, 3)}, 4},
		} {
			got := asked(t, n, s, test.checks)
			if len(got.GetNames()) != test.names || (len(got.GetPacked()) > 0) != (test.names > 0) {
				t.Errorf("%s: got %d names and %d packed", test.what, len(got.GetNames()), len(got.GetPacked()))
			}
			for i, c := range plain(got) {
				if !maps.Equal(c.GetSubject().GetAttributes(), test.checks[i].GetSubject().GetAttributes()) {
					t.Errorf("%s: got %v", test.what, c)
				}
			}
		}
	})
}
