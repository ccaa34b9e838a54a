package openapi

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/credential"
	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/document"
	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/egress"
)

const (
	fetchTimeout = 30 * time.Second
	retryFetch   = 5 * time.Second // after a document could not be read
)

// api is one API: its document, and how to call it.
type api struct {
	cfg         API
	log         *slog.Logger
	version     string
	origins     []egress.Origin
	client      *http.Client
	credentials *credential.Set
	slots       chan struct{} // holds one for each call in flight
	offer       atomic.Pointer[[]*tool]

	// Of the document that was read last; for follow alone.
	sum      [sha256.Size]byte
	etag     string
	modified string
	failed   string
}

// newAPI returns an API whose document was not read yet.
func newAPI(cfg API, version string, log *slog.Logger) (*api, error) {
	a := &api{cfg: cfg, log: log, version: version, slots: make(chan struct{}, cfg.MaxInFlight)}
	var err error
	if a.origins, err = cfg.origins(); err != nil {
		return nil, err
	}
	out := egress.Config{Origins: a.origins, Addresses: cfg.Addresses, MaxConns: cfg.MaxInFlight + 4}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: %s holds no certificate", cfg.CAFile)
		}
		out.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	var origin egress.Origin // of credentials
	if cfg.BaseURL != "" {
		base, err := readBase(cfg.BaseURL)
		if err != nil {
			return nil, err
		}
		if origin, err = egress.OriginOf(base); err != nil {
			return nil, err
		}
	}
	if a.credentials, err = credential.New(cfg.Credentials, origin, egress.New(out)); err != nil {
		return nil, err
	}
	out.Prepare = a.credentials.Prepare
	a.client = egress.New(out)
	return a, nil
}

// follow reads the document until ctx is done, and tells of changes.
func (a *api) follow(ctx context.Context, every time.Duration, changed func()) {
	for {
		wait := every
		news, err := a.read(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			wait = min(every, retryFetch)
			if text := clip(err.Error()); text != a.failed { // once, and not each time
				a.log.Error("the document cannot be used; what was read before stays", "err", text)
				a.failed = text
			}
		default:
			a.failed = ""
		}
		if news {
			changed()
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// read reads the document, and reports whether there are other tools now.
func (a *api) read(ctx context.Context) (bool, error) {
	raw, err := a.fetch(ctx)
	if err != nil || raw == nil {
		return false, err
	}
	sum := sha256.Sum256(raw)
	if a.offer.Load() != nil && sum == a.sum {
		return false, nil
	}
	if want := strings.ToLower(a.cfg.SHA256); want != "" && hex.EncodeToString(sum[:]) != want {
		return false, errors.New("its SHA-256 is not the one in the configuration")
	}
	doc, err := document.Parse(raw)
	if err != nil {
		return false, err
	}
	tools := a.tools(doc)
	a.sum = sum
	a.offer.Store(&tools)
	a.log.Info("the document was read", "operations", len(doc.Operations), "tools", len(tools), "sha256", hex.EncodeToString(sum[:]))
	return true, nil
}

// fetch returns the document, or nil if it is the one that was read last.
func (a *api) fetch(ctx context.Context) ([]byte, error) {
	if a.cfg.File != "" {
		f, err := os.Open(a.cfg.File)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		return a.whole(f)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	ctx, used := credential.Follow(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.cfg.URL, nil)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	req.Header.Set("User-Agent", "sallyport/"+a.version)
	if a.offer.Load() != nil { // something was read
		for name, value := range map[string]string{"If-None-Match": a.etag, "If-Modified-Since": a.modified} {
			if value != "" {
				req.Header.Set(name, value)
			}
		}
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, cause(err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode == http.StatusNotModified && a.offer.Load() != nil:
		return nil, nil
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("its server answers %d", resp.StatusCode)
	case resp.Header.Get("Content-Encoding") != "":
		return nil, errors.New("its server compresses it, which was not asked for")
	}
	raw, err := a.whole(resp.Body)
	if err != nil {
		return nil, err
	}
	a.etag, a.modified = resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")
	return used.Clean(raw), nil
}

func (a *api) whole(r io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, int64(a.cfg.MaxDocumentBytes)+1))
	if err != nil {
		return nil, errors.New("it cannot be read to its end")
	}
	if len(raw) > a.cfg.MaxDocumentBytes {
		return nil, fmt.Errorf("it has more than max_document_bytes, %d", a.cfg.MaxDocumentBytes)
	}
	return raw, nil
}

// cause is an error of a request without its URL, which holds arguments.
func cause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
