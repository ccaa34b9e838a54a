// Package devca makes certificates for development and tests: one authority,
// one certificate for each role. Production brings its own, of the same shape:
// a single URI spiffe://<trust domain>/role/<role> and the role as DNS name.
package devca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/identity"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
)

// TrustDomain is what certificates made here are for.
const TrustDomain = "sallyport.local"

// life of a certificate; a development set-up makes new ones when they end.
const life = 365 * 24 * time.Hour

// soon is how long before its end a certificate is replaced.
const soon = 7 * 24 * time.Hour

// Ensure makes an authority in dir unless there is one, and a certificate for
// each role that has none or whose certificate ends within a week: ca.crt and
// ca.key, <role>.crt and <role>.key, keys readable by the owner alone. A new
// authority means new certificates for all roles that are named.
func Ensure(dir string, roles ...string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca, err := loadAuthority(dir)
	renew := err != nil
	if renew {
		if ca, err = newAuthority(dir); err != nil {
			return err
		}
	}
	for _, role := range roles {
		if cert, err := readCertificate(filepath.Join(dir, role+".crt")); !renew && err == nil && time.Until(cert.NotAfter) > soon {
			continue
		}
		if err := ca.issue(dir, role); err != nil {
			return fmt.Errorf("certificate for %s: %w", role, err)
		}
	}
	return nil
}

// Files returns the configuration that reads what Ensure has written to dir.
func Files(dir string) rpc.TLS {
	return rpc.TLS{
		CA:   filepath.Join(dir, "ca.crt"),
		Cert: filepath.Join(dir, "{role}.crt"),
		Key:  filepath.Join(dir, "{role}.key"),
	}
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(dir string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl, err := template("sallyport development authority")
	if err != nil {
		return nil, err
	}
	tmpl.IsCA = true
	tmpl.BasicConstraintsValid = true
	tmpl.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if err := writeKey(filepath.Join(dir, "ca.key"), key); err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key}, writePEM(filepath.Join(dir, "ca.crt"), "CERTIFICATE", der, 0o644)
}

// loadAuthority returns the authority in dir if it is whole and lasts.
func loadAuthority(dir string) (*authority, error) {
	cert, err := readCertificate(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	if time.Until(cert.NotAfter) <= soon {
		return nil, errors.New("the authority ends soon")
	}
	der, err := readPEM(filepath.Join(dir, "ca.key"))
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("ca.key is not the key of ca.crt")
	}
	return &authority{cert: cert, key: key}, nil
}

func readCertificate(file string) (*x509.Certificate, error) {
	der, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func readPEM(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM", file)
	}
	return block.Bytes, nil
}

func writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(file, "PRIVATE KEY", der, 0o600)
}

func (a *authority) issue(dir, role string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tmpl, err := template(role)
	if err != nil {
		return err
	}
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	tmpl.DNSNames = []string{role}
	tmpl.URIs = []*url.URL{identity.URI(TrustDomain, role)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return err
	}
	if err := writeKey(filepath.Join(dir, role+".key"), key); err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, role+".crt"), "CERTIFICATE", der, 0o644)
}

func template(name string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     time.Now().Add(life),
	}, nil
}

func writePEM(file, kind string, der []byte, mode os.FileMode) error {
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return err
	}
	return os.Chmod(file, mode) // WriteFile leaves the mode of a file that exists
}
