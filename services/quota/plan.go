package quota

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/match"
)

// Words of the configuration.
const (
	kindRate  = "rate"
	kindSteps = "steps"
	kindLoop  = "loop"
)

// plan is the configuration made ready for checks. It is never written after
// compile.
type plan struct {
	attributes []string  // that rules read, by number
	keys       [][]field // what rules count by, by number; equal keys have one
	rates      []bound   // by number
	permits    []bound   // by number
	index      index
	ids        []string // of rules, by number
	most       int      // limits that one check may meet
	warnings   []string // IDs of rules that admit more than they seem to

	rateSpecs   []limiter.Spec
	permitSpecs []limiter.PermitSpec
	rateIDs     []uint64 // names of limits for other nodes, by number
	permitIDs   []uint64
}

// bound is one limit as answers show it.
type bound struct {
	name   string
	rule   int
	kind   quotav1.RefusalKind
	limit  uint64
	window *durationpb.Duration // nil for permits; shared by all answers
	shadow bool
	order  int // among all bounds
}

// rule is one Rule.
type rule struct {
	id        string
	when      []condition
	key       int
	costOne   bool
	shadow    bool
	terms     terms
	overrides []override
}

// terms are the bounds of a rule for one caller.
type terms struct {
	rates  []uint32
	permit []uint32 // one or none
}

type override struct {
	when  []condition
	terms terms
}

// condition is the pattern of one attribute.
type condition struct {
	attribute int
	set       match.Set
}

type field struct {
	attribute int
	match.Field
}

// maxAttributes is how many attributes rules may read: as many as a subject can
// have.
const maxAttributes = 32

// builder makes a plan, and collects mistakes.
type builder struct {
	plan
	known []string
	rules []rule
	errs  []error
	path  string // of what is being read
}

// compile reads cfg. The error holds every mistake.
func compile(cfg Config) (*plan, error) {
	b := &builder{known: knownAttributes()}
	if cfg.MaxKeys < limiter.MinKeys || cfg.MaxKeys > 1<<30 {
		b.fail("max_keys", "%d is not from %d to %d", cfg.MaxKeys, limiter.MinKeys, 1<<30)
	}
	if cfg.MaxReplays < replayShards || cfg.MaxReplays > 1<<24 {
		b.fail("max_replays", "%d is not from %d to %d", cfg.MaxReplays, replayShards, 1<<24)
	}
	for i, name := range cfg.Attributes {
		b.path = fmt.Sprintf("attributes[%d]", i)
		b.extend(name)
	}
	ids := make(map[string]int)
	for i, r := range cfg.Rules {
		b.path = fmt.Sprintf("rules[%d]", i)
		if first, ok := ids[r.ID]; ok {
			b.fail("id", "%q is also the id of rules[%d]", r.ID, first)
		} else {
			ids[r.ID] = i
		}
		b.rule(r)
	}
	b.path = "rules"
	b.index = newIndex(b)
	if b.most = b.index.most(); b.most > limiter.MaxAsks {
		b.fail("", "up to %d limits match one check, which may have %d", b.most, limiter.MaxAsks)
	}
	for i := range b.rules {
		b.ids = append(b.ids, b.rules[i].id)
	}
	return &b.plan, errors.Join(b.errs...)
}

func (b *builder) fail(name, format string, args ...any) {
	path := b.path
	if path != "" && name != "" {
		path += "."
	}
	b.errs = append(b.errs, fmt.Errorf(path+name+": "+format, args...))
}

func (b *builder) rule(r Rule) {
	if !isID(r.ID) {
		b.fail("id", "%q must be 1 to 64 lower-case letters, digits and hyphens, a letter first", r.ID)
	}
	c := rule{
		id:      r.ID,
		when:    b.conditions("match", r.Match),
		key:     b.key(r.Key),
		costOne: b.choice("cost", r.Cost, "weight", "one") == "one",
		shadow:  r.Shadow,
	}
	b.choice("on_unavailable", r.OnUnavailable, "share", "deny", "allow")
	kind := quotav1.RefusalKind_REFUSAL_KIND_RATE
	switch b.choice("kind", r.Kind, kindRate, kindSteps, kindLoop) {
	case kindSteps:
		kind = quotav1.RefusalKind_REFUSAL_KIND_STEP_BUDGET
	case kindLoop:
		kind = quotav1.RefusalKind_REFUSAL_KIND_LOOP
		if !slices.Contains(r.Key, "call") || !slices.Contains(r.Key, "context") {
			b.fail("key", "of a loop has to name context and call: it counts how often one call is repeated in one context")
		}
	}
	algorithm := limiter.Sliding
	switch b.choice("algorithm", r.Algorithm, "sliding", "gcra", "fixed") {
	case "gcra":
		algorithm = limiter.GCRA
	case "fixed":
		algorithm = limiter.Fixed
	}
	if len(r.Limit) == 0 && r.Concurrency.Max == 0 {
		b.fail("limit", "is missing, and so is concurrency")
	}

	s := section{rule: r, kind: kind, algorithm: algorithm}
	if len(r.Limit) > 0 {
		c.terms.rates = b.rates("limit", s, r.Limit, r.Burst)
	} else if r.Burst > 0 {
		b.fail("burst", "is of no use without a limit")
	}
	c.terms.permit = b.concurrency(s)
	outer := b.path
	for i, o := range r.Overrides {
		b.path = fmt.Sprintf("%s.overrides[%d]", outer, i)
		c.overrides = append(c.overrides, b.override(s, c.terms, o))
	}
	b.path = outer
	b.rules = append(b.rules, c)
}

func (b *builder) override(s section, base terms, o Override) override {
	if len(o.When) == 0 {
		b.fail("when", "is missing")
	}
	c := override{when: b.conditions("when", o.When)}
	switch {
	case o.Unlimited && len(o.Limit) > 0:
		b.fail("limit", "contradicts unlimited")
	case o.Unlimited:
	case len(o.Limit) == 0:
		b.fail("limit", "is missing, and so is unlimited")
	case len(s.rule.Limit) == 0:
		b.fail("limit", "has no limit of the rule to take the place of")
	default:
		c.terms = terms{rates: b.rates("limit", s, o.Limit, o.Burst), permit: base.permit}
	}
	return c
}

// conditions reads patterns, in an order that does not depend on the map's.
func (b *builder) conditions(name string, patterns map[string]Strings) []condition {
	var cs []condition
	for _, attribute := range b.known {
		p, ok := patterns[attribute]
		if !ok {
			continue
		}
		set, err := match.NewSet(p)
		if err != nil {
			b.fail(name+"."+attribute, "%w", err)
			continue
		}
		if attribute == "role" {
			set = set.Listed()
		}
		cs = append(cs, condition{b.attribute(attribute), set})
	}
	for _, attribute := range sortedKeys(patterns) {
		if !slices.Contains(b.known, attribute) {
			b.fail(name+"."+attribute, "is no attribute; known are %v", b.known)
		}
	}
	return cs
}

// key reads what to count by, and returns its number.
func (b *builder) key(names []string) int {
	var fields []field
	for _, text := range names {
		f, err := match.NewField(text)
		switch {
		case err != nil:
			b.fail("key", "%w", err)
		case !slices.Contains(b.known, f.Attribute):
			b.fail("key", "%q is no attribute; known are %v", f.Attribute, b.known)
		case slices.ContainsFunc(fields, func(g field) bool { return g.Attribute == f.Attribute }):
			b.fail("key", "%q stands there twice", f.Attribute)
		default:
			fields = append(fields, field{b.attribute(f.Attribute), f})
		}
	}
	for i, other := range b.keys {
		if slices.Equal(fields, other) {
			return i
		}
	}
	b.keys = append(b.keys, fields)
	return len(b.keys) - 1
}

// attribute returns the number of an attribute.
func (b *builder) attribute(name string) int {
	if i := slices.Index(b.attributes, name); i >= 0 {
		return i
	}
	b.attributes = append(b.attributes, name)
	return len(b.attributes) - 1
}

// choice reads a word, of which the first is the default.
func (b *builder) choice(name, word string, words ...string) string {
	if word == "" {
		return words[0]
	}
	if !slices.Contains(words, word) {
		b.fail(name, "%q is not one of %v", word, words)
	}
	return word
}

// extend makes a name known.
func (b *builder) extend(name string) {
	switch {
	case !isAttribute(name):
		b.fail("", "%q must be 1 to 32 lower-case letters, digits and underscores, a letter first", name)
	case slices.Contains(b.known, name):
		b.fail("", "%q is known already", name)
	case len(b.known) == maxAttributes:
		b.fail("", "there are more than %d attributes in all", maxAttributes)
	default:
		b.known = append(b.known, name)
	}
}

// defaultTTL is how long a permit lives if the rule does not say.
const defaultTTL = time.Minute
