package mcpbridge

import (
	"encoding/json"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge/internal/client"
)

const (
	maxBlocks   = 1024
	maxMessages = 256
	maxContents = 256

	maxStructured = 8 << 20
)

// errResult says that a result is not one that can be passed on.
var errResult = errors.New("the upstream's result breaks the protocol")

// result is any result on the wire.
type result struct {
	ResultType        string            `json:"resultType"`
	Content           []json.RawMessage `json:"content"`
	StructuredContent json.RawMessage   `json:"structuredContent"`
	IsError           bool              `json:"isError"`
	Meta              json.RawMessage   `json:"_meta"`

	Contents []json.RawMessage `json:"contents"`
	TTLMs    float64           `json:"ttlMs"`

	Description string `json:"description"`
	Messages    []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	} `json:"messages"`

	InputRequests json.RawMessage `json:"inputRequests"`
	RequestState  string          `json:"requestState"`
}

func readResult(raw json.RawMessage) (result, error) {
	var r result
	if err := json.Unmarshal(raw, &r); err != nil {
		return result{}, errResult
	}
	switch r.ResultType {
	case "", "complete", "input_required":
		return r, nil
	}
	return result{}, errResult // of an extension that we did not ask for
}

// toolResult is the result of tools/call, whole.
func (r result) toolResult() (*providerv1.ToolResult, error) {
	if len(r.Content) > maxBlocks {
		return nil, errResult
	}
	out := &providerv1.ToolResult{IsError: r.IsError, Meta: readMeta(r.Meta)}
	for _, raw := range r.Content {
		c, err := readContent(raw)
		if err != nil {
			return nil, err
		}
		out.Content = append(out.Content, c)
	}
	if len(r.StructuredContent) > 0 {
		b, err := client.Clean(r.StructuredContent)
		if err != nil || len(b) > maxStructured {
			return nil, errResult
		}
		out.Structured = b
	}
	return out, nil
}

// block is a block of content on the wire, or what is in one.
type block struct {
	named
	Type     string          `json:"type"`
	Text     *string         `json:"text"`
	Data     []byte          `json:"data"`
	Blob     []byte          `json:"blob"`
	URI      string          `json:"uri"`
	Size     json.RawMessage `json:"size"`
	Resource json.RawMessage `json:"resource"`
}

// readContent reads a block. One that is of a type that is not known goes on as
// it is; one that says that it is of a known type and is not, does not.
func readContent(raw json.RawMessage) (*providerv1.Content, error) {
	var kind struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(raw, &kind) != nil || kind.Type == "" {
		return nil, errResult
	}
	switch kind.Type {
	case "text", "image", "audio", "resource", "resource_link":
	default:
		b, err := client.Clean(raw)
		if err != nil {
			return nil, errResult
		}
		return &providerv1.Content{Kind: &providerv1.Content_Other{Other: b}}, nil
	}
	var w block
	if json.Unmarshal(raw, &w) != nil || !fits(w.MIMEType, maxMIME, w.URI, maxURI) {
		return nil, errResult
	}
	c := &providerv1.Content{Annotations: readAnnotations(w.Annotations), Meta: readMeta(w.Meta)}
	switch kind.Type {
	case "text":
		if w.Text == nil {
			return nil, errResult
		}
		c.Kind = &providerv1.Content_Text{Text: *w.Text}
	case "image":
		c.Kind = &providerv1.Content_Image{Image: &providerv1.Media{Data: w.Data, MimeType: w.MIMEType}}
	case "audio":
		c.Kind = &providerv1.Content_Audio{Audio: &providerv1.Media{Data: w.Data, MimeType: w.MIMEType}}
	case "resource":
		inner, err := readContents(w.Resource)
		if err != nil {
			return nil, err
		}
		c.Kind = &providerv1.Content_Resource{Resource: inner}
	case "resource_link":
		if w.URI == "" || !fits(w.Name, maxTitle, w.Title, maxTitle, w.Description, maxText) {
			return nil, errResult
		}
		c.Kind = &providerv1.Content_ResourceLink{ResourceLink: &providerv1.ResourceLink{
			Uri: w.URI, Name: w.Name, Title: w.Title, Description: w.Description, MimeType: w.MIMEType, Size: readSize(w.Size),
		}}
	}
	return c, nil
}

// readContents reads what is in a resource: text or bytes.
func readContents(raw json.RawMessage) (*providerv1.ResourceContents, error) {
	var w block
	if json.Unmarshal(raw, &w) != nil || w.URI == "" || !fits(w.MIMEType, maxMIME, w.URI, maxURI) || (w.Text == nil) == (w.Blob == nil) {
		return nil, errResult
	}
	c := &providerv1.ResourceContents{Uri: w.URI, MimeType: w.MIMEType, Meta: readMeta(w.Meta)}
	if w.Text != nil {
		c.Body = &providerv1.ResourceContents_Text{Text: *w.Text}
	} else {
		c.Body = &providerv1.ResourceContents_Blob{Blob: w.Blob}
	}
	return c, nil
}

func (r result) resource() (*providerv1.ReadResourceResponse, error) {
	if len(r.Contents) > maxContents {
		return nil, errResult
	}
	out := &providerv1.ReadResourceResponse{}
	for _, raw := range r.Contents {
		c, err := readContents(raw)
		if err != nil {
			return nil, err
		}
		out.Contents = append(out.Contents, c)
	}
	if ms := r.TTLMs; ms > 0 {
		out.Ttl = durationpb.New(time.Duration(min(ms, 24*3600*1000)) * time.Millisecond)
	}
	return out, nil
}

func (r result) prompt() (*providerv1.GetPromptResponse, error) {
	if len(r.Messages) > maxMessages || !fits(r.Description, maxText) {
		return nil, errResult
	}
	out := &providerv1.GetPromptResponse{Description: r.Description}
	for _, m := range r.Messages {
		if m.Role != "user" && m.Role != "assistant" {
			return nil, errResult
		}
		c, err := readContent(m.Content)
		if err != nil {
			return nil, err
		}
		out.Messages = append(out.Messages, &providerv1.PromptMessage{Role: m.Role, Content: c})
	}
	return out, nil
}

// refused is a result that tells the model why there is none.
func refused(text string) *providerv1.ToolResult {
	return &providerv1.ToolResult{
		IsError: true, Content: []*providerv1.Content{{Kind: &providerv1.Content_Text{Text: text}}},
	}
}
