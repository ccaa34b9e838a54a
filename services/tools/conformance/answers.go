package conformance

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// answers are what a client has brought, by the key of the question. Whatever
// does not have the form of an answer counts as missing, so that it is asked for
// again; keys that nobody asked for are ignored.
type answers map[string]json.RawMessage

// parseAnswers reads Round.input_responses, which is empty in the first round.
func parseAnswers(b []byte) (answers, error) {
	if len(b) == 0 {
		return nil, nil
	}
	var a answers
	if err := json.Unmarshal(b, &a); err != nil || a == nil {
		return nil, fault.New(codes.InvalidArgument, providerv1.Reason_REASON_ARGUMENTS, "the input responses are not an object").Because(err)
	}
	return a, nil
}

// form is a person's answer to elicitation/create.
type form struct {
	Action  string         `json:"action"`
	Content map[string]any `json:"content,omitempty"`
}

// text returns a field as a person would read it.
func (f form) text(field string) string {
	switch v := f.Content[field].(type) {
	case nil:
		return f.Action + ", nothing given"
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}

// summary says all of it on one line.
func (f form) summary() string {
	content, err := json.Marshal(f.Content)
	if err != nil || f.Content == nil {
		content = []byte("{}")
	}
	return fmt.Sprintf("action=%s, content=%s", f.Action, content)
}

// elicited returns the answer to a form. One that was accepted must have the
// fields; one that was declined or cancelled has none.
func (a answers) elicited(key string, fields ...string) (form, bool) {
	var f form
	if json.Unmarshal(a[key], &f) != nil || !slices.Contains([]string{"accept", "decline", "cancel"}, f.Action) {
		return form{}, false
	}
	for _, field := range fields {
		if f.Action == "accept" && f.Content[field] == nil {
			return form{}, false
		}
	}
	return f, true
}

// sampled returns the text of a model's answer to sampling/createMessage.
func (a answers) sampled(key string) (string, bool) {
	var message struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"` // a block, or a list of them
	}
	if json.Unmarshal(a[key], &message) != nil || message.Role == "" {
		return "", false
	}
	type block struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	var many []block
	if json.Unmarshal(message.Content, &many) != nil {
		many = make([]block, 1)
		if json.Unmarshal(message.Content, &many[0]) != nil {
			return "", false
		}
	}
	var texts []string
	for _, b := range many {
		if b.Type == "text" {
			texts = append(texts, b.Text)
		}
	}
	return strings.Join(texts, "\n"), len(texts) > 0
}

// rooted returns the URIs of an answer to roots/list.
func (a answers) rooted(key string) ([]string, bool) {
	var list struct {
		Roots []struct {
			URI string `json:"uri"`
		} `json:"roots"`
	}
	if json.Unmarshal(a[key], &list) != nil || list.Roots == nil {
		return nil, false
	}
	uris := make([]string, len(list.Roots))
	for i, r := range list.Roots {
		uris[i] = r.URI
	}
	return uris, true
}
