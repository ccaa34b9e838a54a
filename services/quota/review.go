package quota

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/fast"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/rate"
)

// review warns of what is allowed in a rule and may surprise.
func (b *builder) review(r Rule) {
	b.reviewLimit(r, r.Limit, r.Burst)
	outer := b.path
	var whens []string
	for i, o := range r.Overrides {
		b.path = fmt.Sprintf("%s.overrides[%d]", outer, i)
		b.reviewLimit(r, o.Limit, o.Burst)
		when := fmt.Sprintf("%q", o.When)
		if slices.Contains(whens, when) {
			b.warn(r, "never matches: an override before has the same when")
		}
		whens = append(whens, when)
	}
	b.path = outer
}

func (b *builder) reviewLimit(r Rule, limit Strings, burst uint32) {
	rates, err := rate.Parse(strings.Join(limit, ";"))
	if err != nil {
		return // said already, or there is none
	}
	for _, short := range rates {
		if most := fast.Usual(short.Limit); r.Mode == modeFast && most >= short.Limit {
			b.warn(r, "fast mode may admit %s on each node: until they have heard of it, each further node may admit %d more at 10,000 checks a second; write mode: strict for so small a limit",
				short, most)
		}
		if r.Algorithm == "gcra" && cmp.Or(burst, short.Limit) >= short.Limit {
			b.warn(r, "admits up to %d in one window of %s, not %d: what refills meanwhile comes on top of the burst; halve limit and burst to bound it",
				uint64(cmp.Or(burst, short.Limit))+uint64(short.Limit), short.Span(), short.Limit)
		}
		for _, long := range rates {
			if short.Window < long.Window && short.Limit >= long.Limit {
				b.warn(r, "%s is never met: %s refuses before", short, long)
			}
		}
	}
}
