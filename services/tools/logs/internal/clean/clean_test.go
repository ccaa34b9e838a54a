package clean_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/clean"
)

func TestText(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"plain text", "hello, größe 😀", "hello, größe 😀"},
		{"line ends and tabs", "a\tb\r\nc\u2028d\u00a0e", "a b  c d e"},
		{"white space around", " a \n", "a"},
		{"colours", "\x1b[1;31mred\x1b[0m", "red"},
		{"colours with the C1 character", "\u009b31mred", "red"},
		{"a link", "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x07", "click"},
		{"the clipboard, with the C1 characters", "a\u009d52;c;ZXZpbA==\u009cb", "ab"},
		{"an unclosed sequence hides nothing", "a\x1b]0;title", "a0;title"},
		{"an unfinished sequence", "a\x1b[31", "a"},
		{"a character set", "a\x1b(Bb\x1bcd", "abd"},
		{"escape at the end", "a\x1b", "a"},
		{"bell, backspace, NUL", "a\x07\x08\x00b", "ab"},
		{"raw C1 bytes are no UTF-8", "a\x9b31mb", "a\ufffd31mb"},
		{"direction marks", "a\u202eb\u2066c\u200f", "abc"},
		{"zero width", "p\u200ba\u200ds\ufeffs\u00ad", "pass"},
		{"tags", "a" + "\U000e0069\U000e0067" + "b", "ab"},
		{"variation selectors", "a\ufe0f\U000e0101", "a"},
		{"private use", "a\ue000\U000f0000b", "ab"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := clean.Text([]byte(tt.in)); got != tt.want {
				t.Errorf("Text(%q): got %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

// No character that is not seen survives, wherever it is put.
func TestTextHidesNothing(t *testing.T) {
	t.Parallel()
	n := 0
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) || !unseen(r) {
			continue
		}
		n++
		for _, in := range []string{"\u00a7" + string(r) + "\u00a7", string(r) + "\u00a7\u00a7", "\u00a7\u00a7" + string(r)} {
			if got := clean.Text([]byte(in)); strings.Trim(got, "\u00a7 ") != "" {
				t.Fatalf("Text(%q): got %q", in, got)
			}
		}
	}
	if n < 137_000 {
		t.Errorf("tried %d characters only", n)
	}
}

// unseen is another definition of what has no looks, from the categories.
func unseen(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs, unicode.Z, unicode.Other_Default_Ignorable_Code_Point,
		unicode.Variation_Selector, unicode.Noncharacter_Code_Point, unicode.Bidi_Control, unicode.Join_Control)
}

func TestMask(t *testing.T) {
	t.Parallel()
	m := clean.NewMasker()
	tests := []struct{ name, in, want string }{
		{"nothing secret", "payment for order 7 failed", "payment for order 7 failed"},
		{"bearer token", "auth: Bearer abc.def-1 sent", "auth: Bearer [masked] sent"},
		{"header", `-H "Authorization: Digest user=a, response=b" -v`, `-H "Authorization: [masked]" -v`},
		{"cookie", "Cookie: sid=1; theme=2", "Cookie: [masked]"},
		{"basic", "using basic dXNlcjpwYXNz now", "using basic [masked] now"},
		{"our own key", "key sp_live_abc123_XYZ is used", "key [masked] is used"},
		{"AWS", "AKIAIOSFODNN7EXAMPLE", "[masked]"},
		{"password", "login password=hunter2 user=bob", "login password=[masked] user=bob"},
		{"password with anything in it", "passwd: a,b;c)d'e f", "passwd: [masked] f"},
		{"password in quotes", `pwd="a \" b" x`, `pwd=[masked] x`},
		{"password in JSON", `{"password": "a b", "n": 1}`, `{"password": [masked], "n": 1}`},
		{"password in JSON in JSON", `{"body":"{\"api_key\":\"abc\",\"n\":1}"}`, `{"body":"{\"api_key\":[masked]}`},
		{"password without an end", `{"secret":"abc`, `{"secret":[masked]`},
		{"session", "session_id=123 ok", "session_id=[masked] ok"},
		{"JSON web token", "got eyJhbGciOiJI.eyJzdWIi.c2ln!", "got [masked]!"},
		{"password in a URL", "dial postgres://app:s3cret@db:5432/x", "dial postgres://app:[masked]@db:5432/x"},
		{"GitHub", "ghp_0123456789abcdefghij", "[masked]"},
		{"private key", "-----BEGIN RSA PRIVATE KEY----- MIIE", "[masked]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := m.Mask(tt.in); got != tt.want {
				t.Errorf("Mask(%q): got %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		limit    int
		want     string
	}{
		{"short enough", "abc", 3, "abc"},
		{"too long", "abcdef", 5, "ab…"},
		{"between characters", "aääää", 7, "aä…"},
		{"no room", "abcdef", 2, "…"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := clean.Cut(tt.in, tt.limit); got != tt.want {
				t.Errorf("Cut(%q, %d): got %q, want %q", tt.in, tt.limit, got, tt.want)
			}
		})
	}
}

// FuzzShow holds that whatever comes in, visible UTF-8 on one line comes out,
// and that cleaning it again changes nothing.
func FuzzShow(f *testing.F) {
	for _, seed := range []string{"a\x1b[31mb\x1b]8;;x\x07", "\xff\u202e\u009b1m", "password=\"a\\", "\xc2", "\x1b", "Bearer \u200b x"} {
		f.Add([]byte(seed))
	}
	m := clean.NewMasker()
	f.Fuzz(func(t *testing.T, in []byte) {
		text := clean.Text(in)
		got := clean.Cut(m.Mask(text), 64)
		if !utf8.ValidString(got) || len(got) > 64 {
			t.Fatalf("got %q of %q", got, in)
		}
		for _, r := range text {
			if r != ' ' && unseen(r) {
				t.Fatalf("Text(%q) has %U", in, r)
			}
		}
		if again := clean.Text([]byte(text)); again != text {
			t.Fatalf("Text(%q): got %q, and then %q", in, text, again)
		}
	})
}
