// Package ledger counts what durable quotas have spent, so that no unit is lost or
// counted twice whatever dies.
//
// All that is booked is in one stream, and the state is what its messages amount
// to. A node decides from its state, writes what it decided into one message, and
// answers when the stream has acknowledged it. The message names the one before
// it; so it is refused if the node has missed one, and the node then reads on and
// decides again:
//
//	asks ──▶ decide ──▶ append ──acknowledged──▶ apply ──▶ answer
//	           ▲          │ refused, or no word
//	           └─ read on ┘
//
// Whatever is booked has an id, and the state remembers ids. To decide again what
// is in the stream already changes nothing and gives the first answer. So it does
// not matter whether an append of which nothing was heard has happened, nor who
// writes: any number of nodes may, and only slow each other down.
//
// One append is on its way at a time, and what is asked meanwhile goes with the
// next. The package knows limits by a name, keys by a hash, and nothing of rules.
package ledger

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// The errors of what a book is asked.
var (
	// ErrUnavailable says that the ledger gave no answer. What was asked may be
	// booked or not; to ask again with the same id is safe.
	ErrUnavailable = errors.New("the ledger does not answer")
	// ErrFull says that there is no room for another key or reservation. Nothing
	// was booked.
	ErrFull = errors.New("no room for another key or reservation")
	// ErrUnknown says that there is no such reservation.
	ErrUnknown = errors.New("no such reservation")
)

// Log is the stream. [bus.Ledger] implements it.
type Log interface {
	// Append fails with [bus.ErrConflict] if last is not the last sequence. Another
	// error leaves open what has happened.
	Append(ctx context.Context, last uint64, id string, data []byte) (uint64, error)
	Read(ctx context.Context, from uint64, on func(sequence uint64, data []byte) error) (first, last uint64, err error)
}

// Store keeps snapshots. [bus.Bus] implements it.
type Store interface {
	Get(ctx context.Context, b bus.Bucket, key string) (bus.Entry, error)
	Put(ctx context.Context, b bus.Bucket, key string, value []byte) (uint64, error)
	Create(ctx context.Context, b bus.Bucket, key string, value []byte) (uint64, error)
	Update(ctx context.Context, b bus.Bucket, key string, value []byte, revision uint64) (uint64, error)
}

// Options are what a book is made of.
type Options struct {
	Log   Log
	Store Store
	// MaxBalances and MaxRecords bound the memory: keys and periods, and ids.
	MaxBalances, MaxRecords int
	// Patience is how long the stream may be silent.
	Patience time.Duration
	// Leads reports whether this node ends what has expired and keeps the snapshots;
	// nil is always. It does no harm if two do.
	Leads func() bool
	// Needed reports whether anybody has durable quotas; nil is always. Without need
	// Run leaves the stream alone.
	Needed func() bool
	// Now is the time of day, which says when a reservation ends.
	Now func() time.Time
	// Logger must not be nil.
	Logger *slog.Logger
}

// Book is the state and what writes it. Its methods are safe for concurrent use.
type Book struct {
	o     Options
	epoch uint64 // of this process

	mu     sync.RWMutex
	state  *state    // nil until it is loaded
	fresh  time.Time // the state has all that was in the stream then
	behind bool      // the stream may have more than the state

	queueMu sync.Mutex
	queue   []*op
	busy    bool
	away    time.Time // until then nobody waits for the stream

	sequence uint64 // of batches; only the writer touches it
	saving   saving
	silent   atomic.Bool // the stream did not answer when it was asked last
	tally    tally
}

// New returns a book that reads its state when it is first needed.
func New(o Options) *Book {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	book := &Book{o: o, epoch: binary.LittleEndian.Uint64(b[:])}
	book.tally.appended = noop.Float64Histogram{}
	return book
}

// Staleness is how old the state may be that a refusal is made of.
const Staleness = 100 * time.Millisecond

const (
	// queueSize is how much may wait for the writer.
	queueSize = 16 * batchSize
	// batchSize is how many asks one message answers.
	batchSize = 1024
	// batchBytes is about how large a message gets before its last booking, so that
	// it stays below what the contract and NATS take.
	batchBytes = 256 << 10
	// loadPatience is how long reading all of the state may take.
	loadPatience = time.Minute
	// retryAway is how long nobody waits after the stream was silent.
	retryAway = 200 * time.Millisecond
)

// op is something to decide. decide may be called several times; the last counts.
// It returns since when the state must have been complete for the answer to be
// good; what books something needs no such time.
type op struct {
	over    <-chan struct{} // closed when nobody waits any more
	arrived time.Time
	decide  func(*tx) (need time.Time)
	err     error
	done    chan struct{}
	// again says that what was asked for is booked already, booked that this asking
	// may have done it.
	again, booked bool
}

// do has the writer decide, and waits. What is not decided when it gives up will
// not be.
func (b *Book) do(ctx context.Context, decide func(*tx, *op) time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 2*b.o.Patience) // a batch, and the one before it
	defer cancel()
	o := &op{over: ctx.Done(), arrived: time.Now(), done: make(chan struct{})}
	o.decide = func(t *tx) time.Time { return decide(t, o) }
	b.queueMu.Lock()
	if len(b.queue) >= queueSize || o.arrived.Before(b.away) {
		b.queueMu.Unlock()
		return ErrUnavailable
	}
	b.queue = append(b.queue, o)
	if !b.busy {
		b.busy = true
		go b.write() // ends when nothing waits; every step has its time
	}
	b.queueMu.Unlock()
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		return errors.Join(ErrUnavailable, ctx.Err())
	}
}

// write decides whatever waits, batch by batch.
func (b *Book) write() {
	for {
		b.queueMu.Lock()
		ops := b.queue
		if len(ops) == 0 {
			b.queue, b.busy = nil, false
			b.queueMu.Unlock()
			return
		}
		if len(ops) > batchSize {
			ops = ops[:batchSize:batchSize]
		}
		b.queue = b.queue[len(ops):]
		b.queueMu.Unlock()
		b.settle(ops)
	}
}

// settle decides ops, however many messages that takes.
func (b *Book) settle(ops []*op) {
	ctx, cancel := context.WithTimeout(context.Background(), b.o.Patience)
	defer cancel()
	var last error
	for tries := 0; len(ops) > 0; tries++ {
		n, err := b.attempt(ctx, ops)
		if err != nil && (ctx.Err() == nil || last == nil) {
			last = err
		}
		if errors.Is(err, errBroken) || err != nil && ctx.Err() != nil {
			b.o.Logger.Warn("nothing can be decided about durable quotas", "err", last)
			b.giveUp(ops)
			return
		}
		if err == nil {
			b.answered(true)
			for _, o := range ops[:n] {
				if o.again && !o.booked {
					b.tally.duplicates.Add(1)
				}
				close(o.done)
			}
			ops = ops[n:]
			continue
		}
		if errors.Is(err, bus.ErrConflict) {
			b.tally.conflicts.Add(1)
		} else {
			b.pause(ctx, tries)
		}
	}
}

// giveUp tells everybody that nothing is known.
func (b *Book) giveUp(ops []*op) {
	b.answered(false)
	b.queueMu.Lock()
	b.away = time.Now().Add(retryAway)
	waiting := b.queue
	b.queue = nil
	b.queueMu.Unlock()
	for _, list := range [][]*op{ops, waiting} {
		for _, o := range list {
			o.err = ErrUnavailable
			close(o.done)
		}
	}
}

func (b *Book) pause(ctx context.Context, tries int) {
	t := time.NewTimer(min(time.Millisecond<<min(tries, 6), 50*time.Millisecond))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// attempt decides as many ops as go into one message, and returns how many. On an
// error none is decided, and whatever was appended all the same will be read.
func (b *Book) attempt(ctx context.Context, ops []*op) (int, error) {
	switch { // only this goroutine writes them
	case b.state == nil:
		// This may take long, and who waits has his own patience.
		loading, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadPatience)
		defer cancel()
		if err := b.load(loading); err != nil {
			return 0, err
		}
	case b.behind:
		if err := b.catchUp(ctx); err != nil {
			return 0, err
		}
	}
	t, n, need := b.decide(ops)
	if len(t.entries) > 0 {
		return n, b.append(ctx, t)
	}
	if need.After(b.fresh) {
		if err := b.catchUp(ctx); err != nil {
			return 0, err
		}
		return 0, nil // the same again, by the state of now
	}
	return n, nil
}

// decide decides as many ops as go into one message. It tells how many, and since
// when the state must have been complete if nothing was booked.
func (b *Book) decide(ops []*op) (t *tx, n int, need time.Time) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	t = newTx(b.state, b.o)
	for ; n < len(ops) && t.size < batchBytes; n++ {
		o := ops[n]
		o.err = nil
		select {
		case <-o.over: // nothing is booked that nobody hears of
			o.err = ErrUnavailable
			continue
		default:
		}
		before := len(t.entries)
		o.again = false
		if at := o.decide(t); at.After(need) {
			need = at
		}
		o.booked = o.booked || len(t.entries) > before
	}
	return t, n, need
}

// append writes what a tx booked, and makes it the state.
func (b *Book) append(ctx context.Context, t *tx) error {
	b.sequence++
	data, err := proto.Marshal(&quotav1.LedgerBatch{Epoch: b.epoch, Sequence: b.sequence, Entries: t.entries})
	if err != nil {
		return err
	}
	id := strconv.FormatUint(b.epoch, 36) + "." + strconv.FormatUint(b.sequence, 36)
	sent := time.Now()
	sequence, err := b.o.Log.Append(ctx, b.state.applied, id, data)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil || sequence != b.state.applied+1 {
		b.behind = true
		return errors.Join(err, errBehind)
	}
	t.merge(sequence)
	b.fresh = sent
	b.tally.booked.Add(int64(len(t.entries)))
	b.tally.appended.Record(ctx, time.Since(sent).Seconds())
	return nil
}

var errBehind = errors.New("the state is behind the ledger")
