// Package demo makes a folder of log files to try the service with: one day of a
// small shop, in four formats, with a payment gateway that fails in the
// afternoon and a few lines in which somebody tries to talk to whoever reads
// them.
//
// The files are the same whenever and wherever they are made.
package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// event is a line and when it is written.
type event struct {
	at   time.Time
	text string
}

// day is the day of the logs.
func day() time.Time { return time.Date(2026, time.November, 2, 0, 0, 0, 0, time.UTC) }

// Seed makes the folder and the files in it, unless there is something of that
// name already. The folder appears with all its files or not at all.
func Seed(dir string) error {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err // nil if it is there
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("make demo logs: %w", err)
	}
	draft, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+"-*")
	if err != nil {
		return fmt.Errorf("make demo logs: %w", err)
	}
	defer func() { _ = os.RemoveAll(draft) }() // gone already if all went well
	for name, events := range files() {
		if err := write(filepath.Join(draft, name), events); err != nil {
			return fmt.Errorf("make demo logs: %w", err)
		}
	}
	if err := os.Chmod(draft, 0o755); err != nil {
		return fmt.Errorf("make demo logs: %w", err)
	}
	// Somebody else may have been faster.
	if err := os.Rename(draft, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make demo logs: %w", err)
	}
	return nil
}

func files() map[string][]event {
	return map[string][]event{
		"app.log":    appLog(),
		"worker.log": workerLog(),
		"auth.log":   authLog(),
		"access.log": accessLog(),
	}
}

// write sorts events by time and writes them down. The file is dated to the end
// of the day, from which readers tell the year of syslog lines.
func write(name string, events []event) error {
	slices.SortStableFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
	var b strings.Builder
	for _, e := range events {
		b.WriteString(e.text)
		b.WriteByte('\n')
	}
	if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
		return err
	}
	end := day().AddDate(0, 0, 1)
	return os.Chtimes(name, end, end)
}

// dice is a generator of numbers that will give the same ones for ever.
type dice struct{ state uint64 }

// roll returns a number from 0 to n-1.
func (d *dice) roll(n int) int {
	d.state ^= d.state << 13
	d.state ^= d.state >> 7
	d.state ^= d.state << 17
	return int(d.state>>33) % n
}

// anyTime is a moment of the day.
func (d *dice) anyTime() time.Time {
	return day().Add(time.Duration(d.roll(24*60*60*1000)) * time.Millisecond)
}

// outage is a moment while the payment gateway fails.
func (d *dice) outage() time.Time {
	return day().Add(14*time.Hour + 22*time.Minute + time.Duration(d.roll(25*60*1000))*time.Millisecond)
}

func (d *dice) pick(words ...string) string { return words[d.roll(len(words))] }

// hex is an identifier of n digits.
func (d *dice) hex(n int) string {
	var b strings.Builder
	for range n {
		b.WriteByte("0123456789abcdef"[d.roll(16)])
	}
	return b.String()
}

// client is an address of those set aside for examples.
func (d *dice) client() string {
	return fmt.Sprintf("%s.%d", d.pick("192.0.2", "198.51.100", "203.0.113"), 1+d.roll(254))
}
