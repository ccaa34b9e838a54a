package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// maxDepth is the deepest that JSON of a server may nest.
const maxDepth = 64

var (
	errDepth     = errors.New("json: nested too deeply")
	errDuplicate = errors.New("json: the same key twice")
)

// Clean returns a JSON value as others may pass it on: without white space, in
// valid UTF-8, with nothing that programs read in different ways. Keys keep their
// order and numbers their digits. A key that comes twice is an error.
func Clean(raw []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	w := &cleaner{dec: dec}
	w.enc = json.NewEncoder(&w.out)
	w.enc.SetEscapeHTML(false)
	t, err := dec.Token()
	if err == nil {
		err = w.value(t, 0)
	}
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("json: more than one value")
	}
	return w.out.Bytes(), nil
}

type cleaner struct {
	dec *json.Decoder
	enc *json.Encoder
	out bytes.Buffer
}

func (w *cleaner) value(t json.Token, depth int) error {
	if depth > maxDepth {
		return errDepth
	}
	switch t := t.(type) {
	case json.Delim:
		if t == '{' {
			return w.object(depth)
		}
		return w.array(depth)
	case json.Number:
		w.out.WriteString(t.String())
		return nil
	default:
		return w.scalar(t)
	}
}

func (w *cleaner) scalar(v any) error {
	if err := w.enc.Encode(v); err != nil {
		return err
	}
	w.out.Truncate(w.out.Len() - 1) // the encoder's newline
	return nil
}

func (w *cleaner) object(depth int) error {
	seen := map[string]bool{}
	w.out.WriteByte('{')
	for w.dec.More() {
		key, err := w.dec.Token()
		if err != nil {
			return err
		}
		name, ok := key.(string)
		if !ok || seen[name] {
			return errDuplicate
		}
		if len(seen) > 0 {
			w.out.WriteByte(',')
		}
		seen[name] = true
		if err := w.scalar(name); err != nil {
			return err
		}
		w.out.WriteByte(':')
		if err := w.next(depth); err != nil {
			return err
		}
	}
	return w.end('}')
}

func (w *cleaner) array(depth int) error {
	w.out.WriteByte('[')
	for first := true; w.dec.More(); first = false {
		if !first {
			w.out.WriteByte(',')
		}
		if err := w.next(depth); err != nil {
			return err
		}
	}
	return w.end(']')
}

func (w *cleaner) next(depth int) error {
	t, err := w.dec.Token()
	if err != nil {
		return err
	}
	return w.value(t, depth+1)
}

func (w *cleaner) end(c byte) error {
	if _, err := w.dec.Token(); err != nil {
		return err
	}
	w.out.WriteByte(c)
	return nil
}
