package edge

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

// maxTarget is how many characters the name of what is asked for may have: what
// auth can decide about.
const maxTarget = 512

// resourceURI reports whether text could be the URI of a resource: a scheme and
// something after it, and nothing that does not print. What it means is up to
// its provider.
func resourceURI(text string) bool {
	scheme, rest, ok := strings.Cut(text, ":")
	if !ok || rest == "" || !plainText(text, maxTarget) || strings.ContainsRune(text, ' ') {
		return false
	}
	for i := range len(scheme) {
		c := scheme[i] | 0x20 // letters in lower case
		if (c < 'a' || c > 'z') && (i == 0 || !strings.ContainsRune("0123456789+-.", rune(scheme[i]))) {
			return false
		}
	}
	return scheme != ""
}

// uriTemplate reports whether text could be a URI template: it has a variable,
// which is also how auth tells it from the name of a prompt.
func uriTemplate(text string) bool {
	return strings.ContainsRune(text, '{') && plainText(text, maxTarget)
}

// plainText reports whether text is not empty, prints, and has at most so many
// characters.
func plainText(text string, most int) bool {
	if text == "" || len(text) > most*utf8.UTFMax || utf8.RuneCountInString(text) > most {
		return false
	}
	return !strings.ContainsFunc(text, func(r rune) bool { return r != ' ' && !unicode.IsPrint(r) })
}

// listResources answers with the resources that the caller may read.
func (x *exchange) listResources() *refusal {
	after, refused := x.cursor(resourceURI)
	if refused != nil {
		return refused
	}
	all, refused := x.resources()
	if refused != nil {
		return refused
	}
	uris, resources := sorted(all.GetResources(), (*providerv1.Resource).GetUri, resourceURI)
	allowed, refused := x.allowedTargets(authv1.Action_ACTION_RESOURCES_READ, uris, after)
	if refused != nil {
		return refused
	}
	x.answerPage(page{
		member: "resources", names: uris, after: after, allowed: allowed,
		show: func(b []byte, i int) []byte { return appendResourceDefinition(b, resources[i]) },
	})
	return nil
}

// listTemplates answers with the templates of resources that the caller may
// read some of.
func (x *exchange) listTemplates() *refusal {
	after, refused := x.cursor(uriTemplate)
	if refused != nil {
		return refused
	}
	all, refused := x.resources()
	if refused != nil {
		return refused
	}
	uris, templates := sorted(all.GetTemplates(), (*providerv1.ResourceTemplate).GetUriTemplate, uriTemplate)
	allowed, refused := x.allowedTargets(authv1.Action_ACTION_RESOURCES_READ, uris, after)
	if refused != nil {
		return refused
	}
	x.answerPage(page{
		member: "resourceTemplates", names: uris, after: after, allowed: allowed,
		show: func(b []byte, i int) []byte { return appendTemplateDefinition(b, templates[i]) },
	})
	return nil
}

// resources asks for all resources and templates there are.
func (x *exchange) resources() (*executorv1.ListResourcesResponse, *refusal) {
	allow, refused := x.authorize(authv1.Action_ACTION_RESOURCES_LIST, "", noArguments())
	if refused != nil {
		return nil, refused
	}
	ctx, cancel := x.peerContext()
	defer cancel()
	all, err := x.s.executor.ListResources(ctx, &executorv1.ListResourcesRequest{Grant: allow.GetGrant()})
	if err != nil {
		return nil, x.requestFailed(err)
	}
	return all, nil
}

const unknownResource = "There is no resource of this URI, or none that this credential may know of. Use one from resources/list or a template"

// readResource answers with the contents of a resource.
func (x *exchange) readResource() *refusal {
	m := &x.msg
	uri := m.Text(m.URI)
	if m.URI.Kind != jsonrpc.String || !resourceURI(uri) {
		return refuse(kindParams, "params.uri has to be the URI of a resource, of at most 512 characters")
	}
	allow, refused := x.authorize(authv1.Action_ACTION_RESOURCES_READ, uri, noArguments())
	if refused != nil {
		return refused
	}
	return x.rounds(func(round *providerv1.Round) (*providerv1.InputRequired, *refusal) {
		if allow == nil { // each round is decided about anew
			if allow, refused = x.authorize(authv1.Action_ACTION_RESOURCES_READ, uri, noArguments()); refused != nil {
				return nil, refused
			}
		}
		ctx, cancel := x.callContext()
		defer cancel()
		resp, err := x.s.executor.ReadResource(ctx, &executorv1.ReadResourceRequest{Grant: allow.GetGrant(), Uri: uri, Round: round})
		allow = nil
		if err != nil {
			return nil, x.requestFailed(err)
		}
		read := resp.GetResponse()
		if in := read.GetInputRequired(); in != nil {
			return in, nil
		}
		return nil, x.answerContents(read, resp.GetProvenance(), resp.GetGuards())
	})
}

// answerContents answers with what was read. Nothing at all is not passed on: it
// could mean that there is no such resource.
func (x *exchange) answerContents(read *providerv1.ReadResourceResponse, from *toolv1.Provenance, guards []*executorv1.GuardActed) *refusal {
	if len(read.GetContents()) == 0 {
		return x.failed(auditv1.Reason_REASON_RESULT_INVALID, "The service behind this resource answered with nothing")
	}
	x.beginResult()
	x.out = append(x.out, `"contents":[`...)
	for i, c := range read.GetContents() {
		if i > 0 {
			x.out = append(x.out, ',')
		}
		x.out = appendResource(x.out, c)
	}
	x.out = append(x.out, ']')
	if x.era == eraModern {
		x.out = strconv.AppendInt(append(x.out, `,"ttlMs":`...), max(0, read.GetTtl().AsDuration().Milliseconds()), 10)
		x.out = append(x.out, `,"cacheScope":"private"`...)
	}
	x.endResult(appendProvenance(x.allowedMeta(guards...), from))
	return nil
}
