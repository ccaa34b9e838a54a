package ledger_test

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/bustest"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/ledger"
)

// clock is a time of day that tests set.
type clock struct{ nanos atomic.Int64 }

func (c *clock) now() time.Time        { return time.Unix(0, c.nanos.Load()) }
func (c *clock) pass(d time.Duration)  { c.nanos.Add(int64(d)) }
func newClock(at time.Time) (c *clock) { c = new(clock); c.nanos.Store(at.UnixNano()); return c }

// start is the first day of the periods in tests.
var start = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// open returns a book on a bus.
func open(t testing.TB, b *bus.Bus, c *clock, change ...func(*ledger.Options)) *ledger.Book {
	t.Helper()
	o := ledger.Options{
		Log: b.Ledger(), Store: b, MaxBalances: 1000, MaxRecords: 100_000, Patience: 20 * time.Second,
		Now: c.now, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, f := range change {
		f(&o)
	}
	return ledger.New(o)
}

// ask is a limit of a month and user.
func ask(limit uint64, user string, most, cost uint64) ledger.Ask {
	return ledger.Ask{
		Limit: limit, Key: id(user), Attributes: []string{"user", user},
		Start: start.Unix(), End: start.AddDate(0, 1, 0).Unix(), Most: most, Cost: cost,
	}
}

func id(text string) ledger.ID {
	var b [16]byte
	for i := range len(text) {
		b[i%16] = b[i%16]*31 + text[i]
	}
	return ledger.ID{Hi: binary.LittleEndian.Uint64(b[:]), Lo: binary.LittleEndian.Uint64(b[8:]) ^ uint64(len(text))}
}

// faulty is a log whose appends fail now and then, before or after they happened.
type faulty struct {
	ledger.Log
	mu   sync.Mutex
	rand *rand.Rand
	most float64
}

var errFault = errors.New("no answer")

func (f *faulty) Append(ctx context.Context, last uint64, id string, data []byte) (uint64, error) {
	f.mu.Lock()
	x := f.rand.Float64()
	f.mu.Unlock()
	if x < f.most/2 {
		return 0, errFault
	}
	sequence, err := f.Log.Append(ctx, last, id, data)
	if err == nil && x < f.most {
		return 0, errFault
	}
	return sequence, err
}

// total adds up the ledger itself: what each key has spent, by its limit.
func total(t testing.TB, b *bus.Bus) map[uint64]uint64 {
	t.Helper()
	sum := make(map[uint64]uint64)
	_, _, err := b.Ledger().Read(t.Context(), 1, func(_ uint64, data []byte) error {
		m := new(quotav1.LedgerBatch)
		if err := proto.Unmarshal(data, m); err != nil {
			return err
		}
		for _, e := range m.GetEntries() {
			if e.GetKind() != quotav1.LedgerKind_LEDGER_KIND_RESERVE {
				sum[e.GetLimit()] += e.GetAmount() - e.GetCredited()
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// spent is what a book says of a limit.
func spent(t testing.TB, b *ledger.Book, limit uint64) (spent, reserved uint64) {
	t.Helper()
	all, err := b.Balances(t.Context(), limit, start)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range all {
		spent, reserved = spent+x.Spent, reserved+x.Reserved
	}
	return spent, reserved
}

func newBus(t testing.TB) *bus.Bus { return bustest.New(t) }
