package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// The errors of a session besides those that the server gives, see [Error].
var (
	// ErrClosed says that the session was closed on our side.
	ErrClosed = errors.New("the session is closed")
	// ErrSessionGone says that the server no longer knows the session, and has
	// not looked at the request.
	ErrSessionGone = errors.New("the server has forgotten the session")
	// ErrTooLarge says that the server's answer is larger than Options.MaxBytes.
	ErrTooLarge = errors.New("the answer is too large")
	// ErrNoAnswer says that the server ended the exchange without an answer.
	ErrNoAnswer = errors.New("the server ended without an answer")
	// ErrFlood says that the server sent too many messages that nobody asked for.
	ErrFlood = errors.New("the server sends more than is taken")
	// ErrMalformed says that what the server sent is not JSON-RPC.
	ErrMalformed = errors.New("the server sent what is no message")
)

// StatusError is an HTTP status that says that the request was not served.
type StatusError struct{ Code int }

// Error implements error.
func (e *StatusError) Error() string {
	return "the server answered with status " + strconv.Itoa(e.Code)
}

// The JSON-RPC error codes that callers look at.
const (
	CodeMethodNotFound   = -32601
	CodeInvalidParams    = -32602
	CodeResourceNotFound = -32002 // until 2025-11-25
	CodeURLElicitation   = -32042 // 2025-11-25
)

// Error is a JSON-RPC error.
type Error struct {
	Code    int64           `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("error %d: %q", e.Code, e.Message) }

// message is anything that a server sends.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *Error          `json:"error"`
}

func (m message) hasID() bool      { return len(m.ID) > 0 && string(m.ID) != "null" }
func (m message) isRequest() bool  { return m.Method != "" && m.hasID() }
func (m message) isResponse() bool { return m.Method == "" && (len(m.Result) > 0 || m.Error != nil) }

// answers reports whether m is the response to the request with this id.
func (m message) answers(id string) bool { return m.isResponse() && string(m.ID) == id }

// parse reads one message. Batches, which only the revision 2025-03-26 has, are
// not read: we never ask for one.
func parse(b []byte) (message, error) {
	var m message
	if err := json.Unmarshal(b, &m); err != nil {
		return message{}, ErrMalformed
	}
	if m.Method == "" && !m.isResponse() {
		return message{}, ErrMalformed
	}
	m.ID = bytes.TrimSpace(m.ID)
	return m, nil
}

// response writes the answer to a request of the server.
func response(id, result json.RawMessage, failed *Error) ([]byte, error) {
	if failed != nil {
		return json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "error": failed})
	}
	return json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "result": result})
}
