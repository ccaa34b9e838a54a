package logs

import (
	"math"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	logsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/logs/v1"
)

// defaultSpan is how far back a summary goes that does not say.
const defaultSpan = 24 * time.Hour

// window is the time that a summary covers: back from the newest line, or from
// a moment on. Exactly one of its fields is set.
type window struct {
	span time.Duration
	from time.Time
}

// parseSince reads a span such as "15m" or a moment in RFC 3339.
func parseSince(text string) (window, error) {
	if text == "" {
		return window{span: defaultSpan}, nil
	}
	if from, err := time.Parse(time.RFC3339, text); err == nil {
		return window{from: from}, nil
	}
	if span, ok := parseSpan(text); ok {
		return window{span: span}, nil
	}
	return window{}, fault.New(codes.InvalidArgument, logsv1.Reason_REASON_SINCE,
		`"since" must be a span such as "15m", "24h" or "7d", or a moment such as "2026-01-02T15:04:05Z"`)
}

// parseSpan reads a whole number and a unit. What is too long for a duration is
// as long as one can be: it covers everything either way.
func parseSpan(text string) (time.Duration, bool) {
	digits, unit := text[:len(text)-1], time.Duration(0)
	switch text[len(text)-1] {
	case 's':
		unit = time.Second
	case 'm':
		unit = time.Minute
	case 'h':
		unit = time.Hour
	case 'd':
		unit = 24 * time.Hour
	case 'w':
		unit = 7 * 24 * time.Hour
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if unit == 0 || err != nil || n == 0 {
		return 0, false
	}
	return time.Duration(min(n, uint64(math.MaxInt64/unit))) * unit, true
}

// start returns the moment from which on lines count, in nanoseconds of Unix
// time, given that of the newest line.
func (w window) start(newest int64) int64 {
	if !w.from.IsZero() {
		// UnixNano overflows for years that no line can have.
		switch year := w.from.Year(); {
		case year < 1700:
			return math.MinInt64
		case year > 2250:
			return math.MaxInt64
		}
		return w.from.UnixNano()
	}
	if start := newest - int64(w.span); start < newest {
		return start
	}
	return math.MinInt64
}
