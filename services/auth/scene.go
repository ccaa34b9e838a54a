package auth

import (
	"fmt"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// catalogueKey is the one entry of the bucket.
const catalogueKey = "current"

// maxMatches bounds what is remembered. Past it all is forgotten, which costs
// some microseconds per caller and tool.
const maxMatches = 1 << 16

// scene is what decisions are made by, but for the caller: policies and tools.
// Both change as a whole and never while a decision looks at them.
type scene struct {
	mu  sync.Mutex // of those who change it
	now atomic.Pointer[backdrop]
}

// backdrop is a scene at one moment.
type backdrop struct {
	set   *policy.Set      // nil: not known yet
	tools map[string]*tool // nil: not known yet

	rosters rosters

	mu      sync.RWMutex
	matches map[matchKey]*policy.Match
	views   map[viewKey]*policy.View
	denied  map[denialKey]*policy.Candidates
}

// tool is a tool as decisions need it.
type tool struct {
	object *policy.Object
	place  int // among all tools of the catalogue
	digest []byte
	cost   uint32
	uses   []*toolv1.Use
	scopes []string // that a token needs

	arguments      []string // all that its schema names, sorted
	argumentsKnown bool     // if not, there can be others
}

// matchKey compares pointers: a changed key or tool is another one.
type matchKey struct {
	subject *policy.Subject
	action  authv1.Action
	object  *policy.Object
}

type viewKey struct {
	subject *policy.Subject
	action  authv1.Action
}

// denialKey is what many callers can be denied.
type denialKey struct {
	action authv1.Action
	object *policy.Object
}

func newScene() *scene {
	s := new(scene)
	s.now.Store(newBackdrop(nil, nil))
	return s
}

func newBackdrop(set *policy.Set, tools map[string]*tool) *backdrop {
	return &backdrop{
		set: set, tools: tools,
		matches: make(map[matchKey]*policy.Match), views: make(map[viewKey]*policy.View),
		denied: make(map[denialKey]*policy.Candidates),
	}
}

func (s *scene) current() *backdrop { return s.now.Load() }

// change makes a new backdrop of the current one.
func (s *scene) change(edit func(*backdrop)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.now.Load()
	b := newBackdrop(old.set, old.tools)
	edit(b)
	s.now.Store(b)
}

// match remembers which policies matter to a caller's use of a tool.
func (b *backdrop) match(subject *policy.Subject, action authv1.Action, object *policy.Object) *policy.Match {
	k, whose := matchKey{subject, action, object}, viewKey{subject, action}
	b.mu.RLock()
	m, v := b.matches[k], b.views[whose]
	b.mu.RUnlock()
	if m != nil {
		return m
	}
	if v == nil {
		v = b.set.View(subject, actions[action].policy)
	}
	m = v.Match(object)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.matches) >= maxMatches {
		clear(b.matches)
		clear(b.views)
	}
	b.matches[k], b.views[whose] = m, v
	return m
}

// lasting reports whether what policies say of an object is remembered. Of resources
// and prompts there is no end.
func lasting(object *policy.Object) bool { return object == gateway || object.IsTool() }

// candidates remembers which policies can nearly permit the use of a tool, whoever
// wants to use it.
func (b *backdrop) candidates(action authv1.Action, object *policy.Object) *policy.Candidates {
	k := denialKey{action, object}
	b.mu.RLock()
	c := b.denied[k]
	b.mu.RUnlock()
	if c != nil {
		return c
	}
	c = b.set.Candidates(actions[action].policy, object)
	if !lasting(object) {
		return c
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.denied[k] = c
	return c
}

// onCatalogue takes the catalogue that the executor has published. When no news
// arrive the old one stays in use, which is safe: a grant names the digest of
// the tool that policies saw, and the executor refuses it for another.
func (s *Service) onCatalogue(e bus.Entry) {
	if e.Key != catalogueKey {
		return
	}
	if e.Deleted {
		s.scene.change(func(b *backdrop) { b.tools = nil })
		s.log.Warn("the catalogue of tools is gone, calls are refused")
		return
	}
	tools, err := readCatalogue(e.Value)
	if err != nil {
		s.log.Error("the catalogue of tools cannot be read, the old one stays", "err", err)
		return
	}
	s.scene.change(func(b *backdrop) { b.tools = tools })
}

func readCatalogue(text []byte) (map[string]*tool, error) {
	c := new(executorv1.Catalogue)
	if err := proto.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("read catalogue: %w", err)
	}
	tools := make(map[string]*tool, len(c.GetEntries()))
	for place, e := range c.GetEntries() {
		if tools[e.GetName()] != nil {
			// Two tools of one name: policies could decide about one and the
			// other be called.
			return nil, fmt.Errorf("read catalogue: two tools are called %q", e.GetName())
		}
		tools[e.GetName()] = &tool{
			object: policy.NewTool(e),
			place:  place,
			digest: e.GetDigest(),
			cost:   max(1, e.GetOptions().GetCost()),
			uses:   e.GetOptions().GetUses(),
			scopes: e.GetOptions().GetScopes(),

			arguments:      e.GetArguments(),
			argumentsKnown: e.GetArgumentsKnown(),
		}
	}
	return tools, nil
}
