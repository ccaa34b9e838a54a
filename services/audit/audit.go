// Package audit answers questions about what was asked, decided and done.
//
// It follows the audit stream and keeps an index of its events, in which it
// searches. The stream is the record; the index is derived from it and can be
// deleted. The service writes nothing to the stream, and no call waits for it.
//
// How far the index has come is written in the index itself, in the same
// transaction as the events, and reading starts at the message after that. There
// is no durable consumer with acknowledgements, because that would be a second
// opinion about the same thing: it would be wrong after the index was deleted or
// restored, and two nodes, each with an index of its own, would each get half of
// the messages.
//
// A tamper-evident log over all producers is not part of this package yet; what
// the chain of each producer proves is checked by Verify.
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	"github.com/sallyport-mcp/sallyport/services/audit/internal/index"
	"github.com/sallyport-mcp/sallyport/services/audit/internal/stream"
)

// Options are what a Service is made of.
type Options struct {
	// Config is checked by New. Its Dir must not be empty.
	Config Config
	// Bus has the audit stream and must not be nil. It need not be connected.
	Bus *bus.Bus
	// Log, Tracer and Meter may be nil.
	Log    *slog.Logger
	Tracer trace.Tracer
	Meter  metric.Meter
}

// Service follows the audit stream and answers from an index of it. Its methods
// are safe for concurrent use.
type Service struct {
	auditv1.UnimplementedAuditServiceServer

	cfg     Config
	log     *slog.Logger
	tracer  trace.Tracer
	metrics *metrics
	stream  *stream.Stream
	stopped chan struct{} // closed when Run has returned

	mu       sync.Mutex
	index    *index.Index  // nil while there is none
	advanced chan struct{} // closed and replaced when events were added
	applied  uint64        // last message of the stream that is indexed
	last     uint64        // last message of the stream, as far as is known
	asked    time.Time     // when the stream last told
}

// New returns a service. It does nothing before Run is called.
func New(o Options) (*Service, error) {
	errs := []error{o.Config.Validate()}
	if o.Config.Dir == "" {
		errs = append(errs, errors.New("dir: missing"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s := &Service{
		cfg:      o.Config,
		log:      o.Log,
		tracer:   o.Tracer,
		stream:   stream.New(o.Bus),
		stopped:  make(chan struct{}),
		advanced: make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.tracer == nil {
		s.tracer = tracenoop.Tracer{}
	}
	var err error
	if s.metrics, err = newMetrics(o.Meter, s.lag); err != nil {
		return nil, fmt.Errorf("audit metrics: %w", err)
	}
	return s, nil
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { auditv1.RegisterAuditServiceServer(r, s) }

// freshness is how old the word of the stream may be for Check.
const freshness = 10 * time.Second

// Check reports whether the index is open and it is known how far it is behind
// the stream.
func (s *Service) Check(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.index == nil {
		return errors.New("the index is not open")
	}
	if time.Since(s.asked) > freshness {
		return errors.New("the audit stream does not answer")
	}
	return nil
}

// lag returns the number of messages that are not indexed yet.
func (s *Service) lag() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last - min(s.applied, s.last)
}

// open returns the index for reading.
func (s *Service) open() (*index.Index, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.index == nil {
		return nil, unavailable(errors.New("the index is not open"))
	}
	return s.index, nil
}

// use puts an index in place, or none, and returns the one that was there.
func (s *Service) use(x *index.Index, head index.Head) (old *index.Index) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, s.index, s.applied = s.index, x, head.Sequence
	return old
}

// told notes what the stream said about itself.
func (s *Service) told(last uint64, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.asked = last, at
}

// moved notes that the index has come to a message, which others followed, and
// wakes those who wait for events if some were added.
func (s *Service) moved(applied, pending uint64, added bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applied = applied
	s.last = max(s.last, applied+pending)
	if added {
		close(s.advanced)
		s.advanced = make(chan struct{})
	}
}

// next returns a channel that is closed when events were added after this call.
func (s *Service) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.advanced
}

// unavailable is the answer when the index cannot be read. A context that ended
// is the caller's doing and is returned as it is.
func unavailable(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fault.New(codes.Unavailable, auditv1.ErrorReason_ERROR_REASON_INDEX_UNAVAILABLE,
		"the audit index cannot be read just now").Because(err)
}
