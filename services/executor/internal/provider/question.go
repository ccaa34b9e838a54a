package provider

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/jsonschema"
)

// Bounds on a question to the client.
const (
	maxRequests   = 32
	maxRequestKey = 128
)

// asked are the methods that a client can be asked for.
var asked = map[string]bool{"elicitation/create": true, "sampling/createMessage": true, "roots/list": true}

// question checks what a provider wants to ask the client. Whether the client
// can do all that is for the edge, which knows it.
func question(q *providerv1.InputRequired, limit int) error {
	if len(q.GetState()) > MaxState {
		return fmt.Errorf("state of %d bytes: must be at most %d", len(q.GetState()), MaxState)
	}
	if len(q.GetInputRequests()) > limit {
		return fmt.Errorf("requests of %d bytes: must be at most %d", len(q.GetInputRequests()), limit)
	}
	if c := q.GetRequiredCapabilities(); len(c) > 0 {
		if err := jsonschema.Object(c); err != nil {
			return fmt.Errorf("required capabilities: %w", err)
		}
	}
	if len(q.GetInputRequests()) == 0 {
		if len(q.GetState()) == 0 {
			return errors.New("a question without requests or state")
		}
		return nil
	}
	all, err := jsonschema.Members(q.GetInputRequests())
	if err != nil {
		return fmt.Errorf("requests: %w", err)
	}
	if len(all) == 0 && len(q.GetState()) == 0 {
		return errors.New("a question without requests or state")
	}
	if len(all) > maxRequests {
		return fmt.Errorf("%d requests: must be at most %d", len(all), maxRequests)
	}
	for key, raw := range all {
		if err := request(key, raw); err != nil {
			return fmt.Errorf("request %.128q: %w", key, err)
		}
	}
	return nil
}

func request(key string, raw jsontext.Value) error {
	if key == "" || len(key) > maxRequestKey {
		return fmt.Errorf("its key must be 1 to %d bytes", maxRequestKey)
	}
	one, err := jsonschema.Members(raw)
	if err != nil {
		return err
	}
	if !asked[unquoted(one["method"])] {
		return errors.New("the method is not one that a client can be asked for")
	}
	if params := one["params"]; params != nil && params.Kind() != '{' {
		return errors.New("params must be an object")
	}
	return nil
}

// unquoted returns the text of a JSON string, or nothing.
func unquoted(v jsontext.Value) string {
	if len(v) == 0 || v.Kind() != '"' {
		return ""
	}
	out, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return ""
	}
	return string(out)
}
