package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// wideSchema uses what JSON Schema 2020-12 has beyond properties; all of it must
// reach the client.
const wideSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "$defs": {
    "address": {
      "$anchor": "addressDef",
      "type": "object",
      "properties": {"street": {"type": "string"}, "city": {"type": "string"}}
    }
  },
  "properties": {
    "name": {"type": "string"},
    "address": {"$ref": "#/$defs/address"},
    "contactMethod": {"type": "string", "enum": ["phone", "email"]},
    "phone": {"type": "string"},
    "email": {"type": "string"}
  },
  "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
  "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
  "then": {"required": ["phone"]},
  "else": {"required": ["email"]},
  "additionalProperties": false
}`

// mirroredSchema has an argument of each type that a header can repeat.
const mirroredSchema = `{
  "type": "object",
  "properties": {
    "region": {"type": "string", "description": "Where to look.", "maxLength": 256, "x-mcp-header": "Region"},
    "limit": {"type": "integer", "description": "How many to return.", "minimum": 0, "maximum": 1000000, "x-mcp-header": "Limit"},
    "dry_run": {"type": "boolean", "description": "Whether to do nothing.", "x-mcp-header": "Dry-Run"}
  },
  "required": ["region"],
  "additionalProperties": false
}`

// schemaFixtures have arguments that are hard to pass on.
func schemaFixtures() []fixture {
	return []fixture{{
		name: "json_schema_2020_12_tool", description: "Takes arguments by a schema with the vocabulary of JSON Schema 2020-12.",
		schema: wideSchema,
		play: func(c *call) (*providerv1.CallToolResponse, error) {
			var args bytes.Buffer
			if err := json.Compact(&args, c.req.GetArguments()); err != nil {
				return nil, err
			}
			return say("JSON Schema 2020-12 tool called with: " + args.String())
		},
	}, {
		name: "test_x_mcp_header", description: "Takes arguments that headers repeat.", schema: mirroredSchema,
		play: func(c *call) (*providerv1.CallToolResponse, error) {
			var args struct {
				Region string `json:"region"`
				Limit  int    `json:"limit"`
				DryRun bool   `json:"dry_run"`
			}
			if err := c.arguments(&args); err != nil {
				return nil, err
			}
			return say(fmt.Sprintf("region=%q limit=%d dry_run=%t", args.Region, args.Limit, args.DryRun))
		},
	}}
}
