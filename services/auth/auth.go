// Package auth says who a caller is and what he may do.
//
// It knows API keys, decides by Cedar policies, and gives out grants: proof of
// a decision, for one call and a short time, which the executor takes. Where a
// policy wants a person asked it keeps what is asked and answered, for one call
// each, encrypted. Keys are kept in NATS and held in memory; policies come from
// files, or from NATS too; the catalogue of tools, as policies see it,
// comes from the executor over NATS too. It never sees the result of a tool.
//
// It fails closed. Without current keys, policies, the catalogue or a place for the audit
// record there is no answer, and whoever asks must refuse.
package auth

import (
	"cmp"
	"context"
	_ "embed" // the default policies
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/secret"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/apikey"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/approval"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/grant"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/keyring"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/dpop"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

//go:embed policies/default.cedar
var defaultPolicies []byte

// flushInterval is how often last uses are stored.
const flushInterval = time.Minute

// Store keeps keys, policies, approvals and the catalogue; [bus.Bus] does.
type Store interface {
	Watch(ctx context.Context, bucket bus.Bucket, on func(bus.Entry), synced func(bool)) error
	Get(ctx context.Context, bucket bus.Bucket, key string) (bus.Entry, error)
	Current(ctx context.Context, bucket bus.Bucket, key string) (bus.Entry, error)
	Put(ctx context.Context, bucket bus.Bucket, key string, value []byte) (uint64, error)
	Create(ctx context.Context, bucket bus.Bucket, key string, value []byte) (uint64, error)
	Update(ctx context.Context, bucket bus.Bucket, key string, value []byte, revision uint64) (uint64, error)
	Delete(ctx context.Context, bucket bus.Bucket, key string) error
}

// Recorder writes to the audit stream.
type Recorder interface {
	Record(ctx context.Context, e *auditv1.Event) error
	Commit(ctx context.Context, e *auditv1.Event) error
}

// Deps is what the service needs of its surroundings. All but Log must be set.
type Deps struct {
	// Log is for operators; nil discards.
	Log *slog.Logger
	// Store keeps keys, policies, approvals and the catalogue.
	Store Store
	// Audit takes each decision.
	Audit Recorder
	// Notify tells all edges that a credential has changed.
	Notify func(ctx context.Context, key *authv1.Key) error
	// NotifyPolicies tells all edges which policies are in use, and returns when
	// the bus has taken the notice.
	NotifyPolicies func(ctx context.Context, notice *authv1.PolicyNotice) error
	// StateDir is where key files are made when the configuration names none.
	StateDir string
}

// Service answers who and whether. Its methods are safe for concurrent use.
type Service struct {
	authv1.UnimplementedAuthServiceServer
	authv1.UnimplementedKeyServiceServer
	authv1.UnimplementedApprovalServiceServer
	authv1.UnimplementedPolicyServiceServer

	cfg      Config
	deps     Deps
	log      *slog.Logger
	peppers  *apikey.Peppers
	ring     *keyring.Ring
	sealer   atomic.Pointer[grant.Sealer]
	keysSeen atomic.Pointer[grantKeys]
	grantKey *secret.File // of the sealer's key; Run alone looks at it
	scene    *scene
	lists    toolLists
	attempts *attempts
	policies *policies
	failures *failures
	tokens   *tokens // nil: no OAuth
	receipts *dpop.Receipts
	machines *machines
	writing  sync.Mutex // one change of keys or policies at a time

	keysKnown atomic.Bool   // at least once
	news      chan struct{} // holds one: other policies may be in use

	approvalBox *approval.Box
	approvals   *approval.Book
	petitions   sync.Mutex // one new approval at a time
}

// New returns a service that has read its keys and policies from files, and
// answers once Run has heard of all API keys.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	set, err := loadPolicies(cfg.Policies)
	if err != nil {
		return nil, err
	}
	peppers, err := readPeppers(cfg, deps)
	if err != nil {
		return nil, err
	}
	grantKeyFile := filepath.Join(deps.StateDir, "secrets", "grant.key")
	grantKey, err := material(cfg.GrantKeyFile, grantKeyFile, deps.Log)
	if err != nil {
		return nil, fmt.Errorf("grant_key_file: %w", err)
	}
	box, err := approval.NewBox(grantKey)
	if err != nil {
		return nil, err
	}
	tried := newAttempts(cfg.BruteForce)
	s := &Service{
		cfg:      cfg,
		deps:     deps,
		log:      deps.Log,
		peppers:  peppers,
		ring:     keyring.New(cfg.Env, peppers, cfg.StaleAfter),
		grantKey: secret.NewFile(cmp.Or(cfg.GrantKeyFile, grantKeyFile)),
		scene:    newScene(),
		attempts: tried,
		failures: newFailures(tried, deps.Audit, deps.Log),
		news:     make(chan struct{}, 1),

		approvalBox: box,
		approvals:   approval.NewBook(box),
	}
	s.sealer.Store(grant.NewSealer(grantKey))
	s.keysSeen.Store(&grantKeys{now: grantKey})
	s.machines = newMachines(cfg.Machines)
	if s.receipts, err = dpop.NewReceipts(grantKey); err != nil {
		return nil, err
	}
	if cfg.OAuth.Enabled() {
		if s.tokens, err = newTokens(cfg.OAuth, deps.Log); err != nil {
			return nil, fmt.Errorf("oauth: %w", err)
		}
	}
	s.policies = &policies{
		paths: cfg.Policies, sealers: sealersOf(peppers), scene: s.scene, log: deps.Log, changed: s.tookUp, files: set,
	}
	return s, nil
}

// loadPolicies reads the configured policies, or takes the default set. A
// mistake in any of them is an error that names file and line.
func loadPolicies(paths []string) (*policy.Set, error) {
	if len(paths) == 0 {
		return policy.Load([]policy.File{{Name: "default.cedar", Text: defaultPolicies}})
	}
	files, err := policy.ReadFiles(paths)
	if err != nil {
		return nil, err
	}
	set, err := policy.Load(files)
	if err != nil {
		return nil, fmt.Errorf("policies: %w", err)
	}
	return set, nil
}

// material reads the configured key; only where none is configured it makes
// one, so that a misspelt path is an error and not a new key.
func material(configured, fallback string, log *slog.Logger) (secret.Key, error) {
	if configured != "" {
		return secret.Load(configured)
	}
	key, created, err := secret.LoadOrCreate(fallback)
	if created {
		log.Info("made a key file, keep it: what was made with it is lost without it", "file", fallback)
	}
	return key, err
}

// Register adds the gRPC services.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	authv1.RegisterAuthServiceServer(r, s)
	authv1.RegisterKeyServiceServer(r, s)
	authv1.RegisterApprovalServiceServer(r, s)
	authv1.RegisterPolicyServiceServer(r, s)
}

// Run follows the store until ctx is done.
func (s *Service) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	errs := make(chan error, 3)
	var wg sync.WaitGroup
	watch := func(bucket bus.Bucket, on func(bus.Entry), synced func(bool)) {
		wg.Go(func() {
			defer stop() // one watch that ends for good ends the service
			if err := s.deps.Store.Watch(ctx, bucket, on, synced); err != nil && ctx.Err() == nil {
				errs <- fmt.Errorf("watch %s: %w", bucket.Name, err)
			}
		})
	}
	watch(bus.Keys, s.onKey, func(complete bool) {
		s.ring.Synced(complete)
		if complete && !s.keysKnown.Swap(true) {
			s.announce()
			wg.Go(func() { s.renewPeppers(ctx) })
		}
	})
	watch(bus.Policies, s.onPolicies, func(complete bool) {
		if complete {
			s.policies.sync()
		}
	})
	watch(bus.Catalogue, s.onCatalogue, func(bool) {})
	watch(bus.CallApprovals, s.onApproval, s.approvals.Synced)
	wg.Go(func() { s.announcePolicies(ctx) })
	wg.Go(func() { s.followFiles(ctx) })
	wg.Go(func() { s.beat(ctx) })
	wg.Go(func() { s.followGrantKey(ctx) })
	if s.tokens != nil {
		wg.Go(func() { s.tokens.verifier.Run(ctx) })
	}
	wg.Go(func() { s.failures.run(ctx) })
	wg.Go(func() { s.flush(ctx) })
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// KeysReady returns an error while credentials cannot be checked.
func (s *Service) KeysReady(context.Context) error { return s.ring.Ready() }

// CatalogueReady returns an error while calls of tools cannot be decided.
func (s *Service) CatalogueReady(context.Context) error {
	if s.scene.current().tools == nil {
		return errors.New("the catalogue of tools is not known")
	}
	return nil
}

// PoliciesReady returns an error while nothing can be decided for want of
// policies.
func (s *Service) PoliciesReady(context.Context) error { return s.policies.ready() }

func (s *Service) onKey(e bus.Entry) {
	if e.Key == beatKey {
		s.ring.Seen(e.Revision)
		return
	}
	if err := s.ring.Apply(e.Key, e.Value, e.Revision, e.Deleted); err != nil {
		s.log.Error("a key in the store is not good", "entry", e.Key, "err", err)
	}
}

// flush stores last uses once a minute, and at the end.
func (s *Service) flush(ctx context.Context) {
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			ended = true
		case <-tick.C:
		}
		write, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		err := s.ring.FlushUses(func(name string, value []byte) error {
			_, err := s.deps.Store.Put(write, bus.Keys, name, value)
			return err
		})
		cancel()
		if err != nil {
			s.log.Warn("last uses of keys could not be stored", "err", err)
		}
	}
}
