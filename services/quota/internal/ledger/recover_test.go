package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/ledger"
)

// trimmed is a log whose first messages are too old to be there.
type trimmed struct {
	ledger.Log
	first uint64
}

func (l trimmed) Read(ctx context.Context, from uint64, on func(uint64, []byte) error) (first, last uint64, err error) {
	_, last, err = l.Log.Read(ctx, max(from, l.first), on)
	return l.first, last, err
}

// said keeps what was logged.
type said struct {
	mu sync.Mutex
	bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Buffer.Write(b)
}

func (s *said) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.String(), text)
}

// spend spends one, each time under another id.
func spend(t *testing.T, b *ledger.Book, times int) {
	t.Helper()
	for range times {
		name := fmt.Sprint(time.Now().UnixNano())
		if ok, err := b.Spend(t.Context(), id(name), time.Minute, []ledger.Ask{ask(1, "ann", 1000, 1), ask(1, name, 1000, 0)}); !ok || err != nil {
			t.Fatalf("Spend: got %t, %v", ok, err)
		}
	}
}

func TestWhatDoesNotBelongTogetherIsRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(t *testing.T, on *bus.Bus, o *ledger.Options)
		want   string // in the log; empty if all is well
	}{
		{"all is there", func(*testing.T, *bus.Bus, *ledger.Options) {}, ""},
		{"the ledger begins where the oldest snapshot ends", func(_ *testing.T, _ *bus.Bus, o *ledger.Options) { o.Log = trimmed{o.Log, 6} }, ""},
		{"a message is missing in between", func(_ *testing.T, _ *bus.Bus, o *ledger.Options) { o.Log = trimmed{o.Log, 7} }, "messages are missing; restore the bucket quota-snapshots"},
		{"there are no snapshots, and the ledger has lost its beginning", func(t *testing.T, _ *bus.Bus, o *ledger.Options) {
			o.Log, o.Store = trimmed{o.Log, 2}, newBus(t)
		}, "messages are missing"},
		{"there are no snapshots, but the whole ledger", func(t *testing.T, _ *bus.Bus, o *ledger.Options) { o.Store = newBus(t) }, ""},
		{"the ledger was deleted", func(t *testing.T, _ *bus.Bus, o *ledger.Options) { o.Log = newBus(t).Ledger() }, "it was deleted or restored"},
		{"a message is none of ours", func(t *testing.T, on *bus.Bus, _ *ledger.Options) {
			if _, err := on.Ledger().Append(t.Context(), 15, "x", []byte("?")); err != nil {
				t.Fatal(err)
			}
		}, "message 16 of the ledger: it is no batch"},
		{"a page is of another snapshot", func(t *testing.T, on *bus.Bus, o *ledger.Options) {
			damage(t, on, "0")
			o.Log = trimmed{o.Log, 6} // the generation before ends with 5
		}, ""},
		{"so is the one before", func(t *testing.T, on *bus.Bus, _ *ledger.Options) {
			damage(t, on, "0")
			damage(t, on, "1")
		}, "its pages are not those of its head"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			on, c := newBus(t), newClock(start)
			b := open(t, on, c)
			for range 2 {
				spend(t, b, 5)
				b.Keep(t.Context())
			}
			spend(t, b, 5)
			var log said
			again := open(t, on, c, func(o *ledger.Options) {
				tt.change(t, on, o)
				o.Logger = slog.New(slog.NewTextHandler(&log, nil))
			})
			ok, err := again.Spend(t.Context(), id("again"), time.Minute, []ledger.Ask{ask(1, "ann", 16, 1)})
			if tt.want != "" {
				if !errors.Is(err, ledger.ErrUnavailable) || !log.has(tt.want) {
					t.Errorf("got %t, %v, and the log %s; want ErrUnavailable and %q", ok, err, log.String(), tt.want)
				}
				return
			}
			if err != nil || !ok {
				t.Fatalf("the sixteenth: got %t, %v; the log: %s", ok, err, log.String())
			}
			if ok, err := again.Spend(t.Context(), id("more"), time.Minute, []ledger.Ask{ask(1, "ann", 16, 1)}); ok || err != nil {
				t.Errorf("the seventeenth: got %t, %v, want a refusal", ok, err)
			}
		})
	}
}

// damage makes the pages of one of the two generations those of another snapshot,
// for parts that have both.
func damage(t *testing.T, on *bus.Bus, generation string) {
	t.Helper()
	damaged := 0
	for part := range 64 {
		if _, err := on.Get(t.Context(), bus.QuotaSnapshots, fmt.Sprint(part, ".0.0")); errors.Is(err, bus.ErrNotFound) {
			continue
		}
		key := fmt.Sprint(part, ".", generation, ".0")
		e, err := on.Get(t.Context(), bus.QuotaSnapshots, key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := on.Put(t.Context(), bus.QuotaSnapshots, key, append(e.Value, 0x08, 0x63)); err != nil { // applied: 99
			t.Fatal(err)
		}
		damaged++
	}
	if damaged == 0 {
		t.Fatal("no part has two generations")
	}
}

// A full memory refuses who is new, and keeps the counts of who is known.
func TestAFullMemoryRefusesWhoIsNew(t *testing.T) {
	t.Parallel()
	on, c := newBus(t), newClock(start)
	b := open(t, on, c, func(o *ledger.Options) { o.MaxBalances, o.MaxRecords = 2, 5 })
	spend := func(user, name string) error {
		_, err := b.Spend(t.Context(), id(name), time.Minute, []ledger.Ask{ask(1, user, 1000, 1)})
		return err
	}
	for i, user := range []string{"ann", "bob", "ann"} {
		if err := spend(user, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := spend("eve", "4"); !errors.Is(err, ledger.ErrFull) {
		t.Errorf("a third user: got %v, want ErrFull", err)
	}
	_, _ = spend("ann", "5"), spend("ann", "6")
	if err := spend("ann", "7"); !errors.Is(err, ledger.ErrFull) {
		t.Errorf("a sixth id: got %v, want ErrFull", err)
	}
	c.pass(2 * time.Minute)
	b.Keep(t.Context())
	if err := spend("ann", "8"); err != nil {
		t.Errorf("when ids are forgotten: got %v", err)
	}
	c.pass(62 * 24 * time.Hour) // a month after the end of the month
	b.Keep(t.Context())
	if balances, records := b.Sizes(); balances != 0 || records != 0 {
		t.Errorf("two months later: got %d keys and %d ids, want none", balances, records)
	}
}

// Who has read all writes at once; what another wrote meanwhile makes it read
// again, and so a writer that was asleep does no harm.
func TestAWriterThatWasAsleepIsRefused(t *testing.T) {
	t.Parallel()
	on, c := newBus(t), newClock(start)
	asleep, awake := open(t, on, c), open(t, on, c)
	spend(t, asleep, 1)
	for i := range 9 {
		if ok, err := awake.Spend(t.Context(), id(fmt.Sprint(i)), time.Minute, []ledger.Ask{ask(1, "ann", 10, 1)}); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	// It believes that nine are left, and its id is one of those.
	if ok, err := asleep.Spend(t.Context(), id("3"), time.Minute, []ledger.Ask{ask(1, "ann", 10, 1)}); !ok || err != nil {
		t.Errorf("a repetition: got %t, %v, want the first answer", ok, err)
	}
	if ok, err := asleep.Spend(t.Context(), id("new"), time.Minute, []ledger.Ask{ask(1, "ann", 10, 1)}); ok || err != nil {
		t.Errorf("one too many: got %t, %v, want a refusal", ok, err)
	}
	if got := total(t, on)[1]; got != 10 {
		t.Errorf("the ledger adds up to %d, want 10", got)
	}
}
