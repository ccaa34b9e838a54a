package ledger_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/ledger"
)

func TestSpend(t *testing.T) {
	t.Parallel()
	b := open(t, newBus(t), newClock(start))
	spend := func(name string, asks ...ledger.Ask) (bool, []ledger.Ask) {
		t.Helper()
		ok, err := b.Spend(t.Context(), id(name), time.Minute, asks)
		if err != nil {
			t.Fatal(err)
		}
		return ok, asks
	}
	if ok, asks := spend("1", ask(1, "ann", 10, 7), ask(2, "acme", 100, 7)); !ok || asks[0].Spent != 7 || asks[0].Left() != 3 || asks[1].Left() != 93 {
		t.Errorf("the first: got %t, %+v", ok, asks)
	}
	if ok, asks := spend("1", ask(1, "ann", 10, 7)); !ok || asks[0].Spent != 7 {
		t.Errorf("its repetition: got %t, %+v, want the same", ok, asks)
	}
	if ok, asks := spend("2", ask(1, "ann", 10, 4), ask(2, "acme", 100, 4)); ok || !asks[0].Exceeded || asks[1].Exceeded || asks[1].Spent != 7 {
		t.Errorf("more than is left: got %t, %+v, want a refusal that takes nothing", ok, asks)
	}
	shadow := ask(1, "ann", 10, 4)
	shadow.Shadow = true
	if ok, asks := spend("3", shadow, ask(2, "acme", 100, 4)); !ok || asks[0].Spent != 11 || asks[1].Spent != 11 {
		t.Errorf("over a limit that is only watched: got %t, %+v", ok, asks)
	}
}

func TestReservation(t *testing.T) {
	t.Parallel()
	type call struct {
		what   string // reserve, commit, refund, pass (hours)
		amount uint64
		// What comes back: of commit charged and overdraft, of refund the refund.
		want, over uint64
		keep       time.Duration // of commit and refund
		err        error
		refused    bool
	}
	tests := []struct {
		name            string
		free            bool
		calls           []call
		spent, reserved uint64
	}{
		{"is set aside", false, []call{{what: "reserve", amount: 60}}, 0, 60},
		{"is not more than is left", false, []call{{what: "reserve", amount: 101, refused: true}}, 0, 0},
		{"is made once", false, []call{{what: "reserve", amount: 60}, {what: "reserve", amount: 60}}, 0, 60},
		{"is charged what was spent", false, []call{{what: "reserve", amount: 60}, {what: "commit", amount: 40, want: 40}}, 40, 0},
		{"is charged more than it was", false, []call{{what: "reserve", amount: 60}, {what: "commit", amount: 90, want: 90}}, 90, 0},
		{"is charged over the limit", false, []call{{what: "reserve", amount: 60}, {what: "commit", amount: 130, want: 130, over: 30}}, 130, 0},
		{
			"is charged once", false,
			[]call{{what: "reserve", amount: 60}, {what: "commit", amount: 130, want: 130, over: 30}, {what: "commit", amount: 5, want: 130, over: 30}},
			130, 0,
		},
		{"may cost nothing", false, []call{{what: "reserve", amount: 60}, {what: "commit", amount: 0}}, 0, 0},
		{"is given back", false, []call{{what: "reserve", amount: 60}, {what: "refund", want: 60}}, 0, 0},
		{"is given back once", false, []call{{what: "reserve", amount: 60}, {what: "refund", want: 60}, {what: "refund", want: 60}}, 0, 0},
		{"is not given back when it is charged", false, []call{{what: "reserve", amount: 60}, {what: "commit", amount: 7, want: 7}, {what: "refund"}}, 7, 0},
		{"is not charged when it is given back", false, []call{{what: "reserve", amount: 60}, {what: "refund", want: 60}, {what: "commit", amount: 7}}, 0, 0},
		{"is made before it is charged", false, []call{{what: "commit", amount: 1, err: ledger.ErrUnknown}, {what: "refund", err: ledger.ErrUnknown}}, 0, 0},
		{"is charged when it expires", false, []call{{what: "reserve", amount: 60}, {what: "pass", amount: 2}}, 60, 0},
		{"is free when it expires", true, []call{{what: "reserve", amount: 60}, {what: "pass", amount: 2}}, 0, 0},
		{"is the same after it expired", false, []call{{what: "reserve", amount: 60}, {what: "pass", amount: 2}, {what: "reserve", amount: 60}}, 60, 0},
		{"is corrected after it expired", false, []call{{what: "reserve", amount: 60}, {what: "pass", amount: 2}, {what: "commit", amount: 7, want: 7}}, 7, 0},
		{"is charged late where expiry was free", true, []call{{what: "reserve", amount: 60}, {what: "pass", amount: 2}, {what: "commit", amount: 7, want: 7}}, 7, 0},
		{"is given back after it expired", false, []call{{what: "reserve", amount: 60}, {what: "pass", amount: 2}, {what: "refund", want: 60}}, 0, 0},
		{
			"is remembered for a day", false,
			[]call{{what: "reserve", amount: 60}, {what: "commit", amount: 7, want: 7}, {what: "pass", amount: 24}, {what: "commit", amount: 8, want: 7}},
			7, 0,
		},
		{
			"is remembered for as long as is said", false,
			[]call{{what: "reserve", amount: 60}, {what: "refund", want: 60, keep: 3 * time.Hour}, {what: "pass", amount: 2}, {what: "commit", amount: 8}},
			0, 0,
		},
		{
			"is forgotten when that is said", false,
			[]call{
				{what: "reserve", amount: 60},
				{what: "commit", amount: 7, want: 7, keep: 3 * time.Hour},
				{what: "pass", amount: 4},
				{what: "refund", err: ledger.ErrUnknown},
				{what: "reserve", amount: 60},
			},
			7, 60,
		},
		{
			"is forgotten then", false,
			[]call{{what: "reserve", amount: 60}, {what: "commit", amount: 7, want: 7}, {what: "pass", amount: 26}, {what: "commit", amount: 8, err: ledger.ErrUnknown}},
			7, 0,
		},
	}
	for _, restart := range []bool{false, true} { // before each call
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s, restart %t", tt.name, restart), func(t *testing.T) {
				t.Parallel()
				on, c := newBus(t), newClock(start)
				b := open(t, on, c)
				for i, call := range tt.calls {
					if restart {
						if i == 2 {
							b.Keep(t.Context()) // from a snapshot too
						}
						b = open(t, on, c)
					}
					got, over, err, ok := uint64(0), uint64(0), error(nil), true
					switch call.what {
					case "reserve":
						a := ask(1, "ann", 100, call.amount)
						a.FreeExpiry = tt.free
						ok, _, err = b.Reserve(t.Context(), id("r"), time.Hour, []ledger.Ask{a})
					case "commit":
						got, over, err = b.Commit(t.Context(), id("r"), call.amount, call.keep)
					case "refund":
						got, err = b.Refund(t.Context(), id("r"), call.keep)
					case "pass":
						c.pass(time.Duration(call.amount) * time.Hour)
						b.Keep(t.Context())
					}
					if !errors.Is(err, call.err) || got != call.want || over != call.over || ok == call.refused {
						t.Errorf("%s %d: got %d, %d over, %t, error %v; want %+v", call.what, call.amount, got, over, ok, err, call)
					}
				}
				s, r := spent(t, b, 1)
				if s != tt.spent || r != tt.reserved {
					t.Errorf("got %d spent and %d reserved, want %d and %d", s, r, tt.spent, tt.reserved)
				}
				if sum := total(t, on)[1]; sum != tt.spent {
					t.Errorf("the ledger adds up to %d, want %d", sum, tt.spent)
				}
			})
		}
	}
}

// Any number of writers, some of whose appends happen without their hearing of it,
// never admit more than the limit, and charge each id once.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	on, c := newBus(t), newClock(start)
	const limit, each, spends = 500, 4, 300
	var admitted [spends]atomic.Uint64 // by id
	var wg sync.WaitGroup
	for w := range each {
		b := open(t, on, c, func(o *ledger.Options) {
			o.Log = &faulty{Log: o.Log, rand: rand.New(rand.NewPCG(1, uint64(w))), most: 0.2}
		})
		for g := range 8 {
			wg.Go(func() {
				for i := range spends {
					n := (i*7 + g*31) % spends // all have the same ids, in other orders
					ok, err := b.Spend(t.Context(), id(fmt.Sprint("x", n)), time.Hour, []ledger.Ask{ask(1, "ann", limit, 2), ask(2, "all", 1<<40, 1)})
					if err != nil {
						t.Error(err)
						return
					}
					if ok {
						admitted[n].Store(1)
					}
				}
			})
		}
	}
	wg.Wait()
	var sum uint64
	for i := range admitted {
		sum += admitted[i].Load()
	}
	b := open(t, on, c)
	got, _ := spent(t, b, 1)
	other, _ := spent(t, b, 2)
	if sum != limit/2 || got != limit || other != sum {
		t.Errorf("admitted %d, spent %d and %d, want %d, %d and %d", sum, got, other, limit/2, limit, sum)
	}
	if want := map[uint64]uint64{1: limit, 2: limit / 2}; !cmp.Equal(want, total(t, on)) {
		t.Errorf("the ledger adds up to %v, want %v", total(t, on), want)
	}
}
