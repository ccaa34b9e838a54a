package secret

import (
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/span"
)

// What is shorter is not worth decoding.
const (
	minBase64 = 20
	minHex    = 32
)

// encoded returns the runs of a text that hold secrets once they are decoded.
func (g *Guard) encoded(text string) (found []span.Found) {
	for i := 0; i < len(text); {
		end := i
		for end < len(text) && base64Byte(text[end]) {
			end++
		}
		if end-i >= minBase64 {
			if plain, ok := decode(text[i:end]); ok {
				if inner := g.plain(plain); len(inner) > 0 {
					for end < len(text) && text[end] == '=' {
						end++
					}
					found = append(found, span.Found{Start: i, End: end, Rule: inner[0].Rule})
				}
			}
		}
		i = end + 1
	}
	if strings.IndexByte(text, '%') >= 0 {
		found = append(found, g.percent(text)...)
	}
	return found
}

func base64Byte(c byte) bool { return wordByte(c) || c == '+' || c == '/' || c == '-' }

// decode reads base64 of either alphabet, or hexadecimal, that is text.
func decode(s string) (string, bool) {
	if len(s) >= minHex && len(s)%2 == 0 && strings.Trim(s[:minHex], "0123456789abcdefABCDEF") == "" {
		raw, err := hex.DecodeString(s)
		return string(raw), err == nil && printable(raw)
	}
	encoding := base64.RawStdEncoding
	if strings.ContainsAny(s, "-_") {
		encoding = base64.RawURLEncoding
	}
	if raw, err := encoding.DecodeString(s[:minBase64]); err != nil || !printable(raw) {
		return "", false
	}
	raw, err := encoding.DecodeString(s[:len(s)-boolInt(len(s)%4 == 1)])
	return string(raw), err == nil && printable(raw)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// printable reports whether bytes are text, for the most part.
func printable(raw []byte) bool {
	odd := 0
	for _, c := range raw {
		if (c < ' ' && c != '\n' && c != '\r' && c != '\t') || c == 0x7f {
			odd += 4
		} else if c > 0x7f {
			odd++
		}
	}
	return odd*4 <= len(raw)
}

// percent looks at words with percent signs as they are without.
func (g *Guard) percent(text string) (found []span.Found) {
	for i := 0; i < len(text); {
		end := i
		for end < len(text) && text[end] > ' ' {
			end++
		}
		if word := text[i:end]; strings.IndexByte(word, '%') >= 0 {
			plain, at := unescape(word)
			for _, f := range g.plain(plain) {
				found = append(found, span.Found{Start: i + at[f.Start], End: i + at[f.End], Rule: f.Rule})
			}
		}
		i = end + 1
	}
	return found
}

// unescape decodes percent signs; what is none stays. at holds where each byte was.
func unescape(s string) (plain string, at []int) {
	out := make([]byte, 0, len(s))
	at = make([]int, 0, len(s)+1)
	for i := 0; i < len(s); {
		at = append(at, i)
		if s[i] == '%' && i+2 < len(s) {
			var b [1]byte
			if _, err := hex.Decode(b[:], []byte(s[i+1:i+3])); err == nil {
				out = append(out, b[0])
				i += 3
				continue
			}
		}
		out = append(out, s[i])
		i++
	}
	return string(out), append(at, len(s))
}
