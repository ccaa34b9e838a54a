package edge_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	cert := a.issue(t, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.ExtKeyUsage, c.Subject = true, x509.KeyUsageCertSign, nil, pkix.Name{CommonName: "authority"}
	})
	a.cert, a.key = cert.Leaf, cert.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

// issue makes a certificate, by default one of a SPIFFE id; the first signs itself.
func (a *authority) issue(t testing.TB, change ...func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	for _, c := range change {
		c(template)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
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

// spiffe gives a certificate these URIs.
func spiffe(t testing.TB, uris ...string) func(*x509.Certificate) {
	t.Helper()
	return func(c *x509.Certificate) {
		for _, text := range uris {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

// files writes a certificate and its key in PEM.
func files(t testing.TB, dir, name string, cert tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// secureWorld is a world that speaks TLS and takes client certificates of ca.
func secureWorld(t testing.TB, ca *authority, change func(*edge.Config)) (w *world, a *oauthAuth, client func(...tls.Certificate) *http.Client) {
	t.Helper()
	dir := t.TempDir()
	server := newAuthority(t)
	cert := server.issue(t, func(c *x509.Certificate) {
		c.DNSNames, c.ExtKeyUsage = []string{"localhost"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	caFile, _ := files(t, dir, "clients", tls.Certificate{Certificate: [][]byte{ca.cert.Raw}, PrivateKey: ca.key})
	w, a = newOAuthWorld(t, func(o *edge.Options) {
		o.Config.TLSCert, o.Config.TLSKey = files(t, dir, "server", cert)
		o.Config.TLSClientCA, o.Config.TLSTrustDomain = caFile, "example.org"
		if change != nil {
			change(&o.Config)
		}
	})
	w.url = "https://" + w.edge.Addr()
	roots := x509.NewCertPool()
	roots.AddCert(server.cert)
	return w, a, func(certs ...tls.Certificate) *http.Client {
		tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
			RootCAs: roots, ServerName: "localhost",
			// Whatever authorities the server names: a hostile client does not care.
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(certs) == 0 {
					return &tls.Certificate{}, nil
				}
				return &certs[0], nil
			},
		}}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
}

const machine = "spiffe://example.org/ns/prod/agent-1"

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	between := ca.issue(t, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.ExtKeyUsage, c.Subject = true, x509.KeyUsageCertSign, nil, pkix.Name{CommonName: "between"}
	})
	intermediate := &authority{between.Leaf, between.PrivateKey.(*ecdsa.PrivateKey)}
	chained := intermediate.issue(t, spiffe(t, machine))
	chained.Certificate = append(chained.Certificate, between.Certificate[0])
	good := spiffe(t, machine)
	const (
		cutOff  = 0 // no TLS connection comes about
		refused = http.StatusUnauthorized
		taken   = http.StatusOK
	)
	tests := []struct {
		name  string
		certs []tls.Certificate
		key   bool   // an API key is sent, too
		want  int    // status
		id    string // SPIFFE id that auth is told
	}{
		{"one SPIFFE id", []tls.Certificate{ca.issue(t, good)}, false, taken, machine},
		{"through an intermediate authority", []tls.Certificate{chained}, false, taken, machine},
		{"one SPIFFE id beside a key", []tls.Certificate{ca.issue(t, good)}, true, taken, machine},
		{"names of hosts beside it mean nothing", []tls.Certificate{ca.issue(t, good, func(c *x509.Certificate) {
			c.DNSNames, c.Subject = []string{"admin"}, pkix.Name{CommonName: "spiffe://example.org/admin"}
		})}, false, taken, machine},
		{"any purpose", []tls.Certificate{ca.issue(t, good, func(c *x509.Certificate) { c.ExtKeyUsage = nil })}, false, taken, machine},
		{"none", nil, false, refused, ""},
		{"none beside a key", nil, true, taken, ""},
		{"no SPIFFE id", []tls.Certificate{ca.issue(t)}, false, refused, ""},
		{"no SPIFFE id beside a key", []tls.Certificate{ca.issue(t)}, true, taken, ""},
		{"a SPIFFE id for a common name", []tls.Certificate{ca.issue(t, func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: machine} })}, false, refused, ""},
		{"a URI that is no SPIFFE id", []tls.Certificate{ca.issue(t, spiffe(t, "https://example.org/ns/prod/agent-1"))}, false, refused, ""},
		{"two SPIFFE ids", []tls.Certificate{ca.issue(t, spiffe(t, machine, "spiffe://example.org/admin"))}, false, refused, ""},
		{"the same SPIFFE id twice", []tls.Certificate{ca.issue(t, spiffe(t, machine, machine))}, false, refused, ""},
		{"a SPIFFE id and another URI", []tls.Certificate{ca.issue(t, spiffe(t, "https://example.org/", machine))}, false, refused, ""},
		{"two SPIFFE ids beside a key", []tls.Certificate{ca.issue(t, spiffe(t, machine, "spiffe://example.org/admin"))}, true, refused, ""},
		{"another trust domain", []tls.Certificate{ca.issue(t, spiffe(t, "spiffe://example.com/agent-1"))}, false, refused, ""},
		{"a trust domain that begins the same", []tls.Certificate{ca.issue(t, spiffe(t, "spiffe://example.org.evil/agent-1"))}, false, refused, ""},
		{"a trust domain in capitals", []tls.Certificate{ca.issue(t, spiffe(t, "spiffe://EXAMPLE.org/agent-1"))}, false, refused, ""},
		{"a trust domain with a port", []tls.Certificate{ca.issue(t, spiffe(t, "spiffe://example.org:443/agent-1"))}, false, refused, ""},
		{"a trust domain with a user", []tls.Certificate{ca.issue(t, spiffe(t, "spiffe://root@example.org/agent-1"))}, false, refused, ""},
		{"the trust domain itself", []tls.Certificate{ca.issue(t, spiffe(t, "spiffe://example.org"))}, false, refused, ""},
		{"the trust domain with a slash", []tls.Certificate{ca.issue(t, spiffe(t, "spiffe://example.org/"))}, false, refused, ""},
		{"a path with dots", []tls.Certificate{ca.issue(t, spiffe(t, "spiffe://example.org/ns/../admin"))}, false, refused, ""},
		{"a path with an empty part", []tls.Certificate{ca.issue(t, spiffe(t, "spiffe://example.org/ns//admin"))}, false, refused, ""},
		{"a path with a slash at its end", []tls.Certificate{ca.issue(t, spiffe(t, machine+"/"))}, false, refused, ""},
		{"a path with escapes", []tls.Certificate{ca.issue(t, spiffe(t, "spiffe://example.org/ns%2Fadmin"))}, false, refused, ""},
		{"a query", []tls.Certificate{ca.issue(t, spiffe(t, machine+"?role=admin"))}, false, refused, ""},
		{"a fragment", []tls.Certificate{ca.issue(t, spiffe(t, machine+"#admin"))}, false, refused, ""},
		{"an authority's own", []tls.Certificate{ca.issue(t, good, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, c.KeyUsage|x509.KeyUsageCertSign })}, false, refused, ""},
		{"one that may sign certificates", []tls.Certificate{ca.issue(t, good, func(c *x509.Certificate) {
			c.BasicConstraintsValid, c.KeyUsage = false, c.KeyUsage|x509.KeyUsageCertSign
		})}, false, refused, ""},
		{"one that may not sign anything", []tls.Certificate{ca.issue(t, good, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })}, false, refused, ""},
		{"expired", []tls.Certificate{ca.issue(t, good, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })}, true, cutOff, ""},
		{"not in force yet", []tls.Certificate{ca.issue(t, good, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })}, true, cutOff, ""},
		{"for servers only", []tls.Certificate{ca.issue(t, good, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })}, true, cutOff, ""},
		{"of another authority", []tls.Certificate{other.issue(t, good)}, true, cutOff, ""},
		{"signed by itself", []tls.Certificate{(&authority{}).issue(t, good)}, true, cutOff, ""},
		{"signed by a good one that is no authority", []tls.Certificate{func() tls.Certificate {
			leaf := ca.issue(t, good)
			c := (&authority{leaf.Leaf, leaf.PrivateKey.(*ecdsa.PrivateKey)}).issue(t, spiffe(t, "spiffe://example.org/admin"))
			c.Certificate = append(c.Certificate, leaf.Certificate[0])
			return c
		}()}, true, cutOff, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, a, client := secureWorld(t, ca, nil)
			r := request{method: "server/discover"}.http(t, w.url)
			// What a proxy would say of a certificate is not believed.
			r.Header.Set("X-Forwarded-Client-Cert", "URI=spiffe://example.org/admin")
			r.Header.Set("X-Client-Cert", "x")
			if !tt.key {
				r.Header.Del("Authorization")
			}
			resp, err := client(tt.certs...).Do(r)
			if tt.want == cutOff {
				if err == nil {
					_ = resp.Body.Close()
					t.Fatalf("got %s, want no connection", resp.Status)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != tt.want {
				t.Fatalf("got %s, want %d", resp.Status, tt.want)
			}
			shown, _ := a.credentials()
			if tt.want != taken {
				if len(shown) > 0 {
					t.Errorf("auth was shown %v", shown)
				}
				return
			}
			c, scheme, hash := shown[0], authv1.Scheme_SCHEME_CERTIFICATE, []byte(nil)
			if tt.key {
				scheme = authv1.Scheme_SCHEME_BEARER
			}
			if len(tt.certs) > 0 {
				sum := sha256.Sum256(tt.certs[0].Certificate[0])
				hash = sum[:]
			}
			if c.GetSpiffeId() != tt.id || c.GetScheme() != scheme || !bytes.Equal(c.GetCertificateSha256(), hash) || tt.key != (c.GetToken() != "") {
				t.Errorf("auth was shown %v, want scheme %v and id %q", c, scheme, tt.id)
			}
		})
	}
}

// Without a trust domain a certificate names nobody, and binds tokens all the same.
func TestCertificatesWithoutATrustDomain(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	w, a, client := secureWorld(t, ca, func(c *edge.Config) { c.TLSTrustDomain = "" })
	cert := ca.issue(t, spiffe(t, machine, machine))
	for _, key := range []bool{true, false} {
		r := request{method: "server/discover"}.http(t, w.url)
		want := http.StatusOK
		if !key {
			r.Header.Del("Authorization")
			want = http.StatusUnauthorized
		}
		resp, err := client(cert).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("with a key %t: got %s, want %d", key, resp.Status, want)
		}
	}
	if shown, _ := a.credentials(); len(shown) != 1 || shown[0].GetSpiffeId() != "" || len(shown[0].GetCertificateSha256()) != sha256.Size {
		t.Errorf("auth was shown %v, want the hash and no id", shown)
	}
}

// What was said of a token with one certificate is not said of it with another.
func TestAuthenticationsAreOfOneCertificate(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	w, a, client := secureWorld(t, ca, nil)
	first, second := client(ca.issue(t, spiffe(t, machine))), client(ca.issue(t, spiffe(t, machine)))
	for i, c := range []*http.Client{first, first, second, client(), second, first} {
		resp, err := c.Do(request{method: "server/discover"}.http(t, w.url))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("request %d: got %s", i, resp.Status)
		}
	}
	if shown, _ := a.credentials(); len(shown) != 3 {
		t.Errorf("auth was asked %d times, want once for each certificate and once without", len(shown))
	}
}

// A connection may last longer than its certificate; requests on it may not.
func TestACertificateRunsOutOnAnOpenConnection(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	w, _, client := secureWorld(t, ca, nil)
	end := time.Now().Add(2 * time.Second).Truncate(time.Second)
	c := client(ca.issue(t, spiffe(t, machine), func(c *x509.Certificate) { c.NotAfter = end }))
	ask := func() int {
		r := request{method: "server/discover"}.http(t, w.url)
		r.Header.Del("Authorization")
		resp, err := c.Do(r)
		if err != nil {
			return 0 // a new connection, for which it is too late
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if got := ask(); got != http.StatusOK && time.Now().Before(end) {
		t.Fatalf("got %d before the end", got)
	}
	<-time.After(time.Until(end) + time.Millisecond)
	if got := ask(); got != http.StatusUnauthorized && got != 0 {
		t.Errorf("got %d after the end", got)
	}
}

func TestSettingsOfCertificatesAreChecked(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*edge.Config)
		ok     bool
	}{
		{"a public URL", func(c *edge.Config) { c.PublicURL = "https://mcp.example.com/team" }, true},
		{"a public URL with the endpoint", func(c *edge.Config) { c.PublicURL = "https://mcp.example.com/mcp/" }, false},
		{"a public URL in capitals", func(c *edge.Config) { c.PublicURL = "https://MCP.example.com" }, false},
		{"a public URL with a query", func(c *edge.Config) { c.PublicURL = "https://mcp.example.com?x" }, false},
		{"a public name", func(c *edge.Config) { c.PublicURL = "mcp.example.com" }, false},
		{"an authority without a certificate of our own", func(c *edge.Config) { c.TLSClientCA = "ca.crt" }, false},
		{"a trust domain without an authority", func(c *edge.Config) { c.TLSTrustDomain = "example.org" }, false},
		{"a trust domain as a URI", func(c *edge.Config) {
			c.TLSCert, c.TLSKey, c.TLSClientCA, c.TLSTrustDomain = "a", "b", "c", "spiffe://example.org"
		}, false},
		{"all of it", func(c *edge.Config) {
			c.TLSCert, c.TLSKey, c.TLSClientCA, c.TLSTrustDomain = "a", "b", "c", "example.org"
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := edge.DefaultConfig()
			tt.change(&cfg)
			if err := cfg.Validate(); (err == nil) != tt.ok {
				t.Errorf("got error %v, want none: %t", err, tt.ok)
			}
		})
	}
	cfg := edge.DefaultConfig()
	dir := t.TempDir()
	cfg.TLSCert, cfg.TLSKey = files(t, dir, "server", newAuthority(t).issue(t))
	for _, file := range []string{filepath.Join(dir, "none"), cfg.TLSKey} {
		cfg.TLSClientCA = file
		if _, err := edge.New(edge.Options{Config: cfg}); err == nil {
			t.Errorf("%s: got no error for what are no authorities", file)
		}
	}
}
