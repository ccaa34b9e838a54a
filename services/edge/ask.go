package edge

import (
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/session"
)

// maxAnswers is how large all answers of a round may be together; it is what the
// contract of the executor can carry.
const maxAnswers = 1 << 20

// capabilityRound is what a provider is told in the first round of a legacy call:
// what this client can be asked for. It is nil where there is no session, and so
// no way to ask.
func (x *exchange) capabilityRound() *providerv1.Round {
	if x.session == nil {
		return nil
	}
	return &providerv1.Round{ClientCapabilities: capabilitiesJSON(x.askable())}
}

// askable is what this client can be asked for in this request.
func (x *exchange) askable() session.Capabilities {
	can := x.session.Capabilities
	if x.version == version2506 { // knows nothing of these
		can &^= session.ElicitURL | session.SampleTools
	}
	if !acceptsStream(x.r.Header) {
		can = 0
	}
	return can
}

// askClient asks a legacy client what a provider wants to know, on the stream of
// the call, and waits for the answers, which the client may send to any edge. It
// returns what the provider is to be called with next.
//
// A client whose connection is lost may have seen the questions, and can still
// answer. Waiting ends when it cancels, after the answer timeout, or when this
// process stops.
func (x *exchange) askClient(in *providerv1.InputRequired) (*providerv1.Round, *refusal) {
	questions, refused := x.questions(in)
	if refused != nil {
		return nil, refused
	}
	next := &providerv1.Round{State: in.GetState(), ClientCapabilities: capabilitiesJSON(x.askable())}
	if len(questions) == 0 {
		return next, nil
	}
	keys := make([]string, len(questions))
	for i, q := range questions {
		keys[i] = q.key
	}
	ids, answers, ok := x.s.asked.Open(x.s.node, x.session.ID, x.principal.GetId(), keys)
	if !ok {
		refused := x.unaskable(auditv1.Reason_REASON_CONCURRENCY_EXCEEDED,
			"Too many questions to clients are open, so this call could not ask its own. Try again in a moment")
		refused.retryable = true
		return nil, refused
	}
	defer func() { x.withdraw(x.s.asked.Close(ids)) }()
	x.allowStream()
	for i, q := range questions {
		if !x.tell(appendQuestion(nil, ids[i], q, x.version)) {
			return nil, x.unaskable(auditv1.Reason_REASON_CANCELLED, "The client is gone, so it could not be asked what the tool wants to know")
		}
	}
	if next.InputResponses, refused = x.await(questions, answers); refused != nil {
		return nil, refused
	}
	return next, nil
}

// await collects the answers into one object.
func (x *exchange) await(questions []inputRequest, answers <-chan reply) ([]byte, *refusal) {
	methods := make(map[string]string, len(questions))
	for _, q := range questions {
		methods[q.key] = q.method
	}
	timeout := time.NewTimer(x.s.cfg.AnswerTimeout)
	defer timeout.Stop()
	all := []byte{'{'}
	for range questions {
		select {
		case a := <-answers:
			if a.result == nil {
				if methods[a.key] != "elicitation/create" {
					return nil, x.unaskable(auditv1.Reason_REASON_TOOL_ERROR,
						"The client did not do what the tool has asked it for ("+methods[a.key]+"), so the call cannot go on")
				}
				a.result = jsontext.Value(`{"action":"cancel"}`)
			}
			all = append(append(appendText(appendComma(all), a.key), ':'), a.result...)
			if len(all) >= maxAnswers {
				return nil, x.unaskable(auditv1.Reason_REASON_PAYLOAD_TOO_LARGE, "The answers to what the tool has asked are too large together")
			}
		case <-x.work.Done():
			return nil, x.refuseCancelled(false)
		case <-x.s.stopping:
			refused := x.unaskable(auditv1.Reason_REASON_DEPENDENCY_UNAVAILABLE,
				"The server is stopping, so the answer to what the tool has asked cannot be waited for. Call again in a moment")
			refused.retryable = true
			return nil, refused
		case <-timeout.C:
			return nil, x.unaskable(auditv1.Reason_REASON_CANCELLED,
				"Nobody answered in time what the tool has asked, so the call was given up. Call again when somebody can")
		}
	}
	return append(all, '}'), nil
}

// withdraw tells the client which questions need no answer any more.
func (x *exchange) withdraw(ids []string) {
	for _, id := range ids {
		x.notify("notifications/cancelled", appendText([]byte(`"requestId":`), id))
	}
}

// questions reads what a provider wants, and refuses what this client cannot be
// asked.
func (x *exchange) questions(in *providerv1.InputRequired) ([]inputRequest, *refusal) {
	if x.session == nil || !acceptsStream(x.r.Header) {
		return nil, x.unaskable(auditv1.Reason_REASON_TOOL_ERROR,
			"The tool has to ask the client something. That takes a client that sends the Mcp-Session-Id of initialize and accepts text/event-stream")
	}
	all, ok := inputRequests(in.GetInputRequests())
	if !ok {
		x.s.log.ErrorContext(x.ctx, "a provider asks for what no client can be asked", "tool", x.target)
		return nil, x.unaskable(auditv1.Reason_REASON_RESULT_INVALID, "The tool asks the client for something that is not in the protocol")
	}
	if missing := undeclared(capabilitiesJSON(x.askable()), in.GetRequiredCapabilities(), all); missing != nil {
		return nil, x.unaskable(auditv1.Reason_REASON_TOOL_ERROR,
			"The tool has to ask this client for something that it does not offer. It would have to declare: "+
				capabilityNames(missing)+". Use a client that does, or another tool")
	}
	return all, nil
}

// capabilityNames names what is in an object of capabilities.
func capabilityNames(object []byte) string {
	var names []string
	eachMember(object, func(name string, value jsontext.Value) {
		name, whole := printable(name, maxCapabilityName), true
		eachMember(value, func(part string, _ jsontext.Value) {
			names, whole = append(names, name+"."+printable(part, maxCapabilityName)), false
		})
		if whole {
			names = append(names, name)
		}
	})
	return strings.Join(names, ", ")
}

// maxCapabilityName is how much of a capability's name is told.
const maxCapabilityName = 64

// appendQuestion writes a question as a request of a legacy revision, which knows
// less of asking users than the one that providers speak: the older has only
// forms, and no word for that; the newer has a page's visit named.
func appendQuestion(b []byte, id string, q inputRequest, version string) []byte {
	b = appendText(append(b, `{"jsonrpc":"2.0","id":`...), id)
	b = appendText(append(b, `,"method":`...), q.method)
	if q.params == nil {
		return append(b, '}')
	}
	b = append(b, `,"params":{`...)
	elicits := q.method == "elicitation/create"
	named := !elicits || textOf(argumentAt(q.params, []string{"mode"})) != "url"
	eachMember(q.params, func(name string, value jsontext.Value) {
		if name == "mode" && elicits && version == version2506 {
			return
		}
		named = named || name == "elicitationId"
		b = append(append(appendText(appendComma(b), name), ':'), value...)
	})
	if !named {
		b = appendText(append(appendComma(b), `"elicitationId":`...), id)
	}
	return append(b, `}}`...)
}

// unaskable ends a request whose provider wants something that it cannot get.
func (x *exchange) unaskable(reason auditv1.Reason, message string) *refusal {
	if x.method == "tools/call" {
		refused := x.refusedCall(reason, message)
		refused.complete = true
		return refused
	}
	refused := refuse(kindParams, message)
	refused.reason, refused.decision, refused.verdict = reason, x.decision, auditv1.Verdict_VERDICT_ALLOW
	return refused
}
