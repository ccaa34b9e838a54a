package ledger_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/ledger"
)

// oracle is what a ledger should say, written down as simply as can be.
type oracle struct {
	now      time.Time
	most     uint64
	accounts map[string]*sum
	checks   map[string]time.Time // until when an id is known
	made     map[string]*made
}

type sum struct{ spent, reserved uint64 }

type made struct {
	users             []string
	state             string // reserved, expired, committed, refunded
	amount, now       uint64 // reserved, and charged at present
	over              uint64
	expires, settled  time.Time
	charged, refunded uint64
}

func (o *oracle) fits(users []string, amount uint64) bool {
	for _, u := range users {
		if a := o.account(u); a.spent+a.reserved+amount > o.most {
			return false
		}
	}
	return true
}

func (o *oracle) account(user string) *sum {
	if o.accounts[user] == nil {
		o.accounts[user] = new(sum)
	}
	return o.accounts[user]
}

func (o *oracle) spend(id string, users []string, amount uint64) bool {
	if until, ok := o.checks[id]; ok && !until.Before(o.now) {
		return true
	}
	if !o.fits(users, amount) {
		return false
	}
	for _, u := range users {
		o.account(u).spent += amount
	}
	o.checks[id] = o.now.Add(time.Minute)
	return true
}

// known is a reservation that is not forgotten.
func (o *oracle) known(id string) *made {
	r := o.made[id]
	if r == nil || r.state != "reserved" && r.settled.Add(25*time.Hour).Before(o.now) {
		return nil
	}
	return r
}

func (o *oracle) reserve(id string, users []string, amount uint64, ttl time.Duration) bool {
	if o.known(id) != nil {
		return true
	}
	if !o.fits(users, amount) {
		return false
	}
	for _, u := range users {
		o.account(u).reserved += amount
	}
	o.made[id] = &made{users: users, state: "reserved", amount: amount, expires: o.now.Add(ttl)}
	return true
}

func (o *oracle) commit(id string, actual uint64) (charged, over uint64, known bool) {
	r := o.known(id)
	if r == nil {
		return 0, 0, false
	}
	if r.state == "reserved" || r.state == "expired" {
		for _, u := range r.users {
			a := o.account(u)
			if r.state == "reserved" {
				a.reserved -= r.amount
			}
			a.spent -= r.now
			left := uint64(0)
			if used := a.spent + a.reserved; used < o.most {
				left = o.most - used
			}
			if actual > left {
				r.over = max(r.over, actual-left)
			}
			a.spent += actual
		}
		r.state, r.charged, r.settled = "committed", actual, o.now
	}
	return r.charged, r.over, true
}

func (o *oracle) refund(id string) (uint64, bool) {
	r := o.known(id)
	if r == nil {
		return 0, false
	}
	if r.state == "reserved" || r.state == "expired" {
		r.refunded = r.now
		for _, u := range r.users {
			a := o.account(u)
			if r.state == "reserved" {
				a.reserved -= r.amount
				r.refunded = r.amount
			}
			a.spent -= r.now
		}
		r.state, r.settled = "refunded", o.now
	}
	return r.refunded, true
}

func (o *oracle) expire() {
	for _, r := range o.made {
		if r.state == "reserved" && !r.expires.After(o.now) {
			r.state, r.now, r.settled = "expired", r.amount, o.now
			for _, u := range r.users {
				o.account(u).reserved -= r.amount
				o.account(u).spent += r.amount
			}
		}
	}
}

// Whatever is asked, by whichever of two writers with deaf ears, through whatever
// restarts, is as a simple list of sums says.
func TestALedgerIsAsItsOracle(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 7))
			on, c := newBus(t), newClock(start)
			writer := func() *ledger.Book {
				return open(t, on, c, func(o *ledger.Options) { o.Log = &faulty{Log: o.Log, rand: r, most: 0.1} })
			}
			books := []*ledger.Book{writer(), writer()}
			o := &oracle{now: start, most: 1000, accounts: map[string]*sum{}, checks: map[string]time.Time{}, made: map[string]*made{}}
			users := []string{"ann", "bob", "eve"}
			for step := range 1500 {
				b := books[r.IntN(2)]
				name := fmt.Sprint("n", r.IntN(40)+step/10)
				some := users[r.IntN(3):]
				amount := r.Uint64N(120) + 1
				asks := func() (all []ledger.Ask) {
					for _, u := range some {
						all = append(all, ask(1, u, 1000, amount))
					}
					return all
				}
				fail := func(what string, got, want any) {
					t.Fatalf("step %d, %s %s of %d for %v: got %v, want %v", step, what, name, amount, some, got, want)
				}
				switch r.IntN(9) {
				case 0, 1:
					want := o.spend(name, some, amount)
					got, err := b.Spend(t.Context(), id("c"+name), time.Minute, asks())
					if got != want && err == nil { // a refusal may be a little old
						if err = b.Catch(t.Context()); err == nil {
							got, err = b.Spend(t.Context(), id("c"+name), time.Minute, asks())
						}
					}
					if got != want || err != nil {
						fail("spend", fmt.Sprint(got, err), want)
					}
				case 2, 3, 4:
					want := o.reserve(name, some, amount, time.Hour)
					got, _, err := b.Reserve(t.Context(), id(name), time.Hour, asks())
					if got != want && err == nil {
						if err = b.Catch(t.Context()); err == nil {
							got, _, err = b.Reserve(t.Context(), id(name), time.Hour, asks())
						}
					}
					if got != want || err != nil {
						fail("reserve", fmt.Sprint(got, err), want)
					}
				case 5:
					want, wantOver, known := o.commit(name, amount)
					got, over, err := b.Commit(t.Context(), id(name), amount, 0)
					if got != want || over != wantOver || (err == nil) != known || err != nil && !errors.Is(err, ledger.ErrUnknown) {
						fail("commit", fmt.Sprint(got, over, err), fmt.Sprint(want, wantOver, known))
					}
				case 6:
					want, known := o.refund(name)
					got, err := b.Refund(t.Context(), id(name), 0)
					if got != want || (err == nil) != known || err != nil && !errors.Is(err, ledger.ErrUnknown) {
						fail("refund", fmt.Sprint(got, err), fmt.Sprint(want, known))
					}
				case 7:
					d := time.Duration(r.Int64N(int64(20 * time.Minute)))
					if r.IntN(30) == 0 {
						d = 26 * time.Hour
					}
					c.pass(d)
					o.now = o.now.Add(d)
					b.Keep(t.Context())
					o.expire()
				default: // this one dies, perhaps between two pages of a snapshot
					if r.IntN(5) == 0 {
						books[r.IntN(2)] = writer()
					}
				}
				if step%100 == 0 {
					o.compare(t, step, b)
				}
			}
			for i, b := range append(books, writer()) {
				o.compare(t, i, b)
			}
			want := uint64(0)
			for _, a := range o.accounts {
				want += a.spent
			}
			if got := total(t, on)[1]; got != want {
				t.Errorf("the ledger adds up to %d, want %d", got, want)
			}
		})
	}
}

func (o *oracle) compare(t *testing.T, step int, b *ledger.Book) {
	t.Helper()
	all, err := b.Balances(t.Context(), 1, start)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range all {
		if want := *o.account(x.Attributes[1]); (sum{x.Spent, x.Reserved}) != want {
			t.Fatalf("step %d: %v has %d spent and %d reserved, want %+v", step, x.Attributes, x.Spent, x.Reserved, want)
		}
	}
}
