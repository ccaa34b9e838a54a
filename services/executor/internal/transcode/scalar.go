package transcode

import (
	"encoding/base64"
	"math/big"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
)

// scalar reads one value that is not a message. It reports whether there is
// one; if not, a violation says why.
func (d *decoder) scalar(s *scalar) (protoreflect.Value, bool, error) {
	kind := d.json.Kind()
	want := kind
	switch s.kind {
	case protoreflect.BoolKind:
		if kind != 't' && kind != 'f' {
			return protoreflect.Value{}, false, d.mismatch(s.want, kind)
		}
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.EnumKind:
		want = '"'
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind,
		protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		// Beyond 2^53 many programs cannot write a number exactly, so results
		// have such integers as strings, and a string is taken here too.
		if kind != '"' {
			want = '0'
		}
	default:
		want = '0'
	}
	if kind != want {
		return protoreflect.Value{}, false, d.mismatch(s.want, kind)
	}
	raw, err := d.json.Scalar()
	if err != nil {
		return protoreflect.Value{}, false, err
	}
	var v protoreflect.Value
	ok := true
	switch {
	case s.kind == protoreflect.BoolKind:
		v = protoreflect.ValueOfBool(kind == 't')
	case s.kind == protoreflect.EnumKind:
		if e := s.enum.Values().ByName(protoreflect.Name(strictjson.Text(raw))); e != nil {
			v = protoreflect.ValueOfEnum(e.Number())
		} else {
			ok = false
		}
	case kind == '0':
		v, ok = number(s.kind, string(raw))
	case s.kind == protoreflect.StringKind:
		v = protoreflect.ValueOfString(strictjson.Text(raw))
	case s.kind == protoreflect.BytesKind:
		v, ok = decodeBytes(strictjson.Text(raw))
	default:
		v, ok = digits(s.kind, strictjson.Text(raw))
	}
	if !ok {
		d.wrong("must be " + s.want)
	}
	return v, ok, nil
}

// number makes a value of a JSON number, exactly or not at all, save that
// floating point rounds as it does.
func number(kind protoreflect.Kind, raw string) (protoreflect.Value, bool) {
	switch kind {
	case protoreflect.DoubleKind:
		f, err := strconv.ParseFloat(raw, 64)
		return protoreflect.ValueOfFloat64(f), err == nil
	case protoreflect.FloatKind:
		f, err := strconv.ParseFloat(raw, 32)
		return protoreflect.ValueOfFloat32(float32(f)), err == nil
	}
	if v, ok := integer(kind, raw); ok {
		return v, true
	}
	// 1.0 and 1e3 are integers to JSON Schema.
	if !strings.ContainsAny(raw, ".eE") {
		return protoreflect.Value{}, false
	}
	whole, ok := wholeNumber(raw)
	if !ok {
		return protoreflect.Value{}, false
	}
	return integer(kind, whole)
}

// wholeNumber writes a number with a fraction or an exponent as plain digits,
// if it is an integer. Long ones and large exponents are refused: they cannot
// be integers of 64 bits in good faith, and would be costly.
func wholeNumber(raw string) (string, bool) {
	if len(raw) > 40 {
		return "", false
	}
	if i := strings.IndexAny(raw, "eE"); i >= 0 {
		if exp, err := strconv.Atoi(raw[i+1:]); err != nil || exp < -40 || exp > 40 {
			return "", false
		}
	}
	r, ok := new(big.Rat).SetString(raw)
	if !ok || !r.IsInt() {
		return "", false
	}
	return r.Num().String(), true
}

func integer(kind protoreflect.Kind, raw string) (protoreflect.Value, bool) {
	switch kind {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		n, err := strconv.ParseInt(raw, 10, 32)
		return protoreflect.ValueOfInt32(int32(n)), err == nil
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		n, err := strconv.ParseInt(raw, 10, 64)
		return protoreflect.ValueOfInt64(n), err == nil
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		n, err := strconv.ParseUint(unsigned(raw), 10, 32)
		return protoreflect.ValueOfUint32(uint32(n)), err == nil
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		n, err := strconv.ParseUint(unsigned(raw), 10, 64)
		return protoreflect.ValueOfUint64(n), err == nil
	}
	return protoreflect.Value{}, false
}

func unsigned(raw string) string {
	if raw == "-0" {
		return "0"
	}
	return raw
}

// digits reads an integer that is written as a string, in the only way it can
// be: no plus, no space, no leading zero.
func digits(kind protoreflect.Kind, s string) (protoreflect.Value, bool) {
	v, ok := integer(kind, s)
	return v, ok && v.String() == s
}

// decodeBytes takes both alphabets of base64, with or without padding.
func decodeBytes(s string) (protoreflect.Value, bool) {
	trimmed := strings.TrimRight(s, "=")
	if pad := len(s) - len(trimmed); pad > 0 && (pad > 2 || len(s)%4 != 0) || strings.ContainsAny(trimmed, "\r\n") {
		return protoreflect.Value{}, false
	}
	enc := base64.RawStdEncoding
	if strings.ContainsAny(trimmed, "-_") {
		enc = base64.RawURLEncoding
	}
	b, err := enc.DecodeString(trimmed)
	return protoreflect.ValueOfBytes(b), err == nil
}

func mapKey(kind protoreflect.Kind, s string) (protoreflect.Value, bool) {
	switch kind {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(s), true
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(s == "true"), s == "true" || s == "false"
	}
	return digits(kind, s)
}
