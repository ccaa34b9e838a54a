//go:build e2e

package e2e_test

import (
	"fmt"

	"github.com/sallyport-mcp/sallyport/services/sallyport/e2e/launch"
)

// scenario is a row of the matrix: what is done, and the outcome that every
// client has to report.
type scenario struct {
	name string
	key  func(launch.Keys) string
	op   op
	tool string
	args map[string]any
	// before is how often the same is done first, and has to succeed.
	before int
	// address is where the call comes from. Every cell of the limits' scenario
	// needs one of its own; the others share their client's.
	address string

	want want
	// instead holds the failure that a client raises where it does not return
	// the result, by the client's name. A client that is in it has to fail.
	instead map[string]string
}

// want is compared with the parts of an outcome that are set in it.
type want struct {
	protocol bool     // the client's own revision
	tools    []string // exactly these, in this order
	isError  bool
	text     []string // each is part of what the model reads
	// structured members are in the structured result, with these values.
	structured map[string]any
	// decision is the machine's part of the answer, whole, but for its id and the
	// time to wait, which are checked by what they must look like.
	decision map[string]any
	wait     bool // the decision says when to try again
	progress []float64
}

func admin(k launch.Keys) string   { return k.Admin }
func analyst(k launch.Keys) string { return k.Analyst }
func intern(k launch.Keys) string  { return k.Intern }

// forged is a key of the right form whose secret nobody has issued.
func forged(k launch.Keys) string {
	b := []byte(k.Admin)
	for i := len(b) - 20; i < len(b)-10; i++ {
		b[i] = '7'
	}
	return string(b)
}

// noTool begins what the server says of a tool that does not exist.
const noTool = "There is no tool of this name"

func garbage(launch.Keys) string { return "let-me-in" }

// scenarios are the rows for a client, which is known by its number: it deletes
// customers that no other client needs.
func scenarios(n int) []scenario {
	return append(append(listing(), calling(n)...), refusing(n)...)
}

func listing() []scenario {
	return []scenario{{
		name: "agrees on a revision",
		key:  analyst, op: opHello,
		want: want{protocol: true},
	}, {
		name: "lists everything as admin",
		key:  admin, op: opList,
		want: want{tools: []string{"add_numbers", "delete_customer_account", "echo", "get_customer", "run_sql_query", "summarize_logs"}},
	}, {
		name: "lists what only reads as analyst",
		key:  analyst, op: opList,
		want: want{tools: []string{"add_numbers", "echo", "get_customer", "run_sql_query", "summarize_logs"}},
	}, {
		name: "lists nothing confidential as intern",
		key:  intern, op: opList,
		want: want{tools: []string{"add_numbers", "echo", "summarize_logs"}},
	}}
}

func calling(n int) []scenario {
	doomed := float64(20 + n)
	allowed := map[string]any{"verdict": "ALLOW"}
	return []scenario{{
		name: "echo",
		key:  intern, op: opCall, tool: "echo",
		args: map[string]any{"text": "grüß Gott, \"Welt\" <&> 🏰"},
		want: want{text: []string{"grüß Gott"}, structured: map[string]any{"text": "grüß Gott, \"Welt\" <&> 🏰"}, decision: allowed},
	}, {
		name: "add_numbers",
		key:  intern, op: opCall, tool: "add_numbers",
		args: map[string]any{"a": 2147483647, "b": -5},
		want: want{text: []string{"2147483642"}, structured: map[string]any{"sum": float64(2147483642)}, decision: allowed},
	}, {
		name: "run_sql_query",
		key:  analyst, op: opCall, tool: "run_sql_query",
		args: map[string]any{"query": "SELECT id, name FROM customers WHERE id = ?", "parameters": []any{7}},
		want: want{structured: map[string]any{
			"columns": []any{"id", "name"}, "rows": []any{[]any{float64(7), "Liam O'Connell"}}, "row_count": float64(1),
		}, decision: allowed},
	}, {
		name: "get_customer",
		key:  analyst, op: opCall, tool: "get_customer",
		args: map[string]any{"customer_id": 1},
		want: want{structured: map[string]any{"customer_id": float64(1), "name": "Ada Lindqvist", "email": "ada.lindqvist@example.com", "country": "SE"}, decision: allowed},
	}, {
		name: "summarize_logs",
		key:  intern, op: opCall, tool: "summarize_logs",
		args: map[string]any{"level": "error"},
		want: want{text: []string{"payment for order"}, decision: allowed},
	}, {
		name: "no arguments",
		key:  intern, op: opCall, tool: "summarize_logs",
		want: want{text: []string{"access.log"}, decision: allowed},
	}, {
		name: "delete_customer_account",
		key:  admin, op: opCall, tool: "delete_customer_account",
		args: map[string]any{"customer_id": doomed, "reason": "asked for it"},
		want: want{structured: map[string]any{"customer_id": doomed, "deleted": true}, decision: allowed},
	}, {
		// Somebody else looks: whoever has read what customers write needs an
		// approval for the next deletion.
		name: "a deleted account is gone",
		key:  analyst, op: opCall, tool: "get_customer",
		args: map[string]any{"customer_id": doomed},
		want: want{isError: true, text: []string{fmt.Sprintf("no customer has the id %v", doomed)}, decision: failed("TOOL_ERROR")},
	}}
}

func refusing(n int) []scenario {
	denied := map[string]any{"verdict": "DENY", "reason": "POLICY_DENIED", "policy": "destructive-admins-only", "retryable": false}
	return []scenario{{
		name: "an argument of the wrong type",
		key:  intern, op: opCall, tool: "echo",
		args: map[string]any{"text": 5},
		want: want{isError: true, text: []string{"/text must be a string"}, decision: invalid("/text", "must be a string, not a number")},
	}, {
		name: "a missing argument",
		key:  intern, op: opCall, tool: "add_numbers",
		args: map[string]any{"a": 1},
		want: want{isError: true, text: []string{"/b is required"}, decision: invalid("/b", "is required")},
	}, {
		name: "an argument too many",
		key:  intern, op: opCall, tool: "echo",
		args: map[string]any{"text": "x", "sudo": true},
		want: want{isError: true, text: []string{"/sudo is not known"}, decision: invalid("/sudo", "is not known; known are: text")},
	}, {
		name: "SQL that writes",
		key:  analyst, op: opCall, tool: "run_sql_query",
		args: map[string]any{"query": "DELETE FROM customers WHERE id = 1"},
		want: want{isError: true, text: []string{"only read queries"}, decision: failed("QUERY_REFUSED")},
	}, {
		name: "a tool that policy denies",
		key:  intern, op: opCall, tool: "delete_customer_account",
		args: map[string]any{"customer_id": 1},
		want: want{isError: true, text: []string{"destroys data", "Trying again will not help"}, decision: denied},
		// It looks into the list first, where an intern does not find the tool.
		instead: map[string]string{
			"inspector-legacy": "tool_not_found exit 5: ",
			"inspector-modern": "tool_not_found exit 5: ",
		},
	}, {
		name: "a tool that does not exist",
		key:  admin, op: opCall, tool: "rm_rf",
		instead: map[string]string{
			"v1":               "McpError -32602: MCP error -32602: " + noTool,
			"v2-legacy":        "ProtocolError -32602: " + noTool,
			"v2-auto":          "ProtocolError -32602: " + noTool,
			"v2-pinned":        "ProtocolError -32602: " + noTool,
			"inspector-legacy": "tool_not_found exit 5: ",
			"inspector-modern": "tool_not_found exit 5: ",
			"go-modern":        noTool,
			"go-legacy":        noTool,
			"remote-legacy":    "McpError -32602: MCP error -32602: " + noTool,
			"remote-modern":    "ProtocolError -32602: " + noTool,
		},
	}, {
		name: "a forged key",
		key:  forged, op: opList,
		instead: unauthorized(),
	}, {
		name: "no key at all",
		key:  garbage, op: opList,
		instead: unauthorized(),
	}, {
		name: "the sixth summarize_logs within a minute",
		key:  intern, op: opCall, tool: "summarize_logs",
		args:   map[string]any{"level": "error"},
		before: 5, address: fmt.Sprintf("198.51.100.%d", 1+n),
		want: want{isError: true, text: []string{"Retry in"}, decision: overLimit(), wait: true},
	}}
}

// overLimit is the decision of the rule that only a few summaries pass.
func overLimit() map[string]any {
	return map[string]any{"verdict": "DENY", "reason": "QUOTA_EXCEEDED", "rule": "summarize-logs-per-ip", "retryable": true}
}

// failed is the decision on a call that was allowed and did not work.
func failed(reason string) map[string]any {
	return map[string]any{"verdict": "ALLOW", "reason": reason, "retryable": false}
}

// invalid is the decision on a call with one argument that is not right.
func invalid(pointer, message string) map[string]any {
	d := failed("INVALID_ARGUMENTS")
	d["violations"] = []any{map[string]any{"pointer": pointer, "message": message}}
	return d
}

// unauthorized is how each client says that its credential was refused.
func unauthorized() map[string]string {
	return map[string]string{
		"v1":               "StreamableHTTPError 401: ",
		"v2-legacy":        "SdkHttpError CLIENT_HTTP_NOT_IMPLEMENTED 401: ",
		"v2-auto":          "SdkHttpError CLIENT_HTTP_AUTHENTICATION 401: ",
		"v2-pinned":        "SdkHttpError CLIENT_HTTP_AUTHENTICATION 401: ",
		"inspector-legacy": "auth_required exit 3: ",
		"inspector-modern": "auth_required exit 3: ",
		"go-modern":        "Unauthorized",
		"go-legacy":        "Unauthorized",
		// It gives up before it has relayed anything.
		"remote-legacy": "McpError -32000: MCP error -32000: Connection closed",
		"remote-modern": "SdkError ERA_NEGOTIATION_FAILED: ",
	}
}
