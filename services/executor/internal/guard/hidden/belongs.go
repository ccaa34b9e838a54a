package hidden

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

const (
	joiner    = 0x200d
	nonJoiner = 0x200c
	space     = 0x200b // of no width
)

// flags are the tags of the flags that are written with tags: England, Scotland
// and Wales (Unicode's RGI_Emoji_Tag_Sequence). They follow a black flag.
var flags = []string{spell("gbeng"), spell("gbsct"), spell("gbwls")}

// spell writes ASCII in tags, with the tag that ends it.
func spell(s string) string {
	var b strings.Builder
	for _, c := range s {
		b.WriteRune(0xe0000 + c)
	}
	b.WriteRune(0xe007f)
	return b.String()
}

// flagRest returns the length of the tags at i if they make a flag, else 0.
func flagRest(text string, i int) int {
	if !strings.HasSuffix(text[:i], "\U0001f3f4") {
		return 0
	}
	for _, f := range flags {
		if strings.HasPrefix(text[i:], f) {
			return len(f)
		}
	}
	return 0
}

// selectorAt judges the variation selector r at i. One belongs after a character
// that has variants; a second one never does.
func selectorAt(text string, i int, r rune, n int) (string, int) {
	before, _ := utf8.DecodeLastRuneInString(text[:i])
	after, _ := utf8.DecodeRuneInString(text[i+n:])
	switch {
	case unicode.Is(unicode.Variation_Selector, after) || unicode.Is(unicode.Variation_Selector, before):
		return selectors, n
	case has(before, r):
		return "", n
	}
	return selector, n
}

// has reports whether a character may have the variant that a selector names. It
// judges by kind of character, not by Unicode's list of pairs.
func has(base, selector rune) bool {
	switch {
	case selector == 0xfe0e || selector == 0xfe0f:
		return pictorial(base)
	case 0x180b <= selector && selector <= 0x180f:
		return unicode.Is(unicode.Mongolian, base)
	case selector >= 0xe0100:
		return unicode.Is(unicode.Han, base)
	case selector <= 0xfe02:
		return unicode.In(base, unicode.Sm, unicode.Han, unicode.Myanmar, unicode.Phags_Pa) ||
			strings.ContainsRune("0‘’“”！，．：；？、。", base)
	}
	return false
}

// pictorial reports whether a character can be shown as text and as an emoji.
func pictorial(r rune) bool {
	switch {
	case '0' <= r && r <= '9', r == '#', r == '*', r == '©', r == '®':
		return true
	case 0x203c <= r && r <= 0x3299:
		return unicode.In(r, unicode.S, unicode.Po, unicode.Pd)
	}
	return 0x1f000 <= r && r <= 0x1faff
}

// belongs reports whether the zero-width character r at i is needed where it is:
// between the parts of an emoji, or in a script that is written with it.
func belongs(text string, i int, r rune, n int) bool {
	before, _ := utf8.DecodeLastRuneInString(text[:i])
	after, _ := utf8.DecodeRuneInString(text[i+n:])
	if i == 0 || ignorable(after) && after != utf8.RuneError {
		return false // nothing before, or one of several
	}
	switch r {
	case joiner:
		return unicode.In(before, joining...) || emoji(text[:i], after)
	case nonJoiner:
		return unicode.In(before, joining...)
	case space:
		return unicode.In(before, unspaced...)
	case 0x200e, 0x200f, 0x61c: // direction marks
		return strings.ContainsFunc(text[max(0, i-near):min(len(text), i+n+near)], func(r rune) bool {
			return unicode.In(r, rightToLeft...) && !ignorable(r)
		})
	case 0x2060: // word joiner
		return unicode.In(before, unspaced...)
	}
	return 0x13430 <= r && r <= 0x1343f && unicode.Is(unicode.Egyptian_Hieroglyphs, before)
}

// Scripts whose letters take joiners.
var joining = []*unicode.RangeTable{
	unicode.Arabic, unicode.Syriac, unicode.Nko, unicode.Mongolian, unicode.Mandaic, unicode.Manichaean, unicode.Adlam, unicode.Hanifi_Rohingya,
	unicode.Devanagari, unicode.Bengali, unicode.Gurmukhi, unicode.Gujarati, unicode.Oriya, unicode.Tamil, unicode.Telugu, unicode.Kannada,
	unicode.Malayalam, unicode.Sinhala, unicode.Khmer, unicode.Myanmar, unicode.Tibetan, unicode.Balinese, unicode.Javanese, unicode.Meetei_Mayek,
}

// Scripts that are written without spaces.
var unspaced = []*unicode.RangeTable{unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar, unicode.Tibetan, unicode.Javanese, unicode.Balinese}

// near is how many bytes around a direction mark are looked at for a letter that
// it can be there for.
const near = 24

// Scripts written from right to left.
var rightToLeft = []*unicode.RangeTable{unicode.Hebrew, unicode.Arabic, unicode.Syriac, unicode.Thaana, unicode.Nko, unicode.Adlam}

// emoji reports whether a joiner between the text before and the character after
// makes them one emoji.
func emoji(before string, after rune) bool {
	base, n := utf8.DecodeLastRuneInString(before)
	for range 8 { // what may stand between a picture and its joiner
		if base != 0xfe0f && (base < 0x1f3fb || base > 0x1f3ff) {
			break
		}
		before = before[:len(before)-n]
		base, n = utf8.DecodeLastRuneInString(before)
	}
	if n == 0 {
		return false
	}
	pair := string([]rune{base, joiner, after})
	cluster, _, _, _ := uniseg.FirstGraphemeClusterInString(pair, -1)
	return cluster == pair && after >= 0x2000 && after != utf8.RuneError
}
