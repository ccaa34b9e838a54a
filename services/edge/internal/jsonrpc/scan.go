package jsonrpc

import (
	"errors"
	"strings"

	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
)

// Errors that Scan returns. They say all that may be told about a bad message;
// none holds any byte of it.
var (
	// ErrSyntax means that the bytes are not one strict JSON value: bad syntax,
	// bad UTF-8, a name given twice, something after the end.
	ErrSyntax = errors.New("the body is not one strict JSON value")
	// ErrBatch means that the value is an array.
	ErrBatch = errors.New("batches are not supported")
	// ErrNotObject means that the value is neither an object nor an array.
	ErrNotObject = errors.New("the body is not a JSON object")
	// ErrDepth to ErrNumber mean that a bound was exceeded.
	ErrDepth  = errors.New("the body is nested too deeply")
	ErrNodes  = errors.New("the body holds too many values")
	ErrKeys   = errors.New("an object in the body has too many members")
	ErrString = errors.New("a string in the body is too long")
	ErrNumber = errors.New("a number in the body is too long or too large")
	// ErrReserved means that a name differs from one the protocol defines only
	// in upper and lower case, which parsers elsewhere may take for the same.
	ErrReserved = errors.New("a member's name differs from a reserved one only in case")
)

// Scanner scans one message after another. It is not safe for concurrent use;
// keep a pool.
type Scanner struct {
	limits strictjson.Limits

	json    strictjson.Reader
	m       *Message
	scratch []byte
}

// NewScanner returns a scanner with these bounds.
func NewScanner(limits strictjson.Limits) *Scanner { return &Scanner{limits: limits} }

// Scan reads the one message in buf into m, which it overwrites. After an error
// m is not to be used.
func (s *Scanner) Scan(buf []byte, m *Message) error {
	m.Reset()
	m.raw, s.m = buf, m
	s.json.Reset(buf, s.limits)
	defer func() {
		s.m = nil
		s.json.Reset(nil, s.limits) // let go of the message
	}()
	return told(s.scan())
}

func (s *Scanner) scan() error {
	switch s.json.Kind() {
	case '{':
	case '[':
		return ErrBatch
	case 0:
		return ErrSyntax
	default:
		return ErrNotObject
	}
	if _, _, err := s.value(envelope); err != nil {
		return err
	}
	return s.json.End()
}

// told says an error of the reader in the words of this package.
func told(err error) error {
	for _, e := range []struct{ is, say error }{
		{strictjson.ErrSyntax, ErrSyntax},
		{strictjson.ErrDepth, ErrDepth},
		{strictjson.ErrNodes, ErrNodes},
		{strictjson.ErrKeys, ErrKeys},
		{strictjson.ErrString, ErrString},
		{strictjson.ErrNumber, ErrNumber},
	} {
		if errors.Is(err, e.is) {
			return e.say
		}
	}
	return err
}

// value reads one value that stands at a place, and returns where it lies and
// how many members, elements or bytes it has.
func (s *Scanner) value(at place) (f Field, size int, err error) {
	f.Kind = Kind(s.json.Kind())
	switch f.Kind {
	case Object:
		f.Start, size, err = s.object(at)
	case Array:
		f.Start, size, err = s.array()
	default:
		var raw []byte
		if raw, err = s.json.Scalar(); err != nil {
			return f, 0, err
		}
		f.Start = s.json.Offset() - len(raw)
		if f.Kind == String {
			size = len(raw) - len(`""`)
		}
	}
	f.End = s.json.Offset()
	return f, size, err
}

func (s *Scanner) array() (start, size int, err error) {
	if err = s.json.Enter(); err != nil {
		return 0, 0, err
	}
	start = s.json.Offset() - 1
	for ; s.json.Kind() != ']'; size++ {
		if _, _, err = s.value(elsewhere); err != nil {
			return 0, 0, err
		}
	}
	return start, size, s.json.Leave()
}

func (s *Scanner) object(at place) (start, size int, err error) {
	if err = s.json.Enter(); err != nil {
		return 0, 0, err
	}
	start = s.json.Offset() - 1
	if at == arguments {
		s.m.shape = append(s.m.shape, '{')
	}
	for ; s.json.Kind() != '}'; size++ {
		raw, err := s.json.Name()
		if err != nil {
			return 0, 0, err
		}
		if err := s.member(at, raw, size); err != nil {
			return 0, 0, err
		}
	}
	if at == arguments {
		s.m.shape = append(s.m.shape, '}')
	}
	return start, size, s.json.Leave()
}

// member reads the value of a member, whose name was just read.
func (s *Scanner) member(at place, rawName []byte, index int) error {
	if at == elsewhere {
		_, _, err := s.value(elsewhere)
		return err
	}
	name := rawName[1 : len(rawName)-1]
	if hasEscape(name) {
		s.scratch = strictjson.AppendText(s.scratch[:0], rawName)
		name = s.scratch
	}
	if at == arguments {
		more := s.m.beginShape(name, index)
		f, size, err := s.value(elsewhere)
		if err == nil && more {
			s.m.endShape(f.Kind, size)
		}
		return err
	}
	slot, below := s.m.slot(at, name)
	if slot == nil && at.reserves(name) {
		return ErrReserved
	}
	f, _, err := s.value(below)
	if slot != nil {
		*slot = f
	}
	return err
}

// A place is where in a message the scanner is, as far as it matters.
type place int

const (
	elsewhere place = iota
	envelope
	params
	arguments
	meta
	clientInfo
)

// slot returns where to note the member with this name, or nil, and the place
// that its value is.
func (m *Message) slot(at place, name []byte) (*Field, place) {
	switch at {
	case envelope:
		switch string(name) {
		case "jsonrpc":
			return &m.Version, elsewhere
		case "id":
			return &m.ID, elsewhere
		case "method":
			return &m.Method, elsewhere
		case "params":
			return &m.Params, params
		case "result":
			return &m.Result, elsewhere
		case "error":
			return &m.Error, elsewhere
		}
	case params:
		switch string(name) {
		case "name":
			return &m.Name, elsewhere
		case "arguments":
			return &m.Arguments, arguments
		case "_meta":
			return &m.Meta, meta
		case "cursor":
			return &m.Cursor, elsewhere
		case "protocolVersion":
			return &m.ProtocolVersion, elsewhere
		case "clientInfo":
			return &m.ClientInfo, clientInfo
		case "uri":
			return &m.URI, elsewhere
		case "inputResponses":
			return &m.InputResponses, elsewhere
		case "requestState":
			return &m.RequestState, elsewhere
		case "capabilities":
			return &m.Capabilities, elsewhere
		}
	case meta:
		return m.metaSlot(name)
	case clientInfo:
		switch string(name) {
		case "name":
			return &m.ClientName, elsewhere
		case "version":
			return &m.ClientVersion, elsewhere
		}
	}
	return nil, elsewhere
}

func (m *Message) metaSlot(name []byte) (*Field, place) {
	switch string(name) {
	case "io.modelcontextprotocol/protocolVersion":
		return &m.MetaVersion, elsewhere
	case "io.modelcontextprotocol/clientInfo":
		return &m.MetaClientInfo, clientInfo
	case "io.modelcontextprotocol/clientCapabilities":
		return &m.MetaCapabilities, elsewhere
	case "io.modelcontextprotocol/logLevel":
		return &m.MetaLogLevel, elsewhere
	case "progressToken":
		return &m.MetaToken, elsewhere
	case "traceparent":
		return &m.MetaTraceparent, elsewhere
	case "tracestate":
		return &m.MetaTracestate, elsewhere
	case "dev.sallyport/context":
		return &m.MetaContext, elsewhere
	case "dev.sallyport/hops":
		return &m.MetaHops, elsewhere
	case "dev.sallyport/idempotency-key":
		return &m.MetaIdempotencyKey, elsewhere
	case "dev.sallyport/task_tools":
		return &m.MetaTaskTools, elsewhere
	}
	return nil, elsewhere
}

// reserves reports whether name is, but for case, a name that decides what is
// done.
func (p place) reserves(name []byte) bool {
	var reserved []string
	switch p {
	case envelope:
		reserved = []string{"jsonrpc", "id", "method", "params", "result", "error"}
	case params:
		reserved = []string{"name", "arguments", "_meta", "cursor", "uri", "inputResponses", "requestState"}
	case meta:
		reserved = []string{
			"io.modelcontextprotocol/protocolVersion",
			"io.modelcontextprotocol/clientCapabilities",
			"dev.sallyport/context", "dev.sallyport/hops", "dev.sallyport/idempotency-key",
			"dev.sallyport/task_tools",
		}
	default:
		return false
	}
	for _, r := range reserved {
		// A letter may fold to one of three bytes, as K does.
		if len(name) <= 3*len(r) && strings.EqualFold(r, string(name)) {
			return true
		}
	}
	return false
}
