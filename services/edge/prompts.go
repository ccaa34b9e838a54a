package edge

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

// Bounds of what a client may send for a prompt; the contract of the executor
// has the same, in characters.
const (
	maxPrompt         = 128
	maxPromptArgs     = 64
	maxPromptArgName  = 128
	maxPromptArgValue = 65536
)

// promptName reports whether a prompt could have this name. A brace would make
// it a URI template for auth, where both are possible.
func promptName(name string) bool {
	return plainText(name, maxPrompt) && !strings.ContainsRune(name, '{')
}

// listPrompts answers with the prompts that the caller may get.
func (x *exchange) listPrompts() *refusal {
	after, refused := x.cursor(promptName)
	if refused != nil {
		return refused
	}
	allow, refused := x.authorize(authv1.Action_ACTION_PROMPTS_LIST, "", noArguments())
	if refused != nil {
		return refused
	}
	ctx, cancel := x.peerContext()
	defer cancel()
	all, err := x.s.executor.ListPrompts(ctx, &executorv1.ListPromptsRequest{Grant: allow.GetGrant()})
	if err != nil {
		return x.requestFailed(err)
	}
	names, prompts := sorted(all.GetPrompts(), (*providerv1.Prompt).GetName, promptName)
	allowed, refused := x.allowedTargets(authv1.Action_ACTION_PROMPTS_GET, names, after)
	if refused != nil {
		return refused
	}
	x.answerPage(page{
		member: "prompts", names: names, after: after, allowed: allowed,
		show: func(b []byte, i int) []byte { return appendPromptDefinition(b, prompts[i]) },
	})
	return nil
}

const unknownPrompt = "There is no prompt of this name, or none that this credential may know of. Use a name from prompts/list"

// getPrompt answers with a prompt, filled in.
func (x *exchange) getPrompt() *refusal {
	m := &x.msg
	name := m.Text(m.Name)
	if m.Name.Kind != jsonrpc.String || !promptName(name) {
		return refuse(kindParams, "params.name has to be the name of a prompt")
	}
	var given map[string]string
	if m.Arguments.Present() && m.Arguments.Kind != jsonrpc.Null {
		var ok bool
		if given, ok = promptArguments(m.Raw(m.Arguments)); !ok {
			return refuse(kindParams, "params.arguments has to be an object of at most 64 strings. Leave it out if the prompt takes none")
		}
	}
	asked := newArguments(canonical(given), m.Shape())
	allow, refused := x.authorize(authv1.Action_ACTION_PROMPTS_GET, name, asked)
	if refused != nil {
		return refused
	}
	return x.rounds(func(round *providerv1.Round) (*providerv1.InputRequired, *refusal) {
		if allow == nil { // each round is decided about anew
			if allow, refused = x.authorize(authv1.Action_ACTION_PROMPTS_GET, name, asked); refused != nil {
				return nil, refused
			}
		}
		ctx, cancel := x.callContext()
		defer cancel()
		resp, err := x.s.executor.GetPrompt(ctx, &executorv1.GetPromptRequest{
			Grant: allow.GetGrant(), Name: name, Arguments: given, Round: round,
		})
		allow = nil
		if err != nil {
			return nil, x.requestFailed(err)
		}
		prompt := resp.GetResponse()
		if in := prompt.GetInputRequired(); in != nil {
			return in, nil
		}
		x.answerPrompt(prompt, resp.GetProvenance(), resp.GetGuards())
		return nil, nil
	})
}

func (x *exchange) answerPrompt(prompt *providerv1.GetPromptResponse, from *toolv1.Provenance, guards []*executorv1.GuardActed) {
	x.beginResult()
	if prompt.GetDescription() != "" {
		x.out = append(appendText(append(x.out, `"description":`...), prompt.GetDescription()), ',')
	}
	x.out = append(x.out, `"messages":[`...)
	for i, m := range prompt.GetMessages() {
		if i > 0 {
			x.out = append(x.out, ',')
		}
		x.out = appendText(append(x.out, `{"role":`...), m.GetRole())
		x.out = append(appendContent(append(x.out, `,"content":`...), m.GetContent()), '}')
	}
	x.out = append(x.out, ']')
	x.endResult(appendProvenance(x.allowedMeta(guards...), from))
}

// promptArguments reads an object of strings within its bounds.
func promptArguments(object []byte) (map[string]string, bool) {
	if jsontext.Value(object).Kind() != jsontext.KindBeginObject {
		return nil, false
	}
	all, ok := make(map[string]string), true
	eachMember(object, func(name string, value jsontext.Value) {
		if value.Kind() != jsontext.KindString || len(all) == maxPromptArgs || !within(name, maxPromptArgName) {
			ok = false
			return
		}
		text, err := jsontext.AppendUnquote(nil, value)
		if err != nil || !within(string(text), maxPromptArgValue) {
			ok = false
			return
		}
		all[name] = string(text)
	})
	return all, ok
}

// within reports whether text has at most so many characters.
func within(text string, most int) bool {
	return len(text) <= most || utf8.RuneCountInString(text) <= most
}

// canonical writes an object of strings in the one way that the executor can
// repeat, who gets them as a map: sorted, and without space.
func canonical(all map[string]string) []byte {
	b := []byte{'{'}
	for i, name := range slices.Sorted(maps.Keys(all)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(append(appendText(b, name), ':'), all[name])
	}
	return append(b, '}')
}
