package quota

import (
	"context"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// parted are asks of a check by how they are counted.
type parted struct {
	all, fast, strict []limiter.Ask
	from              []bool // of all: whether it is fast
}

// part sorts asks. It is nil if none is counted in fast mode.
func (s *Service) part(asks []limiter.Ask) *parted {
	fast := s.countFast(asks)
	if fast == 0 {
		return nil
	}
	p := &parted{all: asks, from: make([]bool, len(asks)), fast: make([]limiter.Ask, 0, fast), strict: make([]limiter.Ask, 0, len(asks)-fast)}
	for i := range asks {
		if p.from[i] = s.fast.Of(asks[i].Limit); p.from[i] {
			p.fast = append(p.fast, asks[i])
		} else {
			p.strict = append(p.strict, asks[i])
		}
	}
	return p
}

func (s *Service) countFast(asks []limiter.Ask) (n int) {
	if !s.fast.Any() {
		return 0
	}
	for i := range asks {
		if s.fast.Of(asks[i].Limit) {
			n++
		}
	}
	return n
}

// join tells what became of the asks.
func (p *parted) join() {
	fast, strict := p.fast, p.strict
	for i := range p.all {
		if p.from[i] {
			p.all[i], fast = fast[0], fast[1:]
		} else {
			p.all[i], strict = strict[0], strict[1:]
		}
	}
}

// spendTogether is spend over all nodes.
func (s *Service) spendTogether(ctx context.Context, asks []limiter.Ask, probe bool) (ok bool, err error) {
	switch fast := s.countFast(asks); {
	case fast == 0 && probe:
		ok, err = s.cluster.Peek(ctx, asks)
	case fast == 0:
		ok, err = s.cluster.Take(ctx, asks)
	case fast == len(asks) && probe:
		ok, err = s.fast.Peek(s.now(), asks)
	case fast == len(asks):
		ok, err = s.fast.Take(s.now(), asks)
	default:
		p := s.part(asks)
		defer p.join()
		if probe {
			return s.peekParted(ctx, p)
		}
		return s.takeParted(ctx, p)
	}
	return ok, failure(err)
}

// takeParted takes from limits in fast mode first, for that can be undone: others
// hear of it as they do of spends.
func (s *Service) takeParted(ctx context.Context, p *parted) (bool, error) {
	ok, err := s.fast.Take(s.now(), p.fast)
	if err != nil || !ok {
		for i := range p.strict {
			p.strict[i].State = limiter.State{Unknown: true}
		}
		return false, failure(err)
	}
	ok, err = s.cluster.Take(ctx, p.strict)
	if err != nil || !ok {
		s.fast.Undo(s.now(), p.fast)
	}
	return ok, failure(err)
}

func (s *Service) peekParted(ctx context.Context, p *parted) (bool, error) {
	ok, err := s.fast.Peek(s.now(), p.fast)
	if err != nil {
		return false, failure(err)
	}
	strict, err := s.cluster.Peek(ctx, p.strict)
	return ok && strict, failure(err)
}

// giveBackFast undoes what a check took from limits in fast mode.
func (s *Service) giveBackFast(asks []limiter.Ask) {
	if p := s.part(asks); p != nil {
		s.fast.Undo(s.now(), p.fast)
		p.join()
	}
}

// peekTogether fills in the states of limits and permits.
func (s *Service) peekTogether(ctx context.Context, asks, held []limiter.Ask) error {
	if _, err := s.spendTogether(ctx, asks, true); err != nil {
		return err
	}
	_, err := s.cluster.PeekPermits(ctx, held)
	return failure(err)
}
