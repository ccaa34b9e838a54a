package executor

import (
	"context"
	"errors"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
)

// used tells what a call that has ended with err has used, of the units that the
// tool's option names: what it has reported, and the estimate where it has not. again
// says that it was sent before, of which nothing is known. It is nil if there are no
// such units.
func (c *call) used(ctx context.Context, err error, again bool) *executorv1.Usage {
	uses := c.entry.Uses()
	if len(uses) == 0 {
		return nil
	}
	reported, wrong := toolkit.UsedOf(c.backend.Trailer)
	if wrong != nil {
		c.service.log.WarnContext(ctx, "what a tool reports to have used cannot be read, its estimate counts",
			"tool", c.entry.Name(), "decision", c.grant.GetDecisionId(), "err", wrong)
	}
	if reported == nil && wrong == nil && !again && untouched(err) {
		return &executorv1.Usage{None: true}
	}
	usage := &executorv1.Usage{Used: make([]*auditv1.Used, len(uses))}
	for i, use := range uses {
		u := &auditv1.Used{Unit: use.GetUnit(), Amount: use.GetEstimate(), Estimated: true}
		if amount, told := reported[u.GetUnit()]; told {
			u.Amount, u.Estimated = amount, false
			if most := use.GetMost(); most > 0 && amount > most {
				u.Amount, u.Capped = most, true
			}
			delete(reported, u.GetUnit())
		}
		usage.Used[i] = u
	}
	for unit := range reported {
		c.service.log.WarnContext(ctx, "a tool reports a unit that its definition does not name, which is not counted",
			"tool", c.entry.Name(), "decision", c.grant.GetDecisionId(), "unit", unit)
	}
	return usage
}

// untouched reports whether it is known of an error that the tool has done nothing.
func untouched(err error) bool {
	if errors.Is(err, tool.ErrNotSent) || fault.Is(err, faultv1.Reason_REASON_PEER_UNKNOWN) || fault.Is(err, faultv1.Reason_REASON_NOT_READY) {
		return true
	}
	f, told := errors.AsType[*fault.Error](err)
	return told && fault.Is(err, providerv1.Reason_REASON_UPSTREAM) && f.RetryAfter > 0 // see failed
}

// spent is what the caller is told of it: nothing was used where the tool was not
// called.
func (c *call) spent() *executorv1.Usage {
	if c.usage == nil && len(c.entry.Uses()) > 0 {
		return &executorv1.Usage{None: true}
	}
	return c.usage
}
