// Package audit is what services call to say what happened.
//
// A [Recorder] takes events, packs whatever is waiting into one batch, and
// publishes batch after batch to the audit stream, each chained to the one
// before. It promises that an event it accepted is published, in order, once
// the stream can be reached, as long as the process lives; that it says no when
// it cannot take more; and that [Recorder.Commit] returns nil only after the
// stream has acknowledged the event. It never drops an accepted event in favour
// of another.
//
// Accepted events wait in memory. A spool file, which lets them outlive the
// process and an outage longer than the queue, is not part of this package yet.
//
// The package knows nothing of NATS: see [Publisher].
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

// Why an event was not taken, or is not known to be kept. The errors that
// Record and Commit return wrap one of these in a fault with the code
// UNAVAILABLE and ERROR_REASON_STREAM_UNAVAILABLE. Whoever gets one refuses
// what it was about to do: recording fails closed.
var (
	// ErrFull says that the queue is full: the stream is away or slow.
	ErrFull = errors.New("audit queue is full")
	// ErrClosed says that the recorder has stopped.
	ErrClosed = errors.New("audit recorder has stopped")
	// ErrUnacknowledged says that the stream did not acknowledge in time. The
	// event is queued all the same and may be published later.
	ErrUnacknowledged = errors.New("audit stream has not acknowledged")
	// ErrTooLarge says that a single event is larger than [MaxEventBytes].
	ErrTooLarge = errors.New("audit event is too large")
)

// Publisher puts one batch on the audit stream. Publish returns nil only when
// the stream has stored the batch. Two calls with the same id store it once.
// It must not keep batch after it has returned.
type Publisher interface {
	Publish(ctx context.Context, batch []byte, id string) error
}

// Options are what a Recorder is made of.
type Options struct {
	// Publisher must not be nil.
	Publisher Publisher
	// Service is the role that writes, such as "executor".
	Service string
	// Node tells the processes of that role apart.
	Node string
	// Config is checked by NewRecorder.
	Config Config
	// Log may be nil.
	Log *slog.Logger
	// Meter may be nil.
	Meter metric.Meter
}

// Recorder records events. Its methods are safe for concurrent use. Nothing is
// published before Run is called.
type Recorder struct {
	publisher Publisher
	service   string
	node      string
	cfg       Config
	log       *slog.Logger
	metrics   *metrics

	queue   *queue
	scratch sync.Pool // of *[]byte, for marshalling outside the queue's lock
	started atomic.Bool
	chain   chain // used by Run alone
}

// NewRecorder returns a recorder with an empty queue and a new chain.
func NewRecorder(o Options) (*Recorder, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("audit config: %w", err)
	}
	if o.Publisher == nil {
		return nil, errors.New("audit recorder: no publisher")
	}
	if o.Service == "" {
		return nil, errors.New("audit recorder: no service name")
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Recorder{
		publisher: o.Publisher,
		service:   clipped(o.Service, 64),
		node:      clipped(o.Node, 128),
		cfg:       o.Config,
		log:       log,
		queue:     newQueue(o.Config),
	}
	r.chain = newChain(r.service, r.node)
	var err error
	if r.metrics, err = newMetrics(o.Meter, r.queue.length); err != nil {
		return nil, fmt.Errorf("audit metrics: %w", err)
	}
	return r, nil
}

// Record queues e and returns without waiting for the stream. It fills in what
// is empty of id, time, service, node and traceparent, the last from the span
// in ctx, and cuts texts that are longer than their rule allows. The event
// belongs to the recorder from then on.
//
// A canceled ctx does not keep an event from being recorded: that something was
// canceled is worth recording too. After an error the event will not be
// published, and the caller must refuse.
func (r *Recorder) Record(ctx context.Context, e *auditv1.Event) error {
	_, err := r.enqueue(ctx, e)
	return err
}

// Commit does what Record does and waits until the stream has acknowledged the
// event. When ctx ends first the error wraps [ErrUnacknowledged]: the event may
// be published later, and the caller must not act on it.
func (r *Recorder) Commit(ctx context.Context, e *auditv1.Event) error {
	p, err := r.enqueue(ctx, e)
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return refusal(fmt.Errorf("%w: %w", ErrUnacknowledged, context.Cause(ctx)))
	}
	if p.err != nil {
		return refusal(fmt.Errorf("%w: %w", ErrUnacknowledged, p.err))
	}
	return nil
}

// enqueue marshals here rather than in the goroutine that publishes. It costs
// the same, and the caller learns at once of an event that cannot be written,
// while it can still refuse.
func (r *Recorder) enqueue(ctx context.Context, e *auditv1.Event) (*parcel, error) {
	if e == nil {
		return nil, errors.New("record audit event: nil event")
	}
	r.complete(ctx, e)

	buf, _ := r.scratch.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	defer r.scratch.Put(buf)
	raw, err := proto.MarshalOptions{}.MarshalAppend((*buf)[:0], e)
	if err != nil {
		// The only thing that cannot be marshalled is text that is not UTF-8.
		// It comes from outside, and must not be a way around the record.
		repairText(e.ProtoReflect())
		if raw, err = (proto.MarshalOptions{}).MarshalAppend((*buf)[:0], e); err != nil {
			return nil, refusal(fmt.Errorf("marshal audit event: %w", err))
		}
	}
	*buf = raw
	if len(raw) > MaxEventBytes {
		return nil, refusal(ErrTooLarge)
	}
	p, err := r.queue.add(raw)
	if err != nil {
		return nil, refusal(err)
	}
	return p, nil
}

// complete fills in what the recorder knows better than the caller.
func (r *Recorder) complete(ctx context.Context, e *auditv1.Event) {
	now := time.Now()
	if e.Id == "" {
		e.Id = string(appendID(make([]byte, 0, 26), now))
	}
	if e.Time == nil {
		e.Time = timestamppb.New(now)
	}
	if e.Service == "" {
		e.Service = r.service
	}
	if e.Node == "" {
		e.Node = r.node
	}
	if e.Traceparent == "" {
		e.Traceparent = traceparent(trace.SpanContextFromContext(ctx))
	}
	clipEvent(e)
}

// traceparent returns the W3C form of a span context, or nothing.
func traceparent(sc trace.SpanContext) string {
	if !sc.IsValid() {
		return ""
	}
	const hexes = "0123456789abcdef"
	b := make([]byte, 0, 55)
	b = append(b, "00-"...)
	trace, span, flags := sc.TraceID(), sc.SpanID(), byte(sc.TraceFlags())
	for _, c := range trace {
		b = append(b, hexes[c>>4], hexes[c&15])
	}
	b = append(b, '-')
	for _, c := range span {
		b = append(b, hexes[c>>4], hexes[c&15])
	}
	b = append(b, '-', hexes[flags>>4], hexes[flags&15])
	return string(b)
}

// refusal is what callers get. They may pass it on: it says nothing of us.
func refusal(cause error) error {
	return fault.New(codes.Unavailable, auditv1.ErrorReason_ERROR_REASON_STREAM_UNAVAILABLE,
		"the audit record could not be written").Because(cause)
}
