package rate_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/rate"
)

// one is what the Python library limits, which slowapi reads its strings with,
// takes for one rate (limits/util.py): in a text of several, each is separated by
// one of ,;| and the whole must match.
var one = regexp.MustCompile(`(?i)^\s*([0-9]+)\s*(/|\s*per\s*)\s*([0-9]+)*\s*(hour|minute|second|day|month|year)s?\s*$`)

var separators = regexp.MustCompile(`[,;|]`)

// limits reads a text as that library does.
func limits(text string) (rates []rate.Rate, ok bool) {
	for _, part := range separators.Split(text, -1) {
		m := one.FindStringSubmatch(part)
		if m == nil {
			return nil, false
		}
		units := map[string]time.Duration{"second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}
		unit, ok := units[strings.ToLower(m[4])]
		if !ok {
			return nil, false // months of 30 days and years of 360: not ours
		}
		amount, _ := strconv.ParseUint(m[1], 10, 32)
		n := uint64(1)
		if m[3] != "" {
			n, _ = strconv.ParseUint(m[3], 10, 32)
		}
		rates = append(rates, rate.Rate{Limit: uint32(amount), Window: time.Duration(n) * unit})
	}
	return rates, true
}

func TestStringsOfSlowapi(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"10/minute", "10 per minute", "5 per 15 minutes;100/day", "10/minute,100/hour", "1/second|10/minute;100/hour,1000/day",
		"10 per hour", "10 PER hour", "10/hour;10/day;2000 per 3 days", "100/7days", "10per1minute", "2 /5 minute", "1/ 2 Hours", " 5/minute ",
	} {
		want, ok := limits(text)
		if !ok {
			t.Fatalf("%q is none of theirs", text)
		}
		got, err := rate.Parse(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-theirs +ours):\n%s", text, diff)
		}
	}
}

// Whatever the library reads, this package reads alike, or says why not.
func TestAllStringsOfSlowapi(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	tokens := []string{"1", "10", "15", "/", "per", " ", " ", "second", "minute", "minutes", "HOUR", "day", "s", ";", ",", "|", "Per", "x"}
	read := 0
	for range 60_000 {
		var b strings.Builder
		for range 3 + rng.IntN(8) {
			b.WriteString(tokens[rng.IntN(len(tokens))])
		}
		want, ok := limits(b.String())
		if !ok {
			continue
		}
		got, err := rate.Parse(b.String())
		if err != nil {
			if !strings.Contains(err.Error(), "same window") && !strings.Contains(err.Error(), "from 1 second to 31 days") &&
				!strings.Contains(err.Error(), "the amount must be") {
				t.Errorf("%q: %v", b.String(), err)
			}
			continue
		}
		read++
		if diff := cmp.Diff(fmt.Sprint(want), fmt.Sprint(got)); diff != "" {
			t.Errorf("%q (-theirs +ours):\n%s", b.String(), diff)
		}
	}
	if read < 50 {
		t.Errorf("only %d strings were theirs", read)
	}
}
