package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

const (
	textURI     = "test://static-text"
	binaryURI   = "test://static-binary"
	watchedURI  = "test://watched-resource"
	templateURI = "test://template/{id}/data"
)

// ListResources implements [providerv1.ProviderServiceServer].
func (*Provider) ListResources(context.Context, *providerv1.ListResourcesRequest) (*providerv1.ListResourcesResponse, error) {
	return &providerv1.ListResourcesResponse{
		Resources: []*providerv1.Resource{
			{Uri: textURI, Name: "static-text", Title: "Static text", Description: "A text that never changes.", MimeType: "text/plain"},
			{Uri: binaryURI, Name: "static-binary", Title: "Static image", Description: "An image that never changes.", MimeType: "image/png"},
			{Uri: watchedURI, Name: "watched-resource", Title: "Watched resource", Description: "A text that test_trigger_resource_update changes.", MimeType: "text/plain"},
		},
		Templates: []*providerv1.ResourceTemplate{
			{UriTemplate: templateURI, Name: "template", Title: "Template", Description: "Data for any id.", MimeType: "application/json"},
		},
	}, nil
}

// ReadResource implements [providerv1.ProviderServiceServer].
func (p *Provider) ReadResource(_ context.Context, req *providerv1.ReadResourceRequest) (*providerv1.ReadResourceResponse, error) {
	uri := req.GetUri()
	switch uri {
	case textURI:
		return contents(textResource(uri, "text/plain", "This is the content of the static text resource."))
	case binaryURI:
		return contents(&providerv1.ResourceContents{Uri: uri, MimeType: "image/png", Body: &providerv1.ResourceContents_Blob{Blob: redPixel}})
	case watchedURI:
		m, _ := p.lists.look()
		return contents(textResource(uri, "text/plain", fmt.Sprintf("Watched resource content after %d changes", m.watched)))
	}
	id, ok := templateID(uri)
	if !ok {
		return nil, fault.New(codes.NotFound, providerv1.Reason_REASON_UNKNOWN, "there is no such resource")
	}
	text, err := json.Marshal(struct {
		ID           string `json:"id"`
		TemplateTest bool   `json:"templateTest"`
		Data         string `json:"data"`
	}{id, true, "Data for ID: " + id})
	if err != nil {
		return nil, err
	}
	return contents(textResource(uri, "application/json", string(text)))
}

func contents(c *providerv1.ResourceContents) (*providerv1.ReadResourceResponse, error) {
	return &providerv1.ReadResourceResponse{Contents: []*providerv1.ResourceContents{c}}, nil
}

// templateID returns the value of the template's variable in a URI.
func templateID(uri string) (id string, ok bool) {
	before, after, _ := strings.Cut(templateURI, "{id}")
	id, ok = strings.CutPrefix(uri, before)
	if !ok {
		return "", false
	}
	if id, ok = strings.CutSuffix(id, after); !ok || id == "" || strings.ContainsAny(id, "/?#") {
		return "", false
	}
	id, err := url.PathUnescape(id)
	return id, err == nil
}
