package jsonrpc

import (
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxShape is the greatest length of a shape in bytes.
const MaxShape = 2048

// maxShapeName is how much of an argument's name a shape shows. Names come from
// the caller too, and are no place to hide a text in.
const maxShapeName = 64

// shapeRoom is what has to be left for a name, a type and the end.
const shapeRoom = 6*maxShapeName + 48

// beginShape notes an argument's name, and reports whether there was room. The
// first one without room becomes "…".
func (m *Message) beginShape(name []byte, index int) bool {
	const more = ", …"
	if len(m.shape)+shapeRoom > MaxShape {
		if n := len(m.shape); n < len(more) || string(m.shape[n-len(more):]) != more {
			m.shape = append(m.shape, more...)
		}
		return false
	}
	if index > 0 {
		m.shape = append(m.shape, ", "...)
	}
	m.shape = appendShapeName(m.shape, name)
	m.shape = append(m.shape, ": "...)
	return true
}

func (m *Message) endShape(kind Kind, size int) {
	switch kind {
	case Null:
		m.shape = append(m.shape, "null"...)
	case True, False:
		m.shape = append(m.shape, "boolean"...)
	case Number:
		m.shape = append(m.shape, "number"...)
	case String:
		m.shape = appendSize(m.shape, "string", size)
	case Object:
		m.shape = appendSize(m.shape, "object", size)
	case Array:
		m.shape = appendSize(m.shape, "array", size)
	}
}

func appendSize(b []byte, kind string, size int) []byte {
	b = append(b, kind...)
	b = append(b, '(')
	b = strconv.AppendInt(b, int64(size), 10)
	return append(b, ')')
}

// appendShapeName writes a plain name as it is, and any other quoted.
func appendShapeName(b, name []byte) []byte {
	cut := name
	if len(cut) > maxShapeName {
		cut = cut[:maxShapeName]
		for len(cut) > 0 && !utf8.Valid(cut) {
			cut = cut[:len(cut)-1] // a rune was cut in two
		}
	}
	if plain(cut) {
		b = append(b, cut...)
	} else {
		b, _ = jsontext.AppendQuote(b, cut) // valid UTF-8, so it cannot fail
	}
	if len(cut) < len(name) {
		b = append(b, "…"...)
	}
	return b
}

func plain(name []byte) bool {
	for _, c := range name {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return len(name) > 0
}
