package edge

import (
	"maps"
	"slices"
	"sync"
)

// news is what may have changed since somebody last looked.
type news struct {
	tools, prompts, resources bool
	// policies may have changed what whoever listens may do.
	policies bool
	// credentials may have been revoked.
	credentials bool
	// updated are resources whose contents have changed; anything means that any
	// may have.
	updated  map[string]bool
	anything bool
}

// maxUpdated is how many resources a mailbox names before it says anything.
const maxUpdated = 1024

// merge adds other to n.
func (n *news) merge(other news) {
	n.tools = n.tools || other.tools
	n.prompts = n.prompts || other.prompts
	n.resources = n.resources || other.resources
	n.policies = n.policies || other.policies
	n.credentials = n.credentials || other.credentials
	n.anything = n.anything || other.anything
	switch {
	case n.anything:
		n.updated = nil
	case len(other.updated) == 0:
	case len(n.updated)+len(other.updated) > maxUpdated:
		n.updated, n.anything = nil, true
	default:
		if n.updated == nil {
			n.updated = make(map[string]bool, len(other.updated))
		}
		maps.Copy(n.updated, other.updated)
	}
}

// interest is what a subscriber wants to hear of.
type interest struct {
	tools, prompts, resources bool
	// uris are resources whose changes are wanted, sorted. With all they are kept
	// elsewhere, and every change is of interest.
	uris []string
	all  bool
}

// empty reports whether there is nothing to hear of.
func (i interest) empty() bool {
	return !i.tools && !i.prompts && !i.resources && !i.all && len(i.uris) == 0
}

// about returns what of n is of interest, and whether anything is.
func (i interest) about(n news) (news, bool) {
	of := news{
		tools: n.tools && i.tools, prompts: n.prompts && i.prompts, resources: n.resources && i.resources,
		policies: n.policies, credentials: n.credentials, anything: n.anything && (i.all || len(i.uris) > 0),
	}
	if i.all {
		of.updated = n.updated
	} else if !of.anything {
		for uri := range n.updated {
			if _, ok := slices.BinarySearch(i.uris, uri); ok {
				if of.updated == nil {
					of.updated = make(map[string]bool)
				}
				of.updated[uri] = true
			}
		}
	}
	return of, of.tools || of.prompts || of.resources || of.policies || of.credentials || of.anything || len(of.updated) > 0
}

// subscriber is a client that listens. What it has not heard yet is in a mailbox
// of bounded size, so that a slow one holds up nobody.
type subscriber struct {
	principal string
	session   string // "" in the modern era
	interest  interest
	wake      chan struct{} // has one if there is news

	mu  sync.Mutex
	box news
}

// put adds news of interest.
func (s *subscriber) put(n news) {
	of, any := s.interest.about(n)
	if !any {
		return
	}
	s.mu.Lock()
	s.box.merge(of)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// keep puts back what could not be told, for the next time there is news.
func (s *subscriber) keep(n news) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.box.merge(n)
}

// take empties the mailbox.
func (s *subscriber) take() news {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.box
	s.box = news{}
	return n
}

// hub tells all clients that listen at this edge what has changed.
type hub struct {
	limit, limitEach int

	mu         sync.Mutex
	all        map[*subscriber]bool
	principals map[string]int
	// sessions has the streams of each legacy session, the newest last. A client
	// must not get one message on several, so only the newest hears anything.
	sessions map[string][]*subscriber
}

func newHub(limit, limitEach int) *hub {
	return &hub{
		limit: limit, limitEach: limitEach, all: make(map[*subscriber]bool),
		principals: make(map[string]int), sessions: make(map[string][]*subscriber),
	}
}

// Add returns a new subscriber, or nil if its principal, or all together, have as
// many as they may. Remove has to be called.
func (h *hub) Add(principal, session string, interest interest) *subscriber {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.all) >= h.limit || h.principals[principal] >= h.limitEach {
		return nil
	}
	s := &subscriber{principal: principal, session: session, interest: interest, wake: make(chan struct{}, 1)}
	h.all[s] = true
	h.principals[principal]++
	if session != "" {
		h.sessions[session] = append(h.sessions[session], s)
	}
	return s
}

// Remove ends a subscription.
func (h *hub) Remove(s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.all, s)
	if h.principals[s.principal]--; h.principals[s.principal] <= 0 {
		delete(h.principals, s.principal)
	}
	if s.session == "" {
		return
	}
	left := slices.DeleteFunc(h.sessions[s.session], func(other *subscriber) bool { return other == s })
	if len(left) == 0 {
		delete(h.sessions, s.session)
		return
	}
	h.sessions[s.session] = left
	left[len(left)-1].put(s.take()) // what it has not told is for the one before
}

// Tell puts news into the mailboxes. It never waits for a client.
func (h *hub) Tell(n news) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.all {
		if s.session != "" {
			if streams := h.sessions[s.session]; streams[len(streams)-1] != s {
				s.put(news{credentials: n.credentials})
				continue
			}
		}
		s.put(n)
	}
}
