package client

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// These look into the package: what is on the wire has no other way in that a
// table could take.

func TestEvents(t *testing.T) {
	tests := []struct {
		name, stream string
		want         []string // data of the events
		id           string
		err          error
	}{
		{"lines end in three ways", "data: a\n\ndata: b\r\n\r\ndata: c\r\r", []string{"a", "b", "c"}, "", io.EOF},
		{"several lines are one event", "data: a\ndata:b\n\n", []string{"a\nb"}, "", io.EOF},
		{"only one space is taken", "data:  a\n\n", []string{" a"}, "", io.EOF},
		{"comments and what is not known are skipped", ": hi\nnovel: x\nretry: 5\ndata: a\n\n", []string{"a"}, "", io.EOF},
		{"other events are skipped", "event: ping\ndata: x\n\nevent: message\ndata: a\n\n", []string{"a"}, "", io.EOF},
		{"ids are kept, also of events without data", "id: 1\ndata: a\n\nid: 2\n\n", []string{"a"}, "2", io.EOF},
		{"what is not finished is dropped", "data: a\n\ndata: b\n", []string{"a"}, "", io.EOF},
		{"a line that is too long is an error", "data: " + strings.Repeat("x", 100) + "\n\n", nil, "", ErrTooLarge},
		{"an event that is too long is an error", strings.Repeat("data: x\n", 20) + "\n", nil, "", ErrTooLarge},
		{"many events are not", strings.Repeat("data: x\n\n", 20), strings.Split(strings.Repeat("x ", 19)+"x", " "), "", io.EOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEvents(strings.NewReader(tt.stream), 100)
			var got []string
			for {
				data, err := e.next()
				if err != nil {
					if !errors.Is(err, tt.err) {
						t.Errorf("got error %v, want %v", err, tt.err)
					}
					break
				}
				got = append(got, string(data))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if e.lastID != tt.id {
				t.Errorf("got id %q, want %q", e.lastID, tt.id)
			}
		})
	}
}

func FuzzEvents(f *testing.F) {
	for _, seed := range []string{"data: a\n\n", "id:1\r\rdata:{}\r\n\r\n", ":\n\n\n", "data", "retry: 99999999999\n\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		e := newEvents(strings.NewReader(string(in)), 64)
		for {
			data, err := e.next()
			if err != nil {
				return
			}
			if len(data) > 64 {
				t.Fatalf("got %d bytes", len(data))
			}
		}
	})
}

func TestParse(t *testing.T) {
	tests := []struct {
		name, in                    string
		request, response, mistaken bool
	}{
		{name: "a request", in: `{"jsonrpc":"2.0","id":"a","method":"ping"}`, request: true},
		{name: "a notification", in: `{"jsonrpc":"2.0","method":"x"}`},
		{name: "an id of null is none", in: `{"jsonrpc":"2.0","id":null,"method":"x"}`},
		{name: "a response", in: `{"jsonrpc":"2.0","id":1,"result":{}}`, response: true},
		{name: "an error", in: `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}`, response: true},
		{name: "a batch is no message", in: `[]`, mistaken: true},
		{name: "nor is an object of another kind", in: `{"a":1}`, mistaken: true},
		{name: "nor what is no JSON", in: `x`, mistaken: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := parse([]byte(tt.in))
			if (err != nil) != tt.mistaken || m.isRequest() != tt.request || m.isResponse() != tt.response {
				t.Errorf("got %+v, %v", m, err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"result":{}}`))
	f.Add([]byte(`{"method":"x","params":[]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := parse(in)
		if err == nil && m.isRequest() && m.isResponse() {
			t.Fatalf("%q is both", in)
		}
	})
}

func TestMirror(t *testing.T) {
	schema := json.RawMessage(`{"type":"object","properties":{
		"region":{"type":"string","x-mcp-header":"Region"},
		"n":{"type":"integer","x-mcp-header":"N"},
		"on":{"type":"boolean","x-mcp-header":"On"},
		"deep":{"type":"object","properties":{"x":{"type":"string","x-mcp-header":"Deep"}}},
		"plain":{"type":"string"}}}`)
	bs, err := Bindings(schema)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, arguments string
		want            http.Header
	}{
		{"all", `{"region":"eu","n":7,"on":false,"deep":{"x":"y"},"plain":"p"}`, http.Header{
			"Mcp-Param-Region": {"eu"}, "Mcp-Param-N": {"7"}, "Mcp-Param-On": {"false"}, "Mcp-Param-Deep": {"y"},
		}},
		{"what is absent, null or of another kind has none", `{"region":null,"n":1.5,"deep":7}`, http.Header{}},
		{"integers have no exponent", `{"n":1e6}`, http.Header{"Mcp-Param-N": {"1000000"}}},
		{"what a header cannot carry is Base64", `{"region":"Zürich"}`, http.Header{"Mcp-Param-Region": {"=?base64?WsO8cmljaA==?="}}},
		{"and what would be cut", `{"region":" x"}`, http.Header{"Mcp-Param-Region": {"=?base64?IHg=?="}}},
		{"and lines", `{"region":"a\r\nX: y"}`, http.Header{"Mcp-Param-Region": {"=?base64?YQ0KWDogeQ==?="}}},
		{"and what looks like it", `{"region":"=?base64?x?="}`, http.Header{"Mcp-Param-Region": {"=?base64?PT9iYXNlNjQ/eD89?="}}},
		{"no object", `7`, http.Header{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, mirror(bs, json.RawMessage(tt.arguments))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, bad := range []string{
		`{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}`,
		`{"properties":{"a":{"type":"string","x-mcp-header":"A B"}}}`,
		`{"properties":{"a":{"type":"string","x-mcp-header":""}}}`,
		`{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}`,
	} {
		if _, err := Bindings(json.RawMessage(bad)); err == nil {
			t.Errorf("Bindings(%s): got no error", bad)
		}
	}
}
