package edge

import (
	"bytes"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// maxInputRequests bounds what a client is asked for at once.
const maxInputRequests = 32

// inputRequest is one thing that a provider wants from the client.
type inputRequest struct {
	key    string
	method string
	params jsontext.Value // an object, or nil
}

// inputRequests reads what a provider asks for. It reports false unless each is
// one of the three things that a client can be asked.
func inputRequests(object []byte) ([]inputRequest, bool) {
	if len(object) == 0 {
		return nil, true
	}
	if !isObject(object) {
		return nil, false
	}
	var all []inputRequest
	ok := true
	eachMember(object, func(key string, value jsontext.Value) {
		r := inputRequest{key: key, method: textOf(argumentAt(value, []string{"method"}))}
		if params := argumentAt(value, []string{"params"}); params != nil {
			r.params = bytes.Clone(params)
		}
		ok = ok && r.valid()
		all = append(all, r)
	})
	return all, ok && len(all) <= maxInputRequests
}

// valid reports whether a client can be asked for this at all.
func (r inputRequest) valid() bool {
	switch r.method {
	case "elicitation/create":
		mode := argumentAt(r.params, []string{"mode"})
		return r.params.Kind() == jsontext.KindBeginObject && (mode == nil || textOf(mode) == "form" || textOf(mode) == "url")
	case "sampling/createMessage":
		return r.params.Kind() == jsontext.KindBeginObject
	case "roots/list":
		return r.params == nil || r.params.Kind() == jsontext.KindBeginObject
	}
	return false
}

// textOf returns what a JSON string says, and "" for any other value.
func textOf(value jsontext.Value) string {
	if value.Kind() != jsontext.KindString {
		return ""
	}
	text, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		return ""
	}
	return string(text)
}

// needs returns the capability that a client has to have declared to be asked for
// this, as a path of names.
func (r inputRequest) needs() []string {
	switch r.method {
	case "elicitation/create":
		if textOf(argumentAt(r.params, []string{"mode"})) == "url" {
			return []string{"elicitation", "url"}
		}
		return []string{"elicitation", "form"}
	case "sampling/createMessage":
		if argumentAt(r.params, []string{"tools"}) != nil || argumentAt(r.params, []string{"toolChoice"}) != nil {
			return []string{"sampling", "tools"}
		}
		return []string{"sampling"}
	default:
		return []string{"roots"}
	}
}

// declares reports whether a client that declared these capabilities has the one
// at a path.
func declares(capabilities []byte, path []string) bool {
	value := argumentAt(capabilities, path)
	if strings.Join(path, ".") == "elicitation.form" && value == nil {
		// One that names no mode has this one.
		all := argumentAt(capabilities, path[:1])
		return all.Kind() == jsontext.KindBeginObject && argumentAt(all, []string{"url"}) == nil
	}
	return value != nil && value.Kind() != jsontext.KindNull && value.Kind() != jsontext.KindFalse
}

// undeclared returns, as a JSON object, the capabilities that a client would need
// and has not declared all of; nil if it has. A provider may say what it relies
// on; what it asks for is looked at in any case.
func undeclared(capabilities, stated []byte, requests []inputRequest) []byte {
	if isObject(stated) && !covers(capabilities, stated, nil) {
		return stated
	}
	missing := false
	var paths [][]string
	for _, r := range requests {
		path := r.needs()
		missing = missing || !declares(capabilities, path)
		paths = append(paths, path)
	}
	if !missing {
		return nil
	}
	return capabilityObject(paths)
}

// covers reports whether all that is stated is declared, too.
func covers(capabilities []byte, stated jsontext.Value, path []string) bool {
	const deepest = 8
	all := len(path) < deepest
	eachMember(stated, func(name string, value jsontext.Value) {
		here := append(path[:len(path):len(path)], name)
		all = all && declares(capabilities, here) && covers(capabilities, value, here)
	})
	return all
}

// capabilityObject writes capabilities by their paths of one or two names.
func capabilityObject(paths [][]string) []byte {
	b := []byte{'{'}
	for _, kind := range [...]string{"elicitation", "sampling", "roots"} {
		wanted, inner := false, ""
		for _, mode := range [...]string{"form", "url", "tools"} {
			for _, path := range paths {
				if path[0] != kind {
					continue
				}
				wanted = true
				if len(path) > 1 && path[1] == mode {
					inner += `,"` + mode + `":{}`
					break
				}
			}
		}
		if wanted {
			if len(b) > 1 {
				b = append(b, ',')
			}
			b = append(append(b, '"'), kind...)
			b = append(append(append(b, `":{`...), strings.TrimPrefix(inner, ",")...), '}')
		}
	}
	return append(b, '}')
}

// answerRequired answers a modern request with what its provider needs first.
func (x *exchange) answerRequired(required *providerv1.InputRequired) *refusal {
	requests, ok := inputRequests(required.GetInputRequests())
	if !ok {
		return x.failed(auditv1.Reason_REASON_RESULT_INVALID, "The service behind this asks for something that no client can be asked for")
	}
	capabilities := x.msg.Raw(x.msg.MetaCapabilities)
	if object := undeclared(capabilities, required.GetRequiredCapabilities(), requests); object != nil {
		return &refusal{
			kind: kindCapability, decision: x.decision, verdict: auditv1.Verdict_VERDICT_ALLOW, capabilities: object,
			message: "This needs something from the client that the client has not declared it can do, see requiredCapabilities",
		}
	}
	if len(requests) == 0 && len(required.GetState()) == 0 {
		return x.failed(auditv1.Reason_REASON_RESULT_INVALID, "The service behind this neither answers nor asks for anything")
	}
	state, ok := "", true
	if len(required.GetState()) > 0 {
		if state, ok = x.sealState(required.GetState()); !ok {
			return x.failed(auditv1.Reason_REASON_RESULT_INVALID, "The service behind this wants back more than a client can send")
		}
	}
	x.beginResultOf("input_required")
	for i, r := range requests {
		if i == 0 {
			x.out = append(x.out, `"inputRequests":{`...)
		} else {
			x.out = append(x.out, ',')
		}
		x.out = appendInputRequest(x.out, r)
		if i == len(requests)-1 {
			x.out = append(x.out, `},`...)
		}
	}
	if state != "" {
		x.out = append(append(append(x.out, `"requestState":"`...), state...), `",`...)
	}
	x.endResult(x.allowedMeta())
	return nil
}

func appendInputRequest(b []byte, r inputRequest) []byte {
	b = append(appendText(b, r.key), `:{"method":"`...)
	b = append(append(b, r.method...), '"')
	if r.params != nil {
		b = append(append(b, `,"params":`...), r.params...)
	}
	return append(b, '}')
}
