// Package rate reads limits written for people, such as "10/minute" and
// "5 per 15 minutes; 100/day". It knows the spellings of the slowapi and limits
// libraries and nothing of how a limit is counted.
package rate

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Bounds of what a rate may say. The longest window is what the sliding log's
// 32-bit offsets and people's patience both allow; longer ones are quotas,
// which must survive a restart.
const (
	MaxLimit  = 1_000_000_000
	MinWindow = time.Second
	MaxWindow = 31 * 24 * time.Hour
)

// maxRates bounds how many rates one text may list.
const maxRates = 8

// A Rate is an amount in a window of time.
type Rate struct {
	Limit  uint32
	Window time.Duration
}

// Parse reads one or several rates, separated by a semicolon, comma or bar. It
// refuses two rates with the same window, of which one would be idle.
func Parse(text string) ([]Rate, error) {
	var rates []Rate
	for part := range strings.FieldsFuncSeq(text, isSeparator) {
		if strings.TrimSpace(part) == "" {
			continue
		}
		r, err := parse(part)
		if err != nil {
			return nil, err
		}
		for _, other := range rates {
			if other.Window == r.Window {
				return nil, fmt.Errorf("%q has the same window as another rate", strings.TrimSpace(part))
			}
		}
		if rates = append(rates, r); len(rates) > maxRates {
			return nil, fmt.Errorf("more than %d rates", maxRates)
		}
	}
	if len(rates) == 0 {
		return nil, errors.New("is empty; write it like 10/minute")
	}
	return rates, nil
}

func isSeparator(r rune) bool { return r == ';' || r == ',' || r == '|' }

// parse reads one rate: an amount, "/" or "per", an optional multiple, a unit.
func parse(part string) (Rate, error) {
	text := strings.ToLower(strings.TrimSpace(part))
	malformed := fmt.Errorf("%q is no rate; write it like 10/minute or 5 per 15 minutes", text)

	amount, rest := digits(text)
	rest = strings.TrimSpace(rest)
	if after, ok := strings.CutPrefix(rest, "/"); ok {
		rest = after
	} else if after, ok := strings.CutPrefix(rest, "per"); ok {
		rest = after
	} else {
		return Rate{}, malformed
	}
	multiple, name := digits(strings.TrimSpace(rest))
	name = strings.TrimSpace(name)
	switch strings.TrimSuffix(name, "s") {
	case "month", "year":
		return Rate{}, fmt.Errorf("%q: a %s has no fixed length; count days (31 at most)", text, strings.TrimSuffix(name, "s"))
	}
	unit, ok := unitOf(name)
	if amount == "" || !ok {
		return Rate{}, malformed
	}

	limit, err := strconv.ParseUint(amount, 10, 64)
	if err != nil || limit < 1 || limit > MaxLimit {
		return Rate{}, fmt.Errorf("%q: the amount must be from 1 to %d", text, MaxLimit)
	}
	n := uint64(1)
	if multiple != "" {
		if n, err = strconv.ParseUint(multiple, 10, 64); err != nil {
			n = 0
		}
	}
	if n < 1 || n > uint64(MaxWindow/unit) {
		return Rate{}, fmt.Errorf("%q: the window must be from 1 second to 31 days", text)
	}
	return Rate{Limit: uint32(limit), Window: time.Duration(n) * unit}, nil
}

// digits splits s after its leading decimal digits.
func digits(s string) (number, rest string) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[:i], s[i:]
}

// unitOf knows no month or year: they have no fixed length.
func unitOf(name string) (time.Duration, bool) {
	switch name {
	case "s", "sec", "second", "seconds":
		return time.Second, true
	case "m", "min", "minute", "minutes":
		return time.Minute, true
	case "h", "hour", "hours":
		return time.Hour, true
	case "d", "day", "days":
		return 24 * time.Hour, true
	case "week", "weeks":
		return 7 * 24 * time.Hour, true
	}
	return 0, false
}

// String is the rate as Parse reads it, such as "10/minute" or "5/15minutes".
func (r Rate) String() string {
	for _, unit := range units() {
		if n := r.Window / unit.length; r.Window%unit.length == 0 {
			if n == 1 {
				return fmt.Sprintf("%d/%s", r.Limit, unit.name)
			}
			return fmt.Sprintf("%d/%d%ss", r.Limit, n, unit.name)
		}
	}
	return fmt.Sprintf("%d/%v", r.Limit, r.Window)
}

// Span is the window alone in its shortest form, such as "1m" or "15m".
func (r Rate) Span() string {
	for _, unit := range units() {
		if r.Window%unit.length == 0 {
			return fmt.Sprintf("%d%c", r.Window/unit.length, unit.name[0])
		}
	}
	return r.Window.String()
}

// unit is a length of time with a name.
type unit struct {
	name   string
	length time.Duration
}

// units are in falling order of length, so that the first that divides a
// window writes it shortest.
func units() [4]unit {
	return [4]unit{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}, {"second", time.Second}}
}
