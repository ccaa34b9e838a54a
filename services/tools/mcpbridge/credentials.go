package mcpbridge

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"

	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge/internal/client"
)

// maxSecret is more than any token or header needs.
const maxSecret = 16 << 10

// secretFile reads a secret, without the newline that editors put at its end. The
// errors hold nothing of it.
func secretFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	b = bytes.TrimRight(b, "\r\n")
	switch {
	case len(b) == 0:
		return "", fmt.Errorf("%s is empty", name)
	case len(b) > maxSecret:
		return "", fmt.Errorf("%s is larger than %d bytes", name, maxSecret)
	case bytes.ContainsFunc(b, func(r rune) bool { return r < 0x20 && r != '\t' || r == 0x7f }):
		return "", fmt.Errorf("%s holds control characters", name)
	}
	return string(b), nil
}

// headers returns what authenticates us to the upstream. It reads the files each
// time: they are small, and whoever changes one need not tell us.
func (u Upstream) headers() (http.Header, error) {
	h := http.Header{}
	if u.BearerFile != "" {
		token, err := secretFile(u.BearerFile)
		if err != nil {
			return nil, err
		}
		h.Set("Authorization", "Bearer "+token)
	}
	for name, file := range u.HeaderFiles {
		value, err := secretFile(file)
		if err != nil {
			return nil, err
		}
		h.Set(name, value)
	}
	return h, nil
}

// environment returns all that the command gets to see of ours and for it.
func (u Upstream) environment() ([]string, error) {
	env := []string{}
	for _, name := range u.Inherit {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(u.Env)) {
		env = append(env, name+"="+u.Env[name])
	}
	for _, name := range slices.Sorted(maps.Keys(u.EnvFiles)) {
		value, err := secretFile(u.EnvFiles[name])
		if err != nil {
			return nil, err
		}
		env = append(env, name+"="+value)
	}
	return env, nil
}

// httpClient returns the client for all sessions with the upstream, of whose
// calls that many may be parked.
func (u Upstream) httpClient(parked int) (*http.Client, error) {
	target, err := url.Parse(u.URL)
	if err != nil {
		return nil, err
	}
	t := client.Target{
		URL: target, AllowPrivate: u.AllowPrivate, Headers: u.headers,
		// Besides the calls: those that wait, listening, cancelling and answering.
		MaxConns: 2*u.MaxInFlight + parked + 2*u.Sessions + 8,
	}
	if u.CAFile != "" {
		pem, err := os.ReadFile(u.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: %s holds no certificate", u.CAFile)
		}
		t.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return client.NewHTTPClient(t), nil
}
