package policy

import (
	"errors"
	"fmt"

	"github.com/cedar-policy/cedar-go"

	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
)

// ErrArguments says that arguments are not one strict JSON object.
var ErrArguments = errors.New("arguments are not one JSON object")

// Arguments are the arguments of a call as policies see them.
type Arguments struct{ record cedar.Record }

// ParseArguments reads a JSON object:
//
//   - an object becomes a record and an array a set, so that order and
//     repetition in arrays are lost;
//   - a string and a boolean stay what they are;
//   - a whole number of 64 bits becomes a Long, however it is written (1000,
//     1e3, 1000.0), one with at most four decimals a decimal, and any other a
//     string in one normal form, to which < and > do not apply;
//   - null is as if the member or element were not there.
//
// They are read as the edge and the executor read them, and with the same
// bounds: what policies see must be what the tool will see. Errors do not
// repeat values.
func ParseArguments(text []byte) (*Arguments, error) {
	var r strictjson.Reader
	r.Reset(text, strictjson.DefaultLimits())
	if r.Kind() != '{' {
		return nil, ErrArguments
	}
	v, err := readObject(&r)
	if err == nil {
		err = r.End()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArguments, err)
	}
	return &Arguments{record: v}, nil
}

// readValue returns nil for null.
func readValue(r *strictjson.Reader) (cedar.Value, error) {
	kind := r.Kind()
	switch kind {
	case '{':
		return readObject(r)
	case '[':
		return readArray(r)
	}
	raw, err := r.Scalar()
	if err != nil {
		return nil, err
	}
	switch kind {
	case '"':
		return cedar.String(strictjson.Text(raw)), nil
	case '0':
		return number(string(raw)), nil
	case 't', 'f':
		return cedar.Boolean(kind == 't'), nil
	}
	return nil, nil
}

func readObject(r *strictjson.Reader) (cedar.Record, error) {
	if err := r.Enter(); err != nil {
		return cedar.Record{}, err
	}
	m := make(cedar.RecordMap)
	for r.Kind() != '}' {
		raw, err := r.Name()
		if err != nil {
			return cedar.Record{}, err
		}
		name := cedar.String(strictjson.Text(raw))
		v, err := readValue(r)
		if err != nil {
			return cedar.Record{}, err
		}
		if v != nil {
			m[name] = v
		}
	}
	return cedar.NewRecord(m), r.Leave()
}

func readArray(r *strictjson.Reader) (cedar.Value, error) {
	if err := r.Enter(); err != nil {
		return nil, err
	}
	var values []cedar.Value
	for r.Kind() != ']' {
		v, err := readValue(r)
		if err != nil {
			return nil, err
		}
		if v != nil {
			values = append(values, v)
		}
	}
	return cedar.NewSet(values...), r.Leave()
}
