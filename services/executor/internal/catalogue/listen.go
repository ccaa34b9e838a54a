package catalogue

import (
	"slices"
	"sync"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/provider"
)

// listeners are those who want to hear of resources whose contents have
// changed. The zero value is ready.
type listeners struct {
	mu  sync.Mutex
	all map[*Listener]bool
}

// Listener hears of resources whose contents have changed. What it has not taken
// is kept once for each resource and bounded, so that nobody waits for it.
type Listener struct {
	of *listeners

	mu      sync.Mutex
	updated map[string]bool
	wake    chan struct{} // holds one
}

// Listen returns a listener, which must be closed.
func (c *Catalogue) Listen() *Listener {
	l := &Listener{of: &c.news, updated: make(map[string]bool), wake: make(chan struct{}, 1)}
	c.news.mu.Lock()
	defer c.news.mu.Unlock()
	if c.news.all == nil {
		c.news.all = make(map[*Listener]bool)
	}
	c.news.all[l] = true
	return l
}

// Close ends the listening.
func (l *Listener) Close() {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	delete(l.of.all, l)
}

// News tells when there is something to take.
func (l *Listener) News() <-chan struct{} { return l.wake }

// Take returns the URIs of resources that have changed since the last time, at
// most 256, sorted.
func (l *Listener) Take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for uri := range l.updated {
		all = append(all, uri)
	}
	clear(l.updated)
	slices.Sort(all)
	return all
}

// updated tells all listeners of what a service says has changed, if it is the
// service's own.
func (c *Catalogue) updated(service string, uris []string) {
	if len(uris) == 0 {
		return
	}
	s := c.Current()
	uris = slices.DeleteFunc(uris, func(uri string) bool {
		from := s.Resource(uri)
		return from == nil || from.Service != service
	})
	c.news.mu.Lock()
	defer c.news.mu.Unlock()
	for l := range c.news.all {
		l.add(uris)
	}
}

func (l *Listener) add(uris []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, uri := range uris {
		if len(l.updated) == provider.MaxUpdated {
			break
		}
		l.updated[uri] = true
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
