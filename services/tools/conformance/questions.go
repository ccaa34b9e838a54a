package conformance

import (
	"encoding/json"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// question is one of InputRequired.input_requests.
type question struct {
	key    string
	needs  string // the capability of a client that can answer
	Method string `json:"method"`
	Params any    `json:"params"`
}

// elicit asks the user to fill in a form.
func elicit(key, message, schema string) question {
	return question{key, "elicitation", "elicitation/create", struct {
		Message         string          `json:"message"`
		RequestedSchema json.RawMessage `json:"requestedSchema"`
	}{message, json.RawMessage(schema)}}
}

// sample asks the client's model.
func sample(key, prompt string, maxTokens int) question {
	type text struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	type message struct {
		Role    string `json:"role"`
		Content text   `json:"content"`
	}
	return question{key, "sampling", "sampling/createMessage", struct {
		Messages  []message `json:"messages"`
		MaxTokens int       `json:"maxTokens"`
	}{[]message{{"user", text{"text", prompt}}}, maxTokens}}
}

// listRoots asks which folders the client works in.
func listRoots(key string) question {
	return question{key, "roots", "roots/list", struct{}{}}
}

// oneField is the schema of a form with one field that must be filled in.
func oneField(name, typ string) string {
	return `{"type":"object","properties":{"` + name + `":{"type":"` + typ + `"}},"required":["` + name + `"]}`
}

// inputRequired puts questions. It says which capabilities they rely on, so that
// the edge can refuse a call of a client that lacks one.
func inputRequired(s *state, questions ...question) (*providerv1.InputRequired, error) {
	requests, needs := make(map[string]question), make(map[string]struct{})
	for _, q := range questions {
		requests[q.key], needs[q.needs] = q, struct{}{}
	}
	in := new(providerv1.InputRequired)
	var err error
	if in.InputRequests, err = json.Marshal(requests); err != nil {
		return nil, err
	}
	if in.RequiredCapabilities, err = json.Marshal(needs); err != nil {
		return nil, err
	}
	if s != nil {
		in.State, err = json.Marshal(s)
	}
	return in, err
}

// ask ends a round with questions.
func ask(s *state, questions ...question) (*providerv1.CallToolResponse, error) {
	in, err := inputRequired(s, questions...)
	if err != nil {
		return nil, err
	}
	return &providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_InputRequired{InputRequired: in}}, nil
}
