package conformance

import (
	_ "embed" // for the image and the sound

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

//go:embed red.png
var redPixel []byte // one red pixel

//go:embed silence.wav
var silence []byte // one sample of nothing

// nothing is the schema of a tool without arguments.
const nothing = `{"type":"object","properties":{},"additionalProperties":false}`

// contentFixtures show each kind of content.
func contentFixtures() []fixture {
	return []fixture{{
		name: "test_simple_text", description: "Answers with a text.", schema: nothing,
		play: func(*call) (*providerv1.CallToolResponse, error) {
			return say("This is a simple text response for testing.")
		},
	}, {
		name: "test_image_content", description: "Answers with an image.", schema: nothing,
		play: func(*call) (*providerv1.CallToolResponse, error) { return result(imageContent()) },
	}, {
		name: "test_audio_content", description: "Answers with a sound.", schema: nothing,
		play: func(*call) (*providerv1.CallToolResponse, error) {
			return result(&providerv1.Content{Kind: &providerv1.Content_Audio{
				Audio: &providerv1.Media{Data: silence, MimeType: "audio/wav"},
			}})
		},
	}, {
		name: "test_embedded_resource", description: "Answers with the contents of a resource.", schema: nothing,
		play: func(*call) (*providerv1.CallToolResponse, error) {
			return result(resourceContent(textResource("test://embedded-resource", "text/plain", "This is an embedded resource content.")))
		},
	}, {
		name: "test_multiple_content_types", description: "Answers with a text, an image and a resource.", schema: nothing,
		play: func(*call) (*providerv1.CallToolResponse, error) {
			return result(textContent("Multiple content types test:"), imageContent(),
				resourceContent(textResource("test://mixed-content-resource", "application/json", `{"test":"data","value":123}`)))
		},
	}, {
		name: "test_error_handling", description: "Always answers with an error.", schema: nothing,
		play: func(*call) (*providerv1.CallToolResponse, error) {
			r, err := say("This tool intentionally returns an error for testing")
			r.GetResult().IsError = true
			return r, err
		},
	}}
}

func textContent(text string) *providerv1.Content {
	return &providerv1.Content{Kind: &providerv1.Content_Text{Text: text}}
}

func imageContent() *providerv1.Content {
	return &providerv1.Content{Kind: &providerv1.Content_Image{Image: &providerv1.Media{Data: redPixel, MimeType: "image/png"}}}
}

func resourceContent(r *providerv1.ResourceContents) *providerv1.Content {
	return &providerv1.Content{Kind: &providerv1.Content_Resource{Resource: r}}
}

func textResource(uri, mimeType, text string) *providerv1.ResourceContents {
	return &providerv1.ResourceContents{Uri: uri, MimeType: mimeType, Body: &providerv1.ResourceContents_Text{Text: text}}
}
