package edge

import (
	"encoding/base64"
	"net/http"
	"strings"
	"unicode/utf8"
)

// headerValue returns a header's value without the space around it, which is not
// part of it. The name has to be in canonical form.
func headerValue(h http.Header, canonical string) string {
	if lines := h[canonical]; len(lines) > 0 {
		return strings.Trim(lines[0], " \t")
	}
	return ""
}

// repeated reports whether a header of the protocol was sent on several lines.
// What can be read in two ways is not read.
func repeated(h http.Header) bool {
	for name, lines := range h {
		if len(lines) > 1 && strings.HasPrefix(name, "Mcp-") {
			return true
		}
	}
	return false
}

// The markers of a header value that is Base64, see the transport's "Value
// Encoding". They are case-sensitive.
const (
	sentinelStart = "=?base64?"
	sentinelEnd   = "?="
)

// decodeHeader returns what a mirrored header says: the value itself, or what it
// encodes. It refuses what no correct client sends: bytes that are not visible
// ASCII, space or tab; Base64 that is not canonical; and text that is not UTF-8.
func decodeHeader(value string) (string, bool) {
	for i := range len(value) {
		if c := value[i]; (c < 0x20 && c != '\t') || c > 0x7e {
			return "", false
		}
	}
	if len(value) < len(sentinelStart)+len(sentinelEnd) ||
		!strings.HasPrefix(value, sentinelStart) || !strings.HasSuffix(value, sentinelEnd) {
		return value, true
	}
	inner := value[len(sentinelStart) : len(value)-len(sentinelEnd)]
	text, err := base64.StdEncoding.Strict().DecodeString(inner)
	if err != nil || !utf8.Valid(text) {
		return "", false
	}
	// Decoding skips line breaks; those were refused above.
	return string(text), true
}
