// Package strictjsontest says what JSON means without package strictjson, so that each
// reader of a call's arguments can be held to the same: two readers that both agree
// with it agree with each other, in whichever process they are.
//
// It reads with encoding/json and checks by itself what that lets pass. It is slow and
// has no bounds; it is for tests alone.
package strictjsontest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

// Value is a JSON value as it is written.
type Value struct {
	// Kind is its first byte: { [ " t f n, or 0 for all numbers.
	Kind byte
	// Text is what a string says, and a number as it is written.
	Text string
	// Names are those of an object's members, in order.
	Names []string
	// Values are an object's or array's, in order.
	Values []*Value
}

// Read returns what raw means, or false if it is not one strict JSON value: with names
// given once, valid UTF-8, no half of a surrogate pair, numbers that a float64 holds,
// and nothing after it.
func Read(raw []byte) (*Value, bool) {
	if !utf8.Valid(raw) || halves(raw) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	v, err := read(d)
	if err != nil {
		return nil, false
	}
	_, err = d.Token()
	return v, errors.Is(err, io.EOF)
}

func read(d *json.Decoder) (*Value, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		v := &Value{Kind: byte(t)}
		for d.More() {
			if t == '{' {
				name, err := d.Token()
				if err != nil {
					return nil, err
				}
				for _, other := range v.Names {
					if other == name {
						return nil, errors.New("a name twice")
					}
				}
				v.Names = append(v.Names, name.(string)) // the decoder sees to that
			}
			inner, err := read(d)
			if err != nil {
				return nil, err
			}
			v.Values = append(v.Values, inner)
		}
		_, err := d.Token()
		return v, err
	case string:
		return &Value{Kind: '"', Text: t}, nil
	case json.Number:
		if n, err := strconv.ParseFloat(string(t), 64); err != nil || math.IsInf(n, 0) {
			return nil, errors.New("a number that no float64 holds")
		}
		return &Value{Kind: '0', Text: string(t)}, nil
	case bool:
		return &Value{Kind: "ft"[map[bool]int{true: 1}[t]]}, nil
	}
	return &Value{Kind: 'n'}, nil
}

var escaped = regexp.MustCompile(`\\(?:u[0-9a-fA-F]{4}|[^u])`)

// halves reports whether a surrogate is written that is no part of a pair.
func halves(raw []byte) bool {
	high, end := false, 0 // the last escape was a high one, and where it ended
	for _, at := range escaped.FindAllIndex(raw, -1) {
		var r rune
		if raw[at[0]+1] == 'u' {
			n, _ := strconv.ParseUint(string(raw[at[0]+2:at[1]]), 16, 16)
			r = rune(n)
		}
		low := utf16.IsSurrogate(r) && r >= 0xDC00
		if high != (low && high && at[0] == end) || low && !high {
			return true
		}
		high, end = utf16.IsSurrogate(r) && !low, at[1]
	}
	return high
}

// String writes a value in one way: those that are equal, to the order of members and
// the digits of numbers, are written alike.
func (v *Value) String() string {
	switch v.Kind {
	case '"':
		return strconv.Quote(v.Text)
	case '{', '[':
		var b strings.Builder
		b.WriteByte(v.Kind)
		for i, inner := range v.Values {
			if v.Kind == '{' {
				b.WriteString(strconv.Quote(v.Names[i]) + ":")
			}
			b.WriteString(inner.String() + ",")
		}
		return b.String() + "end"
	}
	return string(v.Kind) + v.Text
}

// Number writes the value of a JSON number in one way, exactly: digits without zeros
// at either end, and a power of ten. Numbers that are equal are written alike.
func Number(text string) string {
	rest, negative := strings.CutPrefix(text, "-")
	mantissa, power, _ := strings.Cut(strings.ToLower(rest), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return "0"
	}
	exponent := new(big.Int)
	if power != "" {
		exponent.SetString(strings.TrimPrefix(power, "+"), 10)
	}
	short := strings.TrimRight(digits, "0")
	exponent.Add(exponent, big.NewInt(int64(len(digits)-len(short)-len(fraction))))
	if negative {
		short = "-" + short
	}
	return short + "e" + exponent.String()
}

// Texts are the names and strings in a value, in order.
func (v *Value) Texts() (all []string) {
	if v.Kind == '"' {
		all = append(all, v.Text)
	}
	for i, inner := range v.Values {
		if v.Kind == '{' {
			all = append(all, v.Names[i])
		}
		all = append(all, inner.Texts()...)
	}
	return all
}

// Member returns a member of an object, nil if there is none.
func (v *Value) Member(name string) *Value {
	for i, n := range v.Names {
		if n == name {
			return v.Values[i]
		}
	}
	return nil
}

// Seed adds values to begin with: most are read in different ways by different
// parsers.
func Seed(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"a":1}`, ` { "a" : [ 1 , "b" , null , { "c" : true } ] } `, `{"b":1,"a":2,"B":3}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"":0}`,
		`{"a":false,"b":true,"c":[false]}`, `{"\u0061\n\"":{"\ud83d\ude00":"\u0000"}}`,
		`{"a":"\ud83d\ude00 \u00e9 \"\\\/\b\f\n\r\t"}`, `{"a":"\ud800"}`, `{"a":"\udc00\ud800"}`, `{"a":"\ud800x\udc00"}`, `{"a":"\\ud800"}`, "{\"a\":\"\xff\"}", "{\"\xed\xa0\x80\":1}",
		`{"n":9007199254740993,"m":12345678901234567890,"o":-0,"p":1E+3,"q":0.1,"r":1.50,"s":1e-999,"t":5e-324,"u":1.7976931348623157e308}`, `{"n":1e999}`, `{"n":1e-9999999999}`,
		`{"n":01}`, `{"n":.5}`, `{"n":1.}`, `{"n":+1}`, `{"n":NaN}`, `{"n":0x1}`, `{"a":[[[[]]]]}`, `{"a":{"a":{"a":null}}}`, `{"a":[1,1,{"x":1},{"x":1}]}`,
		`{"a":1}{}`, `{"a":1},"b":{}`, `{"a":1,}`, `{a:1}`, `{'a':1}`, "{\"a\":\"\x00\"}", "{\"a\":\"\n\"}", "\ufeff{}", `[]`, `"x"`, `null`, ``, `{"__proto__":{"x":1}}`, "{\"a\":\"\u2028\u202e\"}",
		`{}},"method":"x","params":{"arguments":{"y":1}`, `{"parameters":[1]}`,
	} {
		f.Add([]byte(s))
	}
}
