package policy

import (
	"strconv"
	"strings"
)

// climbing refuses a URI that climbs. It is a constant that Go cannot write as
// such.
var climbing = &Rule{
	ID:     RuleURI,
	Reason: "The URI has . or .. in its path, so policies cannot tell what it leads to. Write it without.",
}

// Climbs reports whether a URI has "." or ".." as a segment, plain or
// percent-encoded. Policies compare texts: one that permits
// "file:///public/*" would permit "file:///public/../secret" too, which whoever
// serves it may follow. So no policy can allow such a URI (fails closed).
func Climbs(uri string) bool {
	dots, others := 0, false // in this segment
	for i := 0; i < len(uri); {
		c, width := octet(uri[i:])
		i += width
		switch c {
		case '.':
			dots++
		case '/', '\\', ':':
			if climb(dots, others) {
				return true
			}
			dots, others = 0, false
		default:
			others = true
		}
	}
	return climb(dots, others)
}

func climb(dots int, others bool) bool { return !others && (dots == 1 || dots == 2) }

// octet decodes the first byte of a text, and tells how many it is written with.
func octet(text string) (c byte, width int) {
	if text[0] == '%' && len(text) >= 3 {
		if n, err := strconv.ParseUint(text[1:3], 16, 8); err == nil {
			return byte(n), 3
		}
	}
	return text[0], 1
}

// scheme returns the scheme of a URI or URI template in lower case, or "" where
// it has none: "{+base}/x:y" has none.
func scheme(uri string) string {
	name, _, ok := strings.Cut(uri, ":")
	for i := range len(name) {
		c := name[i] | 0x20 // letters in lower case
		letter := 'a' <= c && c <= 'z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789+-.", rune(name[i]))) {
			return ""
		}
	}
	if !ok {
		return ""
	}
	return strings.ToLower(name)
}
