package quota

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/fast"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/rate"
)

// Bounds of a concurrency limit.
const (
	maxPermits = 100_000
	maxTTL     = 24 * time.Hour
)

// section is what all bounds of a rule have in common.
type section struct {
	rule      Rule
	kind      quotav1.RefusalKind
	algorithm limiter.Algorithm
	clock     bool
	penalty   bool
	without   limiter.Without
	fast      bool
	place     string // of an override: whom it is for
	when      map[string]Strings
}

// rates adds the bounds that limits describe, and returns their numbers.
func (b *builder) rates(name string, s section, limits Strings, burst uint32) []uint32 {
	rates, err := rate.Parse(strings.Join(limits, ";"))
	if err != nil {
		b.fail(name, "%w", err)
		return nil
	}
	if burst > 0 && len(rates) > 1 {
		b.fail("burst", "is for one limit, and there are %d", len(rates))
		return nil
	}
	var numbers []uint32
	for _, r := range rates {
		spec := limiter.Spec{Algorithm: s.algorithm, Max: r.Limit, Window: r.Window, Burst: burst, Shadow: s.rule.Shadow, Clock: s.clock, Penalty: s.penalty, Without: s.without, Fast: s.fast}
		if err := spec.Validate(); err != nil {
			b.fail(name, "%w", err)
			continue
		}
		form := spec.Form()
		if s.fast {
			if err := fast.Check(spec); err != nil {
				b.fail("mode", "%w", err)
				return nil // the same would hold of all
			}
			form = fast.Form(spec)
		}
		title := s.rule.ID
		if len(rates) > 1 {
			title += "/" + r.Span()
		}
		numbers = append(numbers, uint32(len(b.plan.rates)))
		is := identity{rule: s.rule.ID, key: fmt.Sprintf("%q", s.rule.Key), place: s.place}
		spec.Name = is.name(form)
		b.rateSpecs = append(b.rateSpecs, spec)
		b.plan.rates = append(b.plan.rates, bound{
			name:   title,
			rule:   len(b.rules),
			kind:   s.kind,
			limit:  uint64(r.Limit),
			window: durationpb.New(r.Window),
			shadow: s.rule.Shadow,
			order:  b.bounds(),
			span:   r.Window,
			is:     is,
			when:   s.when,
			leased: leased(s.kind, spec),
		})
	}
	return numbers
}

// bounds is how many there are of all sorts.
func (b *builder) bounds() int { return len(b.plan.rates) + len(b.plan.permits) + len(b.plan.quotas) }

// order is that of all bounds by name.
func (b *builder) order() map[string]int {
	orders := make(map[string]int)
	for _, other := range slices.Concat(b.plan.rates, b.plan.permits) {
		orders[other.name] = other.order
	}
	for i := range b.plan.quotas {
		orders[b.plan.quotas[i].name] = b.plan.quotas[i].order
	}
	return orders
}

// concurrency adds the bound on permits, if there is one.
func (b *builder) concurrency(s section) []uint32 {
	c := s.rule.Concurrency
	if c.Max == 0 && c.TTL == 0 {
		return nil
	}
	if c.Max < 1 || c.Max > maxPermits {
		b.fail("concurrency.max", "%d is not from 1 to %d", c.Max, maxPermits)
	}
	if c.TTL < 0 || c.TTL > maxTTL {
		b.fail("concurrency.ttl", "%v is not from 0 to %v", c.TTL, maxTTL)
	}
	title := s.rule.ID
	if len(s.rule.Limit) > 0 {
		title += "/permits"
	}
	ttl := cmp.Or(c.TTL, defaultTTL)
	is := identity{rule: s.rule.ID, key: fmt.Sprintf("%q", s.rule.Key)}
	b.permitSpecs = append(b.permitSpecs, limiter.PermitSpec{Max: c.Max, TTL: ttl, Shadow: s.rule.Shadow, Name: is.name("permits")})
	b.plan.permits = append(b.plan.permits, bound{
		name:   title,
		rule:   len(b.rules),
		kind:   quotav1.RefusalKind_REFUSAL_KIND_CONCURRENCY,
		limit:  uint64(c.Max),
		shadow: s.rule.Shadow,
		order:  b.bounds(),
		span:   ttl,
		is:     is,
	})
	return []uint32{uint32(len(b.plan.permits) - 1)}
}

// knownAttributes are those of the contract's Subject.
func knownAttributes() []string {
	return []string{"ip", "key", "user", "tenant", "tool", "action", "context", "context_source", "role", "client", "owner", "plan", "call", "hops"}
}

func isID(s string) bool { return isName(s, 64, '-') }

func isAttribute(s string) bool { return isName(s, 32, '_') }

func isName(s string, most int, joint byte) bool {
	for i := range len(s) {
		letter, digit := s[i] >= 'a' && s[i] <= 'z', s[i] >= '0' && s[i] <= '9'
		if !letter && (i == 0 || !digit && s[i] != joint) {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= most
}

func sortedKeys(m map[string]Strings) []string { return slices.Sorted(maps.Keys(m)) }
