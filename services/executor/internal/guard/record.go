package guard

import (
	"slices"
	"unicode/utf8"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

// Bounds of the record's contract.
const (
	maxFindings = 32
	maxPointer  = 256 // characters, and bytes here
	maxCount    = 1 << 24
)

// note adds one to the findings of a kind, and returns them; nil if there is no room.
func (c *Check) note(i int, side auditv1.GuardSide, mode Mode, action auditv1.GuardAction, rule string, where place) *auditv1.GuardFinding {
	for _, f := range c.findings {
		if f.GetGuard() == names[i] && f.GetRule() == rule && f.GetSide() == side && f.GetAction() == action {
			f.Count = min(f.GetCount()+1, maxCount)
			return f
		}
	}
	blocked := action == auditv1.GuardAction_GUARD_ACTION_BLOCKED
	if len(c.findings) == maxFindings {
		if !blocked {
			return nil
		}
		c.findings = c.findings[:maxFindings-1]
	}
	f := &auditv1.GuardFinding{
		Guard: names[i], Rule: rule, Side: side, Mode: recorded[mode], Action: action, Count: 1, Pointer: clip(where.pointer()),
	}
	if blocked {
		c.findings = slices.Insert(c.findings, 0, f)
		return f
	}
	c.findings = append(c.findings, f)
	return f
}

var recorded = map[Mode]auditv1.GuardMode{
	Observe: auditv1.GuardMode_GUARD_MODE_OBSERVE, Redact: auditv1.GuardMode_GUARD_MODE_REDACT, Block: auditv1.GuardMode_GUARD_MODE_BLOCK,
}

// Findings returns what was found so far, in sum: those that have blocked first.
func (c *Check) Findings() []*auditv1.GuardFinding { return c.findings }

// clip shortens a pointer.
func clip(s string) string {
	if len(s) <= maxPointer {
		return s
	}
	n := maxPointer
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
