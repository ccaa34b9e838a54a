package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/services/auth"
	"github.com/sallyport-mcp/sallyport/services/edge"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/quota"
	"github.com/sallyport-mcp/sallyport/services/tools/basics"
)

// certificate makes a certificate signed by another one, or by itself.
func certificate(t *testing.T, by *tls.Certificate, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, Subject: pkix.Name{CommonName: "test"},
	}
	change(template)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey.(*ecdsa.PrivateKey)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// A machine has no token: it is known by the SPIFFE id in its certificate, and may
// do what the roles allow that this has by the configuration.
func TestMachinesByTheirCertificates(t *testing.T) {
	t.Parallel()
	e := newEstate(t, `
roles:
  quota: {rules: []}
  edge:
    listen: 127.0.0.1:0
    tls_cert: DIR/server.crt
    tls_key: DIR/server.key
    tls_client_ca: DIR/clients.crt
    tls_trust_domain: example.org
    state_key_files: [DIR/edge.key]
  auth:
    pepper_file: DIR/pepper.key
    grant_key_file: DIR/grant.key
    machines:
      - {spiffe_id: "spiffe://example.org/ci", roles: [intern]}
      - {spiffe_id: "spiffe://example.org/batch/*", roles: [stranger]}
  executor: {grant_key_files: [DIR/grant.key]}
`)
	ca := certificate(t, nil, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign })
	server := certificate(t, &ca, func(c *x509.Certificate) { c.DNSNames = []string{"localhost"} })
	der, err := x509.MarshalPKCS8PrivateKey(server.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	e.write("clients.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Leaf.Raw})))
	e.write("server.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Leaf.Raw})))
	e.write("server.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	at := e.await(e.start("all", oneServer(t), []app.Role{edge.Role, auth.Role, quota.Role, executor.Role, basics.Role}), "edge")
	roots := x509.NewCertPool()
	roots.AddCert(ca.Leaf)
	call := func(id, tool, arguments string) (int, string) {
		t.Helper()
		tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}}
		defer tr.CloseIdleConnections()
		if id != "" {
			name, err := url.Parse(id)
			if err != nil {
				t.Fatal(err)
			}
			tr.TLSClientConfig.Certificates = []tls.Certificate{certificate(t, &ca, func(c *x509.Certificate) { c.URIs = []*url.URL{name} })}
		}
		body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q,"arguments":%s}}`, tool, arguments)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+at+"/mcp", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("MCP-Protocol-Version", "2025-11-25")
		resp, err := (&http.Client{Transport: tr}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	await(t, "the tool is there", func() bool {
		status, text := call("spiffe://example.org/ci", "echo", `{"text":"hello"}`)
		return status == http.StatusOK && strings.Contains(text, "hello")
	})
	tests := []struct {
		name, id string
		status   int
		want     string
	}{
		{"a machine that is named", "spiffe://example.org/ci", http.StatusOK, "hello"},
		{"a machine below a name, whose roles allow nothing", "spiffe://example.org/batch/7", http.StatusOK, "POLICY_DENIED"},
		{"a machine below one that is named alone", "spiffe://example.org/ci/x", http.StatusUnauthorized, "UNAUTHENTICATED"},
		{"a machine that nobody names", "spiffe://example.org/other", http.StatusUnauthorized, "UNAUTHENTICATED"},
		{"a machine of another trust domain", "spiffe://example.com/ci", http.StatusUnauthorized, "UNAUTHENTICATED"},
		{"nobody", "", http.StatusUnauthorized, "UNAUTHENTICATED"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if status, text := call(tt.id, "echo", `{"text":"hello"}`); status != tt.status || !strings.Contains(text, tt.want) {
				t.Errorf("got %d %s, want %d and %s", status, text, tt.status, tt.want)
			}
		})
	}
}
