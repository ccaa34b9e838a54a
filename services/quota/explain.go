package quota

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// Bounds of the contract.
const (
	maxExplained = 10_000
	maxNotes     = 16
	maxNote      = 500
)

// permitBytes is about what a permit takes.
const permitBytes = 240

// ExplainRules implements [quotav1.QuotaAdminServiceServer]. There is an
// explanation for each limit of each rule, those of its overrides after its own.
func (a admin) ExplainRules(context.Context, *quotav1.ExplainRulesRequest) (*quotav1.ExplainRulesResponse, error) {
	s, p := a.s, a.s.plan.Load()
	resp := &quotav1.ExplainRulesResponse{Version: p.version, Nodes: 1}
	if s.cluster != nil {
		resp.Nodes = uint32(max(s.cluster.Nodes(), 1))
	}
	s.rules.mu.Lock()
	resp.LoadTime = timestamppb.New(s.rules.since)
	resp.Problems = slices.Clone(s.rules.problems)
	s.rules.mu.Unlock()

	type ordered struct {
		order int
		*quotav1.RuleExplanation
	}
	var all []ordered
	rateKeys, permitKeys := s.limiter.Keys(s.now()), s.permits.Keys(s.now())
	for n := range p.rates {
		if b := &p.rates[n]; b.gone == 0 {
			e := p.explainRate(b, p.rateSpecs[n])
			e.Keys = uint64(rateKeys[n])
			if p.rateSpecs[n].Fast {
				s.explainFast(e, uint32(n))
			}
			all = append(all, ordered{b.order, e})
		}
	}
	for n := range p.permits {
		if b := &p.permits[n]; b.gone == 0 {
			e := p.explainPermits(b, p.permitSpecs[n])
			e.Keys = uint64(permitKeys[n])
			all = append(all, ordered{b.order, e})
		}
	}
	for n := range p.quotas {
		all = append(all, ordered{p.quotas[n].order, p.explainQuota(&p.quotas[n])})
	}
	slices.SortFunc(all, func(a, b ordered) int { return cmp.Compare(a.order, b.order) })
	for _, e := range all[:min(len(all), maxExplained)] {
		resp.Rules = append(resp.Rules, e.RuleExplanation)
	}
	return resp, nil
}

// explainRate explains one limit.
func (p *plan) explainRate(b *bound, spec limiter.Spec) *quotav1.RuleExplanation {
	r := p.configured[b.rule]
	e := p.explain(b, r)
	e.Window = b.window
	e.BytesPerKey = spec.Bytes()
	var n notes
	n.override(b)
	switch {
	case spec.Algorithm == limiter.GCRA:
		burst := cmp.Or(spec.Burst, spec.Max)
		e.Algorithm, e.MostAdmitted = "gcra", uint64(burst)+uint64(spec.Max)
		n.add("Admits %d at once, then one each %v.", burst, (spec.Window / time.Duration(spec.Max)).Round(time.Microsecond))
	case spec.Clock:
		e.Algorithm, e.MostAdmitted = "fixed", 2*uint64(spec.Max)
		n.add("Windows end with those of the clock, in UTC; around an end twice the limit can pass.")
	case spec.Algorithm == limiter.Fixed:
		e.Algorithm, e.MostAdmitted = "fixed", 2*uint64(spec.Max)
		n.add("A window begins with the first spend after the one before; around an end twice the limit can pass.")
	case spec.Max > limiter.LogMax:
		e.Algorithm, e.MostAdmitted = "sliding", uint64(spec.Max)
		n.add("Counted in tenths of the window; what was spent is forgotten up to a tenth late.")
	default:
		e.Algorithm, e.MostAdmitted = "sliding", uint64(spec.Max)
	}
	if spec.Penalty {
		n.add("What it refuses counts too: who keeps trying keeps being refused.")
	}
	switch {
	case spec.Fast: // see explainFast
	case spec.Without == limiter.Share:
		n.add("Without the node that owns a count, each node admits a fair part of what is left as far as it knows.")
	case spec.Without == limiter.Allow:
		n.add("Without the node that owns a count, everything passes.")
	}
	n.rule(p, b, r)
	e.Notes = n
	return e
}

// explainPermits explains a limit of permits.
func (p *plan) explainPermits(b *bound, spec limiter.PermitSpec) *quotav1.RuleExplanation {
	r := p.configured[b.rule]
	e := p.explain(b, r)
	e.Algorithm, e.MostAdmitted, e.BytesPerKey = "concurrency", uint64(spec.Max), permitBytes
	var n notes
	n.add("At a time; a permit that is not given back ends after %v.", spec.TTL)
	n.rule(p, b, r)
	e.Notes = n
	return e
}

// explainQuota explains a durable quota.
func (p *plan) explainQuota(q *quota) *quotav1.RuleExplanation {
	r := p.configured[q.rule]
	e := &quotav1.RuleExplanation{
		Name: q.name, Kind: quotav1.RefusalKind_REFUSAL_KIND_QUOTA, Mode: "durable", Algorithm: "calendar",
		Limit: q.amount, MostAdmitted: q.amount, Shadow: q.shadow, OnUnavailable: "deny",
	}
	var n notes
	n.add("Of %s in a %s (%s), counted in the ledger; without it nothing passes.", q.unit, r.Quota.Per, cmp.Or(r.Quota.TZ, "UTC"))
	if q.unit != unitCalls {
		n.add("A commit may be more than was reserved; the part beyond the limit is told as overdraft.")
	}
	n.rule(p, &bound{rule: q.rule}, r)
	e.Notes = n
	return e
}

func (p *plan) explain(b *bound, r Rule) *quotav1.RuleExplanation {
	return &quotav1.RuleExplanation{
		Name: b.name, Kind: b.kind, Mode: cmp.Or(r.Mode, modeStrict), Limit: b.limit, Shadow: b.shadow, OnUnavailable: unavailable(r),
	}
}

// notes are sentences about a limit.
type notes []string

func (n *notes) add(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(text) > maxNote {
		text = strings.ToValidUTF8(text[:maxNote], "") + "…"
	}
	if len(*n) < maxNotes {
		*n = append(*n, text)
	}
}

// override says whom a limit is for.
func (n *notes) override(b *bound) {
	if b.when != nil {
		n.add("Instead of the rule's limit where %s.", patternsText(b.when))
	}
}

// rule says what holds of all limits of a rule.
func (n *notes) rule(p *plan, b *bound, r Rule) {
	switch {
	case len(r.Match) == 0:
		n.add("For every check.")
	default:
		n.add("For checks where %s.", patternsText(r.Match))
	}
	switch {
	case len(r.Key) == 0:
		n.add("All together have one count.")
	default:
		n.add("Counted by %s; all who lack it together have one count.", strings.Join(r.Key, ", "))
	}
	for _, o := range r.Overrides {
		if o.Unlimited && b.when == nil {
			n.add("Not where %s.", patternsText(o.When))
		}
	}
	if r.Cost == "one" {
		n.add("Each check counts as one, whatever it costs.")
	}
	for _, w := range p.warnings {
		if w.rule == r.ID {
			n.add("Warning: %s.", w.text)
		}
	}
}

// patternsText is patterns as people read them.
func patternsText(patterns map[string]Strings) string {
	var all []string
	for _, name := range sortedKeys(patterns) {
		all = append(all, name+" is "+strings.Join(patterns[name], " or "))
	}
	return strings.Join(all, " and ")
}
