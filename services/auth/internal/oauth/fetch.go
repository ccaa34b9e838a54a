package oauth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// fetcher asks one issuer over HTTP. It keeps no cookies and follows nothing.
type fetcher struct{ client *http.Client }

// newFetcher returns a fetcher for an issuer. The timeout bounds a request from the
// connection to the last byte of the answer.
func newFetcher(i Issuer, timeout time.Duration) (*fetcher, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 2 * maxAsking
	transport.MaxResponseHeaderBytes = 64 << 10
	if i.CAFile != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		text, err := os.ReadFile(i.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("ca_file: no certificate in %s", i.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &fetcher{client: &http.Client{
		Transport: transport, Timeout: timeout,
		// Whoever answers for an issuer is named by the operator, and by nobody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirects are not followed") },
	}}, nil
}

// statusError says that an answer was other than 200.
type statusError struct {
	url, status string
	code        int
}

func (e *statusError) Error() string { return fmt.Sprintf("fetch %s: %s", e.url, e.status) }

// do sends a request for JSON and returns what was answered and of what type it is
// said to be. An answer other than 200 is an error, as is one of more than most bytes.
func (f *fetcher) do(req *http.Request, most int64) (text []byte, kind string, err error) {
	req.Header.Set("Accept", "application/json")
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, "", fmt.Errorf("fetch: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, "", &statusError{req.URL.String(), resp.Status, resp.StatusCode}
	}
	text, err = io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err != nil {
		return nil, "", fmt.Errorf("fetch %s: %w", req.URL, err)
	}
	if int64(len(text)) > most {
		return nil, "", fmt.Errorf("fetch %s: more than %d KiB", req.URL, most>>10)
	}
	return text, resp.Header.Get("Content-Type"), nil
}
