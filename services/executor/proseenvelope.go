package executor

import (
	"mime"
	"strings"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

// encloseRead puts untrusted prose of a resource, or of a resource within a prompt,
// into an envelope, and says so in from. Everything else stays as the provider gave
// it. A prompt's own texts are instructions, and the user has chosen them: to tell the
// model not to follow them would be to take the prompt away. Resources of other types
// are read by programs as often as by models, and would not parse any more.
func encloseRead(got answer, from *toolv1.Provenance) {
	nonce := newNonce()
	enclose := func(r *providerv1.ResourceContents) {
		if text, ok := r.GetBody().(*providerv1.ResourceContents_Text); ok && prose(r) {
			text.Text = envelope(text.Text, from.GetLabel().GetSource(), nonce)
			from.Envelope = nonce
		}
	}
	switch m := got.(type) {
	case *providerv1.ReadResourceResponse:
		for _, r := range m.GetContents() {
			enclose(r)
		}
	case *providerv1.GetPromptResponse:
		for _, p := range m.GetMessages() {
			enclose(p.GetContent().GetResource())
		}
	}
}

// prose reports whether a resource's text is written for readers: plain text, Markdown,
// HTML that is no user interface, or text of no type. A type that cannot be read
// counts as none.
func prose(r *providerv1.ResourceContents) bool {
	kind, parameters, _ := mime.ParseMediaType(r.GetMimeType())
	switch kind {
	case "", "text/plain", "text/markdown", "text/x-markdown":
		return true
	case "text/html": // MCP Apps are shown, not read
		return parameters["profile"] == "" && !strings.HasPrefix(strings.ToLower(r.GetUri()), "ui:")
	}
	return false
}
