package edge

import (
	"bufio"
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
)

// Whatever JSON is told, a reader of server-sent events gets just that, in one
// event.
func FuzzAppendEvent(f *testing.F) {
	for _, seed := range []string{`{}`, "{\"a\":\r\n1}", "[\n\n1\r]", `"data: x\n\nid: 1"`, `"\u2028\u0000"`, " 1 ", "\"\u2028\u0085\""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		if !jsontext.Value(message).IsValid() {
			return
		}
		framed := appendEvent(nil, message)
		events := readEvents(framed)
		if len(events) != 1 || events[0].kind != "message" {
			t.Fatalf("%q is told as %q, which is read as %v", message, framed, events)
		}
		want, got := jsontext.Value(bytes.Clone(message)), jsontext.Value(events[0].data)
		if err := want.Compact(); err != nil {
			t.Fatal(err)
		}
		if err := got.Compact(); err != nil || string(want) != string(got) {
			t.Fatalf("%q is read as %q (%v)", message, events[0].data, err)
		}
	})
}

type sseEvent struct{ kind, data string }

// readEvents reads a stream as the HTML standard has it (9.2.6): lines end with
// CR, LF or both, and an empty line ends an event.
func readEvents(stream []byte) []sseEvent {
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(stream))
	var events []sseEvent
	var now sseEvent
	data := false
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, len(text)+1)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			if data {
				events = append(events, now)
			}
			now, data = sseEvent{}, false
		case field == "data":
			if data {
				now.data += "\n"
			}
			now.data, data = now.data+value, true
		case field == "event":
			now.kind = value
		case field == "id", field == "retry":
			events = append(events, sseEvent{kind: "not ours"})
		}
	}
	return events
}

// The arguments of a prompt are what encoding/json takes them for, and are
// written in one way.
func FuzzPromptArguments(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":"b"}`, `{ "b" : "\u0041", "a":"x" }`, `{"a":1}`, `[]`, `{"a":null}`, `{"\u0061":"1"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		if !jsontext.Value(object).IsValid() {
			return // the scanner lets nothing else through
		}
		got, ok := promptArguments(object)
		if !ok {
			return
		}
		var want map[string]string
		if err := json.Unmarshal(object, &want); err != nil {
			t.Fatalf("%q: encoding/json: %v", object, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q (-want +got):\n%s", object, diff)
		}
		if len(got) > maxPromptArgs {
			t.Fatalf("%q: got %d arguments", object, len(got))
		}
		again, ok := promptArguments(canonical(got))
		if !ok || !bytes.Equal(canonical(again), canonical(got)) {
			t.Fatalf("%q is written as %q, which is not read as the same", object, canonical(got))
		}
	})
}

// What is read of the params of a completion is within the bounds of the
// executor's contract, and is decided about by the name that is completed.
func FuzzReadComplete(f *testing.F) {
	for _, seed := range []string{
		`{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":"v"}}`,
		`{"ref":{"type":"ref/resource","uri":"x:{y}"},"argument":{"name":"a"},"context":{"arguments":{"k":"v"}}}`,
		`{"ref":{"type":"ref/prompt","name":"p","uri":"x:{y}"},"argument":{"name":"a"}}`,
		`{"ref":{"Type":"ref/prompt"}}`, `{}`, `[]`, ``, `null`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, params []byte) {
		req, target, problem := readComplete(params)
		if (req == nil) == (problem == "") {
			t.Fatalf("%q: got %v and problem %q", params, req, problem)
		}
		if req == nil {
			return
		}
		if (req.GetPrompt() == "") == (req.GetUriTemplate() == "") || target != req.GetPrompt()+req.GetUriTemplate() {
			t.Fatalf("%q: got %v for %q", params, req, target)
		}
		// Auth tells one from the other by the brace.
		if strings.Contains(target, "{") != (req.GetUriTemplate() != "") {
			t.Fatalf("%q: %q is decided about as the other kind", params, target)
		}
		if !within(target, maxTarget) || !within(req.GetValue(), maxCompleteValue) || req.GetArgument() == "" || len(req.GetContext()) > maxPromptArgs {
			t.Fatalf("%q: out of bounds: %v", params, req)
		}
	})
}

// What a provider asks for is passed on as one valid JSON object of questions
// that a client can be asked, or not at all.
func FuzzInputRequests(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `{"a":{"method":"roots/list"}}`, `{"a":{"method":"roots/list","params":null}}`,
		`{"a":{"method":"elicitation/create","params":{"mode":"url"}}}`, `{"a":{"method":"elicitation/create","params":{"mode":"\u0075rl"}}}`,
		`{"a":{"method":"sampling/createMessage","params":{"tools":[]}},"b":{"method":"tools/call"}}`, `{"a":1}`, `{"a":{"method":"roots/list"}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		requests, ok := inputRequests(object)
		if !ok {
			return
		}
		b := []byte(`{`)
		for i, r := range requests {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendInputRequest(b, r)
		}
		b = append(b, '}')
		if !jsontext.Value(b).IsValid() {
			t.Fatalf("%q is passed on as %q", object, b)
		}
		var told map[string]struct {
			Method string
			Params map[string]any
		}
		if err := json.Unmarshal(b, &told); err != nil || len(told) != len(requests) {
			t.Fatalf("%q is passed on as %q (%v)", object, b, err)
		}
		for key, r := range told {
			needs := map[string]string{"elicitation/create": "elicitation", "sampling/createMessage": "sampling", "roots/list": "roots"}[r.Method]
			if needs == "" {
				t.Fatalf("%q: %s is of method %q", object, key, r.Method)
			}
			// Who declared nothing is asked nothing.
			if undeclared([]byte(`{}`), nil, requests) == nil {
				t.Fatalf("%q is asked of a client that can do nothing", object)
			}
			if r.Method == "elicitation/create" && r.Params["mode"] == "url" && undeclared([]byte(`{"elicitation":{"form":{}},"sampling":{"tools":{}},"roots":{}}`), nil, requests) == nil {
				t.Fatalf("%q opens a URL at a client that has not declared that", object)
			}
		}
		if missing := undeclared([]byte(`{}`), nil, requests); missing != nil && !jsontext.Value(missing).IsValid() {
			t.Fatalf("%q: what is missing is told as %q", object, missing)
		}
	})
}
