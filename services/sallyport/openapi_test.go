package main

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/services/tools/openapi"
)

// TestRESTAsTools calls an API through the whole: client, edge, auth, quota, executor,
// provider, HTTP server. Then the document changes where a tool leads.
func TestRESTAsTools(t *testing.T) {
	t.Parallel()
	const secret = "canary-of-the-api"
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Api-Key") != secret {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"sku":%q,"path":%q,"echo":%q}`, r.PathValue("sku"), r.URL.Path, r.Header.Get("X-Api-Key"))
	}))
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	document := func(path string) string {
		return `{"openapi":"3.1.0","info":{"title":"t","version":"1"},"paths":{"` + path + `/{sku}":{"get":{"operationId":"getItem",
			"parameters":[{"name":"sku","in":"path","required":true,"schema":{"type":"string","maxLength":20}}],
			"responses":{"200":{"description":"x","content":{"application/json":{"schema":{"type":"object","required":["path"],"properties":{"path":{"type":"string"}}}}}}}}}}}`
	}
	config := write("sallyport.yaml", fmt.Sprintf(`roles:
  quota: {rules: []}
  openapi:
    check_every: 10ms
    apis:
      - name: stock
        file: %s
        base_url: %s
        addresses: [127.0.0.0/8]
        ca_file: %s
        credentials: [{kind: api_key, in: header, name: X-Api-Key, file: %s}]
`, write("doc.json", document("/items")), srv.URL,
		write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))), write("key", secret)))
	i, _ := dev(t, t.TempDir(), "--config", config)
	says := func(code int, want string, args ...string) {
		t.Helper()
		var last string
		defer func() {
			if t.Failed() {
				t.Logf("it says %s", last)
			}
		}()
		await(t, fmt.Sprintf("%v says %q", args, want), func() bool {
			got, stdout, stderr := sallyport(t, i, args...)
			last = fmt.Sprintf("%d %s%s", got, stdout, stderr)
			if strings.Contains(stdout+stderr, secret) {
				t.Fatalf("%v tells the secret:\n%s%s", args, stdout, stderr)
			}
			return got == code && strings.Contains(stdout+stderr, want)
		})
	}
	get := []string{"call", "stock_get_item", "sku=a b", "--as", "analyst"}
	says(exitOK, "stock_get_item", "tool", "list", "--as", "analyst")
	says(exitOK, `"path": "/items/a b"`, get...)
	says(exitOK, "[redacted]", get...)
	says(exitNo, "sku", "call", "stock_get_item", "--as", "analyst")
	says(exitNo, "slash", "call", "stock_get_item", "sku=../keys", "--as", "analyst")
	says(exitNo, "/sku", "call", "stock_get_item", "sku=123456789012345678901", "--as", "analyst")

	write("doc.json", document("/admin")) // which no word of the definition tells
	says(exitOK, "stock_get_item", "tool", "withheld")
	says(exitNo, "approve it first", get...)
	says(exitOK, "", "tool", "approve", "stock_get_item", "--yes")
	says(exitOK, `"path": "/admin/a b"`, get...)
}

// TestUploadsOfAnotherProcess sends a file, and meets a stream, where each role is a
// process of its own.
func TestUploadsOfAnotherProcess(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush() // the client sees it, or has left
			<-r.Context().Done()
			return
		}
		file, about, err := r.FormFile("file")
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		content, err := io.ReadAll(file)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"file":"%s %s","type":%q,"note":%q}`, about.Filename, content, about.Header.Get("Content-Type"), r.FormValue("note"))
	}))
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	document := write("doc.json", `{"openapi":"3.1.0","info":{"title":"t","version":"1"},"paths":{"/files":{
		"post":{"operationId":"upload","requestBody":{"required":true,"content":{"multipart/form-data":{"schema":{"type":"object","required":["file"],
			"properties":{"file":{"contentMediaType":"text/csv"},"note":{"type":"string"}}}}}},"responses":{"200":{"description":"x"}}},
		"get":{"operationId":"watch","responses":{"200":{"description":"x"}}}}}}`)
	i, _ := dev(t, t.TempDir(), "--processes", "--config", write("sallyport.yaml", fmt.Sprintf(`roles:
  quota: {rules: []}
  openapi:
    apis: [{name: store, file: %s, base_url: %s, addresses: [127.0.0.0/8], operations: {named: [upload]}}]
`, document, srv.URL)))
	says := func(code int, want string, args ...string) {
		t.Helper()
		var last string
		defer func() {
			if t.Failed() {
				t.Logf("it says %s", last)
			}
		}()
		await(t, fmt.Sprintf("%v says %q", args, want), func() bool {
			got, stdout, stderr := sallyport(t, i, args...)
			last = fmt.Sprintf("%d %s%s", got, stdout, stderr)
			return got == code && strings.Contains(stdout+stderr, want)
		})
	}
	says(exitOK, `"file": "a.csv x,1"`, "call", "store_upload", `body={"file":{"filename":"a.csv","base64":"eCwx"},"note":"of\nMay"}`, "--as", "admin")
	says(exitOK, `"type": "text/csv"`, "call", "store_upload", `body={"file":{"text":"x,1"}}`, "--as", "admin")
	says(exitNo, "/body", "call", "store_upload", `body={"file":"x,1"}`, "--as", "admin")
	says(exitNo, "/body/file/filename", "call", "store_upload", `body={"file":{"filename":"../a","text":""}}`, "--as", "admin")
	says(exitNo, "stream of events", "call", "store_watch", "--as", "admin")
}

// The example must be one that can be used.
func TestExampleOfOpenAPI(t *testing.T) {
	t.Parallel()
	const file = "../../deploy/examples/openapi/sallyport.yaml"
	if err := validateConfig(file); err != nil {
		t.Fatal(err)
	}
	cfg, err := app.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	section := openapi.DefaultConfig()
	if err := cfg.Section("openapi", &section); err != nil || len(section.APIs) != 2 {
		t.Errorf("got %d APIs, %v", len(section.APIs), err)
	}
}
