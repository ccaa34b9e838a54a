package cluster

import (
	"errors"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// group is the part of one check that one node decides.
type group struct {
	verb   quotav1.AskVerb
	asks   []asked
	permit string // its id, for verbs of permits
	ttl    time.Duration
}

// asked is one limit of a check, by the name that all nodes know.
type asked struct {
	limit uint64
	key   limiter.Key
	cost  uint32
	mark  int64 // what the owner said when it took, for UNDO, as is reign
	reign uint64
	want  uint32 // in advance
}

// answer is what became of a group.
type answer struct {
	outcome quotav1.AskOutcome
	states  []told // of all asks, or none
}

// told is one limit as its owner saw it.
type told struct {
	state     limiter.State // without what only this node knows
	unsettled bool          // a refusal is not to be remembered
	mark      int64
	reign     uint64

	granted    uint32 // in advance
	grantedFor time.Duration
	grantMark  int64
	grantReign uint64
}

// Flags of a state.
const (
	flagExceeded = 1 << iota
	flagUnsettled
)

// put puts a value at a place of a column, which ends with the last that is not zero.
func put[T comparable](column *[]T, at int, value T) {
	var zero T
	if value == zero {
		return
	}
	for len(*column) < at {
		*column = append(*column, zero)
	}
	*column = append(*column, value)
}

// cell is the value at a place of a column.
func cell[T any](column []T, at int) (value T) {
	if at < len(column) {
		value = column[at]
	}
	return value
}

// emptyFrame makes a frame ready to be filled again.
func emptyFrame(f *quotav1.AskFrame) {
	f.Verbs, f.Sizes, f.PermitIds, f.TtlNanos = f.Verbs[:0], f.Sizes[:0], f.PermitIds[:0], f.TtlNanos[:0]
	f.Limits, f.His, f.Los, f.Costs = f.Limits[:0], f.His[:0], f.Los[:0], f.Costs[:0]
	f.Marks, f.Reigns, f.Wants = f.Marks[:0], f.Reigns[:0], f.Wants[:0]
}

// addGroup adds a group to a frame.
func addGroup(f *quotav1.AskFrame, g *group) {
	n := len(f.GetVerbs())
	f.Verbs, f.Sizes = append(f.Verbs, g.verb), append(f.Sizes, uint32(len(g.asks)))
	put(&f.PermitIds, n, g.permit)
	put(&f.TtlNanos, n, int64(g.ttl))
	for i := range g.asks {
		a, n := &g.asks[i], len(f.GetLimits())
		f.Limits, f.His, f.Los = append(f.Limits, a.limit), append(f.His, a.key.Hi), append(f.Los, a.key.Lo)
		put(&f.Costs, n, a.cost)
		put(&f.Marks, n, a.mark)
		put(&f.Reigns, n, a.reign)
		put(&f.Wants, n, a.want)
	}
}

const (
	// maxGroups is how many groups a frame has at most.
	maxGroups = 512
	// maxAsks is how many asks a group has at most.
	maxAsks = limiter.MaxAsks
)

var errColumns = errors.New("the columns of a message are too long, or do not belong together")

// shape adds up sizes.
func shape(groups int, sizes []uint32) (asks int, err error) {
	if groups > maxGroups || len(sizes) > groups {
		return 0, errColumns
	}
	for _, n := range sizes {
		if n > maxAsks {
			return 0, errColumns
		}
		asks += int(n)
	}
	return asks, nil
}

// groupsOf reads a frame.
func groupsOf(f *quotav1.AskFrame) ([]group, error) {
	count, err := shape(len(f.GetVerbs()), f.GetSizes())
	if err != nil || count != len(f.GetLimits()) || count != len(f.GetHis()) || count != len(f.GetLos()) {
		return nil, errColumns
	}
	groups, asks := make([]group, len(f.GetVerbs())), make([]asked, count)
	for i := range asks {
		asks[i] = asked{
			limit: f.GetLimits()[i], key: limiter.Key{Hi: f.GetHis()[i], Lo: f.GetLos()[i]}, cost: cell(f.GetCosts(), i),
			mark: cell(f.GetMarks(), i), reign: cell(f.GetReigns(), i), want: cell(f.GetWants(), i),
		}
	}
	for i := range groups {
		n, permit := cell(f.GetSizes(), i), cell(f.GetPermitIds(), i)
		if len(permit) > longestPermit {
			return nil, errColumns
		}
		groups[i] = group{f.GetVerbs()[i], asks[:n:n], permit, time.Duration(cell(f.GetTtlNanos(), i))}
		asks = asks[n:]
	}
	return groups, nil
}

// addAnswer adds an answer to a reply that has some states, and returns how many it has
// then.
func addAnswer(r *quotav1.AskReply, at int, a *answer) int {
	r.Outcomes, r.Sizes = append(r.Outcomes, a.outcome), append(r.Sizes, uint32(len(a.states)))
	for i := range a.states {
		t := &a.states[i]
		var flags uint32
		if t.state.Exceeded {
			flags |= flagExceeded
		}
		if t.unsettled {
			flags |= flagUnsettled
		}
		n := at + i
		put(&r.Remaining, n, t.state.Remaining)
		put(&r.ResetNanos, n, int64(t.state.Reset))
		put(&r.Flags, n, flags)
		put(&r.WaitNanos, n, int64(t.state.Wait))
		put(&r.Marks, n, t.mark)
		put(&r.Reigns, n, t.reign)
		put(&r.Granted, n, t.granted)
		put(&r.GrantedNanos, n, int64(t.grantedFor))
		put(&r.GrantMarks, n, t.grantMark)
		put(&r.GrantReigns, n, t.grantReign)
		put(&r.SlackNanos, n, int64(t.state.Slack))
	}
	return at + len(a.states)
}

// answersOf reads a reply.
func answersOf(r *quotav1.AskReply) ([]answer, error) {
	count, err := shape(len(r.GetOutcomes()), r.GetSizes())
	if err != nil {
		return nil, err
	}
	answers, states := make([]answer, len(r.GetOutcomes())), make([]told, count)
	for i := range states {
		flags := cell(r.GetFlags(), i)
		states[i] = told{
			state: limiter.State{
				Remaining: cell(r.GetRemaining(), i), Reset: time.Duration(cell(r.GetResetNanos(), i)), Exceeded: flags&flagExceeded != 0,
				Wait: time.Duration(cell(r.GetWaitNanos(), i)), Slack: time.Duration(cell(r.GetSlackNanos(), i)),
			},
			unsettled: flags&flagUnsettled != 0, mark: cell(r.GetMarks(), i), reign: cell(r.GetReigns(), i),
			granted: cell(r.GetGranted(), i), grantedFor: time.Duration(cell(r.GetGrantedNanos(), i)),
			grantMark: cell(r.GetGrantMarks(), i), grantReign: cell(r.GetGrantReigns(), i),
		}
	}
	for i := range answers {
		n := cell(r.GetSizes(), i)
		answers[i] = answer{r.GetOutcomes()[i], states[:n:n]}
		states = states[n:]
	}
	return answers, nil
}
