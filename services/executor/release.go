package executor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/pkg/taint"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/contexts"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/grant"
)

// What a tool gives is passed on only when the context's record says that it was
// seen: auth reads that record for the next call, which may be on its way a moment
// later and through other processes. It fails closed: what cannot be written down is
// not passed on.

const (
	// maxValues is how many values of one content are written down one by one.
	maxValues = 4096
	// maxLooks is how many values are looked at for that, the same ones again too; it
	// bounds what a content can cost.
	maxLooks = 8 * maxValues
)

// seen is content that somebody is about to get.
type seen struct {
	grant     *authv1.Grant
	raw       []byte // the grant as it came
	label     *toolv1.Label
	arguments []byte // of the call, a JSON object, if there are any
	content   contents
}

// contents are the texts in something, and values in them.
type contents struct {
	in     *taint.Finder // must not be nil
	values map[string]struct{}
	looks  int
	all    bool // there were too many, or what could not be looked into
}

func (c *contents) add(value []byte) bool {
	if _, there := c.values[string(value)]; !there {
		if c.values == nil {
			c.values = make(map[string]struct{})
		}
		c.values[string(value)] = struct{}{}
	}
	if c.looks++; len(c.values) > maxValues || c.looks > maxLooks {
		c.all = true
	}
	return !c.all
}

func (c *contents) text(texts ...string) {
	for _, text := range texts {
		c.in.Text(text, taint.Content, c.add)
	}
}

func (c *contents) json(text []byte) {
	if len(text) > 0 && c.in.JSON(text, taint.Content, c.add) != nil {
		c.all = true
	}
}

func (c *contents) block(b *providerv1.Content) {
	c.json(b.GetMeta())
	switch kind := b.GetKind().(type) {
	case *providerv1.Content_Text:
		c.text(kind.Text)
	case *providerv1.Content_Resource:
		c.resource(kind.Resource)
	case *providerv1.Content_ResourceLink:
		l := kind.ResourceLink
		c.text(l.GetUri(), l.GetName(), l.GetTitle(), l.GetDescription())
	case *providerv1.Content_Other:
		c.json(kind.Other)
	}
}

func (c *contents) resource(r *providerv1.ResourceContents) {
	c.json(r.GetMeta())
	c.text(r.GetUri(), r.GetText())
}

func (c *contents) result(r *providerv1.ToolResult) {
	for _, b := range r.GetContent() {
		c.block(b)
	}
	c.json(r.GetStructured())
	c.json(r.GetMeta())
}

// note writes down what is about to be seen.
func (s *Service) note(ctx context.Context, n *seen) error {
	who, key := n.grant.GetPrincipal().GetId(), grant.KeyID(n.raw)
	name := taint.Name(who, n.grant.GetOrigin())
	named := contents{in: &s.finder} // by the caller
	if len(n.arguments) > 0 {
		// What cannot be looked into is not known, and so only more suspect.
		_ = s.finder.JSON(n.arguments, taint.Argument, named.add)
	}
	if !taint.Matters(n.label) {
		s.contexts.Early(name, slices.AppendSeq(slices.Collect(maps.Keys(named.values)), maps.Keys(n.content.values)))
		return nil
	}
	bad := taint.Untrusted(n.label)
	change := func(r *taint.Record) bool {
		for value := range named.values {
			r.Know(value)
		}
		news := r.See(n.label)
		for value := range n.content.values {
			if bad {
				news = r.Distrust(value) || news
			} else {
				r.Know(value)
			}
		}
		if bad && n.content.all {
			news = r.DistrustAll() || news
		}
		return news
	}
	all := taint.OfPrincipal(who)
	if !bad || all == name {
		return s.contexts.Note(ctx, key, contexts.Change{Name: name, Make: change})
	}
	return s.contexts.Note(ctx, key, contexts.Change{Name: name, Make: change},
		contexts.Change{Name: all, Make: func(r *taint.Record) bool { return r.SeeElsewhere(n.label) }})
}

// label is that of all that the tool gives in this call.
func (c *call) label() *toolv1.Label {
	return taint.NewLabel(c.entry.Name(), c.grant.GetPrincipal().GetTenant(), c.entry.Definition.GetOptions(), time.Now())
}

// seen is what the caller is about to get.
func (c *call) seen(label *toolv1.Label) *seen {
	return &seen{
		grant: c.grant, raw: c.request.GetGrant(), label: label, arguments: c.request.GetArguments(), content: contents{in: &c.service.finder},
	}
}

// release lets an ending go to the caller: with its provenance, once the context has
// it on record.
func (c *call) release(ctx context.Context, end ending) ending {
	label := c.label()
	n := c.seen(label)
	switch r := end.repeated; {
	case end.answer.Question != nil:
		n.content.json(end.answer.Question.GetInputRequests())
	case r.GetRefusal() != nil:
		end.said, _ = strings.CutPrefix(r.GetRefusal().GetMessage(), c.entry.Name()+": ")
		n.content.text(end.said)
	case r != nil:
		n.content.result(r.GetResult())
	case end.said != "":
		n.content.text(end.said)
	case end.err != nil || end.refusal != nil: // in words of ours
		return end
	case end.answer.Result != nil:
		n.content.result(end.answer.Result)
	default:
		n.content.json(end.answer.JSON)
	}
	if err := c.service.note(ctx, n); err != nil {
		return c.withhold(ctx, end, err)
	}
	end.from = &toolv1.Provenance{Label: label, Service: c.entry.Service, DecisionId: c.grant.GetDecisionId()}
	if taint.Untrusted(label) && c.service.cfg.Envelope.marks(c.entry.Name(), c.grant.GetPrincipal().GetRoles()) {
		end.from.Envelope = newNonce()
	}
	if end.said != "" {
		if end.refusal != nil {
			end.refusal = told(c.entry.Name(), end.said, end.from, end.refusal)
		} else {
			end.repeated = &executorv1.Result{
				Result: end.repeated.GetResult(), Repeats: end.repeated.GetRepeats(), Guards: end.repeated.GetGuards(),
				Refusal: told(c.entry.Name(), end.said, end.from, end.repeated.GetRefusal()),
			}
		}
	}
	return end
}

// releaseEvent lets progress or a notice go to the caller, or reports false.
func (c *call) releaseEvent(m *executorv1.CallResponse) bool {
	n := c.seen(c.label())
	switch e := m.GetEvent().(type) {
	case *executorv1.CallResponse_Progress:
		n.content.text(e.Progress.GetMessage())
	case *executorv1.CallResponse_Notice:
		n.content.json(e.Notice.GetData())
	}
	if c.released && len(n.content.values) == 0 && !n.content.all {
		return true // nothing in it is news
	}
	ctx := c.stream.Context()
	if err := c.service.note(ctx, n); err != nil {
		c.service.log.WarnContext(ctx, "what a tool tells on the way is not passed on, the context's record cannot be written",
			"tool", c.entry.Name(), "decision", c.grant.GetDecisionId(), "err", err)
		return false
	}
	c.released = true
	return true
}

// withhold ends a call whose result the caller does not get.
func (c *call) withhold(ctx context.Context, end ending, err error) ending {
	out := ending{status: auditv1.Status_STATUS_FAILED, duration: end.duration}
	if ctx.Err() != nil {
		out.err, out.reason = ctx.Err(), goneReason(ctx)
		return out
	}
	c.service.log.ErrorContext(ctx, "a result is withheld, the context's record cannot be written",
		"tool", c.entry.Name(), "decision", c.grant.GetDecisionId(), "err", err)
	text := "%s was called, but it cannot be put on record just now what this context has read, so its result is not passed on. "
	again := c.entry.ReadOnly() || c.entry.Idempotent()
	if again {
		text += "Try again in a few seconds."
	} else {
		text += "It may have done it all the same: find out before you call it again."
	}
	out.refusal = &executorv1.Refusal{
		Reason: auditv1.Reason_REASON_DEPENDENCY_UNAVAILABLE, Message: fmt.Sprintf(text, c.entry.Name()), Retryable: again,
	}
	if again {
		out.refusal.RetryAfter = durationpb.New(2 * time.Second)
	}
	return out.because()
}

// ofProvider is what somebody is about to get of a provider, other than a result.
func (s *Service) ofProvider(a asking, g *authv1.Grant, service string) *seen {
	label := taint.NewLabel(a.what+":"+service, g.GetPrincipal().GetTenant(), s.cfg.Joining[service].Content(), time.Now())
	return &seen{grant: g, raw: a.grant, label: label, content: contents{in: &s.finder}}
}

// releaseRead lets what was read of a provider go to the caller.
func (s *Service) releaseRead(ctx context.Context, a asking, g *authv1.Grant, service string, got answer) (*toolv1.Provenance, error) {
	n := s.ofProvider(a, g, service)
	if q := got.GetInputRequired(); q != nil {
		n.content.json(q.GetInputRequests())
	} else {
		n.content.read(got)
	}
	if err := s.noteRead(ctx, a, n); err != nil {
		return nil, err
	}
	return &toolv1.Provenance{Label: n.label, Service: service, DecisionId: g.GetDecisionId()}, nil
}

// releaseSaid lets what a provider has said of wrong arguments go to the caller.
func (s *Service) releaseSaid(ctx context.Context, a asking, g *authv1.Grant, service, said string) error {
	n := s.ofProvider(a, g, service)
	n.content.text(said)
	return s.noteRead(ctx, a, n)
}

// noteRead is note. Its error is for the caller.
func (s *Service) noteRead(ctx context.Context, a asking, n *seen) error {
	err := s.note(ctx, n)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fault.New(codes.Unavailable, executorv1.Reason_REASON_CONTEXT,
		"it cannot be put on record just now what this context has read, so the %s is not passed on", a.what).Because(err).After(2 * time.Second)
}

func (c *contents) read(got answer) {
	switch m := got.(type) {
	case *providerv1.ReadResourceResponse:
		for _, r := range m.GetContents() {
			c.resource(r)
		}
	case *providerv1.GetPromptResponse:
		c.text(m.GetDescription())
		for _, p := range m.GetMessages() {
			c.block(p.GetContent())
		}
	}
}
