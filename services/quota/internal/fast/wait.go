package fast

import (
	"cmp"
	"slices"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// leaves is so much that counts until a time.
type leaves struct {
	at int64
	n  uint64
}

// when is when as much as needed will have left.
func when(all []leaves, need uint64) int64 {
	slices.SortFunc(all, func(a, b leaves) int { return cmp.Compare(a.at, b.at) })
	at := int64(0)
	for _, l := range all {
		at = l.at
		if l.n >= need {
			break
		}
		need -= l.n
	}
	return at
}

// frees is when so much of what our own row holds, or of what all do, will count no
// longer. They must hold as much.
func (c *counter) frees(need uint64, l *limit, all bool) int64 {
	left := c.own.leaves(nil, c, l)
	if all {
		for i := range c.others {
			left = c.others[i].leaves(left, c, l)
		}
	}
	return when(left, need)
}

func (r *row) leaves(all []leaves, c *counter, l *limit) []leaves {
	for i := range r.length {
		if r.n[i] > 0 {
			all = append(all, leaves{r.ends(i, c, l), uint64(r.n[i])})
		}
	}
	return all
}

// moreAt is when as much as needed will have left.
func (c *counter) moreAt(need uint64, l *limit) int64 {
	if need > 1 {
		return c.frees(need, l, true)
	}
	at := int64(1<<63 - 1)
	if c.heard > 0 {
		at = c.next
	}
	if c.own.sum > 0 {
		at = min(at, c.own.ends(c.own.length-1, c, l))
	}
	return at
}

// foretell adds the times to a state. Remaining is already there.
func (s *shard) foretell(a *limiter.Ask, c *counter, l *limit, share uint64, shared bool) {
	if c == nil {
		if a.State.Exceeded {
			a.State.Wait = limiter.Never
			if a.Cost <= l.max {
				a.State.Wait = soon // more than a share, which is for now
			}
		}
		return
	}
	total := c.total()
	if total > 0 {
		a.State.Reset = s.until(c.moreAt(total-min(total, uint64(l.max))+1, l))
	}
	cost := uint64(a.Cost)
	switch {
	case !a.State.Exceeded:
	case a.Cost > l.max:
		a.State.Wait = limiter.Never
	default:
		if total+cost > uint64(l.max) {
			a.State.Wait = s.until(c.frees(total+cost-uint64(l.max), l, true))
		}
		if shared && c.own.sum+cost > share {
			wait := soon
			if cost <= share {
				wait = min(soon, s.until(c.frees(c.own.sum+cost-share, l, false)))
			}
			a.State.Wait = max(a.State.Wait, wait)
		}
	}
}

// soon is when nodes that are silent may be heard of again.
const soon = time.Second

func (s *shard) until(at int64) time.Duration { return time.Duration(max(at-s.now, 1)) }
