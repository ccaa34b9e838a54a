// Package edge is the front door: HTTP and the Model Context Protocol on one
// side, the gRPC services on the other.
//
// It speaks MCP 2026-07-28, 2025-11-25 and 2025-06-18 on POST /mcp by its own
// thin layer, so that every byte from outside is bounded and judged before it
// costs anything: who asks is known before the body is read, and the body is
// scanned once, strictly. What was scanned is what is authorized, hashed and
// executed.
//
// The edge faces hostile clients and is built to be worth little to whoever
// takes it: it holds no policies, no counters and no tool code, and it cannot
// call a tool without a grant that only auth can make. The one key it has seals
// what clients are given to bring back, such as the state of a request that
// takes several rounds; it opens nothing else. When auth or quota do not answer
// the edge refuses.
package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/clientaddr"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/seal"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/session"
)

// Recorder takes events for the audit stream.
type Recorder interface {
	// Record queues an event, or says that it cannot.
	Record(ctx context.Context, event *auditv1.Event) error
}

// Options are what a Service is made of.
type Options struct {
	Config Config
	// Auth, Quota, Executor and Audit must not be nil.
	Auth     authv1.AuthServiceClient
	Quota    quotav1.QuotaServiceClient
	Executor executorv1.ExecutorServiceClient
	Audit    Recorder
	// Notices tells when credentials have changed. Without it no authentication
	// is remembered.
	Notices Notices
	// Policies tells when policies have changed. Without it clients do not hear of
	// lists that are others because of that.
	Policies Policies
	// Peers reaches other edges. Without it sessions of the legacy era can be
	// cancelled and answered only where they call.
	Peers Peers
	// Sessions keeps what clients set in legacy sessions. Without it they cannot
	// subscribe to resources, nor set a level.
	Sessions Sessions
	// Rounds remembers which states of multi-round-trip requests were used up.
	// Without it a second round of what may change something is refused.
	Rounds Rounds
	// Keys seal what clients bring back, and sign the ids of legacy sessions. All
	// edges of a cluster need the same; nil makes one that only this edge has.
	Keys *seal.Keys
	// Version is what clients are told of this server.
	Version string
	// Listen opens a listener; nil takes TCP addresses only.
	Listen func(address string) (net.Listener, error)
	// Log, Tracer and Meter may be nil.
	Log    *slog.Logger
	Tracer trace.Tracer
	Meter  metric.Meter
}

// Service is the edge. It is an [http.Handler]; its methods are safe for
// concurrent use.
type Service struct {
	cfg      Config
	log      *slog.Logger
	auth     authv1.AuthServiceClient
	quota    quotav1.QuotaServiceClient
	executor executorv1.ExecutorServiceClient
	audit    Recorder
	notices  Notices
	policies Policies
	peers    Peers
	settings Sessions
	rounds   Rounds
	seals    *seal.Box
	// approvalSeals are for what goes with the question for an approval.
	approvalSeals *seal.Box
	node          string // this process among edges

	gate       gate
	publicURL  publicURL
	identities identities
	addresses  *clientaddr.Resolver
	remember   *authCache
	leases     *leases
	unsettled  *unsettled
	described  described
	tools      catalogue
	offers     *offered
	telemetry  *telemetry
	words      words
	sessions   *session.Mint
	running    running
	asked      asked
	waiting    waiting
	hub        *hub
	// policyVersion is of the policies that auth has told of last.
	policyVersion atomic.Pointer[string]

	exchanges sync.Pool // of *exchange
	anonymous *rate.Limiter

	listener  net.Listener
	server    *http.Server
	serving   atomic.Bool
	muteAudit atomic.Bool // the recorder said no, and that was logged
	mutePeers atomic.Bool // a peer did not answer, and that was logged
	// mutePeerEdges means that the bus failed, and that was logged.
	mutePeerEdges atomic.Bool

	stopping chan struct{} // closed when the end begins
	stop     func()
}

// New returns a service that listens already, so that a port that is taken is
// known at once; nothing is served before [Service.Run].
func New(o Options) (*Service, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	s := &Service{
		cfg: o.Config, log: o.Log, auth: o.Auth, quota: o.Quota, executor: o.Executor,
		audit: o.Audit, notices: o.Notices, policies: o.Policies, peers: o.Peers, settings: o.Sessions, rounds: o.Rounds,
		node: newNode(), hub: newHub(o.Config.MaxStreams, o.Config.MaxStreamsPerKey), stopping: make(chan struct{}),
		gate:      newGate(o.Config.AllowedHosts, o.Config.AllowedOrigins),
		publicURL: newPublicURL(o.Config.PublicURL), identities: identities{o.Config.TLSTrustDomain},
		words: newWords(o.Config, o.Version), offers: newOffered(),

		anonymous: rate.NewLimiter(rate.Limit(o.Config.AnonymousRecords), 10*o.Config.AnonymousRecords),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if o.Tracer == nil {
		o.Tracer = tracenoop.NewTracerProvider().Tracer("")
	}
	if o.Meter == nil {
		o.Meter = metricnoop.NewMeterProvider().Meter("")
	}
	s.described.ask = s.describe
	s.unsettled = newUnsettled(s.log)
	if o.Config.QuotaLeases {
		s.leases = newLeases()
	}
	s.stop = sync.OnceFunc(func() { close(s.stopping) })
	var err error
	if s.telemetry, err = newTelemetry(o.Tracer, o.Meter); err != nil {
		return nil, err
	}
	if err = s.leases.observe(o.Meter); err != nil {
		return nil, err
	}
	if s.addresses, err = clientaddr.New(o.Config.TrustedProxies); err != nil {
		return nil, err
	}
	if s.remember, err = newAuthCache(o.Config.AuthCacheSize, o.Config.AuthCacheTTL, o.Notices); err != nil {
		return nil, err
	}
	if o.Keys == nil {
		o.Keys = seal.Random()
	}
	if s.seals, err = o.Keys.NewBox(statePurpose); err != nil {
		return nil, err
	}
	if s.approvalSeals, err = o.Keys.NewBox(approvalPurpose); err != nil {
		return nil, err
	}
	if s.sessions, err = session.New(o.Keys.Derive(sessionPurpose), version2511, version2506); err != nil {
		return nil, err
	}
	s.exchanges.New = func() any { return newExchange(s) }
	if o.Listen == nil {
		o.Listen = func(address string) (net.Listener, error) { return net.Listen("tcp", address) }
	}
	if err := s.listen(o.Listen); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Service) listen(open func(string) (net.Listener, error)) error {
	secure, err := serverTLS(s.cfg)
	if err != nil {
		return err
	}
	lis, err := open(s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w (is another program using the port? "+
			"stop it, or set roles.edge.listen to another address; port 0 takes any free one)", s.cfg.Listen, err)
	}
	s.listener = lis
	s.server = s.newServer(secure)
	return nil
}

// Addr returns the address that the service listens on.
func (s *Service) Addr() string { return s.listener.Addr().String() }

// Serving tells whether requests are being accepted, for readiness.
func (s *Service) Serving(context.Context) error {
	if !s.serving.Load() {
		return errors.New("not accepting requests")
	}
	return nil
}

// Register implements the service contract of package app: the edge serves no
// gRPC.
func (s *Service) Register(grpc.ServiceRegistrar) {}

// Run serves until ctx is done, then stops accepting and lets what is in flight
// finish, for as long as the drain timeout.
func (s *Service) Run(ctx context.Context) error {
	var owned sync.WaitGroup
	defer owned.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.notices != nil {
		owned.Go(func() { s.notices.Listen(ctx, s.credentialsChanged) })
	}
	if s.policies != nil {
		owned.Go(func() { s.policies.Listen(ctx, s.policiesChanged) })
	}
	if s.peers != nil {
		owned.Go(func() { s.peers.Listen(ctx, s.node, PeerHandler{Cancel: s.cancelHere, Answer: s.asked.Answer}) })
	}
	owned.Go(func() { s.follow(ctx) })
	owned.Go(func() { s.leases.follow(ctx, s.quota) })
	settling, settled := context.WithCancel(context.WithoutCancel(ctx))
	defer settled() // when no request is left
	owned.Go(func() { s.unsettled.follow(settling, s.quota, s.cfg.PeerTimeout) })

	served := make(chan error, 1)
	owned.Go(func() {
		lis := newCappedListener(s.listener, s.cfg.MaxConnectionsPerAddress, s.addresses)
		if s.server.TLSConfig != nil {
			served <- s.server.ServeTLS(lis, "", "")
			return
		}
		served <- s.server.Serve(lis)
	})
	s.serving.Store(true)
	s.log.Info("serving MCP", "address", s.Addr())
	select {
	case err := <-served:
		s.serving.Store(false)
		s.stop()
		return fmt.Errorf("serve on %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	s.serving.Store(false)
	s.stop() // whoever only listens need not be waited for
	drain, done := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer done()
	if err := s.server.Shutdown(drain); err != nil {
		s.log.Warn("requests were cut off at shutdown", "after", s.cfg.DrainTimeout)
		return s.server.Close()
	}
	return nil
}

// credentialsChanged forgets who was known, and has all who listen checked.
func (s *Service) credentialsChanged() {
	s.remember.Flush()
	s.hub.Tell(news{credentials: true})
}

// policiesChanged tells all who listen, unless it is the policies that are known:
// auth says them again when one of its processes starts. What it says of this
// resource may be different from then on, too.
func (s *Service) policiesChanged(version string) {
	s.described.Stale()
	if before := s.policyVersion.Swap(&version); before == nil || *before != version || version == "" {
		s.hub.Tell(news{policies: true})
	}
}

// Close stops at once a service that was never run.
func (s *Service) Close() error { return s.listener.Close() }
