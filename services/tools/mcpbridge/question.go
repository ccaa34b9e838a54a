package mcpbridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge/internal/client"
)

const (
	maxAsked     = 8 // questions in one round
	maxQuestions = 1 << 20
	maxState     = 48 << 10 // of an upstream: in ours it is Base64, and there are 64 KiB
)

// abilities are what a client has declared that it can be asked.
type abilities struct {
	elicitation map[string]json.RawMessage // nil without; of modes
	sampling    map[string]json.RawMessage // nil without
	roots       bool
}

// readAbilities reads client capabilities. What cannot be read declares nothing.
func readAbilities(raw []byte) *abilities {
	var w struct {
		Elicitation map[string]json.RawMessage `json:"elicitation"`
		Sampling    map[string]json.RawMessage `json:"sampling"`
		Roots       map[string]json.RawMessage `json:"roots"`
	}
	if json.Unmarshal(raw, &w) != nil {
		return &abilities{}
	}
	return &abilities{elicitation: w.Elicitation, sampling: w.Sampling, roots: w.Roots != nil}
}

// json writes what a modern upstream is told of the client: only what can be
// asked.
func (a *abilities) json() json.RawMessage {
	m := map[string]any{}
	if a.elicitation != nil {
		m["elicitation"] = a.elicitation
	}
	if a.sampling != nil {
		m["sampling"] = a.sampling
	}
	if a.roots {
		m["roots"] = struct{}{}
	}
	b, err := json.Marshal(m)
	if err != nil {
		return json.RawMessage("{}")
	}
	return b
}

// needs returns the capability that a question relies on; nil if it is none that
// may be asked.
func needs(method string, params json.RawMessage) map[string]any {
	switch method {
	case "elicitation/create":
		var p struct {
			Mode string `json:"mode"`
		}
		if json.Unmarshal(params, &p) != nil {
			return nil
		}
		switch p.Mode {
		case "", "form":
			return map[string]any{"elicitation": map[string]any{"form": struct{}{}}}
		case "url":
			return map[string]any{"elicitation": map[string]any{"url": struct{}{}}}
		}
	case "sampling/createMessage":
		var p struct {
			Tools json.RawMessage `json:"tools"`
		}
		if json.Unmarshal(params, &p) != nil {
			return nil
		}
		if len(p.Tools) > 0 {
			return map[string]any{"sampling": map[string]any{"tools": struct{}{}}}
		}
		return map[string]any{"sampling": struct{}{}}
	case "roots/list":
		return map[string]any{"roots": struct{}{}}
	}
	return nil
}

// can reports whether the client has declared what a question relies on.
func (a *abilities) can(method string, params json.RawMessage) bool {
	if a == nil {
		return false
	}
	for kind, of := range needs(method, params) {
		modes, _ := of.(map[string]any)
		switch kind {
		case "elicitation":
			if _, form := modes["form"]; form {
				// Clients of 2025-06-18 know no modes and declare none.
				_, declared := a.elicitation["form"]
				return a.elicitation != nil && (declared || a.elicitation["url"] == nil)
			}
			return a.elicitation["url"] != nil
		case "sampling":
			return a.sampling != nil && (modes == nil || a.sampling["tools"] != nil)
		case "roots":
			return a.roots
		}
	}
	return false
}

// cleanParams returns the parameters of a question as the client gets them:
// without _meta, which is between the upstream and us.
func cleanParams(params json.RawMessage) (json.RawMessage, error) {
	if len(params) == 0 || string(params) == "null" {
		return json.RawMessage("{}"), nil
	}
	b, err := client.Clean(params)
	if err != nil {
		return nil, err
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil || m == nil {
		return nil, errResult
	}
	if _, has := m["_meta"]; !has {
		return b, nil // in the order it came
	}
	delete(m, "_meta")
	return json.Marshal(m)
}

// inputRequest is one question on its way to the client.
type inputRequest struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// inputRequired writes questions and the state to bring back with the answers.
func inputRequired(asked map[string]inputRequest, state []byte) (*providerv1.InputRequired, error) {
	required := map[string]any{}
	for _, q := range asked {
		for kind, of := range needs(q.Method, q.Params) {
			have, both := required[kind].(map[string]any)
			if more, ok := of.(map[string]any); ok && both {
				maps.Copy(have, more)
			} else if !both {
				required[kind] = of
			}
		}
	}
	caps, err := json.Marshal(required)
	if err != nil {
		return nil, err
	}
	out := &providerv1.InputRequired{State: state, RequiredCapabilities: caps}
	if len(asked) > 0 {
		if out.InputRequests, err = json.Marshal(asked); err != nil {
			return nil, err
		}
	}
	if len(out.InputRequests) > maxQuestions || len(state) > maxMeta {
		return nil, fmt.Errorf("questions: %w", errBounds)
	}
	return out, nil
}

var errCannotAsk = errors.New("the upstream asks for what the client cannot do")

// modernQuestions takes the questions of a modern upstream out of its result.
func (r result) modernQuestions(a *abilities) (map[string]inputRequest, error) {
	if len(r.RequestState) > maxState {
		return nil, errBounds
	}
	var asked map[string]inputRequest
	if len(r.InputRequests) > 0 {
		clean, err := client.Clean(r.InputRequests)
		if err != nil || json.Unmarshal(clean, &asked) != nil {
			return nil, errResult
		}
	}
	if len(asked) > maxAsked || len(asked) == 0 && r.RequestState == "" {
		return nil, errResult
	}
	for key, q := range asked {
		if len(key) > 128 {
			return nil, errBounds
		}
		params, err := cleanParams(q.Params)
		if err != nil {
			return nil, errResult
		}
		if !a.can(q.Method, params) {
			return nil, errCannotAsk
		}
		asked[key] = inputRequest{Method: q.Method, Params: params}
	}
	return asked, nil
}

// urlQuestions takes out of an error of 2025-11-25 the pages that the user must
// have been to before the call can work. There are none in any other error.
func urlQuestions(e *client.Error, a *abilities) map[string]inputRequest {
	var data struct {
		Elicitations []json.RawMessage `json:"elicitations"`
	}
	if e.Code != client.CodeURLElicitation || json.Unmarshal(e.Data, &data) != nil || len(data.Elicitations) == 0 || len(data.Elicitations) > maxAsked {
		return nil
	}
	asked := map[string]inputRequest{}
	for i, raw := range data.Elicitations {
		params, err := cleanParams(raw)
		var p struct {
			Mode string `json:"mode"`
		}
		if err != nil || json.Unmarshal(params, &p) != nil || p.Mode != "url" || !a.can("elicitation/create", params) {
			return nil
		}
		asked[fmt.Sprintf("r%d", i+1)] = inputRequest{Method: "elicitation/create", Params: params}
	}
	return asked
}

// answers reads what the client has answered, by key.
func answers(raw []byte) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	clean, err := client.Clean(raw)
	if err != nil || json.Unmarshal(clean, &m) != nil {
		return nil
	}
	return m
}

// answerTo returns an answer that may be given to the upstream for a question;
// ok is false if there is none in what the client says. An elicitation that was
// answered by none of the three actions counts as cancelled.
func answerTo(method string, raw json.RawMessage) (answer json.RawMessage, ok bool) {
	var m map[string]json.RawMessage
	if len(raw) == 0 || json.Unmarshal(raw, &m) != nil || m == nil {
		return nil, false
	}
	if method == "elicitation/create" {
		var action string
		if json.Unmarshal(m["action"], &action) != nil || action != "accept" && action != "decline" && action != "cancel" {
			return json.RawMessage(`{"action":"cancel"}`), true
		}
	}
	return raw, true
}

// accepted reports whether all of so many pages were consented to.
func accepted(m map[string]json.RawMessage, n int) bool {
	for i := range n {
		var a struct {
			Action string `json:"action"`
		}
		if json.Unmarshal(m[fmt.Sprintf("r%d", i+1)], &a) != nil || a.Action != "accept" {
			return false
		}
	}
	return true
}
