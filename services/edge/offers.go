package edge

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
)

// offers is what there is besides tools.
type offers struct {
	resources, prompts, completion bool
}

// offered is what the executor said last. It stays while the executor is away:
// what clients were told of does not vanish for that.
type offered struct {
	current atomic.Pointer[offers]
	told    chan struct{} // closed once there is something
	once    sync.Once
}

func newOffered() *offered { return &offered{told: make(chan struct{})} }

// Swap takes what the executor says, and returns what it said before, or nil.
func (o *offered) Swap(now *offers) (before *offers) {
	before = o.current.Swap(now)
	o.once.Do(func() { close(o.told) })
	return before
}

// Get returns what the executor said last, and at a start waits for that.
func (o *offered) Get(ctx context.Context) (offers, error) {
	if now := o.current.Load(); now != nil {
		return *now, nil
	}
	select {
	case <-o.told:
		return *o.current.Load(), nil
	case <-ctx.Done():
		return offers{}, errors.New("the executor has not said yet what there is")
	}
}

// offers tells what there is besides tools. It fails closed: whoever is told a
// list that is too short would believe it for a whole session.
func (x *exchange) offers() (offers, *refusal) {
	ctx, cancel := x.peerContext()
	defer cancel()
	now, err := x.s.offers.Get(ctx)
	if err != nil {
		return offers{}, x.peerFailed("executor", err)
	}
	return now, nil
}

// optional reports whether a method is served only where there is something for
// it.
func optional(method string) bool {
	return strings.HasPrefix(method, "resources/") || strings.HasPrefix(method, "prompts/") || strings.HasPrefix(method, "completion/")
}

// has reports whether there is something for a method that is optional.
func (o offers) has(method string) bool {
	kind, _, _ := strings.Cut(method, "/")
	switch kind {
	case "resources":
		return o.resources
	case "prompts":
		return o.prompts
	case "completion":
		return o.completion
	}
	return false
}

// appendCapabilities writes the member capabilities of what this server says of
// itself.
func (o offers) appendCapabilities(b []byte) []byte {
	b = append(b, `"capabilities":{"tools":{"listChanged":true}`...)
	if o.resources {
		b = append(b, `,"resources":{"listChanged":true,"subscribe":true}`...)
	}
	if o.prompts {
		b = append(b, `,"prompts":{"listChanged":true}`...)
	}
	if o.completion {
		b = append(b, `,"completions":{}`...)
	}
	return append(b, `,"logging":{}}`...)
}
