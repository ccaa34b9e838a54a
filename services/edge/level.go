package edge

import (
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	edgev1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/edge/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

// severity returns the rank of a level by its name in RFC 5424, with debug as 0.
func severity(level string) (rank int, ok bool) {
	// An array, so that there is no state of the package.
	rank = slices.Index([]string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}, level)
	return rank, rank >= 0
}

// defaultLevel is from where on notices are sent to a client that has not said;
// the protocol leaves that to the server.
const defaultLevel = "info"

// setLevel keeps, for a session, from which level on notices are wanted. Without
// a session none are sent, so there is nothing to keep.
func (x *exchange) setLevel() *refusal {
	var level string
	if x.msg.Params.Kind == jsonrpc.Object {
		eachMember(x.msg.Raw(x.msg.Params), func(name string, value jsontext.Value) {
			if name == "level" {
				level = textOf(value)
			}
		})
	}
	if _, ok := severity(level); !ok {
		return refuse(kindParams, "params.level has to be one of debug, info, notice, warning, error, critical, alert, emergency")
	}
	if x.session != nil {
		refused := x.updateSession(func(state *edgev1.SessionState) error {
			state.LogLevel = level
			return nil
		})
		if refused != nil {
			return refused
		}
	}
	x.beginResult()
	x.endResult()
	return nil
}

// updateSession changes what is kept of the session. It fails closed: the client
// is told when it could not be kept.
func (x *exchange) updateSession(change func(*edgev1.SessionState) error) *refusal {
	if x.s.states == nil {
		return refuse(kindMethod, "This server keeps nothing of sessions")
	}
	ctx, cancel := x.peerContext()
	defer cancel()
	if err := x.s.states.Update(ctx, x.session.ID, change); err != nil {
		return x.stateFailed(err)
	}
	return nil
}

// legacyLevel is from which level on providers are asked for notices in a legacy
// call: all, since what the session wants is looked up only when there is one.
func (x *exchange) legacyLevel() string {
	if x.session == nil || x.stream == nil {
		return ""
	}
	return "debug"
}

// tellLegacyNotice passes on what a provider has to say, if the session wants it.
func (x *exchange) tellLegacyNotice(n *providerv1.Notice) {
	rank, ok := severity(n.GetLevel())
	if !ok || x.session == nil || x.stream == nil || rank < x.wantedLevel() {
		return
	}
	data := jsontext.Value(n.GetData())
	if !data.IsValid() {
		return // a provider's bytes must not be able to end the message early
	}
	b := append(make([]byte, 0, 64+len(data)), `"level":"`...)
	b = append(append(b, n.GetLevel()...), '"')
	if n.GetLogger() != "" {
		b = appendText(append(b, `,"logger":`...), n.GetLogger())
	}
	x.notify("notifications/message", append(append(b, `,"data":`...), data...))
}

// wantedLevel looks up, once for a call, from which level on the session wants
// notices. When that cannot be found out, it is as if the client had not said.
func (x *exchange) wantedLevel() int {
	if x.levelKnown {
		return x.level
	}
	x.levelKnown = true
	x.level, _ = severity(defaultLevel)
	if x.s.states == nil {
		return x.level
	}
	ctx, cancel := x.peerContext()
	defer cancel()
	state, err := x.s.states.Get(ctx, x.session.ID)
	if err != nil {
		x.s.told(x.ctx, err)
	} else if rank, ok := severity(state.GetLogLevel()); ok {
		x.level = rank
	}
	return x.level
}
