package audit

import (
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of sallyport.audit.v1.Batch. The batch is written by hand, so
// that its events are not marshalled a second time; a test reads it back with
// the generated code.
const (
	batchProducer = 1
	batchSequence = 2
	batchPrevious = 3
	batchEvents   = 4
)

// parcel collects the events of one batch to come.
type parcel struct {
	body   []byte // the events as they will stand in the batch
	events int
	done   chan struct{} // closed when it is known what became of the parcel
	err    error         // why it was not published; read it after done
}

// queue holds parcels, oldest first. Events go into the newest. The publisher
// takes the oldest, and its events count as queued until it settles them.
type queue struct {
	maxEvents, maxBytes int

	// wake has room for one signal and gets one whenever a parcel comes into
	// an empty queue.
	wake chan struct{}

	mu            sync.Mutex
	parcels       []*parcel
	events, bytes int
	closed        bool
}

func newQueue(cfg Config) *queue {
	return &queue{maxEvents: cfg.Queue, maxBytes: cfg.QueueBytes, wake: make(chan struct{}, 1)}
}

// add copies a marshalled event into the newest parcel.
func (q *queue) add(event []byte) (*parcel, error) {
	size := protowire.SizeTag(batchEvents) + protowire.SizeBytes(len(event))
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, ErrClosed
	}
	if q.events+1 > q.maxEvents || q.bytes+size > q.maxBytes {
		return nil, ErrFull
	}
	var p *parcel
	if n := len(q.parcels); n > 0 {
		p = q.parcels[n-1]
	}
	if p == nil || p.events == MaxBatchEvents || len(p.body)+size > MaxBatchBytes {
		p = &parcel{body: make([]byte, 0, 1024), done: make(chan struct{})}
		q.parcels = append(q.parcels, p)
		if len(q.parcels) == 1 {
			select {
			case q.wake <- struct{}{}:
			default:
			}
		}
	}
	p.body = protowire.AppendTag(p.body, batchEvents, protowire.BytesType)
	p.body = protowire.AppendBytes(p.body, event)
	p.events++
	q.events++
	q.bytes += size
	return p, nil
}

// take removes the oldest parcel, or returns nil if there is none. Nothing is
// added to a parcel that was taken.
func (q *queue) take() *parcel {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.parcels) == 0 {
		return nil
	}
	p := q.parcels[0]
	q.parcels[0] = nil
	q.parcels = q.parcels[1:]
	if len(q.parcels) == 0 {
		q.parcels = nil
	}
	return p
}

// settle tells those who wait for p what became of it, and makes room.
func (q *queue) settle(p *parcel, err error) {
	q.mu.Lock()
	q.events -= p.events
	q.bytes -= len(p.body)
	q.mu.Unlock()
	p.err = err
	close(p.done)
}

// closeIfEmpty refuses all further events, unless some are waiting.
func (q *queue) closeIfEmpty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = len(q.parcels) == 0
	return q.closed
}

// abandon refuses all further events and settles those that wait. It returns
// how many those were.
func (q *queue) abandon(err error) (events int) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	for p := q.take(); p != nil; p = q.take() {
		events += p.events
		q.settle(p, err)
	}
	return events
}

// length returns the number of events that were not acknowledged.
func (q *queue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.events
}
