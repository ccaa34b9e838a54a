package taint

import "strings"

// maxGroups is how many groups of digits a number has at most.
const maxGroups = 8

// group is where digits stand in a text.
type group struct{ start, end int }

// numbers looks at a word with digits, text[from:to], for groups of them, with blanks,
// dashes and the like between them, and words before it: each number that some
// groups after each other make.
func (s *scanner) numbers(text string, from, to int) {
	for i := from; i < to && !s.done; i++ {
		if !isDigit(text[i]) {
			continue
		}
		g := group{i, i}
		for i < to && isDigit(text[i]) {
			i++
		}
		g.end = i
		if ibanDigits(text, g) {
			s.iban(text, g.start-2)
		}
		if s.count > 0 && !joins(text[s.groups[s.count-1].end:g.start]) {
			s.count = 0
		}
		if s.count == maxGroups {
			copy(s.groups[:], s.groups[1:])
			s.count--
		}
		s.groups[s.count] = g
		s.count++
		s.together(text)
	}
}

// together tells of the numbers that end with the newest group.
func (s *scanner) together(text string) {
	var room [maxNumber]byte // filled from its end
	at := len(room)
	for j := s.count - 1; j >= 0; j-- {
		g := text[s.groups[j].start:s.groups[j].end]
		if len(g) > at {
			return
		}
		at -= len(g)
		copy(room[at:], g)
		number := room[at:]
		if s.count-j == 3 && len(g) == 4 && isDate(number) {
			continue
		}
		for len(number) > 0 && number[0] == '0' {
			number = number[1:]
		}
		if len(number) >= minNumber {
			s.value = append(append(s.value[:0], "number:"...), number...)
			s.tell(s.value)
		}
	}
}

// joins reports whether what is between two groups of digits keeps them one number.
func joins(between string) bool {
	return len(between) <= 3 && strings.Trim(between, " -.()/+") == ""
}

// isDate reports whether eight digits are a date as computers write it. Dates are in
// all texts and steer nothing.
func isDate(digits []byte) bool {
	if len(digits) != 8 {
		return false
	}
	for _, c := range digits {
		if !isDigit(c) {
			return false
		}
	}
	century, month, day := string(digits[:2]), string(digits[4:6]), string(digits[6:])
	return (century == "19" || century == "20") && month >= "01" && month <= "12" && day >= "01" && day <= "31"
}

// ibanDigits reports whether digits are where an IBAN has its first: after two
// letters in upper case with none before them.
func ibanDigits(text string, g group) bool {
	i := g.start - 2
	upper := func(c byte) bool { return c >= 'A' && c <= 'Z' }
	return i >= 0 && g.end-g.start >= 2 && upper(text[i]) && upper(text[i+1]) &&
		(i == 0 || !isLetter(text[i-1]) && !isDigit(text[i-1]))
}

// iban looks at what may be an IBAN in groups, from i on. Where it ends the groups do
// not tell, so each end that is possible counts.
func (s *scanner) iban(text string, i int) {
	const kind = "id:"
	s.joined = append(s.joined[:0], kind...)
	spaced, told := false, 0
	for ; i <= len(text) && len(s.joined) <= len(kind)+maxJoined; i++ {
		if i < len(text) && (isLetter(text[i]) || isDigit(text[i])) {
			c := text[i]
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			s.joined = append(s.joined, c)
			continue
		}
		if spaced && len(s.joined) >= len(kind)+14 && len(s.joined) != told {
			s.tell(s.joined)
			told = len(s.joined)
		}
		if i == len(text) || text[i] != ' ' && text[i] != '-' {
			return
		}
		spaced = true
	}
}
