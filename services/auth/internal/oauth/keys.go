package oauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/jose"
)

// fetchTimeout bounds one request for keys.
const fetchTimeout = 2 * time.Second

// errNoKeys says that the keys of an issuer are not known, or too old.
var errNoKeys = errors.New("the keys of the issuer are not known")

// keys are the public keys of one issuer. They are fetched again and again, and
// when a token names a key that is not there, but never more often than the
// configuration allows: what tokens say cannot make this process fetch more. Where
// to fetch comes from the configuration alone.
type keys struct {
	issuer, url string
	timing      Config
	fetcher     *fetcher
	log         *slog.Logger

	mu      sync.Mutex
	set     *jose.Set // nil: none yet
	fetched time.Time // when the set was last confirmed
	tried   time.Time
	news    chan struct{} // closed at the end of the attempt that is under way
	version uint64        // of the set
}

func newKeys(c Config, i Issuer, log *slog.Logger) (*keys, error) {
	f, err := newFetcher(i, fetchTimeout)
	if err != nil {
		return nil, err
	}
	return &keys{issuer: i.Issuer, url: i.JWKSURL, timing: c, fetcher: f, log: log}, nil
}

// run keeps the keys fresh until ctx is done.
func (k *keys) run(ctx context.Context) {
	for {
		wait := k.timing.Refresh
		if !k.refresh(ctx) {
			wait = min(k.timing.MinInterval, wait)
		}
		select {
		case <-time.After(wait - rand.N(wait/8+1)):
		case <-ctx.Done():
			return
		}
	}
}

// find returns the key with an id for an algorithm, and the version of the set it
// is in. It returns nil if there is none.
func (k *keys) find(ctx context.Context, id, algorithm string) (*jose.Key, uint64, error) {
	key, version, err := k.known(id, algorithm)
	if key != nil || !k.due() {
		return key, version, err
	}
	// One that is new, or has taken the place of another. The fetch does not end
	// with this caller: others wait for it too.
	k.refresh(context.WithoutCancel(ctx))
	return k.known(id, algorithm)
}

func (k *keys) known(id, algorithm string) (*jose.Key, uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.set == nil || time.Since(k.fetched) > k.timing.MaxStale {
		return nil, 0, errNoKeys
	}
	return k.set.Find(id, algorithm), k.version, nil
}

func (k *keys) current(version uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.version == version && time.Since(k.fetched) <= k.timing.MaxStale
}

// due reports whether another attempt may be made, or one is under way.
func (k *keys) due() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.news != nil || time.Since(k.tried) >= k.timing.MinInterval
}

// refresh fetches the keys, or waits for the fetch that is under way. It reports
// whether the set was confirmed.
func (k *keys) refresh(ctx context.Context) bool {
	k.mu.Lock()
	if news := k.news; news != nil {
		k.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
		}
		return true
	}
	done := make(chan struct{})
	k.news, k.tried = done, time.Now()
	k.mu.Unlock()

	set, err := k.fetch(ctx)

	k.mu.Lock()
	defer k.mu.Unlock()
	k.news = nil
	close(done)
	if err != nil {
		if ctx.Err() == nil {
			k.log.Warn("keys of an issuer could not be fetched", "issuer", k.issuer, "err", err)
		}
		return false
	}
	k.set, k.fetched = set, time.Now()
	k.version++
	return true
}

func (k *keys) fetch(ctx context.Context) (*jose.Set, error) {
	url := k.url
	if url == "" {
		var err error
		if url, err = k.discover(ctx); err != nil {
			return nil, err
		}
	}
	text, err := k.get(ctx, url)
	if err != nil {
		return nil, err
	}
	set, skipped, err := jose.ParseSet(text)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	if set.Len() == 0 {
		return nil, fmt.Errorf("read keys: none of %d can be used", skipped)
	}
	return set, nil
}

// discover asks for the issuer's metadata, at the place of OpenID Connect and then
// at that of RFC 8414.
func (k *keys) discover(ctx context.Context) (string, error) {
	base := strings.TrimSuffix(k.issuer, "/")
	places := []string{base + "/.well-known/openid-configuration"}
	if scheme, rest, ok := strings.Cut(base, "://"); ok {
		host, path, _ := strings.Cut(rest, "/")
		if path != "" {
			path = "/" + path
		}
		places = append(places, scheme+"://"+host+"/.well-known/oauth-authorization-server"+path)
	}
	var errs []error
	for _, place := range places {
		text, err := k.get(ctx, place)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		url, err := readMetadata(text, k.issuer)
		if err != nil {
			return "", fmt.Errorf("%s: %w", place, err)
		}
		return url, nil
	}
	return "", errors.Join(errs...)
}

// readMetadata returns the jwks_uri of an issuer's metadata.
func readMetadata(text []byte, issuer string) (string, error) {
	m, err := jose.ParseClaims(text)
	if err != nil {
		return "", fmt.Errorf("metadata: %w", err)
	}
	if name, err := m.Text("issuer"); err != nil || name != issuer {
		return "", errors.New("metadata of another issuer")
	}
	url, err := m.Text("jwks_uri")
	if err != nil || address(url) != nil {
		return "", errors.New("jwks_uri is not an https URL")
	}
	return url, nil
}

func (k *keys) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	text, _, err := k.fetcher.do(req, jose.MaxSet)
	return text, err
}
