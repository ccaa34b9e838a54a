package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// Each file NAME.txtpb is a Definition, NAME.golden is what people see of it;
// -update writes that anew.
func TestWhatPeopleSeeOfAChange(t *testing.T) {
	files, err := filepath.Glob("testdata/definitions/*.txtpb")
	if err != nil || len(files) == 0 {
		t.Fatalf("no definitions (%v)", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtpb"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			d := &executorv1.Definition{}
			if err := prototext.Unmarshal(raw, d); err != nil {
				t.Fatal(err)
			}
			got := changes(d)
			golden := strings.TrimSuffix(file, ".txtpb") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", golden, diff)
			}
			for _, r := range got {
				if hidden(r) && r != '\n' && r != '\t' {
					t.Errorf("%U is printed", r)
				}
			}
		})
	}
}

// Whatever a later version adds to a definition must be shown.
func TestEveryFieldIsShown(t *testing.T) {
	t.Parallel()
	var check func(t *testing.T, path string, d *providerv1.ToolDefinition, m protoreflect.Message)
	check = func(t *testing.T, path string, d *providerv1.ToolDefinition, m protoreflect.Message) {
		fields := m.Descriptor().Fields()
		for i := range fields.Len() {
			f := fields.Get(i)
			before := fmt.Sprint(parts(d))
			switch {
			case f.IsList() && f.Message() != nil:
				e := m.Mutable(f).List().AppendMutable().Message()
				check(t, path+"."+string(f.Name()), d, e)
				continue
			case f.IsList():
				m.Mutable(f).List().Append(protoreflect.ValueOfString("marker"))
			case f.Message() != nil && f.Message().FullName() != "google.protobuf.Duration":
				check(t, path+"."+string(f.Name()), d, m.Mutable(f).Message())
				continue
			case f.Message() != nil:
				m.Mutable(f).Message().Set(f.Message().Fields().ByName("seconds"), protoreflect.ValueOfInt64(7))
			case f.Kind() == protoreflect.StringKind:
				m.Set(f, protoreflect.ValueOfString("marker"))
			case f.Kind() == protoreflect.BytesKind:
				m.Set(f, protoreflect.ValueOfBytes([]byte(`{"marker":1}`)))
			case f.Kind() == protoreflect.BoolKind:
				m.Set(f, protoreflect.ValueOfBool(true))
			case f.Kind() == protoreflect.Uint32Kind:
				m.Set(f, protoreflect.ValueOfUint32(7))
			case f.Kind() == protoreflect.Uint64Kind:
				m.Set(f, protoreflect.ValueOfUint64(7))
			case f.Kind() == protoreflect.EnumKind:
				m.Set(f, protoreflect.ValueOfEnum(1))
			default:
				t.Fatalf("%s.%s is of a kind that this test does not know", path, f.Name())
			}
			if fmt.Sprint(parts(d)) == before {
				t.Errorf("%s.%s does not show", path, f.Name())
			}
		}
	}
	d := &providerv1.ToolDefinition{}
	check(t, "definition", d, d.ProtoReflect())
}

func TestHidden(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		text string
		want string
	}{
		{"plain text", "Grüße, 世界 ✓ a\tb\nc", "Grüße, 世界 ✓ a\tb\nc"},
		{"an escape sequence", "a\x1b[2Jb", "a<U+001B>[2Jb"},
		{"a return that covers the line", "bad\rgood", "bad<U+000D>good"},
		{"text that is turned", "a\u202eb\u2066c", "a<U+202E>b<U+2066>c"},
		{"nothing, twice", "a\u200b\u2060b", "a<U+200B><U+2060>b"},
		{"text in tags", "a\U000e0041\U000e0042", "a<U+E0041><U+E0042>"},
		{"bytes in variation selectors", "a\ufe00\U000e0100", "a<U+FE00><U+E0100>"},
		{"blanks that are none", "a\u00a0b\u3164c\u2800d\u3000e", "a<U+00A0>b<U+3164>c<U+2800>d<U+3000>e"},
		{"a soft hyphen, a delete and a C1 control", "a\u00adb\u007fc\u009bd", "a<U+00AD>b<U+007F>c<U+009B>d"},
		{"private and unassigned characters", "a\ue000b\u0378", "a<U+E000>b<U+0378>"},
		{"a text that looks like an escape", "a<U+200B> <0x41> <b>", "a<U+003C>U+200B> <U+003C>0x41> <b>"},
		{"bytes that are no text", "a\xffb\xefc\ufffd", "a<0xFF>b<0xEF>c\ufffd"},
	}
	for _, tt := range tests {
		if got := visible(tt.text, true); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := visible("a\tb\nc", false); got != "a<U+0009>b<U+000A>c" {
		t.Errorf("on one line: got %q", got)
	}
}

func TestPretty(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 65) + strings.Repeat("]", 65)
	tests := []struct{ name, in, want string }{
		{"keys are in order", `{"b":1,"a":[true,null,"<x>"]}`, "{\n  \"a\": [\n    true,\n    null,\n    \"<x>\"\n  ],\n  \"b\": 1\n}"},
		{"numbers stay as they are", `{"a":1e400,"b":0.10}`, "{\n  \"a\": 1e400,\n  \"b\": 0.10\n}"},
		{"nothing", "", ""},
		{"a key that is there twice", `{"a":1,"a":2}`, `{"a":1,"a":2}`},
		{"no JSON", `{"a":`, `{"a":`},
		{"more after the end", `{"a":1} {"b":2}`, `{"a":1} {"b":2}`},
		{"a bracket after the end", `{"a":1}}`, `{"a":1}}`},
		{"bytes that are no text", "\"\xff\"", "\"\xff\""},
		{"very deep", deep, deep},
	}
	for _, tt := range tests {
		if got := pretty([]byte(tt.in)); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestColoursAreForTheLinesOfADiff(t *testing.T) {
	t.Parallel()
	got := coloured("--- a\n+++ b\n@@ -1,1 +1,1 @@\n-old\n+new\n same\n! note\n")
	want := "\x1b[1m--- a\x1b[0m\n\x1b[1m+++ b\x1b[0m\n\x1b[36m@@ -1,1 +1,1 @@\x1b[0m\n\x1b[31m-old\x1b[0m\n\x1b[32m+new\x1b[0m\n same\n\x1b[33m! note\x1b[0m\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

var escaped = regexp.MustCompile(`<U\+([0-9A-F]{4,6})>|<0x([0-9A-F]{2})>`)

// original takes back what visible does.
func original(s string) string {
	return escaped.ReplaceAllStringFunc(s, func(e string) string {
		n, _ := strconv.ParseUint(e[3:len(e)-1], 16, 32)
		if e[1] == '0' {
			return string([]byte{byte(n)})
		}
		return string(rune(n))
	})
}

// However a definition looks, nothing hidden is printed, and what is printed
// can be taken back: no two texts look the same.
func FuzzVisible(f *testing.F) {
	for _, s := range []string{"", "a\nb\tc", "\x1b]0;x\a", "a\u202eb", "<U+200B>", "<<U+003C>U+", "\xff\xef\xbf", "\U000e0041", "\ufffd<0x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, lines := range []bool{true, false} {
			got := visible(s, lines)
			if !utf8.ValidString(got) {
				t.Fatalf("got %q, which is no text", got)
			}
			for _, r := range got {
				if !unicode.IsGraphic(r) && (!lines || r != '\n' && r != '\t') {
					t.Errorf("%U is printed", r)
				}
			}
			if back := original(got); back != s {
				t.Errorf("%q becomes %q, which is %q", s, got, back)
			}
		}
	})
}

// Schemas come from anywhere.
func FuzzChanges(f *testing.F) {
	f.Add("a", "b", []byte(`{"type":"object"}`), []byte(`{"type":"object","properties":{"a":{}}}`))
	f.Add("", "x\n\n\n", []byte(`{"a":1,"a":2}`), []byte(`[[[]]]`))
	f.Add("same", "same", []byte("{\"\xff\":1}"), []byte("{} {}"))
	f.Add("\r\n", "\u202e", []byte(nil), []byte(`"\ud800"`))
	f.Fuzz(func(t *testing.T, old, now string, was, is []byte) {
		d := &executorv1.Definition{
			Tool: "t", Digest: []byte("new"), Offered: &providerv1.ToolDefinition{Name: "t", Description: now, InputSchema: is},
		}
		whole := changes(d)
		d.Approved = &executorv1.Approval{Digest: []byte("old"), Definition: &providerv1.ToolDefinition{Name: "t", Description: old, InputSchema: was}}
		changed := changes(d)
		for _, text := range []string{whole, changed} {
			for _, r := range text {
				if !unicode.IsGraphic(r) && r != '\n' && r != '\t' {
					t.Errorf("%U is printed", r)
				}
			}
		}
		if changed == "" {
			t.Error("a changed definition shows no change")
		}
		if proto.Equal(d.GetOffered(), d.GetApproved().GetDefinition()) != strings.HasPrefix(changed, "! They differ only") && old != now {
			t.Errorf("descriptions %q and %q show no difference", old, now)
		}
		if out := pretty(is); json.Valid(is) && !json.Valid([]byte(out)) {
			t.Errorf("%q becomes %q, which is no JSON", is, out)
		}
	})
}
