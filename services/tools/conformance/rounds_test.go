package conformance_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// Answers as the suite gives them.
const (
	nameGiven   = `{"action":"accept","content":{"name":"Alice"}}`
	okGiven     = `{"action":"accept","content":{"ok":true}}`
	colourGiven = `{"action":"accept","content":{"color":"blue"}}`
	sampleGiven = `{"role":"assistant","content":{"type":"text","text":"Paris."},"model":"test-model","stopReason":"endTurn"}`
	rootsGiven  = `{"roots":[{"uri":"file:///test/root","name":"Test Root"}]}`
)

const prefix = "test_input_required_result_"

// TestRounds plays each tool that asks to its end: the questions of a round are
// answered in the next, which brings back the state.
func TestRounds(t *testing.T) {
	t.Parallel()
	type round struct {
		answers string   // none: the first
		want    []string // in the last event; a question's key in quotes, or a text
		state   bool     // one is given out
	}
	tests := []struct {
		name, tool, arguments, capabilities string
		rounds                              []round
	}{
		{name: "elicitation", tool: prefix + "elicitation", rounds: []round{
			{want: []string{`"user_name":{"method":"elicitation/create","params":{"message":"What is your name?"`, `needs {"elicitation":{}}`}},
			{answers: `{"user_name":` + nameGiven + `}`, want: []string{"Hello, Alice!"}},
		}},
		{name: "an answer to another question is no answer", tool: prefix + "elicitation", rounds: []round{
			{answers: `{"wrong_key":` + nameGiven + `}`, want: []string{`"user_name"`}},
			{answers: `{"user_name":` + nameGiven + `,"unknown_extra_key":{"foo":1}}`, want: []string{"Hello, Alice!"}},
		}},
		{name: "an answer of another form is no answer", tool: prefix + "elicitation", rounds: []round{
			{answers: `{"user_name":12345}`, want: []string{`"user_name"`}},
			{answers: `{"user_name":{"action":"maybe"}}`, want: []string{`"user_name"`}},
			{answers: `{"user_name":{"action":"accept","content":{"nom":"Alice"}}}`, want: []string{`"user_name"`}},
		}},
		{name: "who declines need not fill in the form", tool: prefix + "elicitation", rounds: []round{
			{answers: `{"user_name":{"action":"decline"}}`, want: []string{"Hello, decline, nothing given!"}},
		}},
		{name: "sampling", tool: prefix + "sampling", rounds: []round{
			{want: []string{`"capital_question":{"method":"sampling/createMessage"`, `"maxTokens":100`, `needs {"sampling":{}}`}},
			{answers: `{"capital_question":` + sampleGiven + `}`, want: []string{"LLM response: Paris."}},
		}},
		{name: "sampling answered with several blocks", tool: prefix + "sampling", rounds: []round{
			{answers: `{"capital_question":{"role":"assistant","content":[{"type":"image"},{"type":"text","text":"Paris."}]}}`, want: []string{"LLM response: Paris."}},
			{answers: `{"capital_question":{"role":"assistant","content":[{"type":"image"}]}}`, want: []string{`"capital_question"`}},
		}},
		{name: "roots", tool: prefix + "list_roots", rounds: []round{
			{want: []string{`"client_roots":{"method":"roots/list","params":{}}`, `needs {"roots":{}}`}},
			{answers: `{"client_roots":` + rootsGiven + `}`, want: []string{"1 roots: file:///test/root"}},
		}},
		{name: "a state", tool: prefix + "request_state", rounds: []round{
			{want: []string{`"confirm"`}, state: true},
			{answers: `{"confirm":` + okGiven + `}`, want: []string{`state-ok: action=accept, content={"ok":true}`}},
		}},
		{name: "a state that must not be changed", tool: prefix + "tampered_state", rounds: []round{
			{want: []string{`"confirm"`}, state: true},
			{answers: `{"confirm":` + okGiven + `}`, want: []string{"integrity-ok"}},
		}},
		{name: "answers without the state are asked for again", tool: prefix + "request_state", rounds: []round{
			{answers: `{"confirm":` + okGiven + `}`, want: []string{`"confirm"`}, state: true},
		}},
		{name: "three questions at once", tool: prefix + "multiple_inputs", rounds: []round{
			{want: []string{`"user_name"`, `"greeting"`, `"client_roots"`, `needs {"elicitation":{},"roots":{},"sampling":{}}`}, state: true},
			{answers: `{"user_name":` + nameGiven + `,"greeting":` + sampleGiven + `}`, want: []string{`"client_roots"`}, state: true},
			{answers: `{"user_name":` + nameGiven + `,"greeting":` + sampleGiven + `,"client_roots":` + rootsGiven + `}`, want: []string{"Name: Alice; greeting: Paris.; roots: 1"}},
		}},
		{name: "one question after the other", tool: prefix + "multi_round", rounds: []round{
			{want: []string{`"step1"`}, state: true},
			{answers: `{"step2":` + colourGiven + `}`, want: []string{`"step1"`}, state: true},
			{answers: `{"step1":` + nameGiven + `}`, want: []string{`"step2"`}, state: true},
			{answers: `{"step1":` + nameGiven + `}`, want: []string{`"step2"`}, state: true},
			{answers: `{"step2":` + colourGiven + `}`, want: []string{"Name: Alice; colour: blue"}},
		}},
		{name: "a name that is too long for the state", tool: prefix + "multi_round", rounds: []round{
			{want: []string{`"step1"`}, state: true},
			{answers: `{"step1":{"action":"accept","content":{"name":"` + strings.Repeat("a", 1001) + `"}}}`, want: []string{`"step1"`}, state: true},
		}},
		{name: "a client that can only sample", tool: prefix + "capabilities", capabilities: `{"sampling":{},"elicitation":null}`, rounds: []round{
			{want: []string{`ask {"sample_input"`, `needs {"sampling":{}}`}, state: true},
			{answers: `{"sample_input":` + sampleGiven + `}`, want: []string{"capabilities-ok: received sample_input"}},
		}},
		{name: "a client that can do both", tool: prefix + "capabilities", capabilities: `{"sampling":{},"elicitation":{}}`, rounds: []round{
			{want: []string{`"elicit_input"`, `"sample_input"`}, state: true},
			{answers: `{"elicit_input":{"action":"cancel"}}`, want: []string{"capabilities-ok: received elicit_input"}},
		}},
		{name: "a client that can do neither", tool: prefix + "capabilities", rounds: []round{
			{want: []string{"The client says that it can answer nothing."}},
		}},
		{name: "a prompt of the caller's", tool: "test_sampling", arguments: `{"prompt":"Test prompt"}`, rounds: []round{
			{want: []string{`"text":"Test prompt"`, `"maxTokens":100`}},
			{answers: `{"sample":` + sampleGiven + `}`, want: []string{"LLM response: Paris."}},
		}},
		{name: "a message of the caller's", tool: "test_elicitation", arguments: `{"message":"Who are you?"}`, rounds: []round{
			{want: []string{`"message":"Who are you?"`, `"required":["username","email"]`}},
			{
				answers: `{"user":{"action":"accept","content":{"username":"u","email":"e@x.y"}}}`,
				want:    []string{`User response: action=accept, content={"email":"e@x.y","username":"u"}`},
			},
		}},
		{name: "defaults", tool: "test_elicitation_sep1034_defaults", rounds: []round{
			{want: []string{`"default":"John Doe"`, `"default":30}`, `"default":95.5`, `"default":"active"`, `"default":true`}},
			{answers: `{"user":{"action":"accept","content":{"age":25}}}`, want: []string{`Elicitation completed: action=accept, content={"age":25}`}},
		}},
		{name: "choices", tool: "test_elicitation_sep1330_enums", rounds: []round{
			{want: []string{`"untitledSingle"`, `"oneOf":[{"const":"value1"`, `"enumNames":["Option One"`, `"untitledMulti"`, `"items":{"anyOf":[{"const":"value1"`}},
			{answers: `{"user":{"action":"decline"}}`, want: []string{"Elicitation completed: action=decline, content={}"}},
		}},
		{name: "a capability that is missing is asked for", tool: "test_missing_capability", capabilities: `{}`, rounds: []round{
			{want: []string{"sampling/createMessage", `needs {"sampling":{}}`}},
		}},
		{name: "a capability that is there", tool: "test_missing_capability", capabilities: `{"sampling":{}}`, rounds: []round{
			{want: []string{"The client can sample."}},
		}},
		{name: "progress before a question", tool: "test_streaming_elicitation", rounds: []round{
			{want: []string{"elicitation/create"}},
			{answers: `{"user":` + nameGiven + `}`, want: []string{"Streaming complete"}},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := client(t)
			var state []byte
			for i, r := range tt.rounds {
				req := &providerv1.CallToolRequest{Name: tt.tool, Round: &providerv1.Round{
					State: state, InputResponses: []byte(r.answers), ClientCapabilities: []byte(tt.capabilities),
				}}
				if tt.arguments != "" {
					req.Arguments = []byte(tt.arguments)
				}
				lines, last, err := call(t.Context(), t, c, req)
				if err != nil {
					t.Fatalf("round %d: %v", i+1, err)
				}
				got := lines[len(lines)-1]
				for _, want := range r.want {
					if !strings.Contains(got, want) {
						t.Errorf("round %d: got %s, want %s in it", i+1, got, want)
					}
				}
				state = last.GetInputRequired().GetState()
				if (state != nil) != r.state {
					t.Errorf("round %d: got state %q, want one: %t", i+1, state, r.state)
				}
			}
		})
	}
}

// Only the very state that was given out is taken: for this tool, by this
// replica, unchanged.
func TestStates(t *testing.T) {
	t.Parallel()
	c := client(t)
	given := func(c providerv1.ProviderServiceClient, tool string) []byte {
		_, last, err := call(t.Context(), t, c, &providerv1.CallToolRequest{Name: tool})
		if err != nil {
			t.Fatal(err)
		}
		return last.GetInputRequired().GetState()
	}
	good := given(c, prefix+"tampered_state")
	tests := []struct {
		name  string
		state []byte
		taken bool
	}{
		{name: "as it was given", state: good, taken: true},
		{name: "with something added", state: append(bytes.Clone(good), "-TAMPERED"...)},
		{name: "with a space added", state: append(bytes.Clone(good), ' ')},
		{name: "with another step", state: bytes.Replace(good, []byte(`"step":1`), []byte(`"step":2`), 1)},
		{name: "with a member that nobody knows", state: bytes.Replace(good, []byte(`{`), []byte(`{"x":1,`), 1)},
		{name: "of another tool", state: given(c, prefix+"request_state")},
		{name: "of another replica", state: given(client(t), prefix+"tampered_state")},
		{name: "nonsense", state: []byte("nonsense")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, _, err := call(t.Context(), t, c, &providerv1.CallToolRequest{
				Name: prefix + "tampered_state", Round: &providerv1.Round{State: tt.state, InputResponses: []byte(`{"confirm":` + okGiven + `}`)},
			})
			if tt.taken && (err != nil || !strings.HasPrefix(got[0], "integrity-ok")) {
				t.Errorf("got %v, %v, want it taken", got, err)
			}
			if !tt.taken && (status.Code(err) != codes.InvalidArgument || !fault.Is(err, providerv1.Reason_REASON_ARGUMENTS)) {
				t.Errorf("got %v, %v, want REASON_ARGUMENTS", got, err)
			}
		})
	}
}

func TestAnswersThatAreNoObject(t *testing.T) {
	t.Parallel()
	c := client(t)
	for _, bad := range []string{"null", "[]", `"x"`, "{", "{} {}"} {
		_, _, err := call(t.Context(), t, c, &providerv1.CallToolRequest{
			Name: prefix + "elicitation", Round: &providerv1.Round{InputResponses: []byte(bad)},
		})
		if !fault.Is(err, providerv1.Reason_REASON_ARGUMENTS) {
			t.Errorf("%s: got %v, want REASON_ARGUMENTS", bad, err)
		}
	}
}

// FuzzRounds brings any answers, state and capabilities to every tool that asks:
// each ends with one event that keeps to the contract, or is refused.
func FuzzRounds(f *testing.F) {
	f.Add(`{"user_name":`+nameGiven+`,"greeting":`+sampleGiven+`,"client_roots":`+rootsGiven+`,"confirm":`+okGiven+`}`, `{"step":1}`, `{"sampling":{}}`)
	f.Add(`{"sample":{"role":"a","content":[{"type":"text"}]},"user":{"action":"cancel","content":null}}`, "", `{"elicitation":null}`)
	f.Add(`null`, `{}`, `[]`)
	f.Add("{\"step1\":{\"action\":\"accept\",\"content\":{\"name\":\"\xff\"}}}", "", "")
	c := client(f)
	list, err := c.ListTools(f.Context(), &providerv1.ListToolsRequest{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, answers, state, capabilities string) {
		for _, d := range list.GetTools() {
			if strings.HasPrefix(d.GetName(), "test_trigger") || strings.HasPrefix(d.GetName(), "test_tool_with") {
				continue // change something for the next run, or take their time
			}
			req := &providerv1.CallToolRequest{Name: d.GetName(), Round: &providerv1.Round{
				InputResponses: []byte(answers), State: []byte(state), ClientCapabilities: []byte(capabilities),
			}}
			_, last, err := call(t.Context(), t, c, req)
			switch {
			case err != nil && !fault.Is(err, providerv1.Reason_REASON_ARGUMENTS):
				t.Errorf("%s: %v", d.GetName(), err)
			case err == nil && last.GetInputRequired() != nil && !json.Valid(last.GetInputRequired().GetInputRequests()):
				t.Errorf("%s asks with %q", d.GetName(), last.GetInputRequired().GetInputRequests())
			}
		}
	})
}
