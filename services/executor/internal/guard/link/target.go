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

// targets calls do for each target in a text, in any order.
func targets(text string, do func(target)) {
	tagEnd := 0
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
			if i >= tagEnd { // else it was looked at with the tag that it is in
				tagEnd = tag(text, i, do)
			}
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

// tag reads the targets of an HTML tag or an autolink at i, and returns up to where it
// has looked.
func tag(text string, i int, do func(target)) int {
	rest := text[i:min(len(text), i+maxTag)]
	if len(rest) < 2 || rest[1]|0x20 < 'a' || rest[1]|0x20 > 'z' {
		return i
	}
	if len(rest) > 5 && strings.EqualFold(rest[1:5], "http") {
		if n := strings.IndexAny(rest, "> \t\r\n"); n >= 0 && rest[n] == '>' {
			do(target{start: i + 1, end: i + n})
			return i + n
		}
		return i
	}
	end := len(rest)
	for k := 0; k < end; {
		switch rest[k] {
		case '>':
			end = k
		case '=':
			var t target
			t, k = attribute(rest, k)
			if t.end > t.start {
				do(target{start: i + t.start, end: i + t.end, image: t.image})
			}
		default:
			k++
		}
	}
	return i + end
}

// attribute reads the value of the attribute whose "=" is at k, and returns where it
// ends. The target is empty if the attribute leads nowhere.
func attribute(rest string, k int) (target, int) {
	name := strings.ToLower(strings.TrimRight(rest[max(0, k-16):k], " \t\r\n"))
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
		if strings.HasSuffix(name, a.name) {
			return target{start: from, end: end, image: a.image}, end
		}
	}
	return target{}, end
}
