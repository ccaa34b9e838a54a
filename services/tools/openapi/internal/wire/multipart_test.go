package wire_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/wire"
)

func upload() *wire.Plan {
	return &wire.Plan{Method: "POST", Path: "/x", Body: &wire.Body{Argument: "body", Kind: wire.Multipart, Type: "multipart/form-data", Parts: []wire.Part{
		{Name: "any", File: true},
		{Name: "csv", File: true, Types: []string{"text/csv"}},
		{Name: "photo", File: true, Types: []string{"image/png", "image/gif"}},
		{Name: "picture", File: true, Types: []string{"image/*"}},
		{Name: "info", Types: []string{"application/json"}},
	}}}
}

// received is a part as a server reads it.
type received struct{ Name, File, Type, Content string }

func receive(t *testing.T, parts *wire.Parts) []received {
	t.Helper()
	kind, parameters, err := mime.ParseMediaType(parts.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		t.Fatalf("got the type %q, %v", parts.Header.Get("Content-Type"), err)
	}
	var all []received
	for r := multipart.NewReader(bytes.NewReader(parts.Body), parameters["boundary"]); ; {
		p, err := r.NextPart()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, received{p.FormName(), p.FileName(), p.Header.Get("Content-Type"), string(content)})
	}
}

func TestMultipart(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		want       []received
	}{
		{"texts", `{"b":"x&y","a":[1,true,"ü"],"n":12345678901234567890.10}`, []received{
			{"a", "", "", "1"}, {"a", "", "", "true"}, {"a", "", "", "ü"}, {"b", "", "", "x&y"}, {"n", "", "", "12345678901234567890.10"},
		}},
		{"JSON", `{"o":{"n": 1.50},"l":[{"a":1},[2]],"info":"x"}`, []received{
			{"info", "", "application/json", `"x"`}, {"l", "", "application/json", `{"a":1}`}, {"l", "", "application/json", `[2]`}, {"o", "", "application/json", `{"n":1.50}`},
		}},
		{"files come last", `{"any":{"text":"hello","filename":"a ü.txt"},"csv":{"base64":"YSxi"},"zzz":"x"}`, []received{
			{"zzz", "", "", "x"}, {"any", "a ü.txt", "text/plain; charset=utf-8", "hello"}, {"csv", "file", "text/csv", "a,b"},
		}},
		{"files are what they are", `{"photo":{"base64":"iVBORw0KGgo="},"picture":[{"text":"GIF89a"}],"any":{"base64":"AAEC"}}`, []received{
			{"any", "file", "application/octet-stream", "\x00\x01\x02"}, {"photo", "file", "image/png", "\x89PNG\r\n\x1a\n"}, {"picture", "file", "image/gif", "GIF89a"},
		}},
		{"nothing stands for null", `{"a":null,"any":null}`, nil},
		{"lines that look like another part", `{"a":"x\r\n--boundary\r\nContent-Disposition: form-data; name=\"role\"\r\n\r\nadmin"}`, []received{
			{"a", "", "", "x\r\n--boundary\r\nContent-Disposition: form-data; name=\"role\"\r\n\r\nadmin"},
		}},
		{"the largest file", `{"any":{"text":"` + strings.Repeat("x", wire.MaxFile) + `"}}`, []received{{"any", "file", "text/plain; charset=utf-8", strings.Repeat("x", wire.MaxFile)}}},
	}
	for _, tt := range tests {
		got, err := upload().Build([]byte(`{"body":`+tt.body+`}`), none)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff(tt.want, receive(t, got)); diff != "" {
			t.Errorf("%s (-want +got):\n%.2000s", tt.name, diff)
		}
	}
	if got, err := upload().Build([]byte(`{}`), none); err != nil || got.Body != nil {
		t.Errorf("no body: got %v, %v", got, err)
	}
}

func TestMultipartThatIsRefused(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", wire.MaxFile)
	var many []string
	for i := range 9 {
		many = append(many, fmt.Sprintf(`"f%d":"%s"`, i, large))
	}
	for _, tt := range []struct{ name, body, want string }{
		{"no object", `[]`, "must be an object"},
		{"null", `null`, "must be an object"},
		{"a name with a line break", `{"a\r\nX: y":1}`, "name cannot be"},
		{"no name", `{"":1}`, "name cannot be"},
		{"a long name", `{"` + strings.Repeat("a", 257) + `":1}`, "name cannot be"},
		{"a file that is text", `{"any":"x"}`, "must be a file"},
		{"a file without content", `{"any":{"filename":"a"}}`, "must be a file"},
		{"a file in other letters", `{"any":{"Text":"a","FILENAME":"b"}}`, "must be a file"},
		{"a file that is null", `{"any":[null]}`, "must be a file"},
		{"a file with two contents", `{"any":{"text":"a","base64":""}}`, "must be a file"},
		{"a file that is a path", `{"any":{"text":"a","filename":"../../etc/passwd"}}`, "not a path"},
		{"a file that is a folder", `{"any":{"text":"a","filename":".."}}`, "not a path"},
		{"a file name with a line break", `{"any":{"text":"a","filename":"a\r\nX: y"}}`, "control characters"},
		{"a file name with a quote", `{"any":{"text":"a","filename":"a\"; name=\"role"}}`, "quotes"},
		{"a long file name", `{"any":{"text":"a","filename":"` + strings.Repeat("ü", 129) + `"}}`, "128 characters"},
		{"what is not base64", `{"any":{"base64":"a_b-"}}`, "base64 is not"},
		{"a large file", `{"any":{"text":"` + large + `x"}}`, "more than 48000 bytes"},
		{"a picture that is none", `{"photo":{"text":"<script>"}}`, "has to be image/png or image/gif"},
		{"a picture of another kind", `{"photo":{"base64":"/9j/4AAQ"}}`, "is image/jpeg"},
		{"no picture of any kind", `{"picture":{"text":"x"}}`, "has to be image/*"},
		{"null in a list", `{"a":[null]}`, "null"},
		{"too many parts", `{"a":[1` + strings.Repeat(",1", 1000) + `]}`, "1000 parts"},
		{"too much", `{` + strings.Join(many, ",") + `}`, "more than 262144 bytes"},
	} {
		if _, err := upload().Build([]byte(`{"body":`+tt.body+`}`), none); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got error %v, want %q in it", tt.name, err, tt.want)
		}
	}
}

// FuzzMultipart reads back what was written as servers do: whatever names and contents
// are, there are these parts and no other, and nothing is a header that we did not set.
func FuzzMultipart(f *testing.F) {
	for _, s := range append(hostile, "a", "ü", "a\"; filename=\"b", "--", "\r\n--x--\r\n", "a;b", "%22") {
		f.Add(s, s, s)
	}
	f.Fuzz(func(t *testing.T, name, file, text string) {
		args, err := json.Marshal(map[string]any{"body": map[string]any{name: text, "any": map[string]any{"filename": file, "text": text}}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := upload().Build(args, none)
		if err != nil || name == "any" || name == "info" {
			return
		}
		if name == "csv" || name == "photo" || name == "picture" {
			t.Fatalf("%s is taken as a text", name)
		}
		// As JSON has it: what is not UTF-8 was replaced.
		clean := func(s string) (out string) {
			raw, err := json.Marshal(s)
			if err == nil {
				err = json.Unmarshal(raw, &out)
			}
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		parts := receive(t, got)
		if len(parts) != 2 || parts[0].Type != "" || parts[1].Name != "any" || parts[1].Type == "" {
			t.Fatalf("got %q of %s", parts, args)
		}
		var sent struct{ Body map[string]json.RawMessage }
		if err := json.Unmarshal(args, &sent); err != nil {
			t.Fatal(err)
		}
		for n, raw := range sent.Body {
			var s string
			if n != "any" && json.Unmarshal(raw, &s) == nil && parts[0].Content != s {
				t.Errorf("got the content %q, want %q", parts[0].Content, s)
			}
		}
		if !strings.ContainsAny(name, `"\%`) && parts[0].Name != clean(name) {
			t.Errorf("got the name %q of %q", parts[0].Name, name)
		}
		if file != "" && !strings.ContainsAny(file, "%") && parts[1].File != clean(file) {
			t.Errorf("got the file %q of %q", parts[1].File, file)
		}
	})
}
