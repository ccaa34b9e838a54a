package quota

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
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

	modeStrict = "strict"
	modeFast   = "fast"
)

// plan is the configuration made ready for checks. It is never written after
// compile.
type plan struct {
	attributes []string  // that rules read, by number
	keys       [][]field // what rules count by, by number; equal keys have one
	rates      []bound   // by number; some may be of rules that are gone, see follow
	permits    []bound   // by number
	quotas     []quota   // by number
	index      index
	ids        []string       // of rules, by number
	orders     map[string]int // of bounds by name, as the configuration has them
	most       int            // limits that one check may meet
	warnings   []warning
	configured []Rule // by number
	version    string // the same for the same rules
	number     uint64 // higher than that of the plan before

	rateSpecs   []limiter.Spec       // by number
	permitSpecs []limiter.PermitSpec // by number
	counts      uint64               // the highest Count of a spec

	all     []rule               // by number
	ruled   [][]metric.AddOption // what metrics say, by rule
	refused []*atomic.Int64      // what each has refused, by rule
}

// warning is something that rules do and that may surprise.
type warning struct {
	path string // of the rule, such as "rules[3]"
	rule string // its id
	text string
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
	span   time.Duration
	is     identity
	when   map[string]Strings // of an override
	gone   time.Duration      // since when no rule has it; 0 while one does
	leased bool               // some of it may be given out in advance
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
	quotas []uint32 // one or none; then there is nothing else
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

// mistake is what is wrong with a value of the configuration.
type mistake struct {
	path string // such as "rules[3].limit"
	err  error
}

// Error implements error.
func (m *mistake) Error() string { return m.path + ": " + m.err.Error() }

// Unwrap returns the error without the path.
func (m *mistake) Unwrap() error { return m.err }

// Path implements [app.Placed].
func (m *mistake) Path() string { return m.path }

// compile reads cfg. The error holds every mistake, each a *mistake.
func compile(cfg Config) (*plan, error) {
	b := &builder{known: knownAttributes()}
	if cfg.MaxKeys < limiter.MinKeys || cfg.MaxKeys > 1<<30 {
		b.fail("max_keys", "%d is not from %d to %d", cfg.MaxKeys, limiter.MinKeys, 1<<30)
	}
	if cfg.MaxReplays < replayShards || cfg.MaxReplays > 1<<24 {
		b.fail("max_replays", "%d is not from %d to %d", cfg.MaxReplays, replayShards, 1<<24)
	}
	if cfg.MaxBookings < 1 || cfg.MaxBookings > 1<<30 {
		b.fail("max_bookings", "%d is not from 1 to %d", cfg.MaxBookings, 1<<30)
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
	if n := len(b.plan.rates); n > limiter.MaxLimits {
		b.fail("", "have %d limits, those of overrides too, and %d can be counted", n, limiter.MaxLimits)
	}
	if most := b.index.mostQuotas(); most > maxQuotas {
		b.fail("", "up to %d quotas match one check, which may have %d", most, maxQuotas)
	}
	for i := range b.rules {
		id := attribute.String("rule", b.rules[i].id)
		b.ids = append(b.ids, b.rules[i].id)
		b.ruled = append(b.ruled, with(id))
	}
	b.all, b.configured, b.version = b.rules, cfg.Rules, versionOf(cfg)
	b.orders = b.order()
	return &b.plan, errors.Join(b.errs...)
}

func (b *builder) fail(name, format string, args ...any) {
	path := b.path
	if path != "" && name != "" {
		path += "."
	}
	b.errs = append(b.errs, &mistake{path + name, fmt.Errorf(format, args...)})
}

func (b *builder) warn(r Rule, format string, args ...any) {
	b.warnings = append(b.warnings, warning{b.path, r.ID, fmt.Sprintf(format, args...)})
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
	if r.Quota != (Quota{}) {
		b.quota(r, c)
		return
	}
	fast := b.choice("mode", r.Mode, modeStrict, modeFast) == modeFast
	without := limiter.Deny
	switch b.choice("on_unavailable", unavailable(r), "deny", "share", "allow") {
	case "share":
		without = limiter.Share
	case "allow":
		without = limiter.Allow
	}
	if fast && r.Concurrency != (Concurrency{}) {
		b.fail("mode", "cannot be fast for a rule with concurrency, which the owner of a permit alone can count; put the limit into a rule of its own")
	} else if without != limiter.Deny && r.Concurrency.Max > 0 {
		b.fail("on_unavailable", "must be deny for a rule with concurrency: permits are not given without their owner; put the limit into a rule of its own")
	}
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
	clock := b.choice("windows", r.Windows, "spend", "clock") == "clock"
	penalty := b.choice("penalty", r.Penalty, "none", "extend") == "extend"
	if (clock || penalty) && len(r.Limit) == 0 {
		b.fail("limit", "is missing, which windows and penalty are about")
	}
	if len(r.Limit) == 0 && r.Concurrency.Max == 0 {
		b.fail("limit", "is missing, and so are concurrency and quota")
	}

	s := section{rule: r, kind: kind, algorithm: algorithm, clock: clock, penalty: penalty, without: without, fast: fast}
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
	if len(b.errs) == 0 {
		b.review(r)
	}
	b.rules = append(b.rules, c)
}

func (b *builder) override(s section, base terms, o Override) override {
	if len(o.When) == 0 {
		b.fail("when", "is missing")
	}
	c := override{when: b.conditions("when", o.When)}
	s.when, s.place = o.When, fmt.Sprintf("%q", o.When) // in the order of the keys
	switch {
	case o.Amount > 0:
		b.fail("amount", "has no quota of the rule to take the place of")
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

// unavailable is what a rule says, or what holds where it is silent.
func unavailable(r Rule) string {
	switch {
	case r.OnUnavailable != "":
		return r.OnUnavailable
	case r.Mode == modeFast:
		return "share"
	}
	return "deny"
}
