package edge_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/devca"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

// With a certificate the endpoint speaks HTTP/2 and HTTP/1.1 over TLS, with the
// same answers, and nothing in the clear.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := devca.Ensure(dir, "localhost"); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(o *edge.Options) {
		o.Config.TLSCert, o.Config.TLSKey = filepath.Join(dir, "localhost.crt"), filepath.Join(dir, "localhost.key")
	})
	pem, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	for _, h2 := range []bool{true, false} {
		tr := &http.Transport{ForceAttemptHTTP2: h2, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}}
		if !h2 {
			tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
		}
		t.Cleanup(tr.CloseIdleConnections)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+w.edge.Addr()+"/ping", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-API-Key", "good")
		resp, err := (&http.Client{Transport: tr}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || strings.TrimSpace(string(b)) != `{"message":"pong"}` || (resp.ProtoMajor == 2) != h2 {
			t.Errorf("HTTP/2 %t: got %s %s %s (%v)", h2, resp.Proto, resp.Status, b, err)
		}
	}
	resp, err := http.Get("http://" + w.edge.Addr() + "/ping")
	if err == nil {
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode == http.StatusOK {
			t.Error("the endpoint answers in the clear")
		}
	}
}
