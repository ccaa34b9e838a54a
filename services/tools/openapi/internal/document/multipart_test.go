package document_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/wire"
)

// Parts that are bytes are files, of the types that the document says; all others are
// what their schemas are.
func TestMultipart(t *testing.T) {
	t.Parallel()
	const (
		old = `{"schema":{"$ref":"#/components/schemas/Upload"},"encoding":{"photo":{"contentType":"image/png, image/*"},"info":{"contentType":"application/json"}}}`
		now = `{"schema":{"type":"object","required":["data"],"properties":{
			"data":{"contentMediaType":"application/octet-stream"},"doc":{"type":["string","null"],"contentMediaType":"application/pdf"},
			"text64":{"type":"string","contentEncoding":"base64"},"many":{"type":"array","maxItems":2,"items":{"type":"string","contentMediaType":"text/csv"}}}}}`
		upload = `"Upload":{"type":"object","required":["photo","title"],"properties":{"photo":{"type":"string","format":"binary","description":"A photo."},
			"title":{"type":"string","maxLength":5},"tags":{"type":"array","items":{"type":"string"}},"info":{"type":"object"},"id":{"type":"string","format":"binary","readOnly":true}}}`
	)
	for _, tt := range []struct {
		name, version, media, schemas string
		want                          []wire.Part
		good, bad                     []string
	}{{
		name: "3.0", version: "3.0.3", media: old, schemas: upload,
		want: []wire.Part{{Name: "info", Types: []string{"application/json"}}, {Name: "photo", File: true, Types: []string{"image/png", "image/*"}}},
		good: []string{`{"photo":{"base64":"AAAA"},"title":"x"}`, `{"photo":{"text":"","filename":"a b.png"},"title":"x","tags":["a"],"info":{}}`},
		bad: []string{
			`{"title":"x"}`, `{"photo":"AAAA","title":"x"}`, `{"photo":{},"title":"x"}`, `{"photo":{"base64":"AAAA","text":"x"},"title":"x"}`,
			`{"photo":{"text":"x","path":"/etc/passwd"},"title":"x"}`, `{"photo":{"text":"x","filename":"../x"},"title":"x"}`, `{"photo":{"text":"x"},"title":"too long"}`,
		},
	}, {
		name: "3.1", version: "3.1.0", media: now,
		want: []wire.Part{{Name: "data", File: true}, {Name: "doc", File: true, Types: []string{"application/pdf"}}, {Name: "many", File: true, Types: []string{"text/csv"}}},
		good: []string{`{"data":{"text":"x"},"text64":"AAAA","many":[{"text":"a,b"},{"text":"c"}]}`},
		bad:  []string{`{"data":"x"}`, `{"data":{"text":"x"},"many":[{"text":"a"},{"text":"b"},{"text":"c"}]}`, `{"data":{"text":"x"},"text64":{"text":"x"}}`},
	}} {
		shape, err := parse(t, operation(tt.version, multipart(tt.media), tt.schemas)).Operations[0].Shape(free)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		b := shape.Plan.Body
		if diff := cmp.Diff(tt.want, b.Parts); diff != "" || b.Kind != wire.Multipart || b.Type != "multipart/form-data" {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, b, diff)
		}
		var input struct {
			Properties struct{ Body json.RawMessage }
		}
		if err := json.Unmarshal(shape.Input, &input); err != nil {
			t.Fatal(err)
		}
		for _, v := range tt.good {
			if !valid(t, input.Properties.Body, v) {
				t.Errorf("%s: %s is refused by %s", tt.name, v, input.Properties.Body)
			}
		}
		for _, v := range tt.bad {
			if valid(t, input.Properties.Body, v) {
				t.Errorf("%s: %s is taken by %s", tt.name, v, input.Properties.Body)
			}
		}
	}
}
