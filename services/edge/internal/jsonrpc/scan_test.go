package jsonrpc_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

func scan(body string) (*jsonrpc.Message, error) {
	var m jsonrpc.Message
	err := jsonrpc.NewScanner(strictjson.DefaultLimits()).Scan([]byte(body), &m)
	return &m, err
}

func TestScanRefuses(t *testing.T) {
	t.Parallel()
	const ok = `{"jsonrpc":"2.0","id":1,"method":"m"`
	tests := []struct {
		name string
		body string
		want error
	}{
		{"nothing at all", ``, jsonrpc.ErrSyntax},
		{"white space only", " \n", jsonrpc.ErrSyntax},
		{"a byte order mark", "\xef\xbb\xbf" + ok + `}`, jsonrpc.ErrSyntax},
		{"a batch", `[` + ok + `}]`, jsonrpc.ErrBatch},
		{"a string", `"x"`, jsonrpc.ErrNotObject},
		{"null", `null`, jsonrpc.ErrNotObject},
		{"an unfinished object", ok, jsonrpc.ErrSyntax},
		{"bytes after the end", ok + `}x`, jsonrpc.ErrSyntax},
		{"a second value after the end", ok + `} {}`, jsonrpc.ErrSyntax},
		{"a NUL after the end", ok + "}\x00", jsonrpc.ErrSyntax},
		{"a name given twice", ok + `,"id":2}`, jsonrpc.ErrSyntax},
		{"a name given twice, once escaped", ok + `,"\u0069d":2}`, jsonrpc.ErrSyntax},
		{"a name given twice deep inside", ok + `,"params":{"arguments":{"a":[{"x":1,"x":2}]}}}`, jsonrpc.ErrSyntax},
		{"a trailing comma", ok + `,}`, jsonrpc.ErrSyntax},
		{"a comment", ok + `}//`, jsonrpc.ErrSyntax},
		{"single quotes", `{'jsonrpc':'2.0'}`, jsonrpc.ErrSyntax},
		{"a raw control character in a string", "{\"a\":\"\x01\"}", jsonrpc.ErrSyntax},
		{"bad UTF-8 in a value", "{\"a\":\"\xff\"}", jsonrpc.ErrSyntax},
		{"overlong UTF-8", "{\"a\":\"\xc0\xaf\"}", jsonrpc.ErrSyntax},
		{"bad UTF-8 in a name", "{\"\xff\":1}", jsonrpc.ErrSyntax},
		{"a lone high surrogate", `{"a":"\ud800"}`, jsonrpc.ErrSyntax},
		{"a lone low surrogate", `{"a":"\udc00"}`, jsonrpc.ErrSyntax},
		{"a surrogate encoded in UTF-8", "{\"a\":\"\xed\xa0\x80\"}", jsonrpc.ErrSyntax},
		{"a bad escape", `{"a":"\x"}`, jsonrpc.ErrSyntax},
		{"a leading zero", `{"a":012}`, jsonrpc.ErrSyntax},
		{"a leading plus", `{"a":+1}`, jsonrpc.ErrSyntax},
		{"a bare point", `{"a":1.}`, jsonrpc.ErrSyntax},
		{"NaN", `{"a":NaN}`, jsonrpc.ErrSyntax},
		{"Infinity", `{"a":-Infinity}`, jsonrpc.ErrSyntax},
		{"a capital literal", `{"a":True}`, jsonrpc.ErrSyntax},
		{"a name that is not a string", `{1:1}`, jsonrpc.ErrSyntax},
		{"a mismatched bracket", `{"a":[1}`, jsonrpc.ErrSyntax},
		{"nesting one too deep", `{"a":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`, jsonrpc.ErrDepth},
		{"nesting without end", `{"a":` + strings.Repeat(`{"a":`, 100_000), jsonrpc.ErrDepth},
		{"too many values", `{"a":[` + strings.Repeat("1,", 9_998) + `1]}`, jsonrpc.ErrNodes},
		{"too many members", `{` + members(1001) + `}`, jsonrpc.ErrKeys},
		{"too long a string", `{"a":"` + strings.Repeat("x", 64<<10) + `"}`, jsonrpc.ErrString},
		{"too long a name", `{"` + strings.Repeat("x", 64<<10) + `":1}`, jsonrpc.ErrString},
		{"too long a number", `{"a":` + strings.Repeat("1", 33) + `}`, jsonrpc.ErrNumber},
		{"a number out of range", `{"a":1e999}`, jsonrpc.ErrNumber},
		{"method in another case", ok + `,"Method":"x"}`, jsonrpc.ErrReserved},
		{"params with a letter that folds to s", ok + `,"param` + "\u017f" + `":{}}`, jsonrpc.ErrReserved},
		{"arguments in another case", ok + `,"params":{"Arguments":{}}}`, jsonrpc.ErrReserved},
		{"a context in another case", ok + `,"params":{"_meta":{"dev.sallyport/Context":"x"}}}`, jsonrpc.ErrReserved},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := scan(tt.body); !errors.Is(err, tt.want) {
				t.Errorf("Scan: got error %v, want %v", err, tt.want)
			}
		})
	}
}

func members(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"k%d":0`, i)
	}
	return b.String()
}

func TestScanAcceptsWhatIsJustWithinBounds(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, body string }{
		{"nesting at the bound", `{"a":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`},
		{"members at the bound", `{` + members(1000) + `}`},
		{"values at the bound", `{"a":[` + strings.Repeat("1,", 9_997) + `1]}`},
		{"a string at the bound", `{"a":"` + strings.Repeat("x", 64<<10-2) + `"}`},
		{"a number at the bound", `{"a":` + strings.Repeat("1", 32) + `}`},
		{"a surrogate pair", `{"a":"\ud83d\ude00"}`},
		{"any white space", "\t\r\n {\"a\" :\n1 } \r\n"},
		{"an empty name", `{"":1}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := scan(tt.body); err != nil {
				t.Errorf("Scan: got error %v, want none", err)
			}
		})
	}
}

func TestScanFindsTheParts(t *testing.T) {
	t.Parallel()
	m, err := scan(`{ "id" : "a\u0062c", "jsonrpc":"2.0","meth\u006fd":"tools/call","other":{"name":"no"},
		"params":{"name":"ech\u006f","arguments": {"text":"h\u00e9","n":[1,2]} ,"cursor":null,
		"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",
			"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},
			"io.modelcontextprotocol/clientCapabilities":{},"traceparent":"t","dev.sallyport/hops":3,"name":"no"}}}`)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{
		"version": m.Text(m.Version), "id": m.Text(m.ID), "raw id": string(m.Raw(m.ID)), "method": m.Text(m.Method),
		"name": m.Text(m.Name), "arguments": string(m.Raw(m.Arguments)), "shape": m.Shape(),
		"meta version": m.Text(m.MetaVersion), "client": m.Text(m.ClientName) + m.Text(m.ClientVersion),
		"capabilities": string(m.Raw(m.MetaCapabilities)), "trace": m.Text(m.MetaTraceparent),
	}
	want := map[string]string{
		"version": "2.0", "id": "abc", "raw id": `"a\u0062c"`, "method": "tools/call",
		"name": "echo", "arguments": `{"text":"h\u00e9","n":[1,2]}`, "shape": "{text: string(7), n: array(2)}",
		"meta version": "2026-07-28", "client": "c1", "capabilities": "{}", "trace": "t",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Scan (-want +got):\n%s", diff)
	}
	if n, ok := m.Integer(m.MetaHops); !ok || n != 3 {
		t.Errorf("Integer(hops): got %d, %v, want 3", n, ok)
	}
	if !m.Is(m.Method, "tools/call") || m.Is(m.Method, "tools/lis") || m.Is(m.ID, "abd") || m.Is(m.MetaHops, "3") {
		t.Error("Is: compares other than by value")
	}
	if m.Cursor.Kind != jsonrpc.Null || m.Result.Present() {
		t.Errorf("got cursor %v and result %v, want null and absent", m.Cursor, m.Result)
	}
}

func TestScannerForgetsThePreviousMessage(t *testing.T) {
	t.Parallel()
	s, m := jsonrpc.NewScanner(strictjson.DefaultLimits()), &jsonrpc.Message{}
	if err := s.Scan([]byte(`{"id":1,"params":{"arguments":{"secret":1}}}`), m); err != nil {
		t.Fatal(err)
	}
	if err := s.Scan([]byte(`{"a":[`), m); err == nil {
		t.Fatal("Scan of half a message: got no error")
	}
	if err := s.Scan([]byte(`{"method":"x"}`), m); err != nil {
		t.Fatal(err)
	}
	if m.ID.Present() || m.Arguments.Present() || m.Shape() != "{}" {
		t.Errorf("got id %v, arguments %v, shape %q from a message that has none", m.ID, m.Arguments, m.Shape())
	}
}

func TestShape(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 100)
	tests := []struct{ name, arguments, want string }{
		{"no arguments", `{}`, `{}`},
		{
			"every type", `{"a":1,"b":"xy","c":[1],"d":{"e":"secret"},"f":null,"g":true}`,
			`{a: number, b: string(2), c: array(1), d: object(1), f: null, g: boolean}`,
		},
		{"a name that is not plain is quoted", `{"a b\n":1}`, `{"a b\n": number}`},
		{"a long name is cut", `{"` + long + `":1}`, `{` + long[:64] + `…: number}`},
		{"a rune is not cut in two", `{"` + long[:63] + `é":1}`, `{` + long[:63] + `…: number}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, err := scan(`{"params":{"arguments":` + tt.arguments + `}}`)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Shape(); got != tt.want {
				t.Errorf("Shape: got %q, want %q", got, tt.want)
			}
		})
	}
	m, err := scan(`{"params":{"arguments":{` + members(1000) + `}}}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Shape(); len(got) > jsonrpc.MaxShape || !strings.HasSuffix(got, ", …}") {
		t.Errorf("Shape of very many: got %d bytes, ending %q", len(got), got[len(got)-8:])
	}
}

// What the scanner accepts any strict parser accepts too and reads alike, and
// the spans are the values.
func FuzzScan(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hi"}}}`))
	f.Add([]byte(`{"\u006dethod":"\ud83d\ude00","params":{"_meta":{"progressToken":1e2},"arguments":{"a":[{}]}}}`))
	f.Add([]byte(`{"a":1,"A":2,"":[[]]}`))
	f.Add([]byte("{\"id\":\"\\u0000\",\"params\":[]}\n"))
	f.Add([]byte(`{"params":{"name":null},"result":{}}{`))
	s := jsonrpc.NewScanner(strictjson.DefaultLimits())
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		var m jsonrpc.Message
		err := s.Scan(body, &m)
		if !bytes.Equal(before, body) {
			t.Fatal("Scan changed the body")
		}
		if err != nil {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatalf("encoding/json refuses what Scan accepts: %v", err)
		}
		for name, f := range map[string]jsonrpc.Field{
			"jsonrpc": m.Version, "id": m.ID, "method": m.Method, "params": m.Params, "result": m.Result, "error": m.Error,
		} {
			same(t, &m, name, f, want)
		}
		var params map[string]json.RawMessage
		if json.Unmarshal(want["params"], &params) == nil {
			for name, f := range map[string]jsonrpc.Field{
				"name": m.Name, "arguments": m.Arguments, "_meta": m.Meta, "cursor": m.Cursor,
				"uri": m.URI, "inputResponses": m.InputResponses, "requestState": m.RequestState,
			} {
				same(t, &m, name, f, params)
			}
		}
		if len(m.Shape()) > jsonrpc.MaxShape {
			t.Errorf("a shape of %d bytes", len(m.Shape()))
		}
	})
}

func same(t *testing.T, m *jsonrpc.Message, name string, f jsonrpc.Field, want map[string]json.RawMessage) {
	t.Helper()
	raw, ok := want[name]
	if ok != f.Present() {
		t.Fatalf("%s: present %v, but encoding/json says %v", name, f.Present(), ok)
	}
	if ok && !bytes.Equal(raw, m.Raw(f)) {
		t.Fatalf("%s: got span %q, want %q", name, m.Raw(f), raw)
	}
	var text string
	if f.Kind == jsonrpc.String && (json.Unmarshal(raw, &text) != nil || text != m.Text(f) || !m.Is(f, text)) {
		t.Fatalf("%s: got text %q, want %q", name, m.Text(f), text)
	}
}

func BenchmarkScan(b *testing.B) {
	body := []byte(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"run_sql_query",` +
		`"arguments":{"query":"SELECT id, name FROM customers WHERE city = ? LIMIT 10","parameters":["Berlin"]},` +
		`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
		`"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`)
	s, m := jsonrpc.NewScanner(strictjson.DefaultLimits()), &jsonrpc.Message{}
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if err := s.Scan(body, m); err != nil {
			b.Fatal(err)
		}
	}
}
