package edge_test

import (
	"bytes"
	"compress/gzip"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
)

// Bodies that parsers read in different ways, or that cost far more than their
// size, are refused, and the connection goes on: the body was read to its end.
func TestHostileJSON(t *testing.T) {
	t.Parallel()
	const (
		syntax  = -32700
		request = -32600
	)
	ping := func(members string) string { return `{"jsonrpc":"2.0","id":1,"method":"ping"` + members + `}` }
	call := func(arguments string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":` + arguments + `}}`
	}
	nested := func(open, inner, end string, n int) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(end, n)
	}
	tests := []struct {
		name string
		body string
		code int // 0 if it is served
	}{
		{"a call", call(`{"text":"hi"}`), 0},
		{"nothing", "", syntax},
		{"spaces", strings.Repeat(" ", 1000), syntax},
		{"NULs", strings.Repeat("\x00", 1000), syntax},
		{"a byte order mark", "\xef\xbb\xbf" + ping(""), syntax},
		{"UTF-16", utf16Text(ping("")), syntax},
		{"UTF-16 with a byte order mark", "\xff\xfe" + utf16Text(ping("")), syntax},
		{"gzip that is not announced", zipped(ping("")), syntax},
		{"a form", "jsonrpc=2.0&id=1&method=ping", syntax},
		{"an event of a stream", "data: " + ping("") + "\n\n", syntax},
		{"a second message", ping("") + ping(""), syntax},
		{"a second message on the next line", ping("") + "\n" + ping(""), syntax},
		{"a NUL at the end", ping("") + "\x00", syntax},
		{"a prefix against hijacking", ")]}',\n" + ping(""), syntax},
		{"half a message", ping("")[:20], syntax},

		{"a batch", "[" + ping("") + "]", request},
		{"an empty batch", "[]", request},
		{"a batch in a batch", nested("[", ping(""), "]", 3), request},
		{"a batch as method", `{"jsonrpc":"2.0","id":1,"method":["ping"]}`, request},

		{"a comment", ping("/* */"), syntax},
		{"a comment at the end", ping("") + "//", syntax},
		{"a trailing comma", ping(","), syntax},
		{"a trailing comma in an array", call(`{"a":[1,]}`), syntax},
		{"single quotes", strings.ReplaceAll(ping(""), `"`, `'`), syntax},
		{"names without quotes", `{jsonrpc:"2.0",id:1,method:"ping"}`, syntax},
		{"NaN", call(`{"a":NaN}`), syntax},
		{"Infinity", call(`{"a":-Infinity}`), syntax},
		{"a capital literal", call(`{"a":True}`), syntax},
		{"a hexadecimal number", call(`{"a":0x10}`), syntax},
		{"a leading zero", call(`{"a":01}`), syntax},
		{"a plus", call(`{"a":+1}`), syntax},
		{"no digits after the point", call(`{"a":1.}`), syntax},
		{"no digits before the point", call(`{"a":.5}`), syntax},
		{"underscores in a number", call(`{"a":1_000}`), syntax},
		{"other white space", call("{\u00a0}"), syntax},
		{"a form feed", call("{\f}"), syntax},

		{"a name twice", ping(`,"id":2`), syntax},
		{"a name twice, once escaped", ping(`,"\u0069d":2`), syntax},
		{"a method twice", ping(`,"method":"tools/call"`), syntax},
		{"a method twice, once escaped", ping(`,"metho\u0064":"tools/call"`), syntax},
		{"an argument twice", call(`{"a":1,"a":2}`), syntax},
		{"an argument twice, once escaped", call(`{"a":1,"\u0061":2}`), syntax},
		{"an argument twice, escaped in two ways", call(`{"\u00e9":1,"\u00E9":2}`), syntax},
		{"an argument twice, deep inside", call(`{"a":[{"b":{"c":1,"c":1}}]}`), syntax},
		{"an argument twice, once with a surrogate pair", call(`{"` + "\U0001f600" + `":1,"\ud83d\ude00":2}`), syntax},
		{"the tool twice", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","name":"delete_customer_account"}}`, syntax},
		{"a method in another case", ping(`,"Method":"tools/call"`), request},
		{"a tool in another case", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","NAME":"delete_customer_account"}}`, request},
		{"arguments that differ by case are two", call(`{"a":1,"A":2}`), 0},
		{"a name of the prototype of every object", call(`{"__proto__":{"admin":true},"constructor":{"prototype":{}}}`), 0},

		{"a lone high surrogate", call(`{"a":"\ud800"}`), syntax},
		{"a lone low surrogate", call(`{"a":"\udc00"}`), syntax},
		{"surrogates in the wrong order", call(`{"a":"\ude00\ud83d"}`), syntax},
		{"a lone surrogate in a name", call(`{"\ud800":1}`), syntax},
		{"a surrogate pair", call(`{"a":"\ud83d\ude00"}`), 0},
		{"bad UTF-8", call("{\"a\":\"\xff\"}"), syntax},
		{"bad UTF-8 in a name", call("{\"\xff\":1}"), syntax},
		{"overlong UTF-8", call("{\"a\":\"\xc0\xae\"}"), syntax},
		{"a surrogate in UTF-8", call("{\"a\":\"\xed\xa0\x80\"}"), syntax},
		{"a character beyond Unicode", call("{\"a\":\"\xf4\x90\x80\x80\"}"), syntax},
		{"a character that is cut off", call("{\"a\":\"\xe2\x82\"}"), syntax},
		{"a control character in a string", call("{\"a\":\"\x00\"}"), syntax},
		{"a line break in a string", call("{\"a\":\"\n\"}"), syntax},
		{"an escaped NUL", call(`{"a":"\u0000"}`), 0},
		{"an escape that is none", call(`{"a":"\x41"}`), syntax},
		{"an escape that is cut off", call(`{"a":"\u00"}`), syntax},

		{"deep arrays", call(`{"a":` + nested("[", "1", "]", 40) + `}`), request},
		{"deep objects", call(nested(`{"a":`, "1", "}", 40)), request},
		{"deeper than any stack", nested("[", "", "]", 100_000), request},
		{"deeper than any stack, in an object", `{"a":` + nested("[", "", "]", 100_000) + `}`, request},
		{"objects without end", strings.Repeat(`{"a":`, 50_000), request},
		{"very many values", call(`{"a":[` + strings.Repeat("1,", 20_000) + `1]}`), request},
		{"very many empty arrays", call(`{"a":[` + strings.Repeat("[],", 20_000) + `1]}`), request},
		{"very many members", call(`{` + manyMembers(5000) + `}`), request},
		{"a very long string", call(`{"a":"` + strings.Repeat("a", 100_000) + `"}`), request},
		{"a very long name", call(`{"` + strings.Repeat("a", 100_000) + `":1}`), request},
		{"a very long string of escapes", call(`{"a":"` + strings.Repeat(`\u0041`, 20_000) + `"}`), request},

		{"a long number", call(`{"a":` + strings.Repeat("9", 1000) + `}`), request},
		{"a very long number", call(`{"a":` + strings.Repeat("9", 100_000) + `}`), request},
		{"a long fraction", call(`{"a":0.` + strings.Repeat("1", 1000) + `}`), request},
		{"a number out of range", call(`{"a":1e400}`), request},
		{"a number with a huge exponent", call(`{"a":1e999999999}`), request},
		{"a number with a huge negative exponent is zero", call(`{"a":1e-999999999}`), 0},
		{"an integer that no double holds", call(`{"a":9007199254740993}`), 0},

		{"id null", `{"jsonrpc":"2.0","id":null,"method":"ping"}`, request},
		{"id true", `{"jsonrpc":"2.0","id":true,"method":"ping"}`, request},
		{"an id that is an object", `{"jsonrpc":"2.0","id":{},"method":"ping"}`, request},
		{"an id with a fraction", `{"jsonrpc":"2.0","id":1.5,"method":"ping"}`, request},
		{"an id with an exponent", `{"jsonrpc":"2.0","id":1e3,"method":"ping"}`, request},
		{"a long id", `{"jsonrpc":"2.0","id":"` + strings.Repeat("a", 300) + `","method":"ping"}`, request},
		{"an id with line breaks", `{"jsonrpc":"2.0","id":"\r\n\r\ndata: x","method":"ping"}`, 0},
		{"no version", `{"id":1,"method":"ping"}`, request},
		{"a version that is a number", `{"jsonrpc":2.0,"id":1,"method":"ping"}`, request},
		{"another version", `{"jsonrpc":"1.0","id":1,"method":"ping"}`, request},
		{"an escaped version", `{"jsonrpc":"2\u002e0","id":1,"method":"ping"}`, 0},
		{"no method", `{"jsonrpc":"2.0","id":1}`, request},
		{"a method that is a number", `{"jsonrpc":"2.0","id":1,"method":1}`, request},
		{"a method and a result", ping(`,"result":{}`), request},
	}
	var attacks []attack
	for _, tt := range tests {
		status := 400
		if tt.code == 0 {
			status = 200
		}
		attacks = append(attacks, attack{tt.name, post("", tt.body), []told{{status, tt.code}}, true})
	}
	runAttacks(t, newWorld(t), attacks)
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`"` + strconv.Itoa(i) + `":0,`)
	}
	return strings.TrimSuffix(b.String(), ",")
}

func utf16Text(text string) string {
	var b strings.Builder
	for _, unit := range utf16.Encode([]rune(text)) {
		b.WriteByte(byte(unit))
		b.WriteByte(byte(unit >> 8))
	}
	return b.String()
}

func zipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text)) // to memory
	_ = w.Close()
	return b.String()
}
