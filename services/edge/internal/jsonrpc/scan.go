package jsonrpc

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits bound what a message may be made of.
type Limits struct {
	// Depth is how deep objects and arrays may be nested.
	Depth int
	// Nodes is how many values there may be in all.
	Nodes int
	// Keys is how many members one object may have.
	Keys int
	// StringBytes is how long a string or a name may be, as sent.
	StringBytes int
	// NumberBytes is how long a number may be, as sent.
	NumberBytes int
}

// DefaultLimits returns bounds that every honest message keeps.
func DefaultLimits() Limits {
	return Limits{Depth: 32, Nodes: 10_000, Keys: 1000, StringBytes: 64 << 10, NumberBytes: 32}
}

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
	limits Limits

	dec     jsontext.Decoder
	src     bytes.Buffer
	buf     []byte
	m       *Message
	nodes   int
	depth   int
	scratch []byte
}

// NewScanner returns a scanner with these bounds.
func NewScanner(limits Limits) *Scanner { return &Scanner{limits: limits} }

// Scan reads the one message in buf into m, which it overwrites. After an error
// m is not to be used.
func (s *Scanner) Scan(buf []byte, m *Message) error {
	m.Reset()
	m.raw = buf
	s.buf, s.m, s.nodes, s.depth = buf, m, 0, 0
	// The buffer is never written to, so the decoder reads buf where it is.
	s.src = *bytes.NewBuffer(buf)
	s.dec.Reset(&s.src)
	defer func() { s.buf, s.m, s.src = nil, nil, bytes.Buffer{} }()

	switch s.dec.PeekKind() {
	case '{':
	case '[':
		return ErrBatch
	case jsontext.KindInvalid:
		return ErrSyntax
	default:
		return ErrNotObject
	}
	if _, _, err := s.value(envelope); err != nil {
		return err
	}
	if _, err := s.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return ErrSyntax
	}
	return nil
}

// value reads one value that stands at a place, and returns where it lies and
// how many members, elements or bytes it has.
func (s *Scanner) value(at place) (f Field, size int, err error) {
	if s.nodes++; s.nodes > s.limits.Nodes {
		return f, 0, ErrNodes
	}
	f.Kind = Kind(s.dec.PeekKind())
	switch f.Kind {
	case Object:
		f.Start, size, err = s.object(at)
	case Array:
		f.Start, size, err = s.array()
	default:
		var raw jsontext.Value
		if raw, err = s.dec.ReadValue(); err != nil {
			return f, 0, ErrSyntax
		}
		f.Start = int(s.dec.InputOffset()) - len(raw)
		size, err = s.scalar(f.Kind, raw)
	}
	f.End = int(s.dec.InputOffset())
	return f, size, err
}

func (s *Scanner) scalar(kind Kind, raw []byte) (size int, err error) {
	switch kind {
	case String:
		if len(raw) > s.limits.StringBytes {
			return 0, ErrString
		}
		return len(raw) - len(`""`), nil
	case Number:
		return 0, s.number(raw)
	}
	return 0, nil
}

func (s *Scanner) number(raw []byte) error {
	if len(raw) > s.limits.NumberBytes {
		return ErrNumber
	}
	if bytes.ContainsAny(raw, "eE") {
		// Only an exponent can take so short a number out of range.
		if n, err := strconv.ParseFloat(string(raw), 64); err != nil || math.IsInf(n, 0) {
			return ErrNumber
		}
	}
	return nil
}

func (s *Scanner) enter() (start int, err error) {
	if s.depth++; s.depth > s.limits.Depth {
		return 0, ErrDepth
	}
	if _, err := s.dec.ReadToken(); err != nil {
		return 0, ErrSyntax
	}
	return int(s.dec.InputOffset()) - 1, nil
}

func (s *Scanner) leave() error {
	s.depth--
	if _, err := s.dec.ReadToken(); err != nil {
		return ErrSyntax
	}
	return nil
}

func (s *Scanner) array() (start, size int, err error) {
	if start, err = s.enter(); err != nil {
		return 0, 0, err
	}
	for ; s.dec.PeekKind() != ']'; size++ {
		if _, _, err = s.value(elsewhere); err != nil {
			return 0, 0, err
		}
	}
	return start, size, s.leave()
}

func (s *Scanner) object(at place) (start, size int, err error) {
	if start, err = s.enter(); err != nil {
		return 0, 0, err
	}
	if at == arguments {
		s.m.shape = append(s.m.shape, '{')
	}
	for ; s.dec.PeekKind() != '}'; size++ {
		if size == s.limits.Keys {
			return 0, 0, ErrKeys
		}
		raw, err := s.dec.ReadValue()
		if err != nil {
			return 0, 0, ErrSyntax
		}
		if len(raw) > s.limits.StringBytes {
			return 0, 0, ErrString
		}
		if err := s.member(at, raw, size); err != nil {
			return 0, 0, err
		}
	}
	if at == arguments {
		s.m.shape = append(s.m.shape, '}')
	}
	return start, size, s.leave()
}

// member reads the value of a member, whose name was just read.
func (s *Scanner) member(at place, rawName []byte, index int) error {
	if at == elsewhere {
		_, _, err := s.value(elsewhere)
		return err
	}
	name := rawName[1 : len(rawName)-1]
	if hasEscape(name) {
		var err error
		if s.scratch, err = jsontext.AppendUnquote(s.scratch[:0], rawName); err != nil {
			return ErrSyntax
		}
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
