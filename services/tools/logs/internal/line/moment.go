package line

import (
	"bytes"
	"time"
)

// Years outside of these are taken for noise: they are no log's, and within
// them nanoseconds fit into 64 bits.
const (
	firstYear = 1970
	lastYear  = 2200
)

// moment returns a moment in nanoseconds of Unix time, if there is such a one.
// It does what time.Date does, several times faster for UTC, and refuses the
// 31st of February.
func moment(year, month, day, hour, minute, sec, nanos int, zone *time.Location) (int64, bool) {
	if year < firstYear || year > lastYear || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) ||
		hour > 23 || minute > 59 || sec > 60 {
		return 0, false
	}
	if zone != time.UTC {
		return time.Date(year, time.Month(month), day, hour, minute, sec, nanos, zone).UnixNano(), true
	}
	// Days since 1970, counted in years that begin with March, so that the
	// leap day is the last of its year.
	y, m := year, month-3
	if m < 0 {
		y, m = y-1, m+12
	}
	days := 365*y + y/4 - y/100 + y/400 + (153*m+2)/5 + day - 1 - 719468
	return ((int64(days)*24+int64(hour))*60+int64(minute))*60e9 + int64(sec)*1e9 + int64(nanos), true
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// two reads the two digits at b[i]; the result is over 99 if they are none.
func two(b []byte, i int) int {
	if !isDigit(b[i]) || !isDigit(b[i+1]) {
		return 1000
	}
	return int(b[i]-'0')*10 + int(b[i+1]-'0')
}

// clock reads hh:mm:ss at the start of b.
func clock(b []byte) (hour, minute, sec int, ok bool) {
	if len(b) < 8 || b[2] != ':' || b[5] != ':' {
		return 0, 0, 0, false
	}
	hour, minute, sec = two(b, 0), two(b, 3), two(b, 6)
	return hour, minute, sec, hour < 100 && minute < 100 && sec < 100
}

// iso reads a time such as 2026-01-02T03:04:05.678Z at the start of b, with
// slashes for dashes, a space for the T, a comma for the point and without a
// zone too, and returns how long it was.
func (p *Parser) iso(b []byte) (ns int64, size int, ok bool) {
	if len(b) < 19 || (b[4] != '-' && b[4] != '/') || b[7] != b[4] || (b[10] != 'T' && b[10] != ' ' && b[10] != 't') {
		return 0, 0, false
	}
	hour, minute, sec, ok := clock(b[11:])
	year, month, day := two(b, 0)*100+two(b, 2), two(b, 5), two(b, 8)
	if !ok {
		return 0, 0, false
	}
	size = 19
	nanos := 0
	if size+1 < len(b) && (b[size] == '.' || b[size] == ',') && isDigit(b[size+1]) {
		size++
		for scale := int(1e8); size < len(b) && isDigit(b[size]); size++ {
			nanos += int(b[size]-'0') * scale
			scale /= 10
		}
	}
	zone, offset := p.zone, int64(0)
	if secs, n, ok := zoneOffset(b[size:]); ok {
		zone, offset = time.UTC, int64(secs)*1e9
		size += n
	}
	ns, ok = moment(year, month, day, hour, minute, sec, nanos, zone)
	return ns - offset, size, ok
}

// zoneOffset reads a zone such as Z, +02:00, -0700 or " UTC" at the start of b.
func zoneOffset(b []byte) (secs, size int, ok bool) {
	skip := 0
	if len(b) > 0 && b[0] == ' ' {
		skip = 1
		if b = b[1:]; len(b) >= 3 && (string(b[:3]) == "UTC" || string(b[:3]) == "GMT") {
			return 0, 4, true
		}
	}
	if len(b) == 0 {
		return 0, 0, false
	}
	if b[0] == 'Z' || b[0] == 'z' {
		return 0, skip + 1, len(b) == 1 || !isLetter(b[1])
	}
	if b[0] != '+' && b[0] != '-' || len(b) < 5 {
		return 0, 0, false
	}
	size = 5
	minutes := 3
	if b[3] == ':' {
		size, minutes = 6, 4
	}
	if len(b) < size {
		return 0, 0, false
	}
	h, m := two(b, 1), two(b, minutes)
	if h > 23 || m > 59 {
		return 0, 0, false
	}
	secs = (h*60 + m) * 60
	if b[0] == '-' {
		secs = -secs
	}
	return secs, skip + size, true
}

// epoch reads seconds, milliseconds, microseconds or nanoseconds of Unix time,
// told apart by their size.
func epoch(b []byte) (int64, bool) {
	whole, frac, _ := bytes.Cut(b, []byte("."))
	var scale int64
	switch len(whole) {
	case 9, 10:
		scale = 1e9
	case 12, 13:
		scale = 1e6
	case 15, 16:
		scale = 1e3
	case 18, 19:
		scale = 1
	default:
		return 0, false
	}
	var n int64
	for _, c := range whole {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	// Nineteen nines would not overflow n but the year.
	if limit, _ := moment(lastYear, 1, 1, 0, 0, 0, 0, time.UTC); n < 0 || n > limit/scale {
		return 0, false
	}
	n *= scale
	for _, c := range frac {
		if !isDigit(c) {
			return 0, false
		}
		scale /= 10
		n += int64(c-'0') * scale
	}
	return n, true
}

// written reads the value of a field that holds a time.
func (p *Parser) written(value []byte) (int64, bool) {
	if ns, size, ok := p.iso(value); ok {
		return ns, size == len(value)
	}
	if ns, size, ok := common(value); ok {
		return ns, size == len(value)
	}
	return epoch(value)
}

// common reads a time such as 02/Jan/2026:03:04:05 +0100, as in the common log
// format.
func common(b []byte) (ns int64, size int, ok bool) {
	const size0 = len("02/Jan/2006:15:04:05 -0700")
	if len(b) < size0 || b[2] != '/' || b[6] != '/' || b[11] != ':' || b[20] != ' ' {
		return 0, 0, false
	}
	month, ok := monthNamed(b[3:6])
	hour, minute, sec, ok2 := clock(b[12:])
	secs, n, ok3 := zoneOffset(b[21:])
	if !ok || !ok2 || !ok3 || n != 5 {
		return 0, 0, false
	}
	ns, ok = moment(two(b, 7)*100+two(b, 9), month, two(b, 0), hour, minute, sec, 0, time.UTC)
	return ns - int64(secs)*1e9, size0, ok
}

// stamp reads a time such as "Jan  2 03:04:05" at the start of b and supplies
// the year: the latest in which it is to be believed.
func (p *Parser) stamp(b []byte) (ns int64, size int, ok bool) {
	const size0 = len("Jan  2 15:04:05")
	if len(b) < size0 || b[3] != ' ' || b[6] != ' ' {
		return 0, 0, false
	}
	month, ok := monthNamed(b[:3])
	hour, minute, sec, ok2 := clock(b[7:])
	if !ok || !ok2 {
		return 0, 0, false
	}
	day := two(b, 4)
	if b[4] == ' ' && isDigit(b[5]) {
		day = int(b[5] - '0')
	}
	// The 29th of February may be up to eight years back.
	for year := p.year; year > p.year-9; year-- {
		ns, ok = moment(year, month, day, hour, minute, sec, 0, p.zone)
		if ok && ns <= p.latest {
			return ns, size0, true
		}
	}
	return 0, 0, false
}

func monthNamed(b []byte) (int, bool) {
	switch string(b) {
	case "Jan":
		return 1, true
	case "Feb":
		return 2, true
	case "Mar":
		return 3, true
	case "Apr":
		return 4, true
	case "May":
		return 5, true
	case "Jun":
		return 6, true
	case "Jul":
		return 7, true
	case "Aug":
		return 8, true
	case "Sep":
		return 9, true
	case "Oct":
		return 10, true
	case "Nov":
		return 11, true
	case "Dec":
		return 12, true
	}
	return 0, false
}
