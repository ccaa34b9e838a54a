package provider

import (
	"fmt"
	"math"
	"slices"

	"golang.org/x/time/rate"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/jsonschema"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
)

// How many messages of a call are passed on: so many at once, and so many in
// each second after that. Progress and notices beyond are left out; both may be
// lost by their nature.
const (
	burst  = 100
	steady = 20
)

// levels are those of RFC 5424, the least first.
var levels = []string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}

// pass decides what of a call's messages the client is to see.
type pass struct {
	call  *tool.Call
	last  float64 // progress
	level int     // the least that is wanted; len(levels) if none is
	rate  *rate.Limiter
}

func newPass(c *tool.Call) *pass {
	level := slices.Index(levels, c.Request.GetLogLevel())
	if level < 0 {
		level = len(levels)
	}
	return &pass{call: c, last: math.Inf(-1), level: level, rate: rate.NewLimiter(steady, burst)}
}

// progress passes on what is wanted and grows.
func (p *pass) progress(m *providerv1.Progress) error {
	if !p.call.Request.GetWantsProgress() || m.GetProgress() <= p.last || !p.rate.Allow() {
		return nil
	}
	p.last = m.GetProgress()
	return p.call.Progress(m)
}

// notice passes on what is of the wanted level.
func (p *pass) notice(m *providerv1.Notice) error {
	level := slices.Index(levels, m.GetLevel())
	if level < 0 {
		return fmt.Errorf("%w: a notice of the level %.16q", tool.ErrInvalid, m.GetLevel())
	}
	if level < p.level || !p.rate.Allow() {
		return nil
	}
	if err := jsonschema.Valid(m.GetData()); err != nil {
		return fmt.Errorf("%w: the data of a notice: %w", tool.ErrInvalid, err)
	}
	return p.call.To.Send(&executorv1.CallResponse{Event: &executorv1.CallResponse_Notice{Notice: m}})
}
