package quota

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// identity says which limit of other rules, or of another node, is this one:
// that of the same rule and key, for the same callers. What it admits is no part of
// it, so a limit that is changed keeps its counts.
type identity struct {
	rule  string
	key   string
	place string // of an override: whom it is for
}

// name is the limit's name among nodes, for counters of a form.
func (is identity) name(form string) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q", is.rule, is.key, is.place, form))
	return binary.LittleEndian.Uint64(sum[:])
}

// goneFor is how much longer than its window a limit that no rule has keeps its
// number. Checks that began under the rule are over long before.
const goneFor = time.Minute

// follow gives the limits of p the numbers that they had in the plan before, so
// that they keep their counts. Limits that are gone keep their numbers too until
// nothing is left in their windows, for checks that are under way and in case that
// the rule comes back; then others take the numbers, with a Count of their own.
// It fails if there are too many of both.
func (p *plan) follow(before *plan, now time.Duration) error {
	p.counts = before.counts
	rates := assign(p.rates, before.rates, now)
	permits := assign(p.permits, before.permits, now)

	rateSpecs, permitSpecs := p.rateSpecs, p.permitSpecs
	p.rateSpecs = grown(before.rateSpecs, rates)
	if n := len(p.rateSpecs); n > limiter.MaxLimits {
		return fmt.Errorf("rules: have %d limits with those of the rules before, whose counts are kept until their windows are over, and %d can be counted: "+
			"change fewer rules at a time, or restart the node", n, limiter.MaxLimits)
	}
	p.permitSpecs = grown(before.permitSpecs, permits)
	for i, a := range rates {
		count := p.count(a, func() uint64 { return before.rateSpecs[a.number].Count })
		p.rateSpecs[a.number] = rateSpecs[i]
		p.rateSpecs[a.number].Count = count
	}
	for i, a := range permits {
		count := p.count(a, func() uint64 { return before.permitSpecs[a.number].Count })
		p.permitSpecs[a.number] = permitSpecs[i]
		p.permitSpecs[a.number].Count = count
	}
	p.rates = settle(p.rates, before.rates, rates, now)
	p.permits = settle(p.permits, before.permits, permits, now)
	p.renumber(rates, permits)
	return nil
}

// assigned is the number that a limit gets.
type assigned struct {
	number uint32
	kept   bool // with the count that it has
}

// assign finds the numbers of limits. Of several limits of one identity, such as
// "10/minute;100/hour", those with one window belong together, then the others in
// their order.
func assign(next, before []bound, now time.Duration) []assigned {
	numbers := make([]assigned, len(next))
	taken := make([]bool, len(before))
	same := make(map[identity][]uint32, len(before))
	for n := range before {
		same[before[n].is] = append(same[before[n].is], uint32(n))
	}
	find := func(i int, fits func(*bound) bool) {
		for _, n := range same[next[i].is] {
			if !numbers[i].kept && !taken[n] && fits(&before[n]) {
				numbers[i], taken[n] = assigned{n, true}, true
			}
		}
	}
	for i := range next {
		find(i, func(b *bound) bool { return b.span == next[i].span })
	}
	for i := range next {
		find(i, func(b *bound) bool { return b.gone == 0 })
	}
	fresh, free := uint32(len(before)), 0
	for i := range next {
		if numbers[i].kept {
			continue
		}
		for free < len(before) && (taken[free] || before[free].gone == 0 || now < before[free].gone+before[free].span+goneFor) {
			free++
		}
		if free < len(before) {
			numbers[i].number, taken[free] = uint32(free), true
			continue
		}
		numbers[i].number = fresh
		fresh++
	}
	return numbers
}

// count is the Count of a limit: the one that it has, or a new one.
func (p *plan) count(a assigned, has func() uint64) uint64 {
	if a.kept {
		return has()
	}
	p.counts++
	return p.counts
}

// grown copies a list, with room for all numbers.
func grown[T any](before []T, numbers []assigned) []T {
	size := len(before)
	for _, a := range numbers {
		size = max(size, int(a.number)+1)
	}
	return append(make([]T, 0, size), before...)[:size]
}

// settle puts bounds under their numbers, and notes which are gone.
func settle(next, before []bound, numbers []assigned, now time.Duration) []bound {
	all := grown(before, numbers)
	for n := range before {
		if all[n].gone == 0 {
			all[n].gone = max(now, 1)
		}
	}
	for i, a := range numbers {
		all[a.number] = next[i]
	}
	return all
}

// renumber makes the rules name their limits by the new numbers.
func (p *plan) renumber(rates, permits []assigned) {
	for i := range p.all {
		r := &p.all[i]
		r.terms = r.terms.renumbered(rates, permits)
		for j := range r.overrides {
			r.overrides[j].terms = r.overrides[j].terms.renumbered(rates, permits)
		}
	}
}

func (t terms) renumbered(rates, permits []assigned) terms {
	to := t
	to.rates, to.permit = nil, nil
	for _, n := range t.rates {
		to.rates = append(to.rates, rates[n].number)
	}
	for _, n := range t.permit {
		to.permit = append(to.permit, permits[n].number)
	}
	return to
}
