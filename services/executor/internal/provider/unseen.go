package provider

import (
	"bytes"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// unseen refuses a definition with hidden text in it: Unicode tags, bidirectional
// overrides, terminal sequences. A person who approves it would not see what a model
// reads. It fails closed, for there is no honest use of them in a definition.
func (r *reader) unseen(m protoreflect.Message) (err error) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.IsMap() {
			return true // in options only, which are the operator's words
		}
		if !f.IsList() {
			err = r.unseenValue(f, v)
			return err == nil
		}
		for i := range v.List().Len() {
			if err = r.unseenValue(f, v.List().Get(i)); err != nil {
				return false
			}
		}
		return true
	})
	return err
}

func (r *reader) unseenValue(f protoreflect.FieldDescriptor, v protoreflect.Value) error {
	switch f.Kind() {
	case protoreflect.StringKind:
		return r.unseenText(f, v.String())
	case protoreflect.MessageKind:
		return r.unseen(v.Message())
	case protoreflect.BytesKind: // JSON, all of them
		d := jsontext.NewDecoder(bytes.NewBuffer(v.Bytes()))
		for {
			tok, err := d.ReadToken()
			if err != nil {
				return nil // its end, or no JSON, which others tell
			}
			if tok.Kind() == '"' {
				if err := r.unseenText(f, tok.String()); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (r *reader) unseenText(f protoreflect.FieldDescriptor, text string) error {
	if found := r.hidden.Controls(text); len(found) > 0 {
		return fmt.Errorf("%s: has characters that nobody sees (%s); its provider has to take them out", f.Name(), found[0].Rule)
	}
	return nil
}
