package conformance

import (
	"fmt"
	"strings"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

const askName = "What is your name?"

// roundFixtures ask the client for something and go on when they are called
// again with the answers (MCP's multi-round-trip requests, of 2026-07-28).
func roundFixtures() []fixture {
	const prefix = "test_input_required_result_"
	return []fixture{
		{prefix + "elicitation", "Asks the user for a name.", nothing, playElicitation},
		{prefix + "sampling", "Asks the client's model a question.", nothing, playSampling},
		{prefix + "list_roots", "Asks for the client's roots.", nothing, playListRoots},
		{prefix + "request_state", "Asks the user to confirm, and gives out a state.", nothing, playConfirm("state-ok")},
		{prefix + "tampered_state", "Asks the user to confirm, and takes no state but its own.", nothing, playConfirm("integrity-ok")},
		{prefix + "multiple_inputs", "Asks for a name, a greeting and the roots at once.", nothing, playMultipleInputs},
		{prefix + "multi_round", "Asks the user for a name and then for a colour.", nothing, playMultiRound},
		{prefix + "capabilities", "Asks for no more than the client says it can answer.", nothing, playCapabilities},
	}
}

func playElicitation(c *call) (*providerv1.CallToolResponse, error) {
	given, ok := c.answers.elicited("user_name", "name")
	if !ok {
		return ask(nil, elicit("user_name", askName, oneField("name", "string")))
	}
	return say("Hello, " + given.text("name") + "!")
}

func playSampling(c *call) (*providerv1.CallToolResponse, error) {
	text, ok := c.answers.sampled("capital_question")
	if !ok {
		return ask(nil, sample("capital_question", "What is the capital of France?", 100))
	}
	return say("LLM response: " + text)
}

func playListRoots(c *call) (*providerv1.CallToolResponse, error) {
	roots, ok := c.answers.rooted("client_roots")
	if !ok {
		return ask(nil, listRoots("client_roots"))
	}
	return say(fmt.Sprintf("%d roots: %s", len(roots), strings.Join(roots, ", ")))
}

// playConfirm asks for a confirmation. word tells that the state came back.
func playConfirm(word string) func(*call) (*providerv1.CallToolResponse, error) {
	return func(c *call) (*providerv1.CallToolResponse, error) {
		s, err := c.taken(1)
		if err != nil {
			return nil, err
		}
		given, ok := c.answers.elicited("confirm", "ok")
		if s.Step == 0 || !ok {
			return ask(c.give(1, ""), elicit("confirm", "Please confirm", oneField("ok", "boolean")))
		}
		return say(word + ": " + given.summary())
	}
}

func playMultipleInputs(c *call) (*providerv1.CallToolResponse, error) {
	s, err := c.taken(1)
	if err != nil {
		return nil, err
	}
	name, named := c.answers.elicited("user_name", "name")
	greeting, greeted := c.answers.sampled("greeting")
	roots, rooted := c.answers.rooted("client_roots")
	if s.Step == 0 || !named || !greeted || !rooted {
		return ask(c.give(1, ""), elicit("user_name", askName, oneField("name", "string")),
			sample("greeting", "Generate a greeting", 50), listRoots("client_roots"))
	}
	return say(fmt.Sprintf("Name: %s; greeting: %s; roots: %d", name.text("name"), greeting, len(roots)))
}

func playMultiRound(c *call) (*providerv1.CallToolResponse, error) {
	s, err := c.taken(2)
	if err != nil {
		return nil, err
	}
	if s.Step < 2 {
		name, ok := c.answers.elicited("step1", "name")
		const most = 1000 // of a name, so that the state stays small
		if s.Step == 0 || !ok || len(name.text("name")) > most {
			return ask(c.give(1, ""), elicit("step1", "Step 1: What is your name?", oneField("name", "string")))
		}
		return askColour(c, name.text("name"))
	}
	colour, ok := c.answers.elicited("step2", "color")
	if !ok {
		return askColour(c, s.Name)
	}
	return say(fmt.Sprintf("Name: %s; colour: %s", s.Name, colour.text("color")))
}

func askColour(c *call, name string) (*providerv1.CallToolResponse, error) {
	return ask(c.give(2, name), elicit("step2", "Step 2: What is your favorite color?", oneField("color", "string")))
}

func playCapabilities(c *call) (*providerv1.CallToolResponse, error) {
	if _, err := c.taken(1); err != nil {
		return nil, err
	}
	var received []string
	if _, ok := c.answers.elicited("elicit_input", "value"); ok {
		received = append(received, "elicit_input")
	}
	if _, ok := c.answers.sampled("sample_input"); ok {
		received = append(received, "sample_input")
	}
	if len(received) > 0 {
		return say("capabilities-ok: received " + strings.Join(received, ", "))
	}
	var questions []question
	if c.capable("elicitation") {
		questions = append(questions, elicit("elicit_input", "Elicitation input", oneField("value", "string")))
	}
	if c.capable("sampling") {
		questions = append(questions, sample("sample_input", "Sample request", 50))
	}
	if len(questions) == 0 {
		return say("The client says that it can answer nothing.")
	}
	return ask(c.give(1, ""), questions...)
}
