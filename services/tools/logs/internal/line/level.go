package line

import "bytes"

// Level is how bad a line is. Higher is worse.
type Level uint8

// The levels. Every line has one; a line that does not say is Info.
const (
	Debug Level = iota
	Info
	Warn
	Error
	Levels // how many there are
)

// String returns the name of the level as the contract has it.
func (l Level) String() string {
	switch l {
	case Debug:
		return "debug"
	case Warn:
		return "warn"
	case Error:
		return "error"
	default:
		return "info"
	}
}

// ParseLevel returns the level that String names.
func ParseLevel(name string) (Level, bool) {
	for l := range Levels {
		if l.String() == name {
			return l, true
		}
	}
	return 0, false
}

// named returns the level that a word stands for, in any case.
func named(word []byte) (Level, bool) {
	var buf [16]byte
	if len(word) == 0 || len(word) > len(buf) {
		return 0, false
	}
	lower := buf[:len(word)]
	for i, c := range word {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		lower[i] = c
	}
	switch string(lower) {
	case "t", "trc", "trace", "d", "dbg", "debug", "v", "verbose", "fine", "finer", "finest":
		return Debug, true
	case "i", "inf", "info", "n", "notice", "information", "informational", "log", "default":
		return Info, true
	case "w", "wrn", "warn", "warning":
		return Warn, true
	case "e", "err", "error", "eror", "severe", "f", "ftl", "fatal", "c", "crit", "critical",
		"p", "panic", "dpanic", "a", "alert", "emerg", "emergency":
		return Error, true
	}
	return 0, false
}

// numbered returns the level that a number in a level field stands for: the
// severities of syslog below ten, the scale of bunyan and pino above.
func numbered(n int) (Level, bool) {
	switch {
	case n < 8:
		return severity(n), true
	case n < 10 || n > 100:
		return 0, false
	case n < 30:
		return Debug, true
	case n < 40:
		return Info, true
	case n < 50:
		return Warn, true
	default:
		return Error, true
	}
}

// severity returns the level of a syslog severity, 0 to 7.
func severity(n int) Level {
	switch {
	case n <= 3:
		return Error
	case n == 4:
		return Warn
	case n <= 6:
		return Info
	default:
		return Debug
	}
}

// status returns the level of an HTTP status.
func status(code int) Level {
	switch {
	case code >= 500:
		return Error
	case code >= 400:
		return Warn
	default:
		return Info
	}
}

// guess returns the level of a text that does not state one, by the worst word
// in it. "No error" is not an error.
func guess(text []byte) Level {
	worst := Info
	var before []byte
	for i := 0; i < len(text); {
		if !isLetter(text[i]) {
			i++
			continue
		}
		start := i
		for i < len(text) && isLetter(text[i]) {
			i++
		}
		word := text[start:i]
		l := weigh(word)
		if l > worst && !denies(before) {
			worst = l
		}
		if worst == Error {
			return Error
		}
		before = word
	}
	return worst
}

// weigh returns the level that a word in running text suggests.
func weigh(word []byte) Level {
	if len(word) < 3 {
		return Info
	}
	if bytes.HasSuffix(word, []byte("Exception")) || bytes.HasSuffix(word, []byte("Error")) {
		return Error
	}
	if len(word) > 9 {
		return Info
	}
	var buf [9]byte
	lower := buf[:len(word)]
	for i, c := range word {
		lower[i] = c | 0x20
	}
	switch string(lower) {
	case "err", "error", "fatal", "panic", "crit", "critical", "emerg", "exception", "traceback", "segfault":
		return Error
	case "warn", "warning", "failed", "failure", "denied", "refused", "rejected", "timeout", "invalid", "unable":
		return Warn
	}
	return Info
}

func denies(word []byte) bool {
	return bytes.EqualFold(word, []byte("no")) || bytes.EqualFold(word, []byte("without")) ||
		bytes.EqualFold(word, []byte("zero"))
}
