package executor

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard"
)

// guard makes the chain of guards.
func (s *Service) guard(o Options) (err error) {
	if address := o.Config.Guards.External.Address; address != "" {
		if s.external, err = o.Dial("guard", address); err != nil {
			return fmt.Errorf("external guard: %w", err)
		}
	}
	s.guards, err = guard.New(o.Config.Guards, s.external, o.Log)
	return err
}

// guardArguments looks at what the caller has sent. It fails closed: what a guard
// that may block cannot look at is refused.
func (c *call) guardArguments(ctx context.Context) *executorv1.Refusal {
	c.check = c.service.guards.For(ctx, guard.Call{
		Tool: c.entry.Name(), Roles: c.grant.GetPrincipal().GetRoles(), ReadOnly: c.entry.ReadOnly(),
	})
	if b := c.check.Arguments(c.request.GetArguments()); b != nil {
		return blockedArguments(c.entry.Name(), "arguments", b)
	}
	if answers := c.request.GetRound().GetInputResponses(); len(answers) > 0 {
		if b := c.check.Arguments(answers); b != nil {
			return blockedArguments(c.entry.Name(), "answers", b)
		}
	}
	return nil
}

// guardAnswer looks at what a tool has answered, and changes it where the guards
// want it. It fails closed.
func (c *call) guardAnswer(end *ending) {
	var b *guard.Blocked
	a := &end.answer
	data := a.JSON
	switch {
	case a.Question != nil:
		a.Question.InputRequests, b = c.check.JSON(a.Question.GetInputRequests(), "/inputRequests")
	case a.Result != nil:
		data = a.Result.GetStructured()
		b = c.check.Result(a.Result)
	default:
		a.JSON, b = c.check.JSON(a.JSON, "/structuredContent")
	}
	if b == nil && a.Question == nil {
		c.mend(end, data)
	}
	end.acted = acted(c.check.Findings())
	switch limit := c.service.cfg.MaxResultBytes; {
	case b != nil:
		*end = refuse(&executorv1.Refusal{
			Reason: auditv1.Reason_REASON_GUARD_BLOCKED,
			Message: fmt.Sprintf("%s was called, but its result is not passed on: %s. "+
				"It was done all the same; calling again will not help. Ask for something else, or ask an operator.",
				c.entry.Name(), ground(b)),
		})
	case grown(end, limit):
		*end = refuse(&executorv1.Refusal{
			Reason: auditv1.Reason_REASON_RESULT_TOO_LARGE,
			Message: fmt.Sprintf("%s was called, but its result is larger than %d bytes once guards have replaced what they found, and is not passed on. Ask for less.",
				c.entry.Name(), limit),
		})
	}
}

// acted sums up what guards have replaced in a result.
func acted(findings []*auditv1.GuardFinding) (all []*executorv1.GuardActed) {
	for _, f := range findings {
		if f.GetAction() != auditv1.GuardAction_GUARD_ACTION_REDACTED {
			continue
		}
		i := slices.IndexFunc(all, func(a *executorv1.GuardActed) bool { return a.GetGuard() == f.GetGuard() })
		if i < 0 {
			i, all = len(all), append(all, &executorv1.GuardActed{Guard: f.GetGuard()})
		}
		all[i].Redacted = min(all[i].GetRedacted()+f.GetCount(), 1<<24)
	}
	return all
}

// grown reports whether what was put in place of findings has made an answer larger
// than may be sent. Markers are longer than the shortest secrets.
func grown(end *ending, limit int) bool {
	r := end.answer.Result
	own := len(r.GetStructured())
	return len(end.answer.JSON) > limit || own > limit || proto.Size(r)-own > limit
}

// ground says why something is not passed on.
func ground(b *guard.Blocked) string {
	if b.Failed {
		return fmt.Sprintf("the guard %q has not looked at it (%s), and without that it may not be", b.Guard, b.Rule)
	}
	return fmt.Sprintf("the guard %q has found %s%s", b.Guard, b.Rule, where(b))
}

func where(b *guard.Blocked) string {
	if b.Pointer == "" {
		return ""
	}
	return " at " + printable(b.Pointer)
}

func blockedArguments(name, what string, b *guard.Blocked) *executorv1.Refusal {
	if b.Failed {
		return &executorv1.Refusal{
			Reason: auditv1.Reason_REASON_GUARD_BLOCKED, Retryable: true,
			Message: fmt.Sprintf("%s was not called: the guard %q has not looked at its %s (%s), and without that it may not be called. Try again later.",
				name, b.Guard, what, b.Rule),
		}
	}
	return &executorv1.Refusal{
		Reason: auditv1.Reason_REASON_GUARD_BLOCKED,
		Message: fmt.Sprintf("%s was not called: the guard %q has found %s in its %s%s. Take it out and call again.",
			name, b.Guard, b.Rule, what, where(b)),
	}
}

// guardText looks at a short text that is told beside a result. What is blocked is
// not told.
func (c *call) guardText(text, pointer string) string {
	text, b := c.check.Text(text, pointer)
	if b != nil {
		return ""
	}
	return text
}

// guardEvent looks at progress or a notice, and reports whether it may be passed on.
func (c *call) guardEvent(m *executorv1.CallResponse) bool {
	switch e := m.GetEvent().(type) {
	case *executorv1.CallResponse_Progress:
		e.Progress.Message = c.guardText(e.Progress.GetMessage(), "/progress/message")
	case *executorv1.CallResponse_Notice:
		data, b := c.check.JSON(e.Notice.GetData(), "/notice/data")
		if b != nil {
			return false
		}
		e.Notice.Data = data
	}
	return true
}

// guardRead looks at what was read of a provider, other than a tool's result, or at
// what it asks instead.
func guardRead(check *guard.Check, m answer) *guard.Blocked {
	return check.Together(func() *guard.Blocked { return walkRead(check, m) })
}

func walkRead(check *guard.Check, m answer) (b *guard.Blocked) {
	if q := m.GetInputRequired(); q != nil {
		q.InputRequests, b = check.JSON(q.GetInputRequests(), "/inputRequests")
		return b
	}
	switch m := m.(type) {
	case *providerv1.ReadResourceResponse:
		for i, r := range m.GetContents() {
			if b = check.Contents(r, fmt.Sprintf("/contents/%d", i)); b != nil {
				return b
			}
		}
	case *providerv1.GetPromptResponse:
		if m.Description, b = check.Text(m.GetDescription(), "/description"); b != nil {
			return b
		}
		for i, p := range m.GetMessages() {
			if p.GetContent() == nil {
				continue
			}
			if b = check.Content(p.GetContent(), fmt.Sprintf("/messages/%d/content", i)); b != nil {
				return b
			}
		}
	}
	return nil
}
