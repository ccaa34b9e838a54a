package guard

import (
	"bytes"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

// Arguments looks at the strings of a call's arguments, a strict JSON value. These
// are never changed.
func (c *Check) Arguments(raw []byte) *Blocked {
	const side = auditv1.GuardSide_GUARD_SIDE_ARGUMENTS
	return c.together(side, func() *Blocked {
		_, blocked := c.json(side, raw, true, "")
		return blocked
	})
}

// JSON looks at the strings of a strict JSON value in a result and returns what may
// be passed on: the value, byte by byte, but for strings that were changed. Under is
// the pointer to it.
func (c *Check) JSON(raw []byte, under string) ([]byte, *Blocked) {
	blocked := c.Together(func() (blocked *Blocked) {
		raw, blocked = c.json(auditv1.GuardSide_GUARD_SIDE_RESULT, raw, false, under)
		return blocked
	})
	return raw, blocked
}

// json walks a value once. Names of members are looked at too and cannot be
// changed: two could become one.
func (c *Check) json(side auditv1.GuardSide, raw []byte, fixed bool, under string) ([]byte, *Blocked) {
	if !c.looks(side) {
		return raw, nil
	}
	w := c.chain.walker(raw)
	defer c.chain.walkers.Put(w)
	d := &w.dec
	whole := string(raw) // copied once
	var out []byte
	copied := 0 // of raw, to out
	var name string
	for {
		if d.PeekKind() != '"' {
			tok, err := d.ReadToken()
			if err == io.EOF {
				break
			}
			if err != nil {
				return nil, c.unreadable(side, under)
			}
			if k := tok.Kind(); k == '}' || k == ']' {
				name = ""
			}
			continue
		}
		v, err := d.ReadValue()
		if err != nil {
			return nil, c.unreadable(side, under)
		}
		end := int(d.InputOffset())
		text, err := unquote(whole[end-len(v) : end])
		if err != nil {
			return nil, c.unreadable(side, under)
		}
		w.place = inside{d, under, false}
		if kind, n := d.StackIndex(d.StackDepth()); kind == '{' && n%2 == 1 {
			w.place.name = true
			if _, blocked := c.text(side, "", text, true, &w.place); blocked != nil {
				return nil, blocked
			}
			name = text
			continue
		}
		left, blocked := c.text(side, name, text, fixed, &w.place)
		if blocked != nil {
			return nil, blocked
		}
		if left == text {
			continue
		}
		out = append(out, raw[copied:end-len(v)]...)
		if out, err = jsontext.AppendQuote(out, left); err != nil {
			return nil, c.unreadable(side, under)
		}
		copied = end
	}
	if copied == 0 {
		return raw, nil
	}
	return append(out, raw[copied:]...), nil
}

// walker is what a walk needs, used again.
type walker struct {
	dec   jsontext.Decoder
	src   bytes.Buffer
	place inside
}

// walker returns one for a value that nobody else has.
func (c *Chain) walker(raw []byte) *walker {
	w, ok := c.walkers.Get().(*walker)
	if !ok {
		w = new(walker)
	}
	w.src = *bytes.NewBuffer(raw) // the decoder reads it where it is
	w.dec.Reset(&w.src)
	return w
}

// looks reports whether any guard looks at a side.
func (c *Check) looks(side auditv1.GuardSide) bool {
	for i := range c.modes {
		if c.mode(i, side) != Off {
			return true
		}
	}
	return false
}

// unquote returns the text of a JSON string.
func unquote(v string) (string, error) {
	if strings.IndexByte(v, '\\') < 0 {
		return v[1 : len(v)-1], nil
	}
	text, err := jsontext.AppendUnquote(nil, v)
	return string(text), err
}

// unreadable is the ground for not passing on what is not JSON. It was checked
// before, so this is our mistake; it fails closed.
func (c *Check) unreadable(side auditv1.GuardSide, under string) *Blocked {
	c.note(0, side, Block, auditv1.GuardAction_GUARD_ACTION_BLOCKED, "unreadable", at(under))
	return &Blocked{Guard: names[0], Rule: "unreadable", Pointer: clip(under)}
}

// inside is the place that a decoder has come to.
type inside struct {
	decoder *jsontext.Decoder
	under   string
	name    bool // it is a member's name, which may be what was found: it is not told
}

func (p *inside) pointer() string {
	own := p.decoder.StackPointer()
	if p.name {
		own = own.Parent()
	}
	return p.under + string(own)
}
