package edge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

// approvalKey names the question whether a call is approved, and approvalPurpose
// the seal of what a modern client has to bring back with the answer. It is
// another than that of providers' states, so that no provider can have an answer
// to its own question taken for an approval.
const (
	approvalKey     = "approval"
	approvalPurpose = "approval-state"
)

// approvalAnswer is what the client's user has said about an approval.
type approvalAnswer struct {
	id      string
	refused bool
	// What the client had brought for the provider when the user was asked.
	state     string
	responses []byte
}

// canAskUser reports whether the client can show its user a form.
func (x *exchange) canAskUser() bool {
	form := []string{"elicitation", "form"}
	if x.era == eraModern {
		return declares(x.msg.Raw(x.msg.MetaCapabilities), form)
	}
	return x.session != nil && declares(capabilitiesJSON(x.askable()), form)
}

// approvalQuestion is the form that asks for an approval. It shows all that is
// approved: whatever a person did not see he did not approve.
func approvalQuestion(pending *authv1.PendingApproval, tool string, arguments []byte) inputRequest {
	message := visible(pending.GetQuestion()) + "\n\nTool: " + visible(tool) + "\nArguments: " + shownArguments(arguments)
	return inputRequest{
		key: approvalKey, method: "elicitation/create",
		params: jsontext.Value(`{"mode":"form","message":` + quoted(message) + `,"requestedSchema":{"type":"object","properties":{` +
			`"approve":{"type":"boolean","title":"Approve this call","description":"Good for this one call, with exactly these arguments."}},"required":["approve"]}}`),
	}
}

// shownArguments sets out a JSON value for people, in the same way however it was
// written.
func shownArguments(arguments []byte) string {
	value := jsontext.Value(bytes.Clone(arguments))
	if err := value.Format(jsontext.Multiline(true), jsontext.WithIndent("  ")); err != nil {
		value = arguments // as it is, then; it was scanned before
	}
	return visible(string(value))
}

// visible writes what cannot be seen as its number, <U+202E>, so that nobody is
// asked about less than he is shown, or in another order.
func visible(text string) string {
	const brailleBlank = '\u2800'
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == '\n':
			b.WriteRune(r)
		case !unicode.IsGraphic(r), unicode.IsSpace(r) && r != ' ', r == brailleBlank, strings.HasPrefix(text, "<U+"),
			unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector):
			fmt.Fprintf(&b, "<U+%04X>", r)
		default:
			b.WriteRune(r)
		}
		text = text[size:]
	}
	return b.String()
}

// approved reports whether an answer to the form is a yes. Whatever else it is,
// it is a no.
func approved(answer jsontext.Value) bool {
	return textOf(argumentAt(answer, []string{"action"})) == "accept" &&
		argumentAt(answer, []string{"content", "approve"}).Kind() == jsontext.KindTrue
}

// askForApproval answers a modern request with the question, and reports false if
// what the client would have to bring back is too long.
func (x *exchange) askForApproval(resp *authv1.AuthorizeResponse, asked arguments) bool {
	state, ok := x.sealWith(x.s.approvalSeals, x.approvalState())
	if !ok {
		return false
	}
	x.beginResultOf("input_required")
	x.out = append(x.out, `"inputRequests":{`...)
	x.out = appendInputRequest(x.out, approvalQuestion(resp.GetApproval(), x.asked, asked.json))
	x.out = append(append(append(x.out, `},"requestState":"`...), state...), `",`...)
	refused := x.undecided(resp)
	x.endResult(refused.meta())
	return true
}

// askUser asks the user of a legacy client, on the stream of the call. If he does
// not answer the call can be made again.
func (x *exchange) askUser(resp *authv1.AuthorizeResponse, asked arguments) (*approvalAnswer, *refusal) {
	question := approvalQuestion(resp.GetApproval(), x.asked, asked.json)
	object := append([]byte{'{'}, appendInputRequest(nil, question)...)
	round, refused := x.askClient(&providerv1.InputRequired{InputRequests: append(object, '}')})
	switch {
	case x.cancelled():
		return nil, x.refuseCancelled(true)
	case refused != nil:
		return nil, x.undecided(resp)
	}
	return &approvalAnswer{id: x.approval, refused: !approved(argumentAt(round.GetInputResponses(), []string{approvalKey}))}, nil
}

// approvalState is what a modern client has to bring back with the answer: which
// approval that is about, and what it has brought this time for the provider.
func (x *exchange) approvalState() []byte {
	m := &x.msg
	state, responses := "", []byte(nil)
	switch {
	case x.answer != nil: // it was asked before
		state, responses = x.answer.state, x.answer.responses
	default:
		if m.RequestState.Kind == jsonrpc.String {
			state = m.Text(m.RequestState)
		}
		if m.InputResponses.Kind == jsonrpc.Object {
			responses = m.Raw(m.InputResponses)
		}
	}
	var b []byte
	for _, part := range [...]string{x.approval, state} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
	}
	return append(b, responses...)
}

// takeApproval reads the answer that a modern client brings to the question for an
// approval, if it was asked that in the request before.
func (x *exchange) takeApproval() *refusal {
	m := &x.msg
	if x.era != eraModern || m.RequestState.Kind != jsonrpc.String {
		return nil
	}
	_, sealed, ok := x.openWith(x.s.approvalSeals, m.Text(m.RequestState))
	if !ok {
		return nil // it may be a provider's
	}
	var parts [2]string
	for i := range parts {
		size := int(binary.BigEndian.Uint32(sealed))
		parts[i], sealed = string(sealed[4:4+size]), sealed[4+size:]
	}
	var answer jsontext.Value
	if m.InputResponses.Kind == jsonrpc.Object {
		answer = argumentAt(m.Raw(m.InputResponses), []string{approvalKey})
	}
	if answer.Kind() != jsontext.KindBeginObject {
		return refuse(kindParams, "params.inputResponses has to hold the answer to what was asked, under \""+approvalKey+"\"")
	}
	x.approval = parts[0]
	x.answer = &approvalAnswer{id: parts[0], refused: !approved(answer), state: parts[1], responses: bytes.Clone(sealed)}
	return nil
}

// brought returns what a modern client brings for the provider, apart from an
// answer about an approval.
func (x *exchange) brought() (state string, responses []byte, refused *refusal) {
	if x.answer != nil {
		return x.answer.state, x.answer.responses, nil
	}
	m := &x.msg
	switch m.InputResponses.Kind {
	case jsonrpc.Absent, jsonrpc.Null:
	case jsonrpc.Object:
		responses = bytes.Clone(m.Raw(m.InputResponses))
	default:
		return "", nil, refuse(kindParams, "params.inputResponses has to be an object")
	}
	switch m.RequestState.Kind {
	case jsonrpc.Absent, jsonrpc.Null:
		return "", responses, nil
	}
	if state = m.Text(m.RequestState); state == "" {
		return "", nil, refuse(kindParams, badState)
	}
	return state, responses, nil
}
