// Package executor calls tools, reads resources and renders prompts. It knows
// which there are, checks that auth has granted a call and that its arguments are
// what the tool wants, records the intent before and the outcome after, and
// answers with a result, with a question to the client, or with a refusal that a
// model can act on. Whether a tool is an RPC of a tool service or comes from a
// provider makes no difference to whoever calls it.
//
// Nothing reaches a tool service or a provider but through here, and nothing gets through
// here without a grant that auth has signed for exactly this call. The executor
// decides nothing about policy and knows nothing of credentials.
package executor

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	"github.com/sallyport-mcp/sallyport/pkg/taint"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/catalogue"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/contexts"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/grant"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/once"
)

// Recorder says what happened.
type Recorder interface {
	// Record queues an event, or fails at once.
	Record(context.Context, *auditv1.Event) error
	// Commit queues an event and returns when it is safely kept.
	Commit(context.Context, *auditv1.Event) error
}

// Conn is a connection to a tool service.
type Conn interface {
	grpc.ClientConnInterface
	Close() error
}

// Options are what a service is made of.
type Options struct {
	Config Config
	// Audit must not be nil.
	Audit Recorder
	// Dial returns a lazy connection to a tool service, or to the external guard
	// ("guard"), at an address; what is there must prove to be that service. It must
	// not be nil.
	Dial func(service, address string) (Conn, error)
	// Bus is where tool services announce themselves, and auth credentials that
	// were revoked. Nil means that there are none and Run does nothing.
	Bus *bus.Bus
	// Used is where all executors note which grants for destructive tools they
	// have used up, and which calls with idempotency keys were made. It must not be
	// nil.
	Used once.Bucket
	// Contexts is where what contexts have seen is kept, for auth too. It must not be
	// nil.
	Contexts contexts.Bucket
	// Hold says which tools must not be used. Nil means that there are none.
	Hold catalogue.Hold
	// Log, Meter and Tracer may be nil.
	Log    *slog.Logger
	Meter  metric.Meter
	Tracer trace.Tracer
}

// maxRevoked is how many revoked credentials are remembered.
const maxRevoked = 10_000

// Service implements [executorv1.ExecutorServiceServer]. Its methods are safe
// for concurrent use.
type Service struct {
	executorv1.UnimplementedExecutorServiceServer

	cfg       Config
	log       *slog.Logger
	audit     Recorder
	bus       *bus.Bus
	tracer    trace.Tracer
	metrics   *metrics
	keys      *grant.Files
	used      *grant.Used
	once      *once.Book
	revoked   *grant.Revoked
	guards    *guard.Chain
	external  Conn // to the external guard; nil for none
	contexts  *contexts.Book
	finder    taint.Finder
	catalogue *catalogue.Catalogue
}

// New returns a service with an empty catalogue; Run fills it.
func New(o Options) (*Service, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Meter == nil {
		o.Meter = metricnoop.Meter{}
	}
	if o.Tracer == nil {
		o.Tracer = tracenoop.Tracer{}
	}
	m, err := newMetrics(o.Meter)
	if err != nil {
		return nil, err
	}
	s := &Service{
		cfg: o.Config, log: o.Log, audit: o.Audit, bus: o.Bus, tracer: o.Tracer, metrics: m,
		keys:    grant.NewFiles(o.Config.GrantKeyFiles, o.Config.GrantKeyOverlap, o.Log),
		used:    grant.NewUsed(o.Config.MaxUsedGrants, o.Used),
		revoked: grant.NewRevoked(maxRevoked),
	}
	s.once = once.NewBook(o.Used, s.keys)
	s.contexts = contexts.NewBook(o.Contexts, s.keys, o.Config.AuditTimeout)
	if err := s.guard(o); err != nil {
		return nil, err
	}
	static := make([]catalogue.Static, len(o.Config.Services))
	for i, c := range o.Config.Services {
		static[i] = catalogue.Static(c)
	}
	s.catalogue, err = catalogue.New(catalogue.Options{
		Dial: func(service, address string) (catalogue.Conn, error) {
			return o.Dial(service, address)
		},
		Static:  static,
		Joining: o.Config.Joining,
		Hold:    o.Hold,
		Refresh: o.Config.ReflectionInterval,
		Health:  o.Config.HealthInterval,
		Isolate: o.Config.Isolation,
		Log:     o.Log,
		Refused: m.refused,
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Offered returns all tools as their services offer them, withheld ones too.
func (s *Service) Offered() []catalogue.Offer { return s.catalogue.Offered() }

// Run keeps the catalogue, follows the files of grant keys and hears of revoked
// credentials until ctx is done.
func (s *Service) Run(ctx context.Context) error {
	if s.external != nil {
		defer func() { _ = s.external.Close() }() // nobody asks it any more
	}
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { s.keys.Follow(ctx) })
	if s.bus == nil {
		<-ctx.Done()
		return nil
	}
	// Makes the buckets, so that the first calls that need them do not wait. If it
	// fails those calls do.
	wg.Go(func() { _, _ = s.bus.Get(ctx, bus.Grants, "none") })
	wg.Go(func() { _, _ = s.bus.Get(ctx, bus.Contexts, "none") })
	unsubscribe, err := bus.Subscribe(s.bus, bus.SubjectCredentials, func(_ context.Context, k *authv1.Key) {
		if k.GetState() == authv1.KeyState_KEY_STATE_REVOKED {
			s.revoked.Note(k.GetId())
		}
	})
	if err != nil {
		return err
	}
	defer unsubscribe()
	if err := s.catalogue.Run(ctx, s.bus); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Ready returns an error until the service can answer: it has read the
// announcements, and a key to check grants with.
func (s *Service) Ready(context.Context) error {
	return errors.Join(s.catalogue.Loaded(), s.keys.Loaded())
}

// snapshot returns the tools there are. An empty catalogue that is merely not
// loaded yet must not be taken for the truth.
func (s *Service) snapshot() (*catalogue.Snapshot, error) {
	if err := s.catalogue.Loaded(); err != nil {
		return nil, fault.New(codes.Unavailable, faultv1.Reason_REASON_NOT_READY, "the tools are not loaded yet").Because(err)
	}
	return s.catalogue.Current(), nil
}
