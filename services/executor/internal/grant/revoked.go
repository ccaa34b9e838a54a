package grant

import (
	"sync"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
)

// Revoked remembers credentials that were revoked, for as long as grants can be
// left that they were given before: somebody may have hoarded some. It shortens
// the life of such grants and promises nothing, for the notices it hears may be
// lost; what ends a grant for certain is its expiry. It is safe for concurrent
// use.
type Revoked struct {
	mu    sync.RWMutex
	max   int
	until map[string]time.Time // by credential id
}

// NewRevoked returns an empty memory for at most max credentials.
func NewRevoked(max int) *Revoked {
	return &Revoked{max: max, until: make(map[string]time.Time)}
}

// Note remembers a credential. When there is no room another is forgotten.
func (r *Revoked) Note(credential string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if len(r.until) >= r.max {
		for id, until := range r.until {
			if !now.Before(until) {
				delete(r.until, id)
			}
		}
	}
	for id := range r.until {
		if len(r.until) < r.max {
			break
		}
		delete(r.until, id)
	}
	r.until[credential] = now.Add(bus.GrantLife + bus.ClockSkew)
}

// Has reports whether a credential was revoked a short time ago.
func (r *Revoked) Has(credential string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	until, ok := r.until[credential]
	return ok && time.Now().Before(until)
}
