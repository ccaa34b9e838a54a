package edge

import (
	"encoding/json"
	"math/big"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

// A host that is allowed is, but for case and port, one of the list.
func FuzzHostAllowed(f *testing.F) {
	for _, seed := range []string{"localhost:80", "LOCALHOST", "[::1]:80", "::1", "localhost:80@evil", "127.0.0.1.", "only.example.com:8443", "[::1]x:1"} {
		f.Add(seed)
	}
	g := newGate([]string{"localhost", "127.0.0.1", "[::1]", "only.example.com:8443"}, nil)
	f.Fuzz(func(t *testing.T, host string) {
		if !g.hostAllowed(host) {
			return
		}
		if strings.EqualFold(host, "only.example.com:8443") {
			return
		}
		name, port, err := net.SplitHostPort(host)
		if err != nil {
			name = strings.Trim(host, "[]")
		}
		if strings.Trim(port, "0123456789") != "" {
			t.Errorf("%q is allowed with a port that is no number", host)
		}
		switch strings.ToLower(name) {
		case "localhost", "127.0.0.1", "::1":
		default:
			t.Errorf("%q is allowed", host)
		}
	})
}

// An origin that is allowed is that of a page of this server, or in the list; and
// whoever parses it finds nothing else in it.
func FuzzOriginAllowed(f *testing.F) {
	for _, seed := range []string{"http://localhost:80", "https://app.example.com", "null", "http://localhost:80#", "http://localhost:80?", "http://localhost:80@evil", "HTTP://localhost:80"} {
		f.Add(seed, "localhost:80")
	}
	f.Add("http://", "")
	g := newGate([]string{"localhost"}, []string{"https://app.example.com"})
	f.Fuzz(func(t *testing.T, origin, host string) {
		if !g.hostAllowed(host) || !g.originAllowed([]string{origin}, host) {
			return
		}
		if strings.EqualFold(origin, "https://app.example.com") {
			return
		}
		u, err := url.Parse(origin)
		if err != nil {
			t.Fatalf("%q is allowed: %v", origin, err)
		}
		if !strings.EqualFold(u.Host, host) || u.Scheme != "http" && u.Scheme != "https" || !strings.EqualFold(u.Scheme+"://"+u.Host, origin) {
			t.Errorf("%q is allowed for %q", origin, host)
		}
		if g.originAllowed([]string{origin, origin}, host) {
			t.Errorf("%q is allowed twice", origin)
		}
	})
}

// What passes for JSON no form can send, and a strict reading of the type agrees.
func FuzzJSONBody(f *testing.F) {
	for _, seed := range []string{"application/json", "application/json; charset=UTF-8", "application/json;charset=utf-7", "text/plain", "application/json, text/plain"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, contentType string) {
		if !jsonBody(http.Header{"Content-Type": {contentType}}) {
			return
		}
		kind, params, err := mime.ParseMediaType(contentType)
		if err != nil || kind != "application/json" || params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8") {
			t.Errorf("%q passes for JSON", contentType)
		}
	})
}

// An argument and a header are the same only if both say one thing.
func FuzzSameValue(f *testing.F) {
	for _, seed := range [][2]string{{`42`, "42.0"}, {`"a\u0062"`, "ab"}, {`true`, "true"}, {`1e2`, "100"}, {`-0`, "0"}, {`"1"`, "1"}, {`null`, "null"}, {`0.1`, "1/10"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, argument, header string) {
		var m jsonrpc.Message
		if jsonrpc.NewScanner(strictjson.DefaultLimits()).Scan([]byte(`{"id":`+argument+`}`), &m) != nil {
			return
		}
		raw := m.Raw(m.ID)
		if !sameValue(raw, header) {
			return
		}
		var value any
		dec := json.NewDecoder(strings.NewReader(string(raw)))
		dec.UseNumber()
		if err := dec.Decode(&value); err != nil {
			t.Fatal(err)
		}
		switch v := value.(type) {
		case string:
			if v != header {
				t.Errorf("%s is taken for %q", raw, header)
			}
		case bool:
			if string(raw) != header {
				t.Errorf("%s is taken for %q", raw, header)
			}
		case json.Number:
			a, ok1 := new(big.Rat).SetString(v.String())
			b, ok2 := new(big.Rat).SetString(header)
			if v.String() != header && (!ok1 || !ok2 || a.Cmp(b) != 0 || !json.Valid([]byte(header))) {
				t.Errorf("%s is taken for %q", raw, header)
			}
		default:
			t.Errorf("%s is taken for %q", raw, header)
		}
	})
}

// A schema comes from a tool, which may be anybody's.
func FuzzHeaderParams(f *testing.F) {
	f.Add(`{"properties":{"a":{"x-mcp-header":"A","properties":{"b":{"x-mcp-header":"B"}}}}}`, `{"a":{"b":1}}`)
	f.Add(`{"properties":{"a":{"x-mcp-header":1},"x-mcp-header":[]}}`, `{}`)
	f.Add(`{"x-mcp-header":"A","properties":[]`, `[`)
	f.Fuzz(func(t *testing.T, schema, arguments string) {
		for _, p := range headerParams([]byte(schema)) {
			if !strings.HasPrefix(p.header, "Mcp-Param-") || http.CanonicalHeaderKey(p.header) != p.header || len(p.path) == 0 {
				t.Errorf("got header %q for %q", p.header, p.path)
			}
			if v := argumentAt([]byte(arguments), p.path); v != nil && !json.Valid(v) {
				t.Errorf("got argument %q", v)
			}
		}
	})
}

// What a client calls itself and its context ends up in logs, records and the
// keys of counters.
func FuzzContext(f *testing.F) {
	f.Add("agent", "1.0", "task:7", 2)
	f.Add("a\x1b[2J\u202e", "\u2028", "a b", 256)
	f.Add(strings.Repeat("é", 200), "", strings.Repeat("x", 200), -1)
	f.Fuzz(func(t *testing.T, name, version, id string, limit int) {
		limit = min(max(limit, 0), 1000)
		text := printable(name+"/"+version, limit)
		if len(text) > limit || !utf8.ValidString(text) {
			t.Errorf("printable: got %q within %d", text, limit)
		}
		for _, r := range text {
			if !unicode.IsPrint(r) {
				t.Errorf("printable: got %q", text)
			}
		}
		if contextID(id) && (len(id) > maxContext || !toolName(strings.ReplaceAll(id, ":", "_")[:min(len(id), maxToolName)])) {
			t.Errorf("contextID: %q is one", id)
		}
		if plainVersion(version) && (version == "" || len(version) > 32 || strings.Trim(version, "v0123456789.-") != "") {
			t.Errorf("plainVersion: %q is one", version)
		}
		if got := bounded(id); len(got) > maxContextSent {
			t.Errorf("bounded: got %d bytes", len(got))
		}
	})
}

// Whatever a message holds, a reader of event streams finds it whole in one event,
// and no other.
func FuzzEvent(f *testing.F) {
	for _, seed := range []string{`{"a":"b"}`, "{\"a\":\n\"\\n\\ndata: x\"\r\n}", `"event: x"`, ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		frame := string(appendEvent(nil, message))
		lines := strings.FieldsFunc(frame, func(r rune) bool { return r == '\n' || r == '\r' })
		if len(lines) != 2 || lines[0] != "event: message" || !strings.HasPrefix(lines[1], "data: ") || !strings.HasSuffix(frame, "\n\n") || strings.Count(frame, "\n\n") != 1 {
			t.Fatalf("got frame %q", frame)
		}
		data := strings.TrimPrefix(lines[1], "data: ")
		if !json.Valid(message) {
			return
		}
		var want, got any
		if json.Unmarshal(message, &want) == nil && (json.Unmarshal([]byte(data), &got) != nil || data != string(message) && !sameJSON(want, got)) {
			t.Errorf("got %q, want %q", data, message)
		}
	})
}

func sameJSON(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}
