package conformance

import (
	"encoding/json"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// formSchema asks for two texts.
const formSchema = `{
  "type": "object",
  "properties": {
    "username": {"type": "string", "description": "User's response"},
    "email": {"type": "string", "description": "User's email address"}
  },
  "required": ["username", "email"]
}`

// defaultsSchema has a default of each type (SEP-1034).
const defaultsSchema = `{
  "type": "object",
  "properties": {
    "name": {"type": "string", "description": "User name", "default": "John Doe"},
    "age": {"type": "integer", "description": "User age", "default": 30},
    "score": {"type": "number", "description": "User score", "default": 95.5},
    "status": {"type": "string", "description": "User status", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "description": "Verification status", "default": true}
  },
  "required": []
}`

// enumsSchema has a choice of each kind (SEP-1330).
const enumsSchema = `{
  "type": "object",
  "properties": {
    "untitledSingle": {"type": "string", "description": "Select one option", "enum": ["option1", "option2", "option3"]},
    "titledSingle": {"type": "string", "description": "Select one option with titles", "oneOf": [
      {"const": "value1", "title": "First Option"}, {"const": "value2", "title": "Second Option"}, {"const": "value3", "title": "Third Option"}]},
    "legacyEnum": {"type": "string", "description": "Select one option (legacy)",
      "enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]},
    "untitledMulti": {"type": "array", "description": "Select multiple options", "minItems": 1, "maxItems": 3,
      "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
    "titledMulti": {"type": "array", "description": "Select multiple options with titles", "minItems": 1, "maxItems": 3,
      "items": {"anyOf": [{"const": "value1", "title": "First Choice"}, {"const": "value2", "title": "Second Choice"}, {"const": "value3", "title": "Third Choice"}]}}
  },
  "required": []
}`

// conversationFixtures ask as servers do on a session of 2025-11-25. Here they
// are rounds like any other; the edge makes requests to the client of them.
func conversationFixtures() []fixture {
	return []fixture{{
		name: "test_sampling", description: "Passes a prompt to the client's model.", schema: oneText("prompt", "The prompt to send to the model."),
		play: playPassedOn,
	}, {
		name: "test_elicitation", description: "Asks the user with a message of the caller's.", schema: oneText("message", "The message to show the user."),
		play: playMessage,
	}, {
		name: "test_elicitation_sep1034_defaults", description: "Asks the user with a form that has defaults.", schema: nothing,
		play: playForm("Please review and update the form fields with defaults", defaultsSchema),
	}, {
		name: "test_elicitation_sep1330_enums", description: "Asks the user with a form that has choices.", schema: nothing,
		play: playForm("Please select options from the enum fields", enumsSchema),
	}, {
		name: "test_missing_capability", description: "Needs a client that can sample.", schema: nothing, play: playMissingCapability,
	}, {
		name: "test_streaming_elicitation", description: "Reports progress and then asks the user.", schema: nothing, play: playStreaming,
	}}
}

// oneText is the schema of a tool with one argument.
func oneText(name, description string) string {
	return `{"type":"object","properties":{"` + name + `":{"type":"string","description":"` + description + `","maxLength":10000}},"required":["` +
		name + `"],"additionalProperties":false}`
}

func playPassedOn(c *call) (*providerv1.CallToolResponse, error) {
	var args struct {
		Prompt string `json:"prompt"`
	}
	if err := c.arguments(&args); err != nil {
		return nil, err
	}
	text, ok := c.answers.sampled("sample")
	if !ok {
		return ask(nil, sample("sample", args.Prompt, 100))
	}
	return say("LLM response: " + text)
}

func playMessage(c *call) (*providerv1.CallToolResponse, error) {
	var args struct {
		Message string `json:"message"`
	}
	if err := c.arguments(&args); err != nil {
		return nil, err
	}
	given, ok := c.answers.elicited("user", "username", "email")
	if !ok {
		return ask(nil, elicit("user", args.Message, formSchema))
	}
	return say("User response: " + given.summary())
}

func playForm(message, schema string) func(*call) (*providerv1.CallToolResponse, error) {
	return func(c *call) (*providerv1.CallToolResponse, error) {
		given, ok := c.answers.elicited("user")
		if !ok {
			return ask(nil, elicit("user", message, schema))
		}
		return say("Elicitation completed: " + given.summary())
	}
}

// playMissingCapability asks even a client that says it cannot sample: it is for
// the edge to refuse that, and the suite sees whether it does.
func playMissingCapability(c *call) (*providerv1.CallToolResponse, error) {
	if c.capable("sampling") {
		return say("The client can sample.")
	}
	return ask(nil, sample("sample", "Say anything", 10))
}

func playStreaming(c *call) (*providerv1.CallToolResponse, error) {
	if err := c.progress(50); err != nil {
		return nil, err
	}
	given, ok := c.answers.elicited("user")
	if !ok {
		return ask(nil, elicit("user", askName, oneField("name", "string")))
	}
	return say("Streaming complete: " + given.summary())
}

// capable reports whether the client has declared a capability.
func (c *call) capable(name string) bool {
	var declared map[string]json.RawMessage
	if json.Unmarshal(c.req.GetRound().GetClientCapabilities(), &declared) != nil {
		return false
	}
	value, ok := declared[name]
	return ok && string(value) != "null"
}
