package mcpbridge

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"

	"github.com/sallyport-mcp/sallyport/pkg/secret"
	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge/internal/client"
)

// headers returns what authenticates us to the upstream. It reads the files each
// time: they are small, and whoever changes one need not tell us.
func (u Upstream) headers() (http.Header, error) {
	h := http.Header{}
	if u.BearerFile != "" {
		token, err := secret.ReadText(u.BearerFile)
		if err != nil {
			return nil, err
		}
		h.Set("Authorization", "Bearer "+token)
	}
	for name, file := range u.HeaderFiles {
		value, err := secret.ReadText(file)
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
		value, err := secret.ReadText(u.EnvFiles[name])
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
