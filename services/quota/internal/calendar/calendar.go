// Package calendar divides time into days, weeks, months and billing months, as
// the clocks on the wall of a time zone show them.
package calendar

import (
	"fmt"
	"time"
	_ "time/tzdata" // images without a system have no time zones
)

// Unit is what periods are made of.
type Unit int

// The units.
const (
	Day Unit = iota
	// Week begins on a day of the week.
	Week
	// Month begins on a day of the month; in a month that is too short, on its
	// last.
	Month
)

// Periods divides all time: each moment is in one period, and each period begins
// at a midnight, where the one before ends.
type Periods struct {
	unit   Unit
	starts int
	zone   *time.Location
}

// New returns the periods of a unit in a time zone of the IANA database, UTC when
// empty. They start on the given day: 1 (Monday) to 7 of a week, 1 to 31 of a
// month; 0 is 1. A day has none.
func New(unit Unit, starts int, zone string) (Periods, error) {
	last := map[Unit]int{Day: 0, Week: 7, Month: 31}[unit]
	if starts < 0 || starts > last {
		if last == 0 {
			return Periods{}, fmt.Errorf("starts: %d is for weeks and months only", starts)
		}
		return Periods{}, fmt.Errorf("starts: %d is not from 1 to %d", starts, last)
	}
	if zone == "Local" { // differs from node to node
		return Periods{}, fmt.Errorf("tz: %q is no time zone such as Europe/Berlin", zone)
	}
	loc, err := time.LoadLocation(zone)
	if err != nil {
		return Periods{}, fmt.Errorf("tz: %q is no time zone such as Europe/Berlin", zone)
	}
	return Periods{unit: unit, starts: max(starts, 1), zone: loc}, nil
}

// At returns the period of a moment: its first instant, and that of the next.
func (p Periods) At(t time.Time) (start, end time.Time) {
	y, m, d := t.In(p.zone).Date()
	var nth func(n int) time.Time // beginnings in order; that of the period is among -1, 0 and 1
	switch p.unit {
	case Week:
		weekday := time.Date(y, m, d, 12, 0, 0, 0, time.UTC).Weekday()
		monday := d - (int(weekday)-p.starts+7)%7
		nth = func(n int) time.Time { return p.midnight(y, m, monday+7*n) }
	case Month:
		nth = func(n int) time.Time {
			first := time.Date(y, m+time.Month(n), 1, 12, 0, 0, 0, time.UTC)
			return p.midnight(first.Year(), first.Month(), min(p.starts, first.AddDate(0, 1, -1).Day()))
		}
	default:
		nth = func(n int) time.Time { return p.midnight(y, m, d+n) }
	}
	switch start, end = nth(0), nth(1); {
	case t.Before(start):
		return nth(-1), start
	case !t.Before(end): // a date may come back for an hour
		return end, nth(2)
	}
	return start, end
}

// midnight is when a date begins, to the second: at midnight but where clocks
// are put forward just then. A date that is left out begins with the next.
func (p Periods) midnight(y int, m time.Month, d int) time.Time {
	date := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	// No zone is further than 14 hours from UTC. In between halve.
	before, after := date.Unix()-24*3600, date.Unix()+24*3600
	for after-before > 1 {
		middle := before + (after-before)/2
		if p.date(middle).Before(date) {
			before = middle
		} else {
			after = middle
		}
	}
	return time.Unix(after, 0)
}

// date is that of a second, as a midnight in UTC.
func (p Periods) date(second int64) time.Time {
	y, m, d := time.Unix(second, 0).In(p.zone).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}
