package openapi_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/tools/openapi"
	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/credential"
)

func TestConfigMistakes(t *testing.T) {
	t.Parallel()
	key := credential.Config{Kind: "bearer", File: "f"}
	tests := []struct {
		name string
		edit func(*openapi.API)
		want string // in the error; "" for none
	}{
		{"none", func(*openapi.API) {}, ""},
		{"a name that is none", func(a *openapi.API) { a.Name = "A b" }, "name:"},
		{"no document", func(a *openapi.API) { a.File = "" }, "one of file and url"},
		{"two documents", func(a *openapi.API) { a.URL = "https://x.example/y" }, "one of file and url"},
		{"a document by http", func(a *openapi.API) { a.File, a.URL = "", "http://x.example/y" }, "must be https"},
		{"http to listed addresses", func(a *openapi.API) {
			a.BaseURL, a.Addresses = "http://intern:8080", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		}, ""},
		{"http to the internet", func(a *openapi.API) { a.BaseURL = "http://api.example.com" }, "must be https"},
		{"a base with a user", func(a *openapi.API) { a.BaseURL = "https://u:p@api.example.com" }, "names a user"},
		{"a base with a query", func(a *openapi.API) { a.BaseURL = "https://api.example.com/?k=1" }, "base_url: has a query"},
		{"a base that climbs", func(a *openapi.API) { a.BaseURL = "https://api.example.com/a/../b" }, "base_url: has a query"},
		{"a host in a strange form", func(a *openapi.API) { a.Hosts = []string{"0x7f.1"} }, "hosts: 0x7f.1"},
		{"addresses of cloud metadata", func(a *openapi.API) { a.Addresses = []netip.Prefix{netip.MustParsePrefix("169.254.169.254/32")} }, "never connected"},
		{"credentials for whatever host", func(a *openapi.API) { a.BaseURL, a.Credentials = "", []credential.Config{key} }, "need a base_url"},
		{"a credential without a file", func(a *openapi.API) { a.Credentials = []credential.Config{{Kind: "bearer"}} }, "file: missing"},
		{"a credential of another kind", func(a *openapi.API) { a.Credentials = []credential.Config{{Kind: "magic", File: "f"}} }, "kind:"},
		{"a key in the header Host", func(a *openapi.API) {
			a.Credentials = []credential.Config{{Kind: "api_key", File: "f", In: "header", Name: "Host"}}
		}, "no header that can be set"},
		{"basic without a user", func(a *openapi.API) { a.Credentials = []credential.Config{{Kind: "basic", File: "f"}} }, "user:"},
		{"oauth2 without a client", func(a *openapi.API) { a.Credentials = []credential.Config{{Kind: "oauth2", File: "f"}} }, "token_url, client_id"},
		{"a method that is none", func(a *openapi.API) { a.Operations.Methods = []string{"GET"} }, "operations.methods"},
		{"a pattern that is none", func(a *openapi.API) { a.Operations.Deny = []string{"["} }, "operations.deny"},
		{"a risk that is none", func(a *openapi.API) { a.Methods = map[string]openapi.Options{"post": {Risk: "some"}} }, "methods.post"},
		{"a digest that is none", func(a *openapi.API) { a.SHA256 = "abc" }, "sha256"},
		{"an alias that is none", func(a *openapi.API) { a.Aliases = map[string]string{"x": "a b"} }, "aliases.x"},
		{"a result without bound", func(a *openapi.API) { a.MaxResultBytes = 1 << 30 }, "max_result_bytes"},
		{"a document without bound", func(a *openapi.API) { a.MaxDocumentBytes = 1 << 30 }, "max_document_bytes"},
		{"a timeout without bound", func(a *openapi.API) { a.Timeout = 24 * time.Hour }, "timeout"},
	}
	for _, tt := range tests {
		cfg := openapi.DefaultConfig()
		a := openapi.API{Name: "shop", File: "f", BaseURL: "https://api.example.com/v1"}
		tt.edit(&a)
		cfg.APIs = []openapi.API{a}
		err := cfg.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got error %v, want %q in it", tt.name, err, tt.want)
		}
	}
	cfg := openapi.DefaultConfig()
	cfg.APIs = []openapi.API{{Name: "a", File: "f"}, {Name: "a", File: "f"}}
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "used twice") {
		t.Errorf("the same API twice: got error %v", err)
	}
	cfg.APIs = []openapi.API{{Name: "a", File: "f", BaseURL: "https://x.example", Credentials: []credential.Config{key, key}}}
	if _, err := openapi.New(cfg, "test", nil); err == nil || !strings.Contains(err.Error(), "same place") {
		t.Errorf("two tokens: got error %v", err)
	}
}
