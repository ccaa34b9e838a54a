// Package statement looks at the text of a query before a database does.
//
// It splits SQL into tokens and understands nothing else. It is a courtesy and
// not a guard: it lets the service say in plain words what is wrong with a
// query that would be refused anyway, and count what the SQLite driver does
// not count. The guards are in the engines' packages.
package statement

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text is what can be told from the text of a query.
type Text struct {
	// First is the first word or sign, in upper case if it is a word. Leading
	// parentheses are passed over. It is empty if there is nothing but blanks
	// and comments.
	First string
	// Several is true if something follows a semicolon.
	Several bool
	// Placeholders is how many values the ? and ?1 placeholders ask for: ? takes
	// the one after the highest so far.
	Placeholders int
	// Named is the first placeholder with a name, such as ":id" or "$1".
	Named string
}

// Scan reads a query the way SQLite splits it into tokens. PostgreSQL differs
// in string constants with $ or E and in nested comments, neither of which can
// change First except from a query that is valid to one that is not.
func Scan(query string) Text {
	var t Text
	ended := false
	for rest := query; rest != ""; {
		n, blank := next(rest)
		token := rest[:n]
		rest = rest[n:]
		if blank {
			continue
		}
		if t.First == "" && token != "(" && token != ";" {
			t.First = strings.ToUpper(token)
		}
		switch {
		case token == ";":
			ended = true
			continue
		case token == "?":
			t.Placeholders++
		case token[0] == '?':
			t.Placeholders = max(t.Placeholders, number(token[1:]))
		case len(token) > 1 && token != "::" && (token[0] == ':' || token[0] == '@' || token[0] == '$'):
			if t.Named == "" {
				t.Named = token
			}
		}
		t.Several = t.Several || ended
	}
	return t
}

// next returns the length of the first token, and whether it is a blank or a
// comment.
func next(s string) (n int, blank bool) {
	switch c := s[0]; {
	case strings.HasPrefix(s, "--"):
		return through(s, 2, "\n"), true
	case strings.HasPrefix(s, "/*"):
		return through(s, 2, "*/"), true
	case c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r':
		return 1, true
	case c == '\'' || c == '"' || c == '`':
		return quoted(s), false
	case c == '[':
		return through(s, 1, "]"), false
	case strings.HasPrefix(s, "::"): // a cast on PostgreSQL, not a placeholder
		return 2, false
	case c == '?' || c == ':' || c == '@' || c == '$' || c == '#':
		return 1 + word(s[1:]), false
	}
	if n := word(s); n > 0 {
		return n, false
	}
	_, n = utf8.DecodeRuneInString(s)
	return n, false
}

// through returns the length up to and with the end, which is looked for from
// the given place on; an end that is missing is the end of the text.
func through(s string, from int, end string) int {
	if i := strings.Index(s[from:], end); i >= 0 {
		return from + i + len(end)
	}
	return len(s)
}

// quoted returns the length of a token in quotes, where a doubled quote stands
// for one.
func quoted(s string) int {
	for i := 1; i < len(s); i++ {
		if s[i] != s[0] {
			continue
		}
		if i+1 < len(s) && s[i+1] == s[0] {
			i++
			continue
		}
		return i + 1
	}
	return len(s)
}

// word returns the length of the letters, digits, _ and $ that s begins with.
func word(s string) int {
	for i, r := range s {
		if r != '_' && r != '$' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return i
		}
	}
	return len(s)
}

func number(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return n
}
