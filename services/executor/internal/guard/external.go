package guard

import (
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	guardv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/guard/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/remote"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/span"
)

// asking is how a check asks the external guard: what is looked at is walked over
// three times. The guards here look first, then what they have left is collected and
// sent in one request, then the verdict is applied to the same texts in the same
// order.
type asking struct {
	within  bool // a walk is under way
	stage   stage
	texts   []remote.Text
	verdict remote.Verdict
	next    int // of the verdict's texts
}

// stage is what a walk does with texts.
type stage int

const (
	looking stage = iota
	collecting
	applying
)

// Together makes one question to the external guard of all that walk looks at in a
// result by the other methods of the check. Walk is called up to three times. It has
// to look at the same texts each time, and to put back what it is given for them.
func (c *Check) Together(walk func() *Blocked) *Blocked {
	return c.together(auditv1.GuardSide_GUARD_SIDE_RESULT, walk)
}

func (c *Check) together(side auditv1.GuardSide, walk func() *Blocked) *Blocked {
	if c.asking.within {
		return walk()
	}
	c.asking.within = true
	defer func() { c.asking = asking{} }()
	if b := walk(); b != nil || c.chain.remote == nil || c.mode(external, side) == Off {
		return b
	}
	c.asking.stage = collecting
	if b := walk(); b != nil || len(c.asking.texts) == 0 {
		return b
	}
	asked := guardv1.Side_SIDE_RESULT
	if side == auditv1.GuardSide_GUARD_SIDE_ARGUMENTS {
		asked = guardv1.Side_SIDE_ARGUMENTS
	}
	verdict, failure := c.chain.remote.Check(c.ctx, c.call.Tool, asked, c.asking.texts)
	if failure != "" {
		return c.failed(side, failure)
	}
	if verdict.Kind != guardv1.Verdict_VERDICT_ALLOW {
		c.asking.stage, c.asking.verdict = applying, verdict
		if b := walk(); b != nil {
			return b
		}
	}
	if verdict.Unsent {
		return c.failed(side, remote.Unsent)
	}
	return nil
}

// collect keeps a text for the question.
func (c *Check) collect(name, text string) string {
	if text != "" {
		c.asking.texts = append(c.asking.texts, remote.Text{Name: name, Text: text})
	}
	return text
}

// apply does to a text what the verdict says.
func (c *Check) apply(side auditv1.GuardSide, text string, fixed bool, where place) (string, *Blocked) {
	if text == "" {
		return text, nil
	}
	v := &c.asking.verdict
	if c.asking.next == len(v.Found) { // a walk that is not as the one before
		c.note(external, side, Block, auditv1.GuardAction_GUARD_ACTION_BLOCKED, "unreadable", where)
		return "", &Blocked{Guard: names[external], Rule: "unreadable", Pointer: clip(where.pointer())}
	}
	found := v.Found[c.asking.next]
	c.asking.next++
	if len(found) == 0 {
		return text, nil
	}
	mode := c.mode(external, side)
	action := actionOf(effect(mode, v.Kind), fixed)
	for _, f := range found {
		if n := c.note(external, side, mode, action, f.Rule, where); n != nil {
			n.Score = max(n.GetScore(), v.Score)
		}
	}
	switch action {
	case auditv1.GuardAction_GUARD_ACTION_OBSERVED:
		return text, nil
	case auditv1.GuardAction_GUARD_ACTION_REDACTED:
		return span.Replace(text, found), nil
	}
	return "", &Blocked{Guard: names[external], Rule: found[0].Rule, Pointer: clip(where.pointer())}
}

// effect is the mode that holds for a verdict. To redact is to do as it says, to
// block is to block what would be redacted.
func effect(mode Mode, verdict guardv1.Verdict) Mode {
	switch {
	case mode == Observe || verdict == guardv1.Verdict_VERDICT_OBSERVE:
		return Observe
	case mode == Redact && verdict == guardv1.Verdict_VERDICT_REDACT:
		return Redact
	}
	return Block
}

// failed does what is configured for texts that the external guard has not judged,
// or not all of them. Where it could have stopped nothing it is only recorded.
func (c *Check) failed(side auditv1.GuardSide, failure remote.Failure) *Blocked {
	mode, action := c.mode(external, side), auditv1.GuardAction_GUARD_ACTION_OBSERVED
	if mode != Observe && c.chain.cfg.closed(c.call) {
		action = auditv1.GuardAction_GUARD_ACTION_BLOCKED
	}
	c.note(external, side, mode, action, string(failure), at(""))
	if action == auditv1.GuardAction_GUARD_ACTION_OBSERVED {
		return nil
	}
	return &Blocked{Guard: names[external], Rule: string(failure), Failed: true}
}
