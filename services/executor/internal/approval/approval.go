// Package approval remembers which definitions of tools were approved and says
// which must be withheld: those that are not as they were when somebody, or the
// first use, approved them.
//
// What was approved is in a bucket that all executors watch, so they agree, and
// it outlives tools and services: one that goes away and comes back changed is
// withheld. The package fails closed: nothing that is held is in use before the
// bucket has been read, nor because the bucket cannot be written.
//
// It neither knows which tools there are nor what a definition means; a digest
// stands for all of it.
package approval

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

const (
	// timeout bounds each question to the bucket.
	timeout = 5 * time.Second
	// maxConflicts is how often an approval is written again when somebody else
	// has written at the same time.
	maxConflicts = 5
	// MaxFirstUses is how many tools of one service are approved because they
	// are new. One that invents names without end fills nothing with them.
	MaxFirstUses = 1000
)

// Who approved what nobody has looked at.
const (
	// FirstUse has approved a tool that was merely new.
	FirstUse = "first use"
	// Covered has approved a change that makes a tool no less restricted.
	Covered = "no fewer restrictions"
)

// ErrNone says that a tool never was approved.
var ErrNone = errors.New("approval: there is none")

// Bucket is where approvals are kept, as [bus.Bus] has it.
type Bucket interface {
	Get(ctx context.Context, spec bus.Bucket, key string) (bus.Entry, error)
	Create(ctx context.Context, spec bus.Bucket, key string, value []byte) (uint64, error)
	Update(ctx context.Context, spec bus.Bucket, key string, value []byte, revision uint64) (uint64, error)
	Watch(ctx context.Context, spec bus.Bucket, on func(bus.Entry), synced func(bool)) error
}

// Recorder takes audit events, or fails at once.
type Recorder interface {
	Record(context.Context, *auditv1.Event) error
}

// Options are what a store is made of.
type Options struct {
	Config Config
	// Bucket must not be nil.
	Bucket Bucket
	// Audit is told of first uses. It must not be nil.
	Audit Recorder
	// Log may be nil.
	Log *slog.Logger
}

// Offer is a tool as its service offers it now.
type Offer struct {
	Name       string // that callers use
	Service    string
	Provider   bool // what the service is
	Definition *providerv1.ToolDefinition
	Digest     []byte // SHA-256 over all of the definition that anybody can see
	Withheld   bool
}

// Store knows what was approved. Its methods are safe for concurrent use.
type Store struct {
	cfg    Config
	bucket Bucket
	audit  Recorder
	log    *slog.Logger
	codec  codec
	wake   chan struct{} // of one token: there are first uses to approve

	mu         sync.Mutex
	loaded     bool
	generation uint64 // of the watch
	entries    map[string]entry
	waiting    map[string]*firstUse
	used       map[string]string // digest of what was in use here last, by key
	warned     map[string]string // digest of what was warned of last, by key
	counts     map[string]int    // of entries and of what waits, by service
	full       map[string]bool   // services that were told to have too many
	changed    chan struct{}
	hushed     bool // changes are told when the batch is done
	news       bool // there were some meanwhile
}

// New returns a store that knows nothing yet; Run fills it.
func New(o Options) (*Store, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	return &Store{
		cfg: o.Config, bucket: o.Bucket, audit: o.Audit, log: o.Log, codec: c,
		wake:    make(chan struct{}, 1),
		entries: make(map[string]entry),
		waiting: make(map[string]*firstUse),
		used:    make(map[string]string),
		warned:  make(map[string]string),
		counts:  make(map[string]int),
		full:    make(map[string]bool),
		changed: make(chan struct{}),
	}, nil
}

// Run keeps up with the bucket, and approves what is used for the first time,
// until ctx is done. It returns the context's error.
func (s *Store) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	tasks.Go(func() { s.approveFirstUses(ctx) })
	return s.bucket.Watch(ctx, bus.Approvals, s.told, s.synced)
}

// Loaded returns an error until the bucket has been read once.
func (s *Store) Loaded() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.loaded {
		return errors.New("the approvals of definitions have not been read yet")
	}
	return nil
}

// Judge reports whether an offer must be withheld, by the mode of its service. Its
// definition has the name that callers use, and must not change any more. Judge
// does not wait and has no effect but in the log.
//
// It fails closed: what cannot be known is withheld.
func (s *Store) Judge(o Offer) (withheld bool) {
	mode := s.cfg.Mode(o.Service, o.Provider)
	if mode == ModeNothing {
		return false
	}
	if len(o.Digest) != sha256.Size {
		return true
	}
	key := keyOf(o.Service, o.Name)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[key]
	switch {
	case !s.loaded:
		return true
	case e.approves(o.Digest), mode == ModeLoosened && e.covers(o):
		return false
	case ok:
		s.warn(key, e, o)
		return true
	}
	return mode != ModeLoosened || s.waiting[key] == nil && s.counts[o.Service] >= MaxFirstUses
}

// warn logs that an offer waits for somebody, once. The caller holds the lock.
func (s *Store) warn(key string, e entry, o Offer) {
	if s.warned[key] == string(o.Digest) {
		return
	}
	s.warned[key] = string(o.Digest)
	s.log.Warn("a tool is not as it was when it was approved, and is withheld; look with `sallyport tool diff`",
		"service", o.Service, "tool", o.Name, "less_restricted", Loosened(e.options, o.Definition.GetOptions()))
}

// Use says that an offer would be in use if it were not withheld. Under
// [ModeChanges] and [ModeLoosened] what is new is approved, and under the latter
// what has changed without being less restricted too; [Store.Changed] tells when
// that is written. Use does not wait.
func (s *Store) Use(o Offer) {
	mode := s.cfg.Mode(o.Service, o.Provider)
	if mode != ModeChanges && mode != ModeLoosened || len(o.Digest) != sha256.Size {
		return
	}
	key := keyOf(o.Service, o.Name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.loaded {
		return
	}
	e, ok := s.entries[key]
	switch {
	case !ok, mode == ModeLoosened && !e.approves(o.Digest) && e.covers(o) && s.used[key] != string(o.Digest):
		s.wait(key, o)
	}
	if mode == ModeLoosened && (ok || s.waiting[key] != nil) {
		// What others have put in its place since is for them to say: two executors
		// that see different replicas would go on for ever.
		s.used[key] = string(o.Digest)
	}
}

// Changed returns a channel that is closed when verdicts may have become others
// than they were when it was asked for. Ask for it before judging, not to miss
// any; then ask again.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// State says what became of an offer, and which approval there is: without its
// definition, and nil if there is none that can be read.
func (s *Store) State(o Offer) (executorv1.DefinitionState, *executorv1.Approval) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[keyOf(o.Service, o.Name)]
	var approved *executorv1.Approval
	if e.digest != "" {
		approved = &executorv1.Approval{Digest: []byte(e.digest), By: e.by, Time: e.time}
	}
	switch {
	case e.approves(o.Digest):
		approved.Definition = o.Definition
		return executorv1.DefinitionState_DEFINITION_STATE_APPROVED, approved
	case !o.Withheld:
		return executorv1.DefinitionState_DEFINITION_STATE_APPROVED, approved
	case ok:
		return executorv1.DefinitionState_DEFINITION_STATE_CHANGED, approved
	}
	return executorv1.DefinitionState_DEFINITION_STATE_NEW, nil
}

// Read returns the approval of a tool with its definition, or [ErrNone].
func (s *Store) Read(ctx context.Context, service, tool string) (*executorv1.Approval, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	key := keyOf(service, tool)
	e, err := s.bucket.Get(ctx, bus.Approvals, key)
	if errors.Is(err, bus.ErrNotFound) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, err
	}
	return s.codec.decode(key, e.Value)
}

// Approve writes that somebody has approved an offer, for all executors,
// whatever was approved before. A caller that goes away does not stop it: what
// was recorded shall happen.
func (s *Store) Approve(ctx context.Context, o Offer, by string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	key := keyOf(o.Service, o.Name)
	for range maxConflicts {
		old, err := s.bucket.Get(ctx, bus.Approvals, key)
		known := err == nil
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return err
		}
		a := approve(o, by)
		if before, err := s.codec.decode(key, old.Value); known && err == nil { // one that cannot be read is overwritten
			a.Replaced = replaced(before, a)
		}
		value, err := s.codec.encodeShort(a)
		if err != nil {
			return err
		}
		var revision uint64
		if known {
			revision, err = s.bucket.Update(ctx, bus.Approvals, key, value, old.Revision)
		} else {
			revision, err = s.bucket.Create(ctx, bus.Approvals, key, value)
		}
		if errors.Is(err, bus.ErrExists) || errors.Is(err, bus.ErrConflict) {
			continue
		}
		if err != nil {
			return err
		}
		s.put(key, remember(a, revision))
		return nil
	}
	return fmt.Errorf("write approval: %w %d times", bus.ErrConflict, maxConflicts)
}

// told takes news of an entry.
func (s *Store) told(e bus.Entry) {
	if e.Deleted {
		s.drop(e)
		return
	}
	a, err := s.codec.decode(e.Key, e.Value)
	if err != nil {
		s.log.Error("an approval cannot be read; its tool is withheld", "key", e.Key, "err", err)
	}
	s.put(e.Key, remember(a, e.Revision))
}

// put remembers an entry, unless what is known is newer: what this process has
// just written may be ahead of the watch.
func (s *Store) put(key string, e entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.entries[key]
	if ok && old.revision > e.revision && old.generation == s.generation {
		return
	}
	e.generation = s.generation
	s.entries[key] = e
	if s.waiting[key] != nil {
		delete(s.waiting, key)
	} else if !ok {
		s.counts[serviceOf(key)]++
	}
	if !ok || old.digest != e.digest {
		s.tell()
	}
}

// drop forgets an entry that is gone from the bucket. Whoever can delete there
// could as well write, so the tool counts as new again.
func (s *Store) drop(e bus.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.entries[e.Key]
	if !ok || old.revision > e.Revision && e.Revision > 0 && old.generation == s.generation {
		return
	}
	delete(s.entries, e.Key)
	s.counts[serviceOf(e.Key)]--
	s.tell()
}

// synced says that the watch has told everything, or that it broke. What was
// approved stays so while news is missed: at worst a tool waits.
func (s *Store) synced(complete bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !complete {
		s.generation++
		return
	}
	if !s.loaded {
		s.loaded = true
		s.tell()
	}
}

// tell wakes whoever waits for changes. The caller holds the lock.
func (s *Store) tell() {
	switch {
	case !s.loaded:
	case s.hushed:
		s.news = true
	default:
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

func serviceOf(key string) string {
	service, _, _ := strings.Cut(key, ".")
	return service
}
