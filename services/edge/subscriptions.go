package edge

import (
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

const methodListen = "subscriptions/listen"

// listen serves subscriptions/listen: a stream that tells what has changed for
// this caller, of what he asked for and may know. It begins with what was agreed
// on, and ends with a result when it is the server that ends it.
func (x *exchange) listen() *refusal {
	if !acceptsStream(x.r.Header) {
		return refuse(kindNotAcceptable, "The answer is an event stream. Send Accept: application/json, text/event-stream")
	}
	wanted, refused := x.filter()
	if refused != nil {
		return refused
	}
	if len(wanted.uris) > 0 { // each is one more question to auth
		if refused := x.checkQuota(uint32(len(wanted.uris))); refused != nil {
			return refused
		}
	}
	if refused := x.authorizeSubscription(""); refused != nil {
		return refused
	}
	agreed, order, refused := x.agree(wanted)
	if refused != nil {
		return refused
	}
	sub := x.s.hub.Add(x.principal.GetId(), "", agreed)
	if sub == nil {
		return x.tooManyStreams()
	}
	defer x.s.hub.Remove(sub)
	id := append([]byte(`"io.modelcontextprotocol/subscriptionId":`), x.id...)
	meta := append(append([]byte(`"_meta":{`), id...), '}')
	l := &listener{x: x, sub: sub, meta: meta, subscriptions: func() ([]string, error) { return order, nil }}
	l.begin()
	x.allowStream()
	if !x.notify("notifications/subscriptions/acknowledged", appendFilter(slices.Clone(meta), agreed, order)) {
		x.written = true
		return nil
	}
	defer x.s.telemetry.listening(x.ctx, methodListen)()
	if !agreed.empty() && l.attend(nil) == endedByClient {
		x.written, x.outcome = true, outcomeOK
		return nil
	}
	x.beginResult()
	x.endResult(id)
	return nil
}

// filter reads what the client wants to hear of.
func (x *exchange) filter() (interest, *refusal) {
	var wanted interest
	var filter jsontext.Value
	if m := &x.msg; m.Params.Kind == jsonrpc.Object {
		eachMember(m.Raw(m.Params), func(name string, value jsontext.Value) {
			if name == "notifications" {
				filter = value.Clone()
			}
		})
	}
	if filter.Kind() != jsontext.KindBeginObject {
		return wanted, refuse(kindParams, "params.notifications has to be an object that says what to tell of")
	}
	ok := true
	flag := func(value jsontext.Value) bool {
		ok = ok && (value.Kind() == jsontext.KindTrue || value.Kind() == jsontext.KindFalse)
		return value.Kind() == jsontext.KindTrue
	}
	eachMember(filter, func(name string, value jsontext.Value) {
		switch name {
		case "toolsListChanged":
			wanted.tools = flag(value)
		case "promptsListChanged":
			wanted.prompts = flag(value)
		case "resourcesListChanged":
			wanted.resources = flag(value)
		case "resourceSubscriptions":
			var good bool
			wanted.uris, good = uriList(value)
			ok = ok && good
		}
	})
	if !ok {
		return wanted, refuse(kindParams, "params.notifications has toolsListChanged, promptsListChanged and resourcesListChanged, which are booleans, "+
			"and resourceSubscriptions, at most 256 URIs of at most 512 bytes")
	}
	return wanted, nil
}

// uriList reads a list of URIs, each once and in the order in which they came.
func uriList(value jsontext.Value) (uris []string, ok bool) {
	if value.Kind() != jsontext.KindBeginArray {
		return nil, false
	}
	seen := make(map[string]bool)
	ok = true
	eachElement(value, func(element jsontext.Value) {
		uri := textOf(element)
		ok = ok && uri != "" && len(uri) <= maxURI && len(uris) < maxSubscriptions
		if ok && !seen[uri] {
			seen[uri] = true
			uris = append(uris, uri)
		}
	})
	return uris, ok
}

// agree leaves of what is wanted what there is, and what the caller may hear of.
// The URIs are returned in his order, too.
func (x *exchange) agree(wanted interest) (agreed interest, order []string, refused *refusal) {
	agreed.tools = wanted.tools
	if !wanted.prompts && !wanted.resources && len(wanted.uris) == 0 {
		return agreed, nil, nil
	}
	there, refused := x.offers()
	if refused != nil {
		return agreed, nil, refused
	}
	agreed.prompts = wanted.prompts && there.prompts
	agreed.resources = wanted.resources && there.resources
	if !there.resources {
		return agreed, nil, nil
	}
	decision := x.decision
	for _, uri := range wanted.uris {
		refused := x.authorizeSubscription(uri)
		switch {
		case refused == nil:
			order = append(order, uri)
		case refused.kind != kindForbidden && refused.kind != kindScope:
			return agreed, nil, refused
		}
	}
	x.decision, x.target, x.asked = decision, "", "" // the request is for more than the last of them
	agreed.uris = slices.Sorted(slices.Values(order))
	return agreed, order, nil
}

// appendFilter adds what was agreed on to the members before it.
func appendFilter(b []byte, agreed interest, order []string) []byte {
	b = append(b, `,"notifications":{`...)
	for _, kind := range [...]struct {
		name string
		on   bool
	}{
		{"toolsListChanged", agreed.tools},
		{"promptsListChanged", agreed.prompts},
		{"resourcesListChanged", agreed.resources},
	} {
		if kind.on {
			b = append(append(append(appendComma(b), '"'), kind.name...), `":true`...)
		}
	}
	if len(order) > 0 {
		b = append(appendComma(b), `"resourceSubscriptions":[`...)
		for i, uri := range order {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendText(b, uri)
		}
		b = append(b, ']')
	}
	return append(b, '}')
}
