package edge

import (
	"crypto/rand"
	"time"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

// methodGet is what a request for the stream of a session is called where others
// have the name of their method.
const methodGet = "GET"

// serveStream serves the stream of a legacy session (GET): what has changed for
// this caller. The answers to his calls, and what belongs to them, go where he
// called.
func (x *exchange) serveStream() *refusal {
	x.era, x.version = eraLegacy, headerValue(x.r.Header, "Mcp-Protocol-Version")
	if refused := x.checkGate(); refused != nil {
		return refused
	}
	if repeated(x.r.Header) {
		return refuse(kindHeader, "An Mcp header was sent more than once. Send each once")
	}
	if refused := x.authenticate(); refused != nil {
		return refused
	}
	if refused := x.findSession(); refused != nil {
		return refused
	}
	x.method = methodGet
	if refused := x.findContext(); refused != nil {
		return refused
	}
	if refused := x.checkQuota(1); refused != nil {
		return refused
	}
	if refused := x.authorizeSubscription(""); refused != nil {
		return refused
	}
	sub := x.s.hub.Add(x.principal.GetId(), x.session.ID, interest{tools: true, prompts: true, resources: true, all: true})
	if sub == nil {
		return x.tooManyStreams()
	}
	defer x.s.hub.Remove(sub)
	l := &listener{x: x, sub: sub, subscriptions: x.sessionSubscriptions}
	l.begin()
	if headerValue(x.r.Header, "Last-Event-Id") != "" {
		// The client had a stream before. What it missed is not known; that there
		// may be something is.
		sub.put(news{tools: true, prompts: true, resources: true, anything: true})
		clear(l.shown[:])
	}
	x.allowStream()
	if !x.stream.prime(rand.Text()) {
		return nil
	}
	x.written, x.outcome = true, outcomeOK
	expires := time.NewTimer(time.Until(x.session.Expires))
	defer expires.Stop()
	defer x.s.telemetry.listening(x.ctx, methodGet)()
	l.attend(expires.C)
	return nil
}

// sessionSubscriptions looks up which resources the session wants to hear of.
func (x *exchange) sessionSubscriptions() ([]string, error) {
	if x.s.settings == nil {
		return nil, nil
	}
	ctx, cancel := x.peerContext()
	defer cancel()
	state, err := x.s.settings.Get(ctx, x.session.ID)
	return state.GetSubscriptions(), err
}

// tooManyStreams refuses another stream.
func (x *exchange) tooManyStreams() *refusal {
	refused := refuse(kindFlood, "There are too many open streams, of this credential or at this server. Close some first")
	refused.reason, refused.limit, refused.retryable = auditv1.Reason_REASON_CONCURRENCY_EXCEEDED, "max_streams", true
	refused.retryAfter = 10 * time.Second
	return refused
}

// prime opens the stream with an event that has an id and no data. By the id
// clients know that they may come back, and say so when they do.
func (s *stream) prime(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == streamClosed {
		s.open()
	}
	s.frame = append(append(append(s.frame[:0], "id: "...), id...), "\ndata:\n\n"...)
	s.timer.Reset(s.keepAlive)
	return s.write()
}
