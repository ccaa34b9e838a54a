package edge

import (
	"strings"
	"testing"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
)

func TestShownArguments(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, arguments, want string }{
		{"nothing", `{}`, `{}`},
		{"blanks that push the rest away", "{\"a\":1,\n\n\n\n          \"b\":2}", "{\n  \"a\": 1,\n  \"b\": 2\n}"},
		{"letters by their numbers", `{"\u0061":"\u0064rop"}`, "{\n  \"a\": \"drop\"\n}"},
		{"text that is turned", `{"a":"x\u202ey` + "\u2066" + `"}`, "{\n  \"a\": \"x<U+202E>y<U+2066>\"\n}"},
		{"blanks that are none", `{"a":"x` + "\u00a0\u3164\u200b" + `"}`, "{\n  \"a\": \"x<U+00A0><U+3164><U+200B>\"\n}"},
		{"lines", `{"a":"x\ny\u001b[2J"}`, "{\n  \"a\": \"x\\ny\\u001b[2J\"\n}"},
		{"what looks like a mark", `{"a":"<U+200B>"}`, "{\n  \"a\": \"<U+003C>U+200B>\"\n}"},
		{"numbers as they are", `{"a":1e2,"b":0.10}`, "{\n  \"a\": 1e2,\n  \"b\": 0.10\n}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := shownArguments([]byte(tt.arguments)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestStatesOfProvidersAndOfApprovalsAreApart(t *testing.T) {
	t.Parallel()
	x := asker(t, nil)
	providers, _ := x.sealState([]byte("state"))
	if _, _, ok := x.openWith(x.s.approvalSeals, providers); ok {
		t.Error("a provider's state is taken for an answer about an approval")
	}
	ours, _ := x.sealWith(x.s.approvalSeals, []byte("state"))
	if _, _, ok := x.openState(ours); ok {
		t.Error("what goes with the question for an approval is taken for a provider's state")
	}
}

// Whatever an agent writes, nothing of it is hidden from the person who approves.
func FuzzShownArguments(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":"\u202e"}`, `{"a":"<U+202E>"}`, "{\"\u200b\":[1,{\"x\":null}]}", `{"a":"` + strings.Repeat("x", 999) + `"}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, arguments string) {
		if !jsontext.Value(arguments).IsValid() {
			return
		}
		for _, r := range shownArguments([]byte(arguments)) {
			if r != '\n' && (!unicode.IsGraphic(r) || unicode.Is(unicode.Variation_Selector, r)) {
				t.Fatalf("%q shows %U", arguments, r)
			}
		}
		if request := approvalQuestion(nil, "tool", []byte(arguments)); !request.valid() || !request.params.IsValid() {
			t.Fatalf("%q makes no question: %s", arguments, request.params)
		}
	})
}
