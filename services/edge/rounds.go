package edge

import (
	"bytes"
	"context"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// Rounds remembers which request states were used up, for all edges.
type Rounds interface {
	// Use uses up the state with this id, and reports whether that was the first
	// time. Whoever cannot tell returns an error.
	Use(ctx context.Context, id string) (first bool, err error)
}

// maxRounds bounds how often a legacy client is asked within one request.
const maxRounds = 16

// maxCapabilities is how large what a client says of its capabilities may be.
const maxCapabilities = 64 << 10

// rounds serves a request whose provider may need something from the client
// first: run asks the provider, and answers the request unless something is
// required. A modern client is told what, and comes back with another request; a
// legacy client is asked while its request waits.
func (x *exchange) rounds(run func(*providerv1.Round) (*providerv1.InputRequired, *refusal)) *refusal {
	x.allowStream()
	if x.era == eraModern {
		round, refused := x.thisRound()
		if refused != nil {
			refused.decision = x.decision
			return refused
		}
		required, refused := run(round)
		if required == nil {
			return refused
		}
		return x.answerRequired(required)
	}
	round := x.capabilityRound()
	for range maxRounds {
		required, refused := run(round)
		if required == nil {
			return refused
		}
		if round, refused = x.askClient(required); refused != nil {
			return refused
		}
	}
	return x.failed(auditv1.Reason_REASON_RESULT_INVALID, "The service behind this asks for something again and again")
}

// thisRound reads what a modern client brings: its capabilities, and in a second
// round answers and the state that goes with them.
func (x *exchange) thisRound() (*providerv1.Round, *refusal) {
	round := &providerv1.Round{ClientCapabilities: bytes.Clone(x.msg.Raw(x.msg.MetaCapabilities))}
	text, responses, refused := x.brought()
	if refused != nil {
		return nil, refused
	}
	if round.InputResponses = responses; text == "" {
		return round, nil
	}
	id, state, ok := x.openState(text)
	if !ok {
		return nil, refuse(kindParams, badState)
	}
	round.State = state
	if x.readsOnly() {
		return round, nil
	}
	if x.s.rounds == nil {
		return nil, x.peerFailed("rounds", errNoRounds)
	}
	ctx, cancel := x.peerContext()
	defer cancel()
	first, err := x.s.rounds.Use(ctx, id)
	switch {
	case err != nil:
		return nil, x.peerFailed("rounds", err)
	case !first:
		return nil, refuse(kindParams, badState)
	}
	return round, nil
}

// readsOnly reports whether what is asked for changes nothing, so that doing it
// twice does no harm. A tool that is not known to be harmless is not.
func (x *exchange) readsOnly() bool {
	if x.method != toolsCall {
		return true
	}
	all := x.s.tools.Fresh(x.start)
	return all != nil && all.reads[x.asked]
}
