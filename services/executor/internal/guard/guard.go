// Package guard looks at the texts of a call, arguments before it and results
// after it, through a chain of guards, each of which finds one kind of thing: hidden
// characters, secrets, personal data, links that carry data away, phrases of
// prompt injection. What is done about it is configuration.
//
// It knows nothing of how calls are made, and no guard knows of another. Guards are
// a net with holes: none of them proves that a text is harmless.
package guard

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"

	"google.golang.org/grpc"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/hidden"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/injection"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/link"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/personal"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/remote"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/secret"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/span"
)

// finder finds something in a text. Name is that of the JSON member whose value
// the text is, or empty.
type finder func(name, text string) []span.Found

// Chain is all guards. It is safe for concurrent use.
type Chain struct {
	cfg     Config
	finders [external]finder
	remote  *remote.Guard // nil for none
	log     *slog.Logger
	walkers sync.Pool // of *walker
}

// New returns the chain. conn leads to the external guard, if there is one. A nil
// log discards.
func New(cfg Config, conn grpc.ClientConnInterface, log *slog.Logger) (*Chain, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	secrets, err := secret.New()
	if err != nil {
		return nil, fmt.Errorf("read the rules of secrets: %w", err)
	}
	unseen := hidden.New()
	plain := func(find func(string) []span.Found) finder {
		return func(_, text string) []span.Found { return find(text) }
	}
	c := &Chain{cfg: cfg, log: log, finders: [...]finder{
		plain(unseen.Controls), plain(unseen.Invisibles), secrets.Find, plain(personal.New().Find),
		plain(link.New(cfg.AllowedHosts).Find), plain(injection.New().Find),
	}}
	if cfg.External.Address != "" {
		if c.remote, err = remote.New(cfg.External, conn, c.resting); err != nil {
			return nil, fmt.Errorf("external guard: %w", err)
		}
	}
	return c, nil
}

// resting logs that the external guard is left alone, or well again.
func (c *Chain) resting(yes bool) {
	if yes {
		c.log.Warn("the external guard fails and is left alone for a while", "rest", c.cfg.External.Isolation.Breaker.Rest)
		return
	}
	c.log.Info("the external guard is well again")
}

// Check looks at one call. It is not safe for concurrent use.
type Check struct {
	chain    *Chain
	ctx      context.Context // of the call
	call     Call
	modes    [len(names)]Modes
	findings []*auditv1.GuardFinding
	asking   asking
}

// Call is what a check is for.
type Call struct {
	// Tool is its name, or empty for a resource or a prompt.
	Tool string
	// Roles are those of the caller.
	Roles []string
	// ReadOnly says that it changes nothing.
	ReadOnly bool
}

// For returns a check for a call. ctx must be the call's.
func (c *Chain) For(ctx context.Context, call Call) *Check {
	return &Check{chain: c, ctx: ctx, call: call, modes: c.cfg.modes(call.Tool, call.Roles)}
}

// Blocked says why something is not passed on. A nil one is no ground.
type Blocked struct {
	Guard, Rule string
	// Pointer is where: a JSON Pointer, shortened.
	Pointer string
	// Failed says that nothing was found: the guard could not be asked, and Rule is
	// why.
	Failed bool
}

// place is where a text stands. Its pointer is made only when it is needed.
type place interface{ pointer() string }

// at is a place that is known.
type at string

func (p at) pointer() string { return string(p) }

// maxRounds is how often a text is looked at again after something was taken out
// of it: the parts beside it may make something new together.
const maxRounds = 4

// text looks at one text and returns what may be passed on of it. A fixed text
// cannot be changed, so where it should be it is blocked.
func (c *Check) text(side auditv1.GuardSide, name, text string, fixed bool, where place) (string, *Blocked) {
	switch c.asking.stage {
	case collecting:
		return c.collect(name, text), nil
	case applying:
		return c.apply(side, text, fixed, where)
	}
	for i := range c.chain.finders {
		mode := c.mode(i, side)
		if mode == Off {
			continue
		}
		action := actionOf(mode, fixed)
		for round := 0; ; round++ {
			found, failed := c.find(i, name, text)
			if failed && mode != Observe || round == maxRounds && len(found) > 0 {
				action = auditv1.GuardAction_GUARD_ACTION_BLOCKED
			}
			for _, f := range found {
				c.note(i, side, mode, action, f.Rule, where)
			}
			if len(found) > 0 && action == auditv1.GuardAction_GUARD_ACTION_BLOCKED {
				return "", &Blocked{Guard: names[i], Rule: found[0].Rule, Pointer: clip(where.pointer())}
			}
			if len(found) == 0 || action != auditv1.GuardAction_GUARD_ACTION_REDACTED {
				break
			}
			text = span.Replace(text, found)
		}
	}
	return text, nil
}

func (c *Check) mode(i int, side auditv1.GuardSide) Mode {
	if side == auditv1.GuardSide_GUARD_SIDE_ARGUMENTS {
		return c.modes[i].Arguments
	}
	return c.modes[i].Results
}

func actionOf(mode Mode, fixed bool) auditv1.GuardAction {
	switch {
	case mode == Observe:
		return auditv1.GuardAction_GUARD_ACTION_OBSERVED
	case mode == Redact && !fixed:
		return auditv1.GuardAction_GUARD_ACTION_REDACTED
	}
	return auditv1.GuardAction_GUARD_ACTION_BLOCKED // of a mode that is not known, too
}

// find asks one guard. One that panics has found a "panic": it costs the call if
// the guard may block or redact, and never the process.
func (c *Check) find(i int, name, text string) (found []span.Found, failed bool) {
	defer func() {
		if p := recover(); p != nil {
			c.chain.log.ErrorContext(c.ctx, "a guard panicked", "guard", names[i], "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			found, failed = []span.Found{{Rule: "panic"}}, true
		}
	}()
	return c.chain.finders[i](name, text), false
}
