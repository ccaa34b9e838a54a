package client_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge/internal/client"
)

func TestClean(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"white space goes, order and digits stay", ` { "b" : 1.50e+3 , "a" : [ ] } `, `{"b":1.50e+3,"a":[]}`},
		{"characters of HTML are left alone", `"<&>"`, `"<&>"`},
		{"half a character is replaced", `"\ud800x"`, `"` + "\ufffd" + `x"`},
		{"bytes that are no UTF-8 are replaced", "\"\xff\"", `"` + "\ufffd" + `"`},
		{"a value that is no object", `null`, `null`},
		{"a key twice is refused", `{"a":1,"a":2}`, ``},
		{"a key twice in other spellings is refused", `{"a":1,"\u0061":2}`, ``},
		{"two values are refused", `{} {}`, ``},
		{"nothing is refused", ``, ``},
		{"half a value is refused", `{"a":`, ``},
		{"what is too deep is refused", strings.Repeat("[", 70) + strings.Repeat("]", 70), ``},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := client.Clean([]byte(tt.in))
			if (err != nil) != (tt.want == "") || string(got) != tt.want {
				t.Errorf("Clean(%q): got %q, %v, want %q", tt.in, got, err, tt.want)
			}
		})
	}
}

func FuzzClean(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.0,"x",null,true]}`, `"\ud800"`, "\xff", `{"a":1,"a":1}`, `[[[[`, `1e999`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := client.Clean(in)
		if err != nil {
			return
		}
		if !json.Valid(in) || !json.Valid(out) || !utf8.Valid(out) {
			t.Fatalf("Clean(%q): got %q", in, out)
		}
		again, err := client.Clean(out)
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("Clean twice: got %q, %v, want %q", again, err, out)
		}
	})
}
