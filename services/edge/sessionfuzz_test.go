package edge

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sallyport-mcp/sallyport/services/edge/internal/session"
)

func TestCapabilities(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, declared string
		want           session.Capabilities
		written        string
	}{
		{"none", `{}`, 0, `{}`},
		{"forms, as it was written before there were pages", `{"elicitation":{}}`, session.ElicitForm, `{"elicitation":{"form":{}}}`},
		{"forms", `{"elicitation":{"form":{}}}`, session.ElicitForm, `{"elicitation":{"form":{}}}`},
		{"pages alone", `{"elicitation":{"url":{}}}`, session.ElicitURL, `{"elicitation":{"url":{}}}`},
		{"both", `{"elicitation":{"form":{},"url":{}}}`, session.ElicitForm | session.ElicitURL, `{"elicitation":{"form":{},"url":{}}}`},
		{"models", `{"sampling":{}}`, session.Sample, `{"sampling":{}}`},
		{"models with tools and context", `{"sampling":{"tools":{},"context":{}}}`, session.Sample | session.SampleTools | session.SampleContext, `{"sampling":{"tools":{},"context":{}}}`},
		{"folders", `{"roots":{"listChanged":true}}`, session.Roots, `{"roots":{}}`},
		{"several", `{"roots":{},"elicitation":{},"experimental":{"x":{}}}`, session.Roots | session.ElicitForm, `{"elicitation":{"form":{}},"roots":{}}`},
		{"what has another form", `{"roots":true,"elicitation":null,"sampling":[]}`, 0, `{}`},
		{"parts of another form", `{"elicitation":{"url":true},"sampling":{"tools":1}}`, session.ElicitForm | session.Sample, `{"elicitation":{"form":{}},"sampling":{}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got session.Capabilities
			eachMember([]byte(tt.declared), func(name string, value jsontext.Value) { got |= capabilitiesOf(name, value) })
			if got != tt.want {
				t.Errorf("got %b, want %b", got, tt.want)
			}
			if written := string(capabilitiesJSON(got)); written != tt.written {
				t.Errorf("got %s, want %s", written, tt.written)
			}
		})
	}
}

// What a provider asks for ends up in a message of our own: whatever it is, the
// message stays one JSON object with our id and a method of the protocol.
func FuzzQuestions(f *testing.F) {
	f.Add([]byte(`{"who":{"method":"elicitation/create","params":{"mode":"form","message":"Who?"}}}`), true)
	f.Add([]byte(`{"go":{"method":"elicitation/create","params":{"mode":"url","url":"https://example.com"}},"m":{"method":"sampling/createMessage","params":{"tools":[]}}}`), false)
	f.Add([]byte(`{"r":{"method":"roots/list"}}`), true)
	f.Add([]byte(`{"a":{"method":"roots/list","params":{"id":7,"jsonrpc":"1.0"}}} {"b":1}`), true)
	f.Add([]byte(`{"a":{"method":"elicitation/create","params":[]}}`), false)
	f.Add([]byte(`{"":{"method":"elicitation/create","params":{"mode":7}}}`), false)
	f.Fuzz(func(t *testing.T, requests []byte, older bool) {
		version := version2511
		if older {
			version = version2506
		}
		all, ok := inputRequests(requests)
		if !ok {
			return
		}
		for _, q := range all {
			b := appendQuestion(nil, "NODE-ID", q, version)
			var got struct {
				Version string `json:"jsonrpc"`
				ID      string `json:"id"`
				Method  string `json:"method"`
			}
			if err := json.Unmarshal(b, &got); err != nil || !jsontext.Value(b).IsValid() {
				t.Fatalf("%q: %v", b, err)
			}
			if got.Version != "2.0" || got.ID != "NODE-ID" ||
				!slices.Contains([]string{"elicitation/create", "sampling/createMessage", "roots/list"}, got.Method) {
				t.Errorf("got %s", b)
			}
		}
	})
}

// Ids that are the same value in JSON are the same request, and no others are.
func FuzzCanonicalID(f *testing.F) {
	for _, id := range []string{`1`, `"a"`, `"\u0061"`, `-7`, `"\ud83d\ude00"`, `{}`, ``, `null`, `"\ud800"`, `1e999`, strings.Repeat("4", 400)} {
		f.Add([]byte(id))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if !jsontext.Value(raw).IsValid() {
			return
		}
		id := canonicalID(slices.Clone(raw))
		if id == nil {
			return
		}
		if again := canonicalID(id); string(again) != string(id) {
			t.Errorf("%s: got %s, and of that %s", raw, id, again)
		}
		var before, after any
		if json.Unmarshal(raw, &before) != nil || json.Unmarshal(id, &after) != nil || before != after {
			t.Errorf("%s became %s", raw, id)
		}
	})
}

// What a client wants to hear of is repeated to it, as one JSON object.
func FuzzFilter(f *testing.F) {
	f.Add([]byte(`["test://a","test://b","test://a"]`))
	f.Add([]byte(`["\u2028\"]}"]`))
	f.Add([]byte(`[1]`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, list []byte) {
		if !jsontext.Value(list).IsValid() {
			return
		}
		uris, ok := uriList(list)
		if !ok {
			return
		}
		if len(uris) > maxSubscriptions || slices.ContainsFunc(uris, func(u string) bool { return u == "" || len(u) > maxURI || !utf8.ValidString(u) }) {
			t.Errorf("got %q", uris)
		}
		b := appendFilter([]byte(`{"_meta":{}`), interest{tools: true}, uris)
		var got struct {
			Notifications struct{ ResourceSubscriptions []string }
		}
		if err := json.Unmarshal(append(b, '}'), &got); err != nil || !slices.Equal(got.Notifications.ResourceSubscriptions, uris) {
			t.Errorf("%q became %s: %v", uris, b, err)
		}
	})
}

// A node's name is part of a subject on the bus: nothing in it may mean anything
// there.
func FuzzNodeName(f *testing.F) {
	f.Add(newNode())
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAA.>")
	f.Add("")
	f.Fuzz(func(t *testing.T, name string) {
		if nodeName(name) && (strings.ContainsAny(name, ".*> \t\r\n-") || len(name) != nodeLength) {
			t.Errorf("%q is taken for a node", name)
		}
	})
	if name := newNode(); !nodeName(name) {
		f.Errorf("%q is not taken for a node", name)
	}
}
