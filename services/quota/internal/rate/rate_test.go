package rate_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/rate"
)

func TestParse(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	tests := []struct {
		name string
		text string
		want []rate.Rate
	}{
		{"a plain rate", "10/minute", []rate.Rate{{10, time.Minute}}},
		{"per instead of a slash", "10 per minute", []rate.Rate{{10, time.Minute}}},
		{"per without spaces", "10per2hour", []rate.Rate{{10, 2 * time.Hour}}},
		{"a multiple of the unit", "5/15minutes", []rate.Rate{{5, 15 * time.Minute}}},
		{"a multiple with spaces", "5 / 15 minutes", []rate.Rate{{5, 15 * time.Minute}}},
		{"seconds", "1/second", []rate.Rate{{1, time.Second}}},
		{"days", "100/day", []rate.Rate{{100, day}}},
		{"short units", "1/s;2/m;3/h;4/d", []rate.Rate{{1, time.Second}, {2, time.Minute}, {3, time.Hour}, {4, day}}},
		{"weeks", "7/week", []rate.Rate{{7, 7 * day}}},
		{"capitals", "10 Per Minute", []rate.Rate{{10, time.Minute}}},
		{
			"several, with every separator", "1/second; 10/minute,100/hour | 1000/day",
			[]rate.Rate{{1, time.Second}, {10, time.Minute}, {100, time.Hour}, {1000, day}},
		},
		{"a separator too many", "10/minute;", []rate.Rate{{10, time.Minute}}},
		{"the longest window", "1/31days", []rate.Rate{{1, 31 * day}}},
		{"the highest limit", "1000000000/second", []rate.Rate{{1_000_000_000, time.Second}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := rate.Parse(tt.text)
			if err != nil {
				t.Fatalf("Parse(%q): %v", tt.text, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Parse(%q) (-want +got):\n%s", tt.text, diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text, want string
	}{
		{"nothing", "", "is empty"},
		{"only separators", " ; ; ", "is empty"},
		{"no unit", "10", "is no rate"},
		{"no amount", "/minute", "is no rate"},
		{"a negative amount", "-1/minute", "is no rate"},
		{"a fraction", "1.5/minute", "is no rate"},
		{"a month, which has no fixed length", "10/month", "a month has no fixed length"},
		{"a year", "10 per 2 years", "a year has no fixed length"},
		{"text after the unit", "10/minute or so", "is no rate"},
		{"zero", "0/minute", "the amount must be"},
		{"too much", "1000000001/minute", "the amount must be"},
		{"more than 64 bits", "99999999999999999999/minute", "the amount must be"},
		{"no time at all", "1/0minutes", "the window must be"},
		{"too long", "1/32days", "the window must be"},
		{"a window beyond 64 bits", "1/99999999999999999999days", "the window must be"},
		{"one window twice", "1/minute;2/60seconds", "same window"},
		{"too many", "1/s;1/2s;1/3s;1/4s;1/5s;1/6s;1/7s;1/8s;1/9s", "more than 8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := rate.Parse(tt.text)
			if err == nil {
				t.Fatalf("Parse(%q): got %v, want an error", tt.text, got)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse(%q): got error %q, want it to contain %q", tt.text, err, tt.want)
			}
		})
	}
}

func TestString(t *testing.T) {
	t.Parallel()
	tests := []struct {
		rate             rate.Rate
		wantText, wantIn string
	}{
		{rate.Rate{Limit: 10, Window: time.Minute}, "10/minute", "1m"},
		{rate.Rate{Limit: 5, Window: 15 * time.Minute}, "5/15minutes", "15m"},
		{rate.Rate{Limit: 1, Window: 90 * time.Second}, "1/90seconds", "90s"},
		{rate.Rate{Limit: 1, Window: 7 * 24 * time.Hour}, "1/7days", "7d"},
	}
	for _, tt := range tests {
		if got := tt.rate.String(); got != tt.wantText {
			t.Errorf("String: got %q, want %q", got, tt.wantText)
		}
		if got := tt.rate.Span(); got != tt.wantIn {
			t.Errorf("Span: got %q, want %q", got, tt.wantIn)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"10/minute", "5 per 15 minutes;100/day", "1/s", ";", "10/", "٣/minute", "1e3/hour", "1//m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rates, err := rate.Parse(text)
		if err != nil {
			return
		}
		for _, r := range rates {
			if r.Limit < 1 || r.Limit > rate.MaxLimit || r.Window < rate.MinWindow || r.Window > rate.MaxWindow {
				t.Errorf("Parse(%q): %v is out of bounds", text, r)
			}
			again, err := rate.Parse(r.String())
			if err != nil {
				t.Fatalf("Parse(%q), from %q: %v", r, text, err)
			}
			if diff := cmp.Diff([]rate.Rate{r}, again); diff != "" {
				t.Errorf("Parse(String()) of %q (-want +got):\n%s", text, diff)
			}
		}
	})
}
