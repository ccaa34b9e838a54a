package edge

import (
	"strconv"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// appendResourceDefinition writes a resource as resources/list shows it.
func appendResourceDefinition(b []byte, r *providerv1.Resource) []byte {
	b = appendText(append(b, `{"uri":`...), r.GetUri())
	b = appendNames(b, r, r.GetUri())
	b = appendOptional(b, "mimeType", r.GetMimeType())
	if r.GetSize() > 0 {
		b = strconv.AppendUint(append(b, `,"size":`...), r.GetSize(), 10)
	}
	b = appendAnnotations(b, r.GetAnnotations())
	return append(appendMeta(appendIcons(b, r.GetIcons()), r.GetMeta()), '}')
}

// appendTemplateDefinition writes a template as resources/templates/list shows it.
func appendTemplateDefinition(b []byte, t *providerv1.ResourceTemplate) []byte {
	b = appendText(append(b, `{"uriTemplate":`...), t.GetUriTemplate())
	b = appendNames(b, t, t.GetUriTemplate())
	b = appendOptional(b, "mimeType", t.GetMimeType())
	b = appendAnnotations(b, t.GetAnnotations())
	return append(appendMeta(appendIcons(b, t.GetIcons()), t.GetMeta()), '}')
}

// named is what resources and templates have in common.
type named interface {
	GetName() string
	GetTitle() string
	GetDescription() string
}

// appendNames writes what people call it. The protocol wants a name.
func appendNames(b []byte, n named, fallback string) []byte {
	name := n.GetName()
	if name == "" {
		name = fallback
	}
	b = appendText(append(b, `,"name":`...), name)
	b = appendOptional(b, "title", n.GetTitle())
	return appendOptional(b, "description", n.GetDescription())
}

// appendPromptDefinition writes a prompt as prompts/list shows it.
func appendPromptDefinition(b []byte, p *providerv1.Prompt) []byte {
	b = appendText(append(b, `{"name":`...), p.GetName())
	b = appendOptional(b, "title", p.GetTitle())
	b = appendOptional(b, "description", p.GetDescription())
	for i, a := range p.GetArguments() {
		if i == 0 {
			b = append(b, `,"arguments":[`...)
		} else {
			b = append(b, ',')
		}
		b = appendText(append(b, `{"name":`...), a.GetName())
		b = appendOptional(b, "title", a.GetTitle())
		b = appendOptional(b, "description", a.GetDescription())
		b = append(strconv.AppendBool(append(b, `,"required":`...), a.GetRequired()), '}')
		if i == len(p.GetArguments())-1 {
			b = append(b, ']')
		}
	}
	return append(appendMeta(appendIcons(b, p.GetIcons()), p.GetMeta()), '}')
}
