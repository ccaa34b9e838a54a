package auth_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	basicsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/basics/v1"
	customersv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/customers/v1"
	logsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/logs/v1"
	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

// house is a running service with everything around it.
type house struct {
	service *auth.Service
	store   *store
	ledger  *ledger
	notices *notices
	log     *bytes.Buffer // not to be read while the service runs
	auth    authv1.AuthServiceClient
	keys    authv1.KeyServiceClient
	stop    func() // ends the service before the test does

	approvals authv1.ApprovalServiceClient
	policies  authv1.PolicyServiceClient
}

// open starts a service on a store, which may be used already. It waits until
// the service knows all keys and tools.
func open(t testing.TB, st *store, edit func(*auth.Config)) *house {
	t.Helper()
	h := build(t, st, edit)
	for range 4 {
		<-st.watched
	}
	return h
}

// build is open without the wait.
func build(t testing.TB, st *store, edit func(*auth.Config)) *house {
	t.Helper()
	h := &house{store: st, ledger: new(ledger), notices: new(notices), log: new(bytes.Buffer)}
	cfg := auth.DefaultConfig()
	if edit != nil {
		edit(&cfg)
	}
	var err error
	h.service, err = auth.New(cfg, auth.Deps{
		Log:            slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Store:          st,
		Audit:          h.ledger,
		Notify:         h.notices.add,
		NotifyPolicies: h.notices.addPolicies,
		StateDir:       st.dir,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.service.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(h.stop)
	h.auth = authv1.NewAuthServiceClient(rpctest.Serve(t, h.service.Register))
	operator := rpctest.Serve(t, h.service.Register, rpctest.As("sallyport"))
	h.keys, h.approvals = authv1.NewKeyServiceClient(operator), authv1.NewApprovalServiceClient(operator)
	h.policies = authv1.NewPolicyServiceClient(operator)
	return h
}

// key makes a key and returns its id and text.
func (h *house) key(t testing.TB, req *authv1.CreateKeyRequest) (id, text string) {
	t.Helper()
	resp, err := h.keys.CreateKey(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetKey().GetId(), resp.GetSecret()
}

// roleKey makes a key that has one role and is called like it.
func (h *house) roleKey(t testing.TB, role string) string {
	t.Helper()
	_, text := h.key(t, &authv1.CreateKeyRequest{Name: role, Owner: "anna", Roles: []string{role}})
	return text
}

func bearer(text string) *authv1.Credential {
	return &authv1.Credential{Scheme: authv1.Scheme_SCHEME_BEARER, Token: text}
}

func from(address string) *authv1.Origin {
	return &authv1.Origin{
		Address: address, Client: "test/1", ProtocolVersion: "2026-07-28", ContextId: "c1",
		ContextSource: authv1.ContextSource_CONTEXT_SOURCE_EXPLICIT,
	}
}

// catalogue is what the executor publishes for the tools of this repository.
func catalogue() *executorv1.Catalogue {
	c := &executorv1.Catalogue{Version: "1"}
	for service, file := range map[string]protoreflect.FileDescriptor{
		"basics":    basicsv1.File_sallyport_tools_basics_v1_basics_proto,
		"customers": customersv1.File_sallyport_tools_customers_v1_customers_proto,
		"logs":      logsv1.File_sallyport_tools_logs_v1_logs_proto,
		"sqlquery":  sqlqueryv1.File_sallyport_tools_sqlquery_v1_sqlquery_proto,
	} {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				options, ok := proto.GetExtension(methods.Get(j).Options(), toolv1.E_Tool).(*toolv1.Tool)
				if ok && options.GetName() != "" {
					var arguments []string
					for k := range methods.Get(j).Input().Fields().Len() {
						arguments = append(arguments, string(methods.Get(j).Input().Fields().Get(k).Name()))
					}
					c.Entries = append(c.Entries, &executorv1.Catalogue_Entry{
						Arguments: arguments, ArgumentsKnown: true,
						Name: options.GetName(), Service: service, Options: options,
						Digest: bytes.Repeat([]byte{byte(len(options.GetName()))}, 32),
					})
				}
			}
		}
	}
	return c
}

// store is NATS as the service sees it, with switches to break it.
type store struct {
	dir     string
	watched chan struct{} // a watch has told everything

	mu       sync.Mutex
	revision uint64
	buckets  map[string]map[string]bus.Entry
	watches  map[chan bus.Entry]string // to the name of the bucket
	down     bool                      // watches break and do not open
	dumb     bool                      // nothing is answered
	withheld map[string]bool           // buckets of which watches break and do not open
	frozen   bool                      // nothing is written
	asked    int                       // how often for what is there now
	changed  chan struct{}             // closed when one of these changes
}

// newStore returns a store that has the tools of this repository.
func newStore(t testing.TB) *store {
	t.Helper()
	st := &store{
		dir:      t.TempDir(),
		watched:  make(chan struct{}, 64),
		buckets:  map[string]map[string]bus.Entry{"keys": {}, "catalogue": {}, "policies": {}, "call-approvals": {}, "proofs": {}, "contexts": {}},
		watches:  make(map[chan bus.Entry]string),
		withheld: make(map[string]bool),
		changed:  make(chan struct{}),
	}
	text, err := proto.Marshal(catalogue())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Put(t.Context(), bus.Catalogue, "current", text); err != nil {
		t.Fatal(err)
	}
	return st
}

var errDown = errors.New("no answer from the store")

// set breaks or mends the store.
func (st *store) set(down, dumb bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.down, st.dumb = down, dumb
	close(st.changed)
	st.changed = make(chan struct{})
}

// withhold breaks or mends the watches of one bucket.
func (st *store) withhold(bucket string, withheld bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.withheld[bucket] = withheld
	close(st.changed)
	st.changed = make(chan struct{})
}

// Watch implements [auth.Store].
func (st *store) Watch(ctx context.Context, bucket bus.Bucket, on func(bus.Entry), synced func(bool)) error {
	for ctx.Err() == nil {
		st.mu.Lock()
		down, changed := st.down || st.withheld[bucket.Name], st.changed
		news := make(chan bus.Entry, 10000)
		present := slices.Collect(maps.Values(st.buckets[bucket.Name]))
		if !down {
			st.watches[news] = bucket.Name
		}
		st.mu.Unlock()
		if !down {
			for _, e := range present {
				on(e)
			}
			synced(true)
			st.watched <- struct{}{}
		}
		for open := !down; open; {
			select {
			case e := <-news:
				on(e)
			case <-changed:
				st.mu.Lock()
				open, changed = !st.down && !st.withheld[bucket.Name], st.changed
				st.mu.Unlock()
			case <-ctx.Done():
				open = false
			}
		}
		st.mu.Lock()
		delete(st.watches, news)
		st.mu.Unlock()
		synced(false)
		if down {
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}
	return ctx.Err()
}

// freeze makes the store take nothing, or take it again.
func (st *store) freeze(frozen bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.frozen = frozen
}

func (st *store) answers() error {
	if st.dumb {
		return errDown
	}
	return nil
}

// Get implements [auth.Store].
func (st *store) Get(_ context.Context, bucket bus.Bucket, key string) (bus.Entry, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := st.answers(); err != nil {
		return bus.Entry{}, err
	}
	e, ok := st.buckets[bucket.Name][key]
	if !ok {
		return bus.Entry{}, bus.ErrNotFound
	}
	return e, nil
}

// Current implements [auth.Store].
func (st *store) Current(ctx context.Context, bucket bus.Bucket, key string) (bus.Entry, error) {
	st.mu.Lock()
	st.asked++
	st.mu.Unlock()
	return st.Get(ctx, bucket, key)
}

// Put implements [auth.Store].
func (st *store) Put(_ context.Context, bucket bus.Bucket, key string, value []byte) (uint64, error) {
	return st.write(bucket, key, value, func(bus.Entry, bool) error { return nil })
}

// Create implements [auth.Store].
func (st *store) Create(_ context.Context, bucket bus.Bucket, key string, value []byte) (uint64, error) {
	return st.write(bucket, key, value, func(_ bus.Entry, ok bool) error {
		if ok {
			return bus.ErrExists
		}
		return nil
	})
}

// Update implements [auth.Store].
func (st *store) Update(_ context.Context, bucket bus.Bucket, key string, value []byte, revision uint64) (uint64, error) {
	return st.write(bucket, key, value, func(old bus.Entry, _ bool) error {
		if old.Revision != revision {
			return bus.ErrConflict
		}
		return nil
	})
}

// Delete implements [auth.Store].
func (st *store) Delete(_ context.Context, bucket bus.Bucket, key string) error {
	st.mu.Lock()
	err := st.answers()
	st.mu.Unlock()
	if err == nil {
		st.remove(bucket.Name, key)
	}
	return err
}

func (st *store) write(bucket bus.Bucket, key string, value []byte, check func(bus.Entry, bool) error) (uint64, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := st.answers(); err != nil || st.frozen {
		return 0, errDown
	}
	old, ok := st.buckets[bucket.Name][key]
	if err := check(old, ok); err != nil {
		return 0, err
	}
	st.revision++
	e := bus.Entry{Key: key, Value: value, Revision: st.revision}
	st.buckets[bucket.Name][key] = e
	for news, name := range st.watches {
		if name == bucket.Name {
			news <- e
		}
	}
	return st.revision, nil
}

// remove deletes a key.
func (st *store) remove(bucket, key string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	delete(st.buckets[bucket], key)
	for news, name := range st.watches {
		if name == bucket {
			news <- bus.Entry{Key: key, Deleted: true}
		}
	}
}

// text is everything that the store holds, for a search.
func (st *store) text() string {
	st.mu.Lock()
	defer st.mu.Unlock()
	var b bytes.Buffer
	for _, e := range st.buckets["keys"] {
		b.Write(e.Value)
	}
	return b.String()
}

// ledger is the audit stream.
type ledger struct {
	mu     sync.Mutex
	events []*auditv1.Event
	full   bool // nothing is taken

	discard bool // everything is taken and nothing kept
}

// Record implements [auth.Recorder].
func (l *ledger) Record(_ context.Context, e *auditv1.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full {
		return errors.New("queue is full")
	}
	if l.discard {
		return nil
	}
	l.events = append(l.events, proto.CloneOf(e))
	return nil
}

// Commit implements [auth.Recorder].
func (l *ledger) Commit(ctx context.Context, e *auditv1.Event) error { return l.Record(ctx, e) }

func (l *ledger) fill(full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.full = full
}

// take returns the events since the last time.
func (l *ledger) take() []*auditv1.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.events
	l.events = nil
	return taken
}

// notices are what the edges are told.
type notices struct {
	mu       sync.Mutex
	all      []*authv1.Key
	policies []string // versions
	lost     int      // notices of policies that the bus did not take
	away     bool     // the bus takes none
}

func (n *notices) addPolicies(_ context.Context, p *authv1.PolicyNotice) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.away {
		n.lost++
		return errDown
	}
	n.policies = append(n.policies, p.GetVersion())
	return nil
}

// setAway takes the bus away or brings it back.
func (n *notices) setAway(away bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.away = away
}

// ofPolicies returns the versions that were told, and how often that failed.
func (n *notices) ofPolicies() (versions []string, lost int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.policies), n.lost
}

func (n *notices) add(_ context.Context, k *authv1.Key) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, k)
	return nil
}

func (n *notices) take() []*authv1.Key {
	n.mu.Lock()
	defer n.mu.Unlock()
	taken := n.all
	n.all = nil
	return taken
}

// rewrite changes what the store has of a key, behind the service's back.
func (st *store) rewrite(t *testing.T, id string, edit func(string) string) {
	t.Helper()
	e, err := st.Get(t.Context(), bus.Keys, id)
	if err != nil {
		t.Fatal(err)
	}
	changed := edit(string(e.Value))
	if changed == string(e.Value) {
		t.Fatalf("nothing to edit in %s", e.Value)
	}
	if _, err := st.Put(t.Context(), bus.Keys, id, []byte(changed)); err != nil {
		t.Fatal(err)
	}
}
