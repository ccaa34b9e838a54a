package edge_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/bustest"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	edgev1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/edge/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

// newCluster runs two edges that share nothing but a bus and a key.
func newCluster(t *testing.T) (here, there *world, b *bus.Bus) {
	t.Helper()
	b = bustest.New(t)
	on := func(o *edge.Options) {
		o.Notices, o.Policies = edge.BusNotices(b, nil), edge.BusPolicies(b, nil)
		o.Peers, o.Sessions = edge.BusPeers(b, nil), edge.BusSessions(b)
	}
	if _, err := b.Get(t.Context(), bus.Sessions, "x"); !errors.Is(err, bus.ErrNotFound) {
		t.Fatal(err)
	}
	before := b.Conn().NumSubscriptions()
	here, there = newWorld(t, on).watched(t), newWorld(t, on).watched(t)
	// Each edge has four subscriptions. One that is on its way to the server is
	// there before whatever is sent after it.
	until(t, "both edges listen on the bus", func() bool { return b.Conn().NumSubscriptions() >= before+8 })
	return here, there, b
}

func TestACallIsCancelledAtAnotherEdge(t *testing.T) {
	t.Parallel()
	here, there, _ := newCluster(t)
	c := here.initialize(t, `{}`)
	answered := here.waiting(t, c, "1")
	for _, tt := range []struct {
		name   string
		client *client
		want   int
	}{
		{"by another session", there.initialize(t, `{}`), http.StatusAccepted},
		{"by a session of another principal", there.initialize(t, `{}`, func(c *client) { c.token = "bobs" }), http.StatusAccepted},
		{"by the client itself", c.at(there), http.StatusAccepted},
	} {
		select {
		case err := <-here.executor.ended:
			t.Fatalf("before it was cancelled %s: the call ended with %v", tt.name, err)
		default:
		}
		if a := tt.client.post(t, cancellation("1")); a.status != tt.want {
			t.Errorf("%s: got %d %s, want %d", tt.name, a.status, a.body, tt.want)
		}
	}
	if err := <-here.executor.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the tool ended with %v, want it cancelled", err)
	}
	if a := <-answered; a.status != http.StatusOK || len(a.body) > 0 {
		t.Errorf("the call: got %d %q, want nothing", a.status, a.body)
	}
}

func TestAnAnswerIsTakenAtAnotherEdge(t *testing.T) {
	t.Parallel()
	here, there, _ := newCluster(t)
	c := here.initialize(t, everything)
	stream := c.call(t, "asks_form")
	asked := stream.message(t)
	for name, other := range map[string]*client{
		"another session":                     there.initialize(t, everything),
		"a session of another principal":      there.initialize(t, everything, func(c *client) { c.token = "bobs" }),
		"another session, at the same edge":   here.initialize(t, everything),
		"a session that can be asked nothing": there.initialize(t, `{}`),
	} {
		if a := other.reply(t, asked, `"result":{"action":"accept"}`); a.status != http.StatusBadRequest {
			t.Errorf("%s: got %d %s, want 400", name, a.status, a.body)
		}
	}
	if a := c.at(there).reply(t, asked, `"result":{"action":"accept","content":{"name":"Anna"}}`); a.status != http.StatusAccepted {
		t.Errorf("got %d %s, want 202", a.status, a.body)
	}
	if a := c.at(there).reply(t, asked, `"result":{"action":"accept"}`); a.status != http.StatusBadRequest {
		t.Errorf("the same answer again: got %d %s, want 400", a.status, a.body)
	}
	if got := stream.message(t).text(t); !strings.HasPrefix(got, `answers {"who":{"action":"accept","content":{"name":"Anna"}}}`) {
		t.Errorf("got %s", got)
	}

	stream = c.call(t, "asks_form")
	asked = stream.message(t)
	if a := c.at(there).reply(t, asked, `"error":{"code":-1,"message":"no"}`); a.status != http.StatusAccepted {
		t.Errorf("an error: got %d %s, want 202", a.status, a.body)
	}
	if got := stream.message(t).text(t); !strings.HasPrefix(got, `answers {"who":{"action":"cancel"}}`) {
		t.Errorf("got %s", got)
	}
}

// Whatever reaches the bus is checked again by the edge that has asked.
func TestAnswersOnTheBusAreChecked(t *testing.T) {
	t.Parallel()
	here, _, b := newCluster(t)
	c := here.initialize(t, everything)
	stream := c.call(t, "asks_form")
	asked := stream.message(t)
	id := strings.Trim(string(asked.ID), `"`)
	node, _, _ := strings.Cut(id, "-")
	peers := edge.BusPeers(b, nil)
	for _, forged := range []*edgev1.ClientAnswer{
		{Session: "other", RequestId: id, Principal: "key:anna"},
		{Session: c.id(t), RequestId: id, Principal: "key:bob"},
		{Session: c.id(t), RequestId: id + "x", Principal: "key:anna"},
	} {
		if taken, err := peers.Answer(t.Context(), node, forged); err != nil || taken {
			t.Errorf("%v: got %v, %v, want it not taken", forged, taken, err)
		}
	}
	if taken, err := peers.Answer(t.Context(), strings.Repeat("A", 26), &edgev1.ClientAnswer{}); err != nil || taken {
		t.Errorf("an edge that there is not: got %v, %v, want it not taken", taken, err)
	}
	c.reply(t, asked, `"result":{"action":"decline"}`)
	stream.message(t).text(t)
}

func TestWhatASessionKeepsIsKeptForAllEdges(t *testing.T) {
	t.Parallel()
	here, there, b := newCluster(t)
	c := here.initialize(t, `{}`)
	stream := c.listen(t)
	for _, uri := range []string{"test://a", "test://b"} {
		if a := c.at(there).send(t, request{method: "resources/subscribe", params: `"uri":"` + uri + `"`}); a.decode(t).Error.Code != 0 {
			t.Fatalf("subscribe: got %s", a.body)
		}
	}
	c.send(t, request{method: "resources/unsubscribe", params: `"uri":"test://b"`})
	here.tell(t, &executorv1.WatchResponse{UpdatedUris: []string{"test://b", "test://a"}})
	if m := stream.message(t); m.Method != resourceUpdated || string(m.Params) != `{"uri":"test://a"}` {
		t.Errorf("got %s %s, want the one that is still subscribed to", m.Method, m.Params)
	}

	if a := c.at(there).send(t, request{method: "logging/setLevel", params: `"level":"emergency"`}); a.decode(t).Error.Code != 0 {
		t.Fatalf("set the level: got %s", a.body)
	}
	if got := c.call(t, "notes").ended(t); len(got) != 1 {
		t.Errorf("got %d messages, want the result alone", len(got))
	}
	state, err := edge.BusSessions(b).Get(t.Context(), c.id(t))
	if err != nil || state.GetLogLevel() != "emergency" || len(state.GetSubscriptions()) != 1 {
		t.Errorf("got %v, %v", state, err)
	}
}

// Many at once lose nothing: each change is made to what the others have left.
func TestSessionsAreUpdatedOneAfterTheOther(t *testing.T) {
	t.Parallel()
	sessions := edge.BusSessions(bustest.New(t))
	const id, many = "AAAAAAAAAAAAAAAAAAAAAA", 4
	errs := make(chan error, many)
	for i := range many {
		go func() {
			errs <- sessions.Update(t.Context(), id, func(s *edgev1.SessionState) error {
				s.Subscriptions = append(s.Subscriptions, string(rune('a'+i)))
				return nil
			})
		}()
	}
	for range many {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	state, err := sessions.Get(t.Context(), id)
	if err != nil || len(state.GetSubscriptions()) != many {
		t.Errorf("got %v, %v, want %d subscriptions", state, err, many)
	}
}

func TestNoticesOnTheBusReachListeners(t *testing.T) {
	t.Parallel()
	here, _, b := newCluster(t)
	here.auth.hide("new")
	here.change(t, "v2", tool("new", toolv1.Risk_RISK_READ))
	stream, _ := here.listen(t, `{"toolsListChanged":true}`)
	here.auth.hide()
	if err := bus.Publish(t.Context(), b, bus.SubjectPolicies, &authv1.PolicyNotice{Version: "p2"}); err != nil {
		t.Fatal(err)
	}
	if m := stream.message(t); m.Method != toolsChanged {
		t.Errorf("after other policies: got %s", m.Method)
	}
	here.auth.revoke()
	if err := bus.Publish(t.Context(), b, bus.SubjectCredentials, &authv1.Key{}); err != nil {
		t.Fatal(err)
	}
	if m := stream.message(t); m.Result == nil {
		t.Errorf("after the key was revoked: got %s, want the end", m.Method)
	}
}
