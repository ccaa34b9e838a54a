package calendar_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/calendar"
)

func TestAt(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		unit   calendar.Unit
		starts int
		zone   string
		at     string

		start, end string
	}{
		{"a day in UTC", calendar.Day, 0, "", "2026-11-28T22:00:00Z", "2026-11-28T00:00:00Z", "2026-11-29T00:00:00Z"},
		{"its first instant", calendar.Day, 0, "", "2026-11-28T00:00:00Z", "2026-11-28T00:00:00Z", "2026-11-29T00:00:00Z"},
		{"its last", calendar.Day, 0, "", "2026-11-28T23:59:59.999999999Z", "2026-11-28T00:00:00Z", "2026-11-29T00:00:00Z"},
		{"a day that has begun in Tokyo", calendar.Day, 0, "Asia/Tokyo", "2026-11-28T22:00:00Z", "2026-11-28T15:00:00Z", "2026-11-29T15:00:00Z"},
		{"a day of 23 hours", calendar.Day, 0, "Europe/Berlin", "2026-03-29T10:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"},
		{"a day of 25 hours", calendar.Day, 0, "Europe/Berlin", "2026-10-25T22:59:59Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"},
		{"a day without midnight", calendar.Day, 0, "Africa/Cairo", "2024-04-26T10:00:00Z", "2024-04-25T22:00:00Z", "2024-04-26T21:00:00Z"},
		{"a day whose last hour comes twice", calendar.Day, 0, "Africa/Cairo", "2024-10-31T21:30:00Z", "2024-10-30T21:00:00Z", "2024-10-31T22:00:00Z"},
		{"the day after one that was left out", calendar.Day, 0, "Pacific/Apia", "2011-12-30T12:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"},
		{"the day before one that was left out", calendar.Day, 0, "Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"},
		{"a week from Monday", calendar.Week, 0, "", "2026-11-28T22:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"},
		{"a week from Sunday", calendar.Week, 7, "", "2026-11-28T22:00:00Z", "2026-11-22T00:00:00Z", "2026-11-29T00:00:00Z"},
		{"a week from Saturday, on Saturday", calendar.Week, 6, "", "2026-11-28T22:00:00Z", "2026-11-28T00:00:00Z", "2026-12-05T00:00:00Z"},
		{"a week over the end of a year", calendar.Week, 1, "", "2027-01-01T00:00:00Z", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"},
		{"a month", calendar.Month, 0, "", "2026-11-28T22:00:00Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"},
		{"a December", calendar.Month, 1, "", "2026-12-31T22:00:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{"a month of New York with a change of clocks", calendar.Month, 1, "America/New_York", "2026-11-28T22:00:00Z", "2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z"},
		{"before the billing day", calendar.Month, 15, "", "2026-11-14T23:59:59Z", "2026-10-15T00:00:00Z", "2026-11-15T00:00:00Z"},
		{"on the billing day", calendar.Month, 15, "", "2026-11-15T00:00:00Z", "2026-11-15T00:00:00Z", "2026-12-15T00:00:00Z"},
		{"before it in January", calendar.Month, 15, "", "2027-01-14T00:00:00Z", "2026-12-15T00:00:00Z", "2027-01-15T00:00:00Z"},
		{"the 31st in a long month", calendar.Month, 31, "", "2026-10-31T12:00:00Z", "2026-10-31T00:00:00Z", "2026-11-30T00:00:00Z"},
		{"the 31st in November is the 30th", calendar.Month, 31, "", "2026-11-30T12:00:00Z", "2026-11-30T00:00:00Z", "2026-12-31T00:00:00Z"},
		{"the 31st before the end of February", calendar.Month, 31, "", "2026-02-27T12:00:00Z", "2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z"},
		{"the 31st on the last of February", calendar.Month, 31, "", "2026-02-28T12:00:00Z", "2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"},
		{"the 31st in a leap year", calendar.Month, 31, "", "2028-02-28T12:00:00Z", "2028-01-31T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"the 30th at the end of January", calendar.Month, 30, "", "2026-01-31T12:00:00Z", "2026-01-30T00:00:00Z", "2026-02-28T00:00:00Z"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := calendar.New(tt.unit, tt.starts, tt.zone)
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse(time.RFC3339Nano, tt.at)
			if err != nil {
				t.Fatal(err)
			}
			start, end := p.At(at)
			if got := start.UTC().Format(time.RFC3339); got != tt.start {
				t.Errorf("start: got %s, want %s", got, tt.start)
			}
			if got := end.UTC().Format(time.RFC3339); got != tt.end {
				t.Errorf("end: got %s, want %s", got, tt.end)
			}
		})
	}
}

// Each moment is in one period, and no time is between two.
func TestPeriodsDivideTime(t *testing.T) {
	t.Parallel()
	zones := []string{
		"UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "Africa/Cairo", "Asia/Beirut", "Asia/Kolkata",
		"Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kiritimati", "Pacific/Pago_Pago", "America/Santiago", "Asia/Tehran",
	}
	for _, zone := range zones {
		for _, p := range []struct {
			unit   calendar.Unit
			starts int
		}{{calendar.Day, 0}, {calendar.Week, 1}, {calendar.Week, 7}, {calendar.Month, 1}, {calendar.Month, 29}, {calendar.Month, 31}} {
			t.Run(fmt.Sprint(zone, " ", p), func(t *testing.T) {
				t.Parallel()
				periods, err := calendar.New(p.unit, p.starts, zone)
				if err != nil {
					t.Fatal(err)
				}
				at := time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC)
				start, end := periods.At(at)
				for at.Year() < 2013 {
					at = at.Add(47*time.Minute + 59*time.Second)
					s, e := periods.At(at)
					if at.Before(s) || !at.Before(e) {
						t.Fatalf("%v is not in its period from %v to %v", at, s, e)
					}
					if !at.Before(end) {
						if !s.Equal(end) {
							t.Fatalf("a period ends at %v and the next begins at %v", end, s)
						}
						start, end = s, e
					}
					if !s.Equal(start) || !e.Equal(end) {
						t.Fatalf("%v is in the period from %v to %v, and another moment of it in that from %v to %v", at, s, e, start, end)
					}
					if at.Sub(start) > 3*24*time.Hour && end.Sub(at) > 3*24*time.Hour {
						at = end.Add(-2 * 24 * time.Hour) // nothing happens meanwhile
					}
				}
			})
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		unit   calendar.Unit
		starts int
		zone   string
	}{{calendar.Day, 1, ""}, {calendar.Week, 8, ""}, {calendar.Month, 32, ""}, {calendar.Month, -1, ""}, {calendar.Day, 0, "Mars/Olympus"}, {calendar.Day, 0, "Local"}, {calendar.Day, 0, "../etc"}} {
		if _, err := calendar.New(tt.unit, tt.starts, tt.zone); err == nil {
			t.Errorf("New(%v, %d, %q): got no error", tt.unit, tt.starts, tt.zone)
		}
	}
}
