package edge

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// maxSPIFFE is how long a SPIFFE id may be.
const maxSPIFFE = 2048

// identities tells who a client certificate names. Only the certificate of the
// connection itself counts: no header of a proxy is believed to have seen one.
type identities struct {
	// trustDomain is the one whose SPIFFE ids are believed. Without it a
	// certificate names nobody; tokens can be bound to it all the same.
	trustDomain string
}

// identify adds to a credential what the certificate of a connection says, and
// reports whether it can be used. TLS has verified its chain; it may have run out
// since, and what a SPIFFE id demands of a certificate TLS does not know.
func (i identities) identify(c *authv1.Credential, state *tls.ConnectionState, now time.Time) bool {
	cert := state.PeerCertificates[0]
	if len(state.VerifiedChains) == 0 || now.After(cert.NotAfter) {
		return false
	}
	if i.trustDomain != "" && namesSPIFFE(cert) {
		id, ok := i.spiffeID(cert)
		if !ok {
			return false
		}
		c.SpiffeId = id
	}
	sum := sha256.Sum256(cert.Raw)
	c.CertificateSha256 = sum[:]
	return true
}

// certificateOver reports whether the client's certificate has run out while its
// connection stayed open.
func certificateOver(r *http.Request, now time.Time) bool {
	return r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && now.After(r.TLS.PeerCertificates[0].NotAfter)
}

// namesSPIFFE reports whether a certificate claims to be an X.509-SVID.
func namesSPIFFE(cert *x509.Certificate) bool {
	for _, uri := range cert.URIs {
		if strings.EqualFold(uri.Scheme, "spiffe") {
			return true
		}
	}
	return false
}

// spiffeID returns the SPIFFE id of a certificate by the rules of X.509-SVID: one
// URI and no second, in a certificate that signs no others. Its subject and its
// DNS names mean nothing.
func (i identities) spiffeID(cert *x509.Certificate) (string, bool) {
	if len(cert.URIs) != 1 || cert.IsCA {
		return "", false
	}
	if cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 || cert.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return "", false
	}
	id := cert.URIs[0].String()
	rest, ok := strings.CutPrefix(id, "spiffe://"+i.trustDomain+"/")
	return id, ok && len(id) <= maxSPIFFE && spiffePath(rest)
}

// spiffePath reports whether a text is a path of a SPIFFE id, without the slash
// before it.
func spiffePath(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
		for j := range len(segment) {
			c := segment[j]
			letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
			if !letter && c != '-' && c != '_' && c != '.' {
				return false
			}
		}
	}
	return true
}

// trustDomain reports whether a text is the name of a SPIFFE trust domain.
func trustDomain(text string) bool {
	for i := range len(text) {
		c := text[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return text != "" && len(text) <= 255
}

// serverTLS is how the endpoint speaks TLS, or nil if it does not. A client
// certificate is asked for only where there is a CA to judge it by, and nobody
// needs one.
func serverTLS(cfg Config) (*tls.Config, error) {
	if cfg.TLSCert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("load tls_cert and tls_key: %w", err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if cfg.TLSClientCA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(cfg.TLSClientCA)
	if err != nil {
		return nil, fmt.Errorf("load tls_client_ca: %w", err)
	}
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("load tls_client_ca: %s has no certificate in PEM", cfg.TLSClientCA)
	}
	c.ClientAuth = tls.VerifyClientCertIfGiven
	return c, nil
}
