package openapi_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

func TestFilesThatChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(rw, r.URL.Path) })
	a := w.api(small(""))
	c := w.up(a)
	before := tools(t, c)["shop_get_x"]
	w.file("shop.yaml", "openapi: 3.0.3\npaths: [")
	w.log.await("the document cannot be used")
	if got := names(t, c); got != "shop_get_x" {
		t.Errorf("broken: got %s, want the tools to stay", got)
	}
	w.file("shop.yaml", small("  /y: {get: {operationId: getY, responses: {}}}"))
	until(t, c, "there are two", func(all map[string]*providerv1.ToolDefinition) bool { return len(all) == 2 })
	if !bytes.Equal(tools(t, c)["shop_get_x"].GetMeta(), before.GetMeta()) {
		t.Error("a tool that has not changed has another digest")
	}
	// Only the path is another one; the definition must be, too.
	w.file("shop.yaml", strings.Replace(small(""), "/x:", "/admin:", 1))
	until(t, c, "the path has changed", func(all map[string]*providerv1.ToolDefinition) bool {
		return len(all) == 1 && !bytes.Equal(all["shop_get_x"].GetMeta(), before.GetMeta())
	})
	if r, err := call(t, c, "shop_get_x", `{}`); err != nil || text(r) != "/v2/admin" {
		t.Errorf("got %v, %v", r, err)
	}
}

// Before the executor has been told of a change there is none: it has approved what
// it knows.
func TestChangesHaveNoEffectBeforeTheyAreListed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(rw, r.URL.Path) })
	c := w.up(w.api(small("")))
	stream, err := c.Watch(t.Context(), &providerv1.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	w.file("shop.yaml", strings.Replace(small(""), "/x:", "/admin:", 1))
	if m, err := stream.Recv(); err != nil || !m.GetToolsChanged() {
		t.Fatalf("got %v, %v", m, err)
	}
	if r, err := call(t, c, "shop_get_x", `{}`); err != nil || text(r) != "/v2/x" {
		t.Errorf("before: got %v, %v", r, err)
	}
	tools(t, c)
	if r, err := call(t, c, "shop_get_x", `{}`); err != nil || text(r) != "/v2/admin" {
		t.Errorf("after: got %v, %v", r, err)
	}
}

// Definitions say where calls go, by a digest: another base URL is another tool.
func TestWhereCallsGoIsPartOfTheDefinition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a := w.api(small(""))
	b := a
	b.Name, b.BaseURL = "other", w.srv.URL+"/v3"
	same := a
	same.Name = "same"
	all := tools(t, w.up(a, b, same))
	if bytes.Equal(all["shop_get_x"].GetMeta(), all["other_get_x"].GetMeta()) {
		t.Error("two hosts have the same digest")
	}
	if !bytes.Equal(all["shop_get_x"].GetMeta(), all["same_get_x"].GetMeta()) {
		t.Error("the same call has two digests")
	}
}

func TestDocumentsOfServers(t *testing.T) {
	t.Parallel()
	var fetched, unchanged atomic.Int32
	var second atomic.Bool
	server := func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/openapi.yaml" {
			_, _ = io.WriteString(rw, r.URL.Path)
			return
		}
		tag, doc := `"1"`, small("servers: [{url: /api}]\n")
		if second.Load() {
			tag, doc = `"2"`, small("  /y: {get: {operationId: getY, responses: {}}}\nservers: [{url: /api}]\n")
		}
		if r.Header.Get("If-None-Match") == tag {
			unchanged.Add(1)
			rw.WriteHeader(http.StatusNotModified)
			return
		}
		fetched.Add(1)
		rw.Header().Set("ETag", tag)
		_, _ = io.WriteString(rw, doc)
	}
	w := newWorld(t, server)
	a := w.api("")
	a.File, a.URL, a.BaseURL = "", w.srv.URL+"/openapi.yaml", ""
	c := w.up(a)
	if r, err := call(t, c, "shop_get_x", `{}`); err != nil || text(r) != "/api/x" {
		t.Errorf("got %v, %v", r, err)
	}
	second.Store(true)
	until(t, c, "there are two", func(all map[string]*providerv1.ToolDefinition) bool { return len(all) == 2 })
	if fetched.Load() != 2 {
		t.Errorf("the document was sent %d times, and %d times not", fetched.Load(), unchanged.Load())
	}
	w.serve(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusInternalServerError) })
	w.log.await("its server answers 500")
	w.serve(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(rw, io.LimitReader(zeros{}, 5<<20)) })
	w.log.await("more than max_document_bytes")
	if got := names(t, c); got != "shop_get_x shop_get_y" {
		t.Errorf("got %s, want the tools to stay", got)
	}
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestPinnedDocuments(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a := w.api(small(""))
	sum := sha256.Sum256([]byte(small("")))
	a.SHA256 = strings.ToUpper(hex.EncodeToString(sum[:]))
	c := w.up(a)
	w.file("shop.yaml", small("  /y: {get: {operationId: getY, responses: {}}}"))
	w.log.await("its SHA-256 is not the one in the configuration")
	if got := names(t, c); got != "shop_get_x" {
		t.Errorf("got %s, want what was pinned", got)
	}
}

// Without a base_url a document says where calls go, but only among listed hosts.
func TestServersOfDocuments(t *testing.T) {
	t.Parallel()
	for server, offered := range map[string]bool{
		"https://api.example.com/v1": true, "https://{h}.example.com:8443": true, "https://api.example.com:444": false, "http://api.example.com": false,
		"https://evil.example": false, "/v1": false, "": false, "https://0x7f.1": false, "https://api.example.com@evil.example": false, "//evil.example": false,
		"https://api.example.com/a/../b": false, "https://api.example.com?x=1": false, "file:///etc/passwd": false, "https://127.0.0.1": false,
		"https://api.example.com.evil.example": false, "https://169.254.169.254/latest": false,
	} {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			a := w.api(small("servers: [{url: '" + server + "', variables: {h: {default: api}}}]\n"))
			a.BaseURL, a.Hosts, a.Addresses = "", []string{"api.example.com", "api.example.com:8443"}, nil
			c := w.start(a)
			if !offered {
				w.log.await("operations=1 tools=0")
				return
			}
			until(t, c, "the tool", func(all map[string]*providerv1.ToolDefinition) bool { return all["shop_get_x"] != nil })
		})
	}
}
