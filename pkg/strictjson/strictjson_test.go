package strictjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
)

func TestBounds(t *testing.T) {
	t.Parallel()
	limits := strictjson.Limits{Depth: 3, Nodes: 8, Keys: 2, StringBytes: 6, NumberBytes: 4}
	tests := []struct {
		name, within, beyond string
		want                 error
	}{
		{"depth of arrays", `[[[]]]`, `[[[[]]]]`, strictjson.ErrDepth},
		{"depth of objects", `{"a":{"b":{}}}`, `{"a":{"b":{"c":{}}}}`, strictjson.ErrDepth},
		{"depth is not breadth", `[[[]],[[]]]`, `[[[]],[[[]]]]`, strictjson.ErrDepth},
		{"values", `[1,2,3,4,5,6,7]`, `[1,2,3,4,5,6,7,8]`, strictjson.ErrNodes},
		{"objects are values", `[{},{},{},{},{},{},{}]`, `[{},{},{},{},{},{},{},{}]`, strictjson.ErrNodes},
		{"members", `{"a":1,"b":2}`, `{"a":1,"b":2,"c":3}`, strictjson.ErrKeys},
		{"members of each object", `[{"a":1,"b":2},{"a":1,"b":2}]`, `[{"a":1},{"a":1,"b":2,"c":3}]`, strictjson.ErrKeys},
		{"strings", `"abcd"`, `"abcde"`, strictjson.ErrString},
		{"strings as written", `"\na"`, `"\u000a"`, strictjson.ErrString},
		{"names", `{"abcd":1}`, `{"abcde":1}`, strictjson.ErrString},
		{"numbers", `-123`, `-1234`, strictjson.ErrNumber},
	}
	for _, tt := range tests {
		if err := strictjson.Check([]byte(tt.within), limits); err != nil {
			t.Errorf("%s: %s: got error %v", tt.name, tt.within, err)
		}
		if err := strictjson.Check([]byte(tt.beyond), limits); !errors.Is(err, tt.want) {
			t.Errorf("%s: %s: got error %v, want %v", tt.name, tt.beyond, err, tt.want)
		}
	}
	wide := strictjson.Limits{Depth: 1, Nodes: 1, Keys: 1, StringBytes: 1, NumberBytes: 1000}
	for _, text := range []string{"1" + strings.Repeat("0", 309), "9e999", "9E999", "-9e+0999", "0.1e310"} {
		if err := strictjson.Check([]byte(text), wide); !errors.Is(err, strictjson.ErrNumber) {
			t.Errorf("%.9s, a number that no float holds: got error %v", text, err)
		}
	}
	for _, text := range []string{"1" + strings.Repeat("0", 308), "9e307", "9E-999", "0e999", "0." + strings.Repeat("9", 900)} {
		if err := strictjson.Check([]byte(text), wide); err != nil {
			t.Errorf("%.9s, a number that a float holds, if not to the last digit: got error %v", text, err)
		}
	}
}

func TestErrorsSayWhere(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text    string
		want    error
		pointer string
	}{
		{`{"a":[{"b":1,"b":2}]}`, strictjson.ErrDuplicate, "/a/0/b"},
		{`{"a":1,"\u0061":2}`, strictjson.ErrDuplicate, "/a"},
		{`{"a":[1,}`, strictjson.ErrSyntax, "/a"},
		{"{\"a\":\"\xff\"}", strictjson.ErrSyntax, "/a"},
		{`{"a":"\ud800"}`, strictjson.ErrSyntax, "/a"},
		{`{"a":1} 2`, strictjson.ErrSyntax, ""},
		{`{"a":1`, strictjson.ErrSyntax, ""},
		{`{1:1}`, strictjson.ErrSyntax, ""},
		{`[1}`, strictjson.ErrSyntax, ""},
		{`}`, strictjson.ErrSyntax, ""},
		{``, strictjson.ErrSyntax, ""},
	}
	for _, tt := range tests {
		var r strictjson.Reader
		r.Reset([]byte(tt.text), strictjson.DefaultLimits())
		err := errors.Join(r.Skip())
		if err == nil {
			err = r.End()
		}
		if !errors.Is(err, tt.want) || r.Pointer() != tt.pointer {
			t.Errorf("%s: got error %v at %q, want %v at %q", tt.text, err, r.Pointer(), tt.want, tt.pointer)
		}
		if errors.Is(err, strictjson.ErrDuplicate) != (tt.want == strictjson.ErrDuplicate) || !errors.Is(err, strictjson.ErrSyntax) {
			t.Errorf("%s: got error %v", tt.text, err)
		}
	}
}

// A reader that is not asked for what comes next says so, and reads nothing.
func TestReaderHoldsItsOrder(t *testing.T) {
	t.Parallel()
	for name, read := range map[string]func(*strictjson.Reader) error{
		"Enter":  (*strictjson.Reader).Enter,
		"Leave":  (*strictjson.Reader).Leave,
		"Name":   func(r *strictjson.Reader) error { _, err := r.Name(); return err },
		"Scalar": func(r *strictjson.Reader) error { _, err := r.Scalar(); return err },
		"End":    (*strictjson.Reader).End,
	} {
		for text, good := range map[string]string{`[1]`: "Enter", `7`: "Scalar", `"x"`: "Scalar Name", ``: "End"} {
			var r strictjson.Reader
			r.Reset([]byte(text), strictjson.DefaultLimits())
			if err := read(&r); (err == nil) != strings.Contains(good, name) {
				t.Errorf("%s of %q: got error %v", name, text, err)
			}
		}
	}
}

func TestReaderForgets(t *testing.T) {
	t.Parallel()
	var r strictjson.Reader
	limits := strictjson.DefaultLimits()
	for range 3 {
		r.Reset([]byte(`{"a":[`+strings.Repeat("1,", 9_000)), limits)
		if err := r.Skip(); !errors.Is(err, strictjson.ErrSyntax) {
			t.Fatalf("half a value: got error %v", err)
		}
		r.Reset([]byte(strings.Repeat("[", limits.Depth)), limits)
		if err := r.Skip(); !errors.Is(err, strictjson.ErrSyntax) {
			t.Fatalf("a deep one that is not over: got error %v", err)
		}
		r.Reset([]byte(`{"a":[`+strings.Repeat("1,", 9_000)+`1]}`), limits)
		if err := errors.Join(r.Skip(), r.End()); err != nil || r.Pointer() != "" {
			t.Fatalf("a whole one: got error %v at %q", err, r.Pointer())
		}
	}
}

// decode makes of a value what encoding/json does, by a reader.
func decode(r *strictjson.Reader) (any, error) {
	switch kind := r.Kind(); kind {
	case '{':
		if err := r.Enter(); err != nil {
			return nil, err
		}
		out := make(map[string]any)
		for r.Kind() != '}' {
			raw, err := r.Name()
			if err != nil {
				return nil, err
			}
			name := strictjson.Text(raw)
			if out[name], err = decode(r); err != nil {
				return nil, err
			}
		}
		return out, r.Leave()
	case '[':
		if err := r.Enter(); err != nil {
			return nil, err
		}
		out := []any{}
		for r.Kind() != ']' {
			v, err := decode(r)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, r.Leave()
	default:
		raw, err := r.Scalar()
		if err != nil {
			return nil, err
		}
		switch kind {
		case '"':
			return strictjson.Text(raw), nil
		case '0':
			return json.Number(raw), nil
		case 'n':
			return nil, nil
		}
		return kind == 't', nil
	}
}

// agree checks that what is read is what encoding/json reads, and reports
// whether the text is accepted.
func agree(t *testing.T, text []byte) bool {
	t.Helper()
	before := bytes.Clone(text)
	var r strictjson.Reader
	r.Reset(text, strictjson.DefaultLimits())
	got, err := decode(&r)
	if err == nil {
		err = r.End()
	}
	if checked := strictjson.Check(text, strictjson.DefaultLimits()); fmt.Sprint(checked) != fmt.Sprint(err) {
		t.Errorf("%.100q: Check says %v, and a reader %v", text, checked, err)
	}
	if !bytes.Equal(before, text) {
		t.Errorf("%.100q: was changed", before)
	}
	if err != nil {
		return false
	}
	var want any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&want); err != nil {
		t.Errorf("%.100q: is accepted, and encoding/json says %v", text, err)
	} else if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%.100q: is read otherwise (-encoding/json +got):\n%s", text, diff)
	}
	r.Reset(text, strictjson.DefaultLimits())
	if raw, err := r.Value(); err != nil || !bytes.Equal(bytes.TrimSpace(text), raw) {
		t.Errorf("%.100q: Value returns %.100q, %v", text, raw, err)
	}
	return true
}

func FuzzReader(f *testing.F) {
	for name, text := range suite(f) {
		if len(text) < 1000 && name != "" {
			f.Add(text)
		}
	}
	f.Add([]byte(`{"\u006dethod":"\ud83d\ude00","a":[1e2,-0,{}],"A":null,"":[[]]}`))
	f.Fuzz(func(t *testing.T, text []byte) { agree(t, text) })
}
