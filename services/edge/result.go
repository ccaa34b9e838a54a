package edge

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// answerResult writes what the executor returned: the tool's result, or why
// there is none.
func (x *exchange) answerResult(result *executorv1.Result) *refusal {
	tool, no := result.GetResult(), result.GetRefusal()
	if no != nil && no.GetMessage() != "" {
		return &refusal{
			kind: kindResult, reason: no.GetReason(), message: no.GetMessage(), complete: true, decision: x.decision,
			retryAfter: no.GetRetryAfter().AsDuration(), retryable: no.GetRetryable(),
			violations: no.GetViolations(), verdict: auditv1.Verdict_VERDICT_ALLOW, recorded: true, from: result.GetProvenance(),
		}
	}
	failed := tool.GetIsError() || no != nil
	x.beginResult()
	x.out = append(x.out, `"content":[`...)
	for i, block := range tool.GetContent() {
		if i > 0 {
			x.out = append(x.out, ',')
		}
		x.out = appendContent(x.out, block)
	}
	x.out = append(x.out, ']')
	// Clients check structured content against the output schema even when it is
	// an error's, and then show the user their own complaint instead.
	if s := tool.GetStructured(); len(s) > 0 && !failed && x.takesStructured(s) {
		x.out = append(append(x.out, `,"structuredContent":`...), s...)
	}
	x.out = strconv.AppendBool(append(x.out, `,"isError":`...), failed)
	if failed {
		x.outcome = outcomeTool
		x.reason = auditv1.Reason_REASON_TOOL_ERROR
	}
	decision := make([]byte, 0, 128)
	decision = append(decision, `"dev.sallyport/decision":{"verdict":"ALLOW","decision_id":"`...)
	decision = append(append(decision, x.decision...), '"')
	if first := result.GetRepeats(); first != "" {
		decision = appendText(append(decision, `,"repeats":`...), first)
	}
	decision = appendSpent(appendRedacted(decision, result.GetGuards()), x.booking.spent)
	if no != nil {
		x.reason = no.GetReason()
		decision = append(append(decision, `,"reason":"`...), reasonName(x.reason)...)
		decision = strconv.AppendBool(append(decision, `","retryable":`...), no.GetRetryable())
		decision = appendViolations(decision, no.GetViolations())
	}
	x.endResult(toolMeta(tool.GetMeta()), appendProvenance(append(decision, '}'), result.GetProvenance()))
	return nil
}

// appendRedacted tells how often which guards have replaced something in a result,
// and nothing of what.
func appendRedacted(b []byte, guards []*executorv1.GuardActed) []byte {
	for i, g := range guards {
		if i == 0 {
			b = append(b, `,"redacted":{`...)
		} else {
			b = append(b, ',')
		}
		b = strconv.AppendUint(append(appendText(b, g.GetGuard()), ':'), uint64(g.GetRedacted()), 10)
	}
	if len(guards) > 0 {
		b = append(b, '}')
	}
	return b
}

// takesStructured reports whether clients of this era take a value as structured
// content: any JSON since 2026-07-28, before that an object.
func (x *exchange) takesStructured(value jsontext.Value) bool {
	if x.era == eraLegacy {
		return isObject(value)
	}
	return value.IsValid()
}

// toolMeta returns the members of a result's _meta that a tool may set: none
// that the protocol or this server speaks by.
func toolMeta(meta []byte) []byte {
	if len(meta) == 0 || !isObject(meta) {
		return nil
	}
	var b []byte
	eachMember(meta, func(name string, value jsontext.Value) {
		if reservedMeta(name) {
			return
		}
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = append(append(appendText(b, name), ':'), value...)
	})
	return b
}

// reservedMeta reports whether the prefix of a name is ours or the protocol's,
// by its rule on the second label.
func reservedMeta(name string) bool {
	prefix, _, ok := strings.Cut(name, "/")
	if !ok {
		return false
	}
	_, second, _ := strings.Cut(strings.ToLower(prefix), ".")
	second, _, _ = strings.Cut(second, ".")
	return second == "sallyport" || second == "modelcontextprotocol" || second == "mcp"
}

// appendContent writes one block of a result.
func appendContent(b []byte, c *providerv1.Content) []byte {
	switch kind := c.GetKind().(type) {
	case *providerv1.Content_Text:
		b = appendText(append(b, `{"type":"text","text":`...), kind.Text)
	case *providerv1.Content_Image:
		b = appendMedia(append(b, `{"type":"image"`...), kind.Image)
	case *providerv1.Content_Audio:
		b = appendMedia(append(b, `{"type":"audio"`...), kind.Audio)
	case *providerv1.Content_Resource:
		b = appendResource(append(b, `{"type":"resource","resource":`...), kind.Resource)
	case *providerv1.Content_ResourceLink:
		b = appendLink(append(b, `{"type":"resource_link"`...), kind.ResourceLink)
	case *providerv1.Content_Other:
		if isObject(kind.Other) {
			return append(b, kind.Other...) // whole, with its own annotations
		}
		b = append(b, `{"type":"text","text":""`...)
	default:
		b = append(b, `{"type":"text","text":""`...)
	}
	b = appendAnnotations(b, c.GetAnnotations())
	return append(appendMeta(b, c.GetMeta()), '}')
}

func appendMedia(b []byte, m *providerv1.Media) []byte {
	b = base64.StdEncoding.AppendEncode(append(b, `,"data":"`...), m.GetData())
	return appendText(append(b, `","mimeType":`...), m.GetMimeType())
}

func appendResource(b []byte, r *providerv1.ResourceContents) []byte {
	b = appendText(append(b, `{"uri":`...), r.GetUri())
	b = appendOptional(b, "mimeType", r.GetMimeType())
	if blob, ok := r.GetBody().(*providerv1.ResourceContents_Blob); ok {
		b = append(base64.StdEncoding.AppendEncode(append(b, `,"blob":"`...), blob.Blob), '"')
	} else {
		b = appendText(append(b, `,"text":`...), r.GetText())
	}
	return append(appendMeta(b, r.GetMeta()), '}')
}

func appendLink(b []byte, l *providerv1.ResourceLink) []byte {
	b = appendText(append(b, `,"uri":`...), l.GetUri())
	b = appendText(append(b, `,"name":`...), l.GetName())
	b = appendOptional(b, "title", l.GetTitle())
	b = appendOptional(b, "description", l.GetDescription())
	b = appendOptional(b, "mimeType", l.GetMimeType())
	if l.GetSize() > 0 {
		b = strconv.AppendUint(append(b, `,"size":`...), l.GetSize(), 10)
	}
	return b
}

func appendOptional(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(append(b, `,"`...), name...), `":`...)
	return appendText(b, value)
}

func appendMeta(b, meta []byte) []byte {
	if !isObject(meta) {
		return b
	}
	return append(append(b, `,"_meta":`...), meta...)
}

func appendAnnotations(b []byte, a *providerv1.Annotations) []byte {
	if a == nil {
		return b
	}
	b = append(b, `,"annotations":{`...)
	sep := ""
	if len(a.GetAudience()) > 0 {
		b = append(b, `"audience":[`...)
		for i, who := range a.GetAudience() {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendText(b, who)
		}
		b, sep = append(b, ']'), ","
	}
	if a.Priority != nil {
		b = append(append(b, sep...), `"priority":`...)
		b, sep = strconv.AppendFloat(b, a.GetPriority(), 'g', -1, 64), ","
	}
	if a.GetLastModified() != "" {
		b = append(append(b, sep...), `"lastModified":`...)
		b = appendText(b, a.GetLastModified())
	}
	return append(b, '}')
}
