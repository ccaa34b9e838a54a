// Package strictjson reads JSON that strangers wrote: in one linear pass, with
// bounds on everything that can grow, and in the one way that no two readers
// can understand differently.
//
// A call's arguments go through several services as the bytes they were sent
// as: one checks and hashes them, one shows them to policies, one makes a
// message of them. All of them read with this package, so what one has judged is
// what another does. Names given twice, invalid UTF-8, halves of surrogate pairs
// and anything after the value are errors.
//
// It builds no values; who reads makes what he needs of each as it comes.
package strictjson

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits bound what a value may be made of.
type Limits struct {
	// Depth is how deep objects and arrays may be nested.
	Depth int
	// Nodes is how many values there may be in all.
	Nodes int
	// Keys is how many members one object may have.
	Keys int
	// StringBytes is how long a string or a name may be, as written.
	StringBytes int
	// NumberBytes is how long a number may be, as written.
	NumberBytes int
}

// DefaultLimits returns bounds that every honest message of a client keeps.
func DefaultLimits() Limits {
	return Limits{Depth: 32, Nodes: 10_000, Keys: 1000, StringBytes: 64 << 10, NumberBytes: 32}
}

// Errors of a [Reader]. None holds any byte of what was read.
var (
	// ErrSyntax means that the bytes are not one strict JSON value.
	ErrSyntax = errors.New("not one strict JSON value")
	// ErrDuplicate means that an object has a name twice. It is an ErrSyntax too.
	ErrDuplicate = fmt.Errorf("%w: a name is given twice", ErrSyntax)
	// ErrDepth to ErrNumber mean that a bound was exceeded.
	ErrDepth  = errors.New("nested too deeply")
	ErrNodes  = errors.New("too many values")
	ErrKeys   = errors.New("an object has too many members")
	ErrString = errors.New("a string is too long")
	ErrNumber = errors.New("a number is too long or too large")
)

// Sentence says an error of a [Reader] of the place it has come to, as "is nested
// too deeply".
func Sentence(err error) string {
	switch {
	case errors.Is(err, ErrDuplicate):
		return "is given twice"
	case errors.Is(err, ErrDepth):
		return "is nested too deeply"
	case errors.Is(err, ErrNodes):
		return "is where there are too many values"
	case errors.Is(err, ErrKeys):
		return "has too many members"
	case errors.Is(err, ErrString):
		return "is too long, or has a name that is"
	case errors.Is(err, ErrNumber):
		return "is a number that is too long or too large"
	}
	return "is not valid JSON"
}

// Kind of a value: its first byte, with '0' for all numbers. That of the end of
// an object or array is '}' or ']', and 0 means that there is nothing to be read.
type Kind = jsontext.Kind

// Reader reads one value after another from a buffer, which it never changes.
// After an error it is good for nothing but [Reader.Pointer] and
// [Reader.Reset]. It is not safe for concurrent use; the zero value must be
// Reset first.
type Reader struct {
	limits Limits
	dec    jsontext.Decoder
	buf    []byte
	src    bytes.Buffer // of buf
	nodes  int
	depth  int
	failed bool
	at     jsontext.Pointer // where it has
}

// Reset makes the reader begin with buf, which must not be changed while it is
// read. It lets go of the buffer it had.
func (r *Reader) Reset(buf []byte, limits Limits) {
	r.limits, r.buf, r.nodes, r.depth, r.failed = limits, buf, 0, 0, false
	// The decoder reads a bytes.Buffer where it is.
	r.src = *bytes.NewBuffer(buf)
	r.dec.Reset(&r.src)
}

// Kind returns the kind of what comes next.
func (r *Reader) Kind() Kind { return r.dec.PeekKind() }

// Offset is where in the buffer what was read last ends.
func (r *Reader) Offset() int { return int(r.dec.InputOffset()) }

// Pointer returns where the reader is or has failed, as a JSON Pointer. It holds
// names.
func (r *Reader) Pointer() string {
	if r.failed {
		return string(r.at)
	}
	return string(r.dec.StackPointer())
}

// Enter reads the beginning of an object or array.
func (r *Reader) Enter() error {
	if r.nodes++; r.nodes > r.limits.Nodes {
		return ErrNodes
	}
	if r.depth++; r.depth > r.limits.Depth {
		return ErrDepth
	}
	if k := r.dec.PeekKind(); k != '{' && k != '[' {
		return r.syntax(nil)
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return r.syntax(err)
	}
	return nil
}

// Leave reads the end of an object or array, which must come next.
func (r *Reader) Leave() error {
	r.depth--
	if k := r.dec.PeekKind(); k != '}' && k != ']' {
		return r.syntax(nil)
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return r.syntax(err)
	}
	return nil
}

// Name reads a member's name, as it is written: see [AppendText]. It must be
// followed by reading the member's value, and is good until then.
func (r *Reader) Name() ([]byte, error) {
	if _, n := r.dec.StackIndex(r.dec.StackDepth()); int(n/2) >= r.limits.Keys {
		return nil, ErrKeys
	}
	if k := r.dec.PeekKind(); k != '"' {
		return nil, r.syntax(nil)
	}
	return r.text()
}

// Scalar reads a value that is neither object nor array, as it is written. It
// is good until the next is read.
func (r *Reader) Scalar() ([]byte, error) {
	if r.nodes++; r.nodes > r.limits.Nodes {
		return nil, ErrNodes
	}
	switch r.dec.PeekKind() {
	case '"':
		return r.text()
	case '0':
		return r.number()
	case 'n', 't', 'f':
		raw, err := r.dec.ReadValue()
		if err != nil {
			return nil, r.syntax(err)
		}
		return raw, nil
	}
	return nil, r.syntax(nil)
}

// Value reads a value of any kind, as it is written: a part of the buffer.
func (r *Reader) Value() ([]byte, error) {
	kind := r.dec.PeekKind()
	if kind != '{' && kind != '[' {
		return r.Scalar()
	}
	if err := r.Enter(); err != nil {
		return nil, err
	}
	start := r.Offset() - 1
	for k := r.dec.PeekKind(); k != '}' && k != ']'; k = r.dec.PeekKind() {
		if kind == '{' {
			if _, err := r.Name(); err != nil {
				return nil, err
			}
		}
		if _, err := r.Value(); err != nil {
			return nil, err
		}
	}
	if err := r.Leave(); err != nil {
		return nil, err
	}
	return r.buf[start:r.Offset()], nil
}

// Skip reads a value of any kind and forgets it.
func (r *Reader) Skip() error {
	_, err := r.Value()
	return err
}

// End returns an error unless there is nothing more.
func (r *Reader) End() error {
	if _, err := r.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return r.syntax(err)
	}
	return nil
}

func (r *Reader) text() ([]byte, error) {
	raw, err := r.dec.ReadValue()
	if err != nil {
		return nil, r.syntax(err)
	}
	if len(raw) > r.limits.StringBytes {
		return nil, ErrString
	}
	return raw, nil
}

func (r *Reader) number() ([]byte, error) {
	raw, err := r.dec.ReadValue()
	if err != nil {
		return nil, r.syntax(err)
	}
	if len(raw) > r.limits.NumberBytes {
		return nil, ErrNumber
	}
	if bytes.ContainsAny(raw, "eE") || len(raw) > 300 {
		// Nothing else can take a number out of range.
		if _, err := strconv.ParseFloat(string(raw), 64); err != nil {
			return nil, ErrNumber
		}
	}
	return raw, nil
}

// syntax notes where it was; without an error of the decoder, what comes next
// is looked at for one.
func (r *Reader) syntax(err error) error {
	if err == nil {
		_, err = r.dec.ReadToken()
	}
	if bad, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		r.failed, r.at = true, bad.JSONPointer
	}
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return ErrDuplicate
	}
	return ErrSyntax
}

// Check returns an error unless buf is one strict JSON value within the limits.
func Check(buf []byte, limits Limits) error {
	var r Reader
	r.Reset(buf, limits)
	if err := r.Skip(); err != nil {
		return err
	}
	return r.End()
}

// AppendText appends the text of a string or name that a [Reader] has returned.
func AppendText(b, raw []byte) []byte {
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return append(b, inner...)
	}
	// What was read is known to be good.
	b, _ = jsontext.AppendUnquote(b, raw)
	return b
}

// Text returns the text of a string or name that a [Reader] has returned.
func Text(raw []byte) string {
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	return string(AppendText(nil, raw))
}
