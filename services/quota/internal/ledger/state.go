package ledger

import (
	"container/heap"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// ID is a hash: of a key, or of what tells a booking from all others.
type ID struct{ Hi, Lo uint64 }

// account is a key in a period.
type account struct {
	limit uint64
	key   ID
	start int64 // of the period, in seconds since 1970
}

// balance is what an account amounts to.
type balance struct {
	end             int64 // of the period
	spent, reserved uint64
	most            uint64   // the limit that held last
	attributes      []string // the key in words
}

// record is what became of an id. Its kind is what was done last.
type record struct {
	kind      quotav1.LedgerKind
	expires   int64 // of a reservation, in nanoseconds since 1970
	forget    int64 // when the id may come again; 0: not before it is settled
	amount    uint64
	overdraft uint64
	holds     []hold // of a reservation that is not settled
}

// hold is what an id has of an account.
type hold struct {
	account
	end             int64
	most            uint64 // the limit that held
	amount, charged uint64
	free            bool // nothing is charged when it expires
}

// parts is the number of pieces that snapshots are made of.
const parts = 64

// part is a piece of the state.
type part struct {
	// floor is the sequence up to which a snapshot had everything: while the
	// stream is read again, earlier messages do not concern this part.
	floor    uint64
	changed  uint64 // sequence of the last change
	balances map[account]*balance
	records  map[ID]*record
}

// state is what the messages up to applied amount to.
type state struct {
	applied  uint64
	parts    [parts]part
	balances int
	records  int
	expiries expiries
}

func newState() *state {
	s := new(state)
	for i := range s.parts {
		s.parts[i] = part{balances: make(map[account]*balance), records: make(map[ID]*record)}
	}
	return s
}

func (s *state) part(id ID) *part { return &s.parts[id.Lo%parts] }

// sweep forgets what is over in one part: ids whose time has come, and accounts a
// period after theirs has ended.
func (s *state) sweep(now time.Time, number int) {
	p := &s.parts[number]
	for id, r := range p.records {
		if r.forget != 0 && r.forget < now.UnixNano() {
			delete(p.records, id)
			s.records--
		}
	}
	for a, b := range p.balances {
		if b.reserved == 0 && 2*b.end-a.start < now.Unix() {
			delete(p.balances, a)
			s.balances--
		}
	}
}

// expiry is when a reservation ends.
type expiry struct {
	at int64
	id ID
}

// expiries is a heap, the next first. It may name reservations that are settled.
type expiries []expiry

// Len implements [heap.Interface].
func (e expiries) Len() int { return len(e) }

// Less implements [heap.Interface].
func (e expiries) Less(i, j int) bool { return e[i].at < e[j].at }

// Swap implements [heap.Interface].
func (e expiries) Swap(i, j int) { e[i], e[j] = e[j], e[i] }

// Push implements [heap.Interface].
func (e *expiries) Push(x any) { *e = append(*e, x.(expiry)) }

// Pop implements [heap.Interface].
func (e *expiries) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// due removes the reservations that have ended, some at a time.
func (s *state) due(now time.Time, most int) (ids []ID) {
	for len(s.expiries) > 0 && s.expiries[0].at <= now.UnixNano() && len(ids) < most {
		e := heap.Pop(&s.expiries).(expiry)
		if r := s.part(e.id).records[e.id]; r != nil && r.kind == quotav1.LedgerKind_LEDGER_KIND_RESERVE && r.expires == e.at {
			ids = append(ids, e.id)
		}
	}
	return ids
}
