// Package jsonrpc reads one JSON-RPC message of MCP from hostile bytes.
//
// It makes a single pass with package strictjson, and notes where in the buffer
// each part lies that the edge needs, so nothing is parsed twice and what was
// checked is, byte for byte, what is passed on. It knows where MCP keeps things
// and nothing of what they mean.
package jsonrpc

import (
	"bytes"
	"strconv"

	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
)

// Kind of a JSON value: its first byte, with '0' for all numbers, and 0 for a
// value that is not there.
type Kind byte

// The kinds of a value.
const (
	Absent Kind = 0
	Null   Kind = 'n'
	False  Kind = 'f'
	True   Kind = 't'
	String Kind = '"'
	Number Kind = '0'
	Object Kind = '{'
	Array  Kind = '['
)

// Field is where a value lies in the buffer that was scanned.
type Field struct {
	Kind Kind
	// Start and End are offsets into the buffer.
	Start, End int
}

// Present reports whether the value is there at all.
func (f Field) Present() bool { return f.Kind != Absent }

// Message is a scanned message. It refers to the buffer it was scanned from and
// is good as long as that is not changed.
type Message struct {
	raw []byte

	// Version, ID, Method and Params are the members of the envelope.
	Version, ID, Method, Params Field
	// Result and Error are there only in a response.
	Result, Error Field

	// Name to Capabilities are members of params.
	Name, Arguments, Meta, Cursor, ProtocolVersion  Field
	URI, InputResponses, RequestState, Capabilities Field

	// MetaVersion to MetaProgressToken are members of params._meta.
	MetaVersion, MetaClientInfo, MetaCapabilities  Field
	MetaTraceparent, MetaTracestate                Field
	MetaContext, MetaHops, MetaLogLevel, MetaToken Field
	MetaIdempotencyKey, MetaTaskTools              Field
	// ClientInfo is a member of params, of initialize.
	ClientInfo Field
	// ClientName and ClientVersion are members of either client info.
	ClientName, ClientVersion Field

	shape []byte
}

// Reset forgets the message.
func (m *Message) Reset() { *m = Message{shape: m.shape[:0]} }

// Raw returns the bytes of a value, exactly as they were sent.
func (m *Message) Raw(f Field) []byte { return m.raw[f.Start:f.End] }

// Text returns a string's value without quotes and escapes, and "" for any
// other value.
func (m *Message) Text(f Field) string {
	if f.Kind != String {
		return ""
	}
	return strictjson.Text(m.Raw(f))
}

// AppendText appends what Text returns.
func (m *Message) AppendText(b []byte, f Field) []byte {
	if f.Kind != String {
		return b
	}
	return strictjson.AppendText(b, m.Raw(f))
}

// Is reports whether the value is the string want. It does not allocate.
func (m *Message) Is(f Field, want string) bool {
	if f.Kind != String {
		return false
	}
	raw := m.raw[f.Start+1 : f.End-1]
	if string(raw) == want {
		return true
	}
	return hasEscape(raw) && strictjson.Text(m.Raw(f)) == want
}

// Integer returns the value of a number that is an integer without fraction or
// exponent and fits.
func (m *Message) Integer(f Field) (int64, bool) {
	if f.Kind != Number {
		return 0, false
	}
	n, err := strconv.ParseInt(string(m.Raw(f)), 10, 64)
	return n, err == nil
}

// Shape describes the arguments by names, types and sizes, and never by value:
// "{query: string(42), parameters: array(2)}". It is at most [MaxShape] bytes.
func (m *Message) Shape() string {
	if !m.Arguments.Present() {
		return "{}"
	}
	return string(m.shape)
}

func hasEscape(b []byte) bool { return bytes.IndexByte(b, '\\') >= 0 }
