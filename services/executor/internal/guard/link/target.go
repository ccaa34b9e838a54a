package link

import (
	"strings"
)

// target is where a link or an image leads: text[start:end].
type target struct {
	start, end int
	image      bool
}

// Bounds of what is looked at for one target, in bytes.
const (
	maxTarget = 8 << 10
	maxLabel  = 1 << 10
	maxTag    = 4 << 10
)

// targets calls do for each target in a text, in order, for those that both
// markdown and HTML know perhaps twice.
func targets(text string, do func(target)) {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case ']':
			switch {
			case strings.HasPrefix(text[i:], "]("):
				if t := inline(text, i+2, ")"); t.end > t.start {
					t.image = isImage(text, i)
					do(t)
					i = t.end - 1
				}
			case strings.HasPrefix(text[i:], "]:"): // a definition; who uses it is not known
				if t := inline(text, i+2, ""); t.end > t.start {
					t.image = true
					do(t)
					i = t.end - 1
				}
			}
		case '<':
			tag(text, i, do)
		}
	}
}

// inline reads the target of a markdown link from i on.
func inline(text string, i int, closing string) target {
	for i < len(text) && strings.IndexByte(" \t\r\n", text[i]) >= 0 {
		i++
	}
	stop := " \t\r\n" + closing
	if i < len(text) && text[i] == '<' {
		i++
		stop = ">\r\n"
	}
	rest := text[i:min(len(text), i+maxTarget)]
	depth, end := 0, len(rest)
	for k := range len(rest) {
		if rest[k] == '(' && closing != "" {
			depth++
		} else if rest[k] == ')' && depth > 0 {
			depth--
		} else if strings.IndexByte(stop, rest[k]) >= 0 {
			end = k
			break
		}
	}
	return target{start: i, end: i + end}
}

// isImage reports whether the label that ends at i is an image's.
func isImage(text string, i int) bool {
	depth := 0
	for k := i; k >= 0 && i-k < maxLabel; k-- {
		switch text[k] {
		case ']':
			depth++
		case '[':
			if depth--; depth == 0 {
				return k > 0 && text[k-1] == '!'
			}
		}
	}
	return true // nobody can tell: the stricter of the two
}

// Attributes that hold targets, and whether they are fetched at once.
var attributes = []struct {
	name  string
	image bool
}{{"src", true}, {"srcset", true}, {"poster", true}, {"background", true}, {"href", false}, {"action", false}, {"data", true}}

// tag reads the targets of an HTML tag or an autolink at i.
func tag(text string, i int, do func(target)) {
	rest := text[i:min(len(text), i+maxTag)]
	if len(rest) < 2 || rest[1]|0x20 < 'a' || rest[1]|0x20 > 'z' {
		return
	}
	if end := strings.IndexByte(rest[1:], '>'); end >= 0 {
		rest = rest[:end+1]
	}
	name := rest[1:min(len(rest), 9)]
	if strings.HasPrefix(strings.ToLower(name), "http") {
		do(target{start: i + 1, end: i + len(rest)})
		return
	}
	for k := strings.IndexByte(rest, '='); k >= 0; {
		before := strings.ToLower(strings.TrimRight(rest[max(0, k-16):k], " \t\r\n"))
		from := k + 1
		for from < len(rest) && strings.IndexByte(" \t\r\n", rest[from]) >= 0 {
			from++
		}
		stop := " \t\r\n>"
		if from < len(rest) && (rest[from] == '"' || rest[from] == '\'') {
			stop = rest[from : from+1]
			from++
		}
		end := len(rest)
		if n := strings.IndexAny(rest[from:], stop); n >= 0 {
			end = from + n
		}
		for _, a := range attributes {
			if strings.HasSuffix(before, a.name) && end > from {
				do(target{start: i + from, end: i + end, image: a.image && !strings.HasPrefix(strings.ToLower(name), "a ")})
				break
			}
		}
		next := strings.IndexByte(rest[end:], '=')
		if k = end + next; next < 0 {
			break
		}
	}
}
