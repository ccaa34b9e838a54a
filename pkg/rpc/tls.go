package rpc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

// TLS names the files of a role's identity. "{role}" in a name stands for the
// role, so one configuration serves all processes.
type TLS struct {
	// CA holds the certificates that peers must chain to.
	CA string `yaml:"ca"`
	// Cert and Key are this role's certificate chain and private key (PEM). They
	// are read again when they change.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Enabled reports whether an identity is configured.
func (t TLS) Enabled() bool { return t != TLS{} }

// Validate reports every mistake at once.
func (t TLS) Validate() error {
	if !t.Enabled() {
		return nil
	}
	var errs []error
	for _, f := range []struct{ name, value string }{{"ca", t.CA}, {"cert", t.Cert}, {"key", t.Key}} {
		if f.value == "" {
			errs = append(errs, fmt.Errorf("tls.%s: missing; mTLS needs ca, cert and key", f.name))
		}
	}
	return errors.Join(errs...)
}

// Server returns the credentials of a server that plays role. It demands a
// certificate of each client; whom it lets in is for [Allow] to say, and for the
// protocols that it speaks besides.
func (t TLS) Server(role string, besides ...Protocol) (credentials.TransportCredentials, error) {
	id, err := t.load(role)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		SessionTicketsDisabled: true, // a ticket would outlive a revoked certificate
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return id.certificate() },
		ClientCAs:              id.pool,
	}
	for _, p := range besides {
		cfg.NextProtos = append(cfg.NextProtos, p.Name)
	}
	return polyglot{credentials.NewTLS(cfg), besides}, nil
}

// Client returns the credentials of role as a client of peer. The peer's
// certificate must be for the DNS name that is the peer's role, whatever
// address it is dialled at.
func (t TLS) Client(role, peer string) (credentials.TransportCredentials, error) {
	cfg, err := t.client(role, peer)
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(cfg), nil
}

func (t TLS) client(role, peer string) (*tls.Config, error) {
	id, err := t.load(role)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		ServerName:           peer,
		RootCAs:              id.pool,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return id.certificate() },
	}, nil
}

func (t TLS) load(role string) (*keyPair, error) {
	at := func(name string) string { return strings.ReplaceAll(name, "{role}", role) }
	pem, err := os.ReadFile(at(t.CA))
	if err != nil {
		return nil, fmt.Errorf("tls.ca: %w", err)
	}
	id := &keyPair{cert: at(t.Cert), key: at(t.Key), pool: x509.NewCertPool()}
	if !id.pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls.ca: %s holds no certificate", at(t.CA))
	}
	if _, err := id.certificate(); err != nil {
		return nil, err
	}
	return id, nil
}

// keyPair is a key pair in two files that may be replaced while we run.
type keyPair struct {
	cert, key string
	pool      *x509.CertPool

	mu      sync.Mutex
	pair    *tls.Certificate
	written time.Time // of the certificate file, when it was read
}

func (id *keyPair) certificate() (*tls.Certificate, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	info, err := os.Stat(id.cert)
	if err != nil {
		return id.last(err)
	}
	if id.pair != nil && info.ModTime().Equal(id.written) {
		return id.pair, nil
	}
	pair, err := tls.LoadX509KeyPair(id.cert, id.key)
	if err != nil {
		return id.last(err)
	}
	id.pair, id.written = &pair, info.ModTime()
	return id.pair, nil
}

// last returns the key pair read before: files that are being replaced must not
// stop a running service.
func (id *keyPair) last(err error) (*tls.Certificate, error) {
	if id.pair != nil {
		return id.pair, nil
	}
	return nil, fmt.Errorf("tls.cert: %w", err)
}
