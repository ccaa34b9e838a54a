package hidden_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/hidden"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/span"
)

// legal are texts that must be left alone.
var legal = map[string]string{
	"plain":                       "Hello, world.\n\tTabs,\r\nline ends\fand pages.",
	"a family":                    "👨\u200d👩\u200d👧\u200d👦 are here",
	"a rainbow flag":              "🏳️\u200d🌈 flies",
	"skin tones and professions":  "👩🏽\u200d💻 👍🏿 🧑🏻\u200d🤝\u200d🧑🏿",
	"a heart on fire":             "❤️\u200d🔥",
	"a heart, as text":            "❤︎ and ☺︎",
	"keycaps":                     "1️⃣ #️⃣ *️⃣",
	"country flags":               "🇩🇪🇫🇷",
	"England, Scotland and Wales": "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f 🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f 🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f",
	"Persian":                     "می\u200cخواهم کتاب\u200cها را بخوانم",
	"Hindi, joined and not":       "क्\u200dष and क्\u200cष",
	"Sinhala":                     "ශ්\u200dරී ලංකාව",
	"Malayalam":                   "അവന്\u200d",
	"Khmer":                       "ភាសា\u200bខ្មែរ",
	"Hebrew with a mark":          "שלום!\u200f C++\u200e שלום",
	"a variant of a kanji":        "葛󠄀城市",
	"Mongolian":                   "ᠠ᠋ᠨ",
	"Japanese, Chinese, Korean":   "日本語、中文。한국어",
	"Arabic number signs":         "\u0600١٢",
	"accents":                     "é e\u0301 ñ ü ß Ł",
}

func TestLegalTextIsKept(t *testing.T) {
	t.Parallel()
	g := hidden.New()
	for name, text := range legal {
		if got := append(g.Controls(text), g.Invisibles(text)...); got != nil {
			t.Errorf("%s: found %+v in %+q", name, got, text)
		}
	}
}

// attacks are what must be found wherever it stands, and by which of the two.
var attacks = []struct {
	text    string
	control bool
}{
	{"\U000e0041", true},
	{"\U000e0069\U000e0067\U000e006e", true},
	{"\u202e", true},
	{"\u2066", true},
	{"\x1b[31m", true},
	{"\x1b]8;;http://evil.example/\x1b\\", true},
	{"\x1b]0;title\x07", true},
	{"\u009b2J", true},
	{"\x1bc", true},
	{"\x1b(B", true},
	{"\ufe01\ufe07\U000e0154", true},
	{"\x00", false},
	{"\x08", false},
	{"\u0085", false},
	{"\u200b\u200b", false},
	{"\u200c\u200d\u200c", false},
	{"\ufeff", false},
	{"\u00ad", false},
	{"\u2062", false},
	{"\u3164", false},
	{"\u034f", false},
	{"\u180e", false},
	{"\ufff9", false},
	{"\U0001d173", false},
}

func TestAttacksAreFoundAtEveryPosition(t *testing.T) {
	t.Parallel()
	g := hidden.New()
	for name, text := range legal {
		for at := 0; at <= len(text); at++ {
			if at < len(text) && !utf8.RuneStart(text[at]) {
				continue
			}
			for _, attack := range attacks {
				whole := text[:at] + attack.text + text[at:]
				find := g.Invisibles
				if attack.control {
					find = g.Controls
				}
				found := find(whole)
				if len(found) == 0 {
					t.Fatalf("%s: %+q is not found at %d of %+q", name, attack.text, at, whole)
				}
				left := span.Replace(span.Replace(whole, found), other(g, attack.control, span.Replace(whole, found)))
				if strings.Contains(left, attack.text) {
					t.Fatalf("%s: %+q is still in %+q", name, attack.text, left)
				}
			}
		}
	}
}

// other finds what the other of the two finds.
func other(g *hidden.Guard, control bool, text string) []span.Found {
	if control {
		return g.Invisibles(text)
	}
	return g.Controls(text)
}

// A single joiner or selector in a text of Latin letters joins nothing.
func TestStrayJoinersAreFound(t *testing.T) {
	t.Parallel()
	g := hidden.New()
	for _, c := range []string{"\u200b", "\u200c", "\u200d", "\u200e", "\u200f", "\u2060", "\ufe00", "\ufe0e", "\ufe0f", "\U000e0100", "\u180b"} {
		const text = "ignore this"
		for at := range len(text) + 1 {
			if found := g.Invisibles(text[:at] + c + text[at:]); len(found) != 1 || found[0].Start != at || found[0].End != at+len(c) {
				t.Errorf("%+q at %d: found %+v", c, at, found)
			}
		}
	}
}

// A flag that does not exist is hidden text.
func TestOtherFlagsAreTags(t *testing.T) {
	t.Parallel()
	g := hidden.New()
	for _, text := range []string{
		"🏴\U000e0075\U000e0073\U000e0074\U000e0078\U000e007f", // Texas
		"x\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
		"🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067",
	} {
		if found := g.Controls(text); len(found) != 1 || found[0].End != len(text) {
			t.Errorf("%+q: found %+v", text, found)
		}
	}
}

// FuzzFind checks that what is found is sorted and within the text, and that
// nothing is found any more when it is taken away.
func FuzzFind(f *testing.F) {
	for _, text := range legal {
		f.Add(text)
	}
	for _, attack := range attacks {
		f.Add("a" + attack.text + "b")
	}
	g := hidden.New()
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ToValidUTF8(text, "?")
		for range len(text) + 1 {
			found := g.Controls(text)
			if len(found) == 0 {
				found = g.Invisibles(text)
			}
			if len(found) == 0 {
				return
			}
			at := 0
			for _, one := range found {
				if one.Start < at || one.End <= one.Start || one.End > len(text) || one.Rule == "" {
					t.Fatalf("found %+v in %+q", found, text)
				}
				at = one.End
			}
			text = span.Replace(text, found)
		}
		t.Fatalf("there is no end to what is found in %+q", text)
	})
}

// All that Unicode calls ignorable is found between Latin letters, and nothing else
// is.
func TestAllOfUnicode(t *testing.T) {
	t.Parallel()
	g := hidden.New()
	for r := range rune(0x110000) {
		if 0xd800 <= r && r < 0xe000 {
			continue
		}
		want := unicode.In(r, unicode.Cc, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) &&
			!unicode.Is(unicode.Prepended_Concatenation_Mark, r) && !strings.ContainsRune("\t\n\r\f", r)
		text := "a" + string(r) + "b"
		if got := len(g.Controls(text))+len(g.Invisibles(text)) > 0; got != want {
			t.Errorf("%U: found %v, want %v", r, got, want)
		}
	}
}
