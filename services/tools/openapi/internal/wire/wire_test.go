package wire_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/wire"
)

func none(string) bool { return false }

func one(in, style string, explode bool) *wire.Plan {
	p := &wire.Plan{Method: "GET", Path: "/x", Parameters: []wire.Parameter{{Argument: "a", Name: "a", In: in, Style: style, Explode: explode}}}
	if in == "path" {
		p.Path = "/x/{a}"
	}
	return p
}

// The forms are those of the table in the specification, "Style Examples".
func TestStyles(t *testing.T) {
	t.Parallel()
	const (
		text   = `{"a":"blue"}`
		list   = `{"a":["blue","black","brown"]}`
		object = `{"a":{"R":100,"G":200,"B":150}}`
	)
	tests := []struct {
		plan *wire.Plan
		args string
		want string // path?query, then the header or the cookie
	}{
		{one("path", "simple", false), text, "/x/blue?"},
		{one("path", "simple", false), list, "/x/blue,black,brown?"},
		{one("path", "simple", false), object, "/x/B,150,G,200,R,100?"},
		{one("path", "simple", true), object, "/x/B=150,G=200,R=100?"},
		{one("path", "label", false), text, "/x/.blue?"},
		{one("path", "label", false), list, "/x/.blue,black,brown?"},
		{one("path", "label", true), list, "/x/.blue.black.brown?"},
		{one("path", "label", false), object, "/x/.B,150,G,200,R,100?"},
		{one("path", "label", true), object, "/x/.B=150.G=200.R=100?"},
		{one("path", "matrix", false), text, "/x/;a=blue?"},
		{one("path", "matrix", false), list, "/x/;a=blue,black,brown?"},
		{one("path", "matrix", true), list, "/x/;a=blue;a=black;a=brown?"},
		{one("path", "matrix", false), object, "/x/;a=B,150,G,200,R,100?"},
		{one("path", "matrix", true), object, "/x/;B=150;G=200;R=100?"},
		{one("query", "form", true), text, "/x?a=blue"},
		{one("query", "form", true), list, "/x?a=blue&a=black&a=brown"},
		{one("query", "form", false), list, "/x?a=blue,black,brown"},
		{one("query", "form", true), object, "/x?B=150&G=200&R=100"},
		{one("query", "form", false), object, "/x?a=B,150,G,200,R,100"},
		{one("query", "spaceDelimited", false), list, "/x?a=blue%20black%20brown"},
		{one("query", "pipeDelimited", false), list, "/x?a=blue%7Cblack%7Cbrown"},
		{one("query", "deepObject", true), object, "/x?a%5BB%5D=150&a%5BG%5D=200&a%5BR%5D=100"},
		{one("query", "form", true), `{"a":[]}`, "/x?"},
		{one("query", "form", true), `{"a":null}`, "/x?"},
		{one("query", "form", true), `{}`, "/x?"},
		{one("query", "form", true), `{"a":12345678901234567890.50}`, "/x?a=12345678901234567890.50"},
		{one("query", "form", true), `{"a":true}`, "/x?a=true"},
		{one("query", "form", true), `{"a":"ü &=?#/+%"}`, "/x?a=%C3%BC%20%26%3D%3F%23%2F%2B%25"},
		{one("header", "simple", false), list, "/x? blue,black,brown"},
		{one("header", "simple", true), object, "/x? B=150,G=200,R=100"},
		{one("cookie", "form", false), `{"a":"b;c=d"}`, "/x? a=b%3Bc%3Dd"},
	}
	for _, tt := range tests {
		if err := tt.plan.Validate(); err != nil {
			t.Errorf("%v: %v", tt.plan, err)
			continue
		}
		got, err := tt.plan.Build([]byte(tt.args), none)
		if err != nil {
			t.Errorf("%v of %s: %v", tt.plan.Parameters, tt.args, err)
			continue
		}
		text := got.Path + "?" + got.Query
		for _, v := range got.Header {
			text += " " + v[0]
		}
		if text != tt.want {
			t.Errorf("%v of %s: got %s, want %s", tt.plan.Parameters, tt.args, text, tt.want)
		}
	}
}

// hostile are values that would lead to another path in one server or another.
var hostile = []string{
	"", ".", "..", "../admin", "a/../../b", "a/b", `a\b`, "..;", "..;x=1", "..\t", "a\r\nHost: evil", "a\x00b", "a\u0085b",
	"%2e%2e", "%2E%2E%2Fadmin", "%252e%252e", "%25252e%25252e%25252f", "a%2fb", "a%5cb", "%0d%0aX: y", ".%2e", "%2e.", "..%3b", "%25252525252525",
}

func TestPathsAreNotLeft(t *testing.T) {
	t.Parallel()
	for _, style := range []string{"simple", "label", "matrix"} {
		for _, bad := range hostile {
			for _, wrap := range []func(string) any{
				func(s string) any { return s },
				func(s string) any { return []string{"ok", s} },
				func(s string) any { return map[string]string{"k": s} },
				func(s string) any { return map[string]string{s: "v"} },
			} {
				args, err := json.Marshal(map[string]any{"a": wrap(bad)})
				if err != nil {
					t.Fatal(err)
				}
				if got, err := one("path", style, true).Build(args, none); err == nil {
					t.Errorf("%s %s: got %s, want it refused", style, args, got.Path)
				} else if len(bad) > 3 && strings.Contains(err.Error(), bad) {
					t.Errorf("%s: the error repeats the value: %v", args, err)
				}
			}
		}
	}
	together := &wire.Plan{Method: "GET", Path: "/x/{a}{b}/y", Parameters: []wire.Parameter{
		{Argument: "a", Name: "a", In: "path", Style: "simple"}, {Argument: "b", Name: "b", In: "path", Style: "label"},
	}}
	if got, err := together.Build([]byte(`{"a":".","b":"z"}`), none); err == nil {
		t.Errorf("got %s", got.Path)
	}
	harmless := map[string]string{
		"?q=1#f": "%3Fq%3D1%23f", "a b": "a%20b", "@:$&'()*+,;=": "%40%3A%24%26%27%28%29%2A%2B%2C%3B%3D", "...": "...", "a..b": "a..b", "100%": "100%25",
	}
	for value, want := range harmless {
		args, err := json.Marshal(map[string]string{"a": value})
		if err != nil {
			t.Fatal(err)
		}
		got, err := one("path", "simple", false).Build(args, none)
		if err != nil || got.Path != "/x/"+want {
			t.Errorf("%q: got %v, %v, want %s", value, got, err, want)
		}
	}
	slashes := one("path", "simple", false)
	slashes.Slashes = true
	if got, err := slashes.Build([]byte(`{"a":"src/main.go"}`), none); err != nil || got.Path != "/x/src%2Fmain.go" {
		t.Errorf("with slashes: got %v, %v", got, err)
	}
	for _, bad := range []string{"a/../b", `a\..\b`, "%2e%2e/b", "..%2fb"} {
		args, _ := json.Marshal(map[string]string{"a": bad})
		if got, err := slashes.Build(args, none); err == nil {
			t.Errorf("with slashes: got %s of %s, want it refused", got.Path, bad)
		}
	}
}

func TestValuesThatHaveNoForm(t *testing.T) {
	t.Parallel()
	taken := func(name string) bool { return name == "api_key" }
	required := one("query", "form", true)
	required.Parameters[0].Required = true
	twice := one("query", "form", true)
	twice.Parameters = append(twice.Parameters, wire.Parameter{Argument: "b", Name: "role", In: "query", Style: "form"})
	tests := []struct {
		name string
		plan *wire.Plan
		args string
		want string // in the error
	}{
		{"a header with a line break", one("header", "simple", false), `{"a":"x\r\nHost: evil"}`, "printable ASCII"},
		{"a header in another script", one("header", "simple", false), `{"a":"ü"}`, "printable ASCII"},
		{"parts of a header with a comma", one("header", "simple", false), `{"a":["x,y"]}`, "comma"},
		{"a list in a cookie", one("cookie", "form", false), `{"a":["x"]}`, "single value"},
		{"lists in lists", one("query", "form", true), `{"a":[["x"]]}`, "no form"},
		{"null in a list", one("query", "form", true), `{"a":[null]}`, "null"},
		{"text where an object has to be", one("query", "deepObject", true), `{"a":"x"}`, "must be an object"},
		{"a member that is a credential", one("query", "form", true), `{"a":{"api_key":"x"}}`, "another parameter"},
		{"a member that is another parameter", twice, `{"a":{"ROLE":"x"}}`, "another parameter"},
		{"nothing where something has to be", required, `{}`, "must be given"},
		{"null where something has to be", required, `{"a":null}`, "must be given"},
		{"a URL that is too long", one("query", "form", true), `{"a":"` + strings.Repeat("x", 20_000) + `"}`, "more than 16384"},
		{"a header that is too long", one("header", "simple", true), `{"a":"` + strings.Repeat("x", 20_000) + `"}`, "more than 16384"},
		{"too many parts", one("query", "form", false), `{"a":[1` + strings.Repeat(",1", 1000) + `]}`, "1000 parts"},
		{"arguments that are none", one("query", "form", true), `[]`, "not a JSON object"},
	}
	for _, tt := range tests {
		if _, err := tt.plan.Build([]byte(tt.args), taken); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got error %v, want %q in it", tt.name, err, tt.want)
		}
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	plan := func(kind wire.Kind) *wire.Plan {
		return &wire.Plan{Method: "POST", Path: "/x", Body: &wire.Body{Argument: "body", Kind: kind, Type: "t/" + string(kind)}}
	}
	tests := []struct {
		kind       wire.Kind
		args, want string
		fails      bool
	}{
		{wire.JSON, `{"body":{"n":12345678901234567890.10,"b":null}}`, `{"n":12345678901234567890.10,"b":null}`, false},
		{wire.JSON, `{"body":null}`, `null`, false},
		{wire.JSON, `{}`, ``, false},
		{wire.Text, `{"body":"a\nb"}`, "a\nb", false},
		{wire.Text, `{"body":1}`, "", true},
		{wire.Form, `{"body":{"b":"x&y=z","a":[1,true]}}`, "a=1&a=true&b=x%26y%3Dz", false},
		{wire.Form, `{"body":{"a":{"b":1}}}`, "", true},
		{wire.Form, `{"body":7}`, "", true},
	}
	for _, tt := range tests {
		got, err := plan(tt.kind).Build([]byte(tt.args), none)
		if (err != nil) != tt.fails {
			t.Errorf("%s %s: got error %v", tt.kind, tt.args, err)
			continue
		}
		if err == nil && string(got.Body) != tt.want {
			t.Errorf("%s %s: got %s, want %s", tt.kind, tt.args, got.Body, tt.want)
		}
		if err == nil && got.Body != nil && got.Header.Get("Content-Type") != "t/"+string(tt.kind) {
			t.Errorf("%s: got %v", tt.kind, got.Header)
		}
	}
}

func TestPlansThatCannotBe(t *testing.T) {
	t.Parallel()
	in := func(in, name, style string) []wire.Parameter {
		return []wire.Parameter{{Argument: "a", Name: name, In: in, Style: style}}
	}
	for name, p := range map[string]*wire.Plan{
		"a method of another protocol":       {Method: "CONNECT", Path: "/x"},
		"a path without a slash":             {Method: "GET", Path: "x"},
		"a path that is a host":              {Method: "GET", Path: "//evil.example/x"},
		"a path that climbs":                 {Method: "GET", Path: "/a/../b"},
		"a path that climbs, encoded":        {Method: "GET", Path: "/a/%2e%2e/b"},
		"a path with a query":                {Method: "GET", Path: "/a?b=c"},
		"a path with a fragment":             {Method: "GET", Path: "/a#b"},
		"a path with a line break":           {Method: "GET", Path: "/a\r\nHost: x"},
		"a variable that is no parameter":    {Method: "GET", Path: "/a/{b}"},
		"a variable that does not end":       {Method: "GET", Path: "/a/{b"},
		"a style of another place":           {Method: "GET", Path: "/a", Parameters: in("query", "a", "matrix")},
		"a place that is none":               {Method: "GET", Path: "/a", Parameters: in("body", "a", "form")},
		"the header Host":                    {Method: "GET", Path: "/a", Parameters: in("header", "hOsT", "simple")},
		"the header X-Forwarded-For":         {Method: "GET", Path: "/a", Parameters: in("header", "X-Forwarded-For", "simple")},
		"a header that some read as another": {Method: "GET", Path: "/a", Parameters: in("header", "X_Forwarded_For", "simple")},
		"the header X-HTTP-Method-Override":  {Method: "GET", Path: "/a", Parameters: in("header", "X-HTTP-Method-Override", "simple")},
		"a header with a line break":         {Method: "GET", Path: "/a", Parameters: in("header", "a\r\nb", "simple")},
		"the header Cookie":                  {Method: "GET", Path: "/a", Parameters: in("header", "Cookie", "simple")},
		"the header Transfer-Encoding":       {Method: "GET", Path: "/a", Parameters: in("header", "Transfer-Encoding", "simple")},
		"a cookie with a semicolon":          {Method: "GET", Path: "/a", Parameters: in("cookie", "a; b", "form")},
	} {
		if err := p.Validate(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzBuild looks at what becomes of any value in any place: read back as servers
// read it, it is where it was put and nothing else is there.
func FuzzBuild(f *testing.F) {
	for _, s := range append(hostile, "blue", "ü", "a&b=c", `{"x":1}`) {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, v, w string) {
		args, err := json.Marshal(map[string]any{"p": v, "q": w, "l": []string{v, w}, "o": map[string]string{v: w}, "h": v, "c": w})
		if err != nil {
			t.Fatal(err)
		}
		var sent struct{ P, Q string } // as JSON has it: what is not UTF-8 was replaced
		if err := json.Unmarshal(args, &sent); err != nil {
			t.Fatal(err)
		}
		plan := &wire.Plan{Method: "GET", Path: "/before/{p}/after", Parameters: []wire.Parameter{
			{Argument: "p", Name: "p", In: "path", Style: "simple", Required: true},
			{Argument: "q", Name: "q", In: "query", Style: "form", Explode: true},
			{Argument: "l", Name: "l", In: "query", Style: "form", Explode: true},
			{Argument: "o", Name: "o", In: "query", Style: "deepObject", Explode: true},
			{Argument: "h", Name: "X-H", In: "header", Style: "simple"},
			{Argument: "c", Name: "c", In: "cookie", Style: "form"},
		}}
		got, err := plan.Build(args, none)
		if err != nil {
			return
		}
		u, err := url.Parse("https://host" + got.Path + "?" + got.Query)
		if err != nil || u.Host != "host" || u.Fragment != "" || u.User != nil {
			t.Fatalf("got %v, %v of %s", u, err, args)
		}
		if segments := strings.Split(u.EscapedPath(), "/"); len(segments) != 4 || segments[1] != "before" || segments[3] != "after" {
			t.Errorf("got the path %s of %s", u.EscapedPath(), args)
		}
		if u.Path != "/before/"+sent.P+"/after" || u.JoinPath(".").Path != u.Path {
			t.Errorf("got the path %q of %s", u.Path, args)
		}
		q, err := url.ParseQuery(u.RawQuery)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(url.Values{"q": {sent.Q}, "l": {sent.P, sent.Q}, "o[" + sent.P + "]": {sent.Q}}, q); diff != "" {
			t.Errorf("query of %s (-want +got):\n%s", args, diff)
		}
		for name, values := range got.Header {
			if strings.ContainsAny(values[0], "\r\n\x00") || name == "Cookie" && strings.ContainsAny(values[0], "; ,") {
				t.Errorf("got the header %s: %q", name, values[0])
			}
		}
	})
}
