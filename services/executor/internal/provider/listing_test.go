package provider_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/joining"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/provider"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/rules"
)

func checker(t testing.TB) *rules.Checker {
	t.Helper()
	check, err := provider.NewChecker()
	if err != nil {
		t.Fatal(err)
	}
	return check
}

func lists() *provider.Lists {
	object := []byte(`{"type":"object"}`)
	return &provider.Lists{
		Tools: &providerv1.ListToolsResponse{Tools: []*providerv1.ToolDefinition{
			{Name: "a", InputSchema: object, Options: &toolv1.Tool{Name: "other", Stream: toolv1.Stream_STREAM_PARTS, Risk: toolv1.Risk_RISK_READ}},
			{Name: "a", InputSchema: object},
			{Name: "b", InputSchema: []byte(`{}`)},
			{Name: "c"},
			{Name: "d", InputSchema: object, Meta: []byte(`1`)},
		}},
		Resources: &providerv1.ListResourcesResponse{
			Resources: []*providerv1.Resource{{Uri: "x://a"}, {Uri: "x://a"}, {Uri: "a"}, {Uri: "x://\x7f"}},
			Templates: []*providerv1.ResourceTemplate{
				{UriTemplate: "x://{a}/{b}"},
				{UriTemplate: "{x}"},
				{UriTemplate: "x://{a"},
				{UriTemplate: "x://{a:10000}"},
				{UriTemplate: "x://{" + strings.Repeat("a,", 40) + "b}"},
			},
		},
		Prompts: &providerv1.ListPromptsResponse{Prompts: []*providerv1.Prompt{
			{Name: "p", Arguments: []*providerv1.PromptArgument{{Name: "r", Required: true}, {Name: "o"}}},
			{Name: "q", Arguments: []*providerv1.PromptArgument{{Name: ""}}},
			{Name: "not a name"},
		}},
	}
}

// What is bad costs nothing else.
func TestRead(t *testing.T) {
	t.Parallel()
	l := lists().Read("ev", joining.Config{Prefix: "ev_", Default: joining.Options{Risk: "write"}, Aliases: map[string]string{"none": "x"}}, checker(t))
	if len(l.Tools) != 1 || len(l.Resources) != 1 || len(l.Templates) != 2 || len(l.Prompts) != 1 {
		t.Fatalf("listing = %+v", l)
	}
	var refused []string
	for _, err := range l.Refused {
		refused = append(refused, err.Error())
	}
	want := []string{
		`tool 1 "a": "ev_a" is there already`,
		`tool 2 "b": input schema: the root must be of type object`,
		`tool 3 "c": input schema: is not valid JSON`,
		`tool 4 "d": _meta: must be a JSON object`,
		`resource 1 "x://a": "x://a" is there already`,
		`resource 2 "a": must be a URI with a scheme`,
		`resource 3 "x://\x7f": is not a URI`,
		`resource template 1 "{x}": must begin with a scheme`,
		`resource template 2 "x://{a": is not a URI template`,
		`resource template 3 "x://{a:10000}": is not a URI template`,
		`prompt 1 "q": the argument "" is empty or there twice`,
		`prompt 2 "not a name": the name "ev_not a name" must match ^[A-Za-z0-9_.-]{1,128}$; aliases can give it another`,
	}
	if diff := cmp.Diff(want, refused); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"aliases.none"}, l.Unused); diff != "" {
		t.Errorf("unused (-want +got):\n%s", diff)
	}
	tl := l.Tools[0]
	if tl.Name() != "ev_a" || tl.Definition.GetOptions().GetRisk() != toolv1.Risk_RISK_WRITE || tl.Definition.GetOptions().GetName() != "" || tl.Definition.GetOptions().GetStream() != 0 {
		t.Errorf("tool = %v", tl.Definition)
	}
	if tl.Offered.Name() != "ev_a" || tl.Offered.Definition.GetOptions().GetRisk() != toolv1.Risk_RISK_READ || cmp.Equal(tl.Digest, tl.Offered.Digest) {
		t.Errorf("offered = %v", tl.Offered.Definition)
	}
	template := l.Templates[0]
	for uri, want := range map[string]bool{"x://1/2": true, "x://1": false, "y://1/2": false, "x://1/2/3": false, "ax://1/2": false, "x://1/2\n": false} {
		if got := template.Matches(uri); got != want {
			t.Errorf("Matches(%q) = %t", uri, got)
		}
	}
	if !template.Variable("a") || template.Variable("c") {
		t.Error("the variables are wrong")
	}
	p := l.Prompts[0]
	if p.Remote != "p" || !p.Argument("o") || p.Argument("x") || len(p.Missing(map[string]string{"r": ""})) != 0 || !cmp.Equal(p.Missing(nil), []string{"r"}) {
		t.Errorf("prompt = %v", p)
	}
}

// A definition that reads otherwise to a model than to a person is refused, wherever
// in it that is.
func TestReadRefusesHiddenText(t *testing.T) {
	t.Parallel()
	object := []byte(`{"type":"object"}`)
	lists := &provider.Lists{
		Tools: &providerv1.ListToolsResponse{Tools: []*providerv1.ToolDefinition{
			{Name: "good", InputSchema: object, Description: "Weather ☀️ for 👩\u200d💻, in می\u200cخواهم."},
			{Name: "a", InputSchema: object, Description: "Adds.\U000e0041\U000e0042"},
			{Name: "b", InputSchema: []byte(`{"type":"object","properties":{"x":{"description":"\u202eevil"}}}`)},
			{Name: "c", InputSchema: []byte(`{"type":"object","properties":{"\u001b[8mx":{}}}`)},
			{Name: "d", InputSchema: object, Meta: []byte(`{"x":"\u2066"}`)},
		}},
		Resources: &providerv1.ListResourcesResponse{
			Resources: []*providerv1.Resource{{Uri: "x://a", Name: "\u202e"}},
			Templates: []*providerv1.ResourceTemplate{{UriTemplate: "x://{a}", Title: "\x1b]0;x\a"}},
		},
		Prompts: &providerv1.ListPromptsResponse{Prompts: []*providerv1.Prompt{
			{Name: "p", Arguments: []*providerv1.PromptArgument{{Name: "r", Description: "\u202d"}}},
		}},
	}
	l := lists.Read("ev", joining.Config{}, checker(t))
	var refused []string
	for _, err := range l.Refused {
		refused = append(refused, err.Error())
	}
	const after = "; its provider has to take them out"
	if diff := cmp.Diff([]string{
		`tool 1 "a": description: has characters that nobody sees (tags)` + after,
		`tool 2 "b": input_schema: has characters that nobody sees (bidi)` + after,
		`tool 3 "c": input_schema: has characters that nobody sees (terminal-sequence)` + after,
		`tool 4 "d": meta: has characters that nobody sees (bidi)` + after,
		`resource 0 "x://a": name: has characters that nobody sees (bidi)` + after,
		`resource template 0 "x://{a}": title: has characters that nobody sees (terminal-sequence)` + after,
		`prompt 0 "p": description: has characters that nobody sees (bidi)` + after,
	}, refused); diff != "" || len(l.Tools) != 1 {
		t.Errorf("%d tools; refused (-want +got):\n%s", len(l.Tools), diff)
	}
}

// Equal lists have equal prints, and no others.
func TestPrint(t *testing.T) {
	t.Parallel()
	print := func(edit func(*provider.Lists)) [32]byte {
		l := lists()
		edit(l)
		p, err := l.Print()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	same := print(func(*provider.Lists) {})
	if print(func(*provider.Lists) {}) != same {
		t.Error("equal lists have other prints")
	}
	for name, edit := range map[string]func(*provider.Lists){
		"tools":      func(l *provider.Lists) { l.Tools.Tools[0].Description = "x" },
		"resources":  func(l *provider.Lists) { l.Resources.Resources[0].Name = "x" },
		"prompts":    func(l *provider.Lists) { l.Prompts.Prompts[0].Title = "x" },
		"nothing":    func(l *provider.Lists) { l.Prompts = nil },
		"completion": func(l *provider.Lists) { l.Has.Completion = true },
	} {
		if print(edit) == same {
			t.Errorf("a change of %s is not seen", name)
		}
	}
}

// Lists may hold anything.
func FuzzRead(f *testing.F) {
	check := checker(f)
	add := func(l *provider.Lists) {
		var raw [3][]byte
		for i, m := range []proto.Message{l.Tools, l.Resources, l.Prompts} {
			var err error
			if raw[i], err = proto.Marshal(m); err != nil {
				f.Fatal(err)
			}
		}
		f.Add(raw[0], raw[1], raw[2], "x://1/2")
	}
	add(lists())
	f.Fuzz(func(t *testing.T, tools, resources, prompts []byte, uri string) {
		l := &provider.Lists{Tools: &providerv1.ListToolsResponse{}, Resources: &providerv1.ListResourcesResponse{}, Prompts: &providerv1.ListPromptsResponse{}}
		if proto.Unmarshal(tools, l.Tools) != nil || proto.Unmarshal(resources, l.Resources) != nil || proto.Unmarshal(prompts, l.Prompts) != nil {
			return
		}
		out := l.Read("ev", joining.Config{Prefix: "ev_"}, check)
		seen := make(map[string]bool)
		for _, tl := range out.Tools {
			if seen[tl.Name()] || !strings.HasPrefix(tl.Name(), "ev_") || len(tl.Name()) > 64 || len(tl.Digest) != 32 {
				t.Errorf("tool %q", tl.Name())
			}
			seen[tl.Name()] = true
			if _, _, err := tl.Decode([]byte(`{"a":1}`)); err != nil {
				t.Errorf("Decode: %v", err)
			}
		}
		for _, template := range out.Templates {
			template.Matches(uri)
		}
	})
}
