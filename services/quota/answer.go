package quota

import (
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// noRule is the number of no rule.
const noRule = -1

// answer makes the response to a decision, and tells the number of the rule that
// refused. Of several it is the one with the longest wait, and of equal ones the
// first: after that wait no other refuses either.
func (s *Service) answer(p *plan, ok bool, bounds []bound, asks []limiter.Ask) (*quotav1.CheckResponse, int) {
	res, room := newAnswer(len(asks))
	res.Allowed, res.Limits = ok, room.fill(bounds, asks)
	if s.cluster != nil {
		res.Degraded = ok && len(res.GetLimits()) < len(asks) || slices.ContainsFunc(asks, func(a limiter.Ask) bool { return a.State.Degraded })
	}
	if ok {
		return res, noRule
	}
	worst := -1
	for i := range asks {
		if st := &asks[i].State; !bounds[asks[i].Limit].shadow && st.Exceeded &&
			(worst < 0 || st.Wait > asks[worst].State.Wait) {
			worst = i
		}
	}
	by, wait := &bounds[asks[worst].Limit], asks[worst].State.Wait
	res.Rule, res.Refusal = p.ids[by.rule], by.kind
	// A cost beyond the limit is refused for ever: there is no time to tell.
	if wait != limiter.Never {
		res.RetryAfter = durationpb.New(wait)
	}
	return res, by.rule
}

// room is where the states of limits are put.
type room struct {
	states []limitState
	list   []*quotav1.LimitState
}

type limitState struct {
	limit quotav1.LimitState
	reset durationpb.Duration
}

func newRoom(limits int) room {
	return room{make([]limitState, limits), make([]*quotav1.LimitState, limits)}
}

// newAnswer makes an answer and room for its limits in few pieces, one if there is one
// limit: answers are most of what a check costs.
func newAnswer(limits int) (*quotav1.CheckResponse, room) {
	if limits != 1 {
		return &quotav1.CheckResponse{}, newRoom(limits)
	}
	one := &struct {
		res    quotav1.CheckResponse
		list   [1]*quotav1.LimitState
		states [1]limitState
	}{}
	return &one.res, room{one.states[:], one.list[:]}
}

// fill tells all states. A limit that was not asked, because another had refused
// already, has none.
func (r room) fill(bounds []bound, asks []limiter.Ask) []*quotav1.LimitState {
	known := 0
	for i := range asks {
		if asks[i].State.Unknown {
			continue
		}
		b, from, to := &bounds[asks[i].Limit], &asks[i].State, &r.states[i]
		to.reset.Seconds = int64(from.Reset / time.Second)
		to.reset.Nanos = int32(from.Reset % time.Second)
		to.limit.Name = b.name
		to.limit.Limit = b.limit
		to.limit.Window = b.window
		to.limit.Remaining = uint64(from.Remaining)
		to.limit.ResetAfter = &to.reset
		to.limit.Shadow = b.shadow
		to.limit.Exceeded = from.Exceeded
		to.limit.Kind = b.kind
		r.list[known] = &to.limit
		known++
	}
	return r.list[:known]
}
