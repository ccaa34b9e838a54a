package edge_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

// What clients repeat in headers Mcp-Param-* has to be what the body says.
func TestArgumentsInHeaders(t *testing.T) {
	t.Parallel()
	type headers map[string]string
	both := headers{"Mcp-Param-Region": "eu", "Mcp-Param-Zone": "42"}
	with := func(name, value string) headers {
		h := headers{}
		for n, v := range both {
			h[n] = v
		}
		h[name] = value
		return h
	}
	const given = `{"region":"eu","where":{"zone":42}}`
	tests := []struct {
		name      string
		arguments string
		headers   headers
		ok        bool
	}{
		{"both are repeated", given, both, true},
		{"the names of headers have no case", given, headers{"mcp-param-REGION": "eu", "MCP-Param-zone": "42"}, true},
		{"space around a value is not part of it", given, with("Mcp-Param-Region", " eu\t"), true},
		{"a value may be Base64", given, with("Mcp-Param-Region", "=?base64?ZXU=?="), true},
		{"a number may be Base64", given, with("Mcp-Param-Zone", "=?base64?NDI=?="), true},
		{"numbers are compared as numbers", given, with("Mcp-Param-Zone", "42.0"), true},
		{"also when the body has the fraction", `{"region":"eu","where":{"zone":42.00}}`, both, true},
		{"text beyond ASCII is Base64", `{"region":"世界","where":{"zone":42}}`, with("Mcp-Param-Region", "=?base64?5LiW55WM?="), true},
		{"text that looks encoded is encoded", `{"region":"=?base64?literal?=","where":{"zone":42}}`, with("Mcp-Param-Region", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="), true},
		{"an empty text is an empty header", `{"region":"","where":{"zone":42}}`, with("Mcp-Param-Region", ""), true},
		{"escapes in the body are read", `{"region":"\u0065u","where":{"zone":42}}`, both, true},
		{"what is not given is not repeated", `{}`, headers{}, true},
		{"nor is null", `{"region":null,"where":{"zone":null}}`, headers{}, true},
		{"nor what is below something that is not given", `{"region":"eu"}`, headers{"Mcp-Param-Region": "eu"}, true},
		{"a header that the tool does not know is ignored", given, with("Mcp-Param-Other", "\u00e9"), true},

		{"one is missing", given, headers{"Mcp-Param-Region": "eu"}, false},
		{"one differs", given, with("Mcp-Param-Region", "us"), false},
		{"values have case", given, with("Mcp-Param-Region", "EU"), false},
		{"a number differs", given, with("Mcp-Param-Zone", "42.1"), false},
		{"a number that is none", given, with("Mcp-Param-Zone", "0x2a"), false},
		{"a number that would take ages to compare", given, with("Mcp-Param-Zone", "42e-999999999"), false},
		{"a text is no number", `{"region":"eu","where":{"zone":"42"}}`, with("Mcp-Param-Zone", "42.0"), false},
		{"an object has no header", `{"region":{},"where":{"zone":42}}`, with("Mcp-Param-Region", "{}"), false},
		{"null is repeated", `{"region":null,"where":{"zone":42}}`, with("Mcp-Param-Region", "null"), false},
		{"what is not given is repeated", `{"where":{"zone":42}}`, both, false},
		{"Base64 that is not canonical", given, with("Mcp-Param-Region", "=?base64?ZXU?="), false},
		{"the markers have case", given, with("Mcp-Param-Region", "=?BASE64?ZXU=?="), false},
		{"bytes beyond ASCII", `{"region":"é","where":{"zone":42}}`, with("Mcp-Param-Region", "é"), false},
	}
	w := newWorld(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := request{params: `"name":"mirrored","arguments":` + tt.arguments}.http(t, w.url)
			for name, value := range tt.headers {
				r.Header.Set(name, value)
			}
			a := do(t, r)
			code := a.decode(t).Error.Code
			if tt.ok && (a.status != http.StatusOK || code != 0) || !tt.ok && (a.status != http.StatusBadRequest || code != -32020) {
				t.Errorf("got %d %s, want it served: %v", a.status, a.body, tt.ok)
			}
		})
	}
}

func TestAHeaderOnTwoLinesIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"Mcp-Param-Region", "Mcp-Param-Unknown", "Mcp-Name", "Mcp-Method", "Mcp-Protocol-Version"} {
		r := request{params: `"name":"mirrored","arguments":{"region":"eu"}`}.http(t, w.url)
		r.Header.Set("Mcp-Param-Region", "eu")
		r.Header.Add(name, r.Header.Get(name))
		r.Header.Add(name, r.Header.Get(name))
		if a := do(t, r); a.decode(t).Error.Code != -32020 {
			t.Errorf("%s twice: got %d %s, want it refused", name, a.status, a.body)
		}
	}
}

func TestALegacyCallHasNoHeadersToRepeatArgumentsIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	q := request{params: `"name":"mirrored","arguments":{"region":"eu"}`, version: "2025-11-25", headers: map[string]string{"Mcp-Param-Region": "us"}}
	if a := w.send(t, q); a.status != http.StatusOK || a.decode(t).Error.Code != 0 {
		t.Errorf("got %d %s, want it served", a.status, a.body)
	}
}

// Any token can be part of a header's name; what cannot be is no mark, and a
// mark that cannot be reached by properties alone is none either.
func TestMarksInSchemas(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, schema string
		header       string // that is then missing, or ""
	}{
		{"a name of letters", `{"properties":{"a":{"type":"string","x-mcp-header":"Region"}}}`, "Mcp-Param-Region"},
		{"a name of other characters", `{"properties":{"a":{"type":"string","x-mcp-header":"a!#$%&'*+.^_|~9"}}}`, "Mcp-Param-A!#$%&'*+.^_|~9"},
		{"no name", `{"properties":{"a":{"type":"string","x-mcp-header":""}}}`, ""},
		{"a name with a colon", `{"properties":{"a":{"type":"string","x-mcp-header":"a:b"}}}`, ""},
		{"a name with a line break", `{"properties":{"a":{"type":"string","x-mcp-header":"a\r\nX: y"}}}`, ""},
		{"a name with a letter beyond ASCII", `{"properties":{"a":{"type":"string","x-mcp-header":"é"}}}`, ""},
		{"a name that is no string", `{"properties":{"a":{"type":"string","x-mcp-header":7}}}`, ""},
		{"a mark below items", `{"properties":{"a":{"type":"array","items":{"properties":{"b":{"x-mcp-header":"Region"}}}}}}`, ""},
		{"a mark below anyOf", `{"anyOf":[{"properties":{"a":{"x-mcp-header":"Region"}}}]}`, ""},
		{"a property that is called like the mark", `{"properties":{"x-mcp-header":{"type":"string"}}}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			marked := tool("echo", toolv1.Risk_RISK_READ, func(d *providerv1.ToolDefinition) { d.InputSchema = []byte(tt.schema) })
			w.executor.only.Store(&marked)
			q := request{params: `"name":"echo","arguments":{"a":"v","x-mcp-header":"v"}`}
			refused := func() (answer, bool) { a := w.send(t, q); return a, a.decode(t).Error.Code == -32020 }
			a, got := refused()
			for limit := time.Now().Add(patience); got != (tt.header != "") && time.Now().Before(limit); {
				a, got = refused() // the edge may have asked for the tools before there was this one
			}
			if got != (tt.header != "") {
				t.Errorf("without a header: got %s", a.body)
			}
			if tt.header == "" {
				return
			}
			q.headers = map[string]string{tt.header: "v"}
			if a := w.send(t, q); a.decode(t).Error.Code != 0 || !strings.Contains(string(a.body), "got ") {
				t.Errorf("with a header: got %s", a.body)
			}
		})
	}
}
