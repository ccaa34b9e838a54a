package edge

import (
	"encoding/base64"
	"unicode/utf8"
)

// A cursor is the name of the last tool, prompt or template of a page, or the URI
// of the last resource, so it stays good whatever is added to or removed from the
// catalogue. It needs no seal: whoever makes one up learns nothing beyond the
// list that he may see.

func encodeCursor(name string) string { return base64.RawURLEncoding.EncodeToString([]byte(name)) }

// maxCursorName is the most bytes of a name that there can be: 512 characters.
const maxCursorName = maxTarget * utf8.UTFMax

// decodeCursor returns the name after which a page starts, if it could be one by
// the rule for such names. The empty cursor is valid and starts at the front.
func decodeCursor(cursor string, could func(string) bool) (after string, ok bool) {
	if cursor == "" {
		return "", true
	}
	if len(cursor) > base64.RawURLEncoding.EncodedLen(maxCursorName) {
		return "", false
	}
	for i := range len(cursor) {
		if cursor[i] == '\r' || cursor[i] == '\n' {
			return "", false // decoding skips them
		}
	}
	name, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || !could(string(name)) {
		return "", false
	}
	return string(name), true
}

// maxToolName is how long the name of a tool may be.
const maxToolName = 64

// toolName reports whether a tool could have this name.
func toolName(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return name != "" && len(name) <= maxToolName
}
