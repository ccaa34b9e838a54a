package cluster

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// maxPermitSlots is how many slots a permit's id can name; one with more cannot
// be given back and ends with its time.
const maxPermitSlots = 16

// PeekPermits is [limiter.Permits.Peek] over all nodes.
func (n *Node) PeekPermits(ctx context.Context, asks []limiter.Ask) (bool, error) {
	return n.spread(ctx, asks, &operation{verb: quotav1.AskVerb_ASK_VERB_PEEK_PERMITS})
}

// Acquire is [limiter.Permits.Acquire] over all nodes, with an id that it makes.
func (n *Node) Acquire(ctx context.Context, ttl time.Duration, asks []limiter.Ask) (id string, ok bool, err error) {
	id = permitID(asks)
	ok, err = n.spread(ctx, asks, &operation{verb: quotav1.AskVerb_ASK_VERB_ACQUIRE, permit: id, ttl: ttl})
	if !ok {
		id = ""
	}
	return id, ok, err
}

// permitID makes an id that tells where the permit is counted.
func permitID(asks []limiter.Ask) string {
	var slots []byte
	var seen slotSet
	for i := range asks {
		if s := slotOf(asks[i].Key); !seen.has(s) && len(slots) < 2*maxPermitSlots {
			seen.add(s)
			slots = append(slots, byte(s>>8), byte(s))
		}
	}
	return "p_" + rand.Text() + "." + base64.RawURLEncoding.EncodeToString(slots)
}

// slotsOf reads where a permit is counted; nothing if the id is none of ours.
func slotsOf(id string) []limiter.Ask {
	_, text, _ := strings.Cut(id, ".")
	slots, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(slots) > 2*maxPermitSlots {
		return nil
	}
	var asks []limiter.Ask
	for pair := range slices.Chunk(slots, 2) {
		if len(pair) < 2 || pair[0] >= slotCount>>8 {
			return nil
		}
		asks = append(asks, limiter.Ask{Key: limiter.Key{Hi: uint64(pair[0])<<62 | uint64(pair[1])<<54}, Cost: 1})
	}
	return asks
}

// Release is [limiter.Permits.Release] over all nodes. The error is
// [ErrUnreachable].
func (n *Node) Release(ctx context.Context, id string) error {
	asks := slotsOf(id)
	op := &operation{verb: quotav1.AskVerb_ASK_VERB_RELEASE, permit: id}
	ctx, cancel := context.WithTimeout(ctx, n.o.Config.Patience)
	defer cancel()
	for len(asks) > 0 {
		changed := n.changes.next()
		asks = n.release(ctx, asks, op)
		if len(asks) == 0 {
			break
		}
		timer := time.NewTimer(retryEvery)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ErrUnreachable
		}
	}
	return nil
}

// release gives back at every owner, and returns the asks whose owner did not
// take it. To give back twice does no harm.
func (n *Node) release(ctx context.Context, asks []limiter.Ask, op *operation) (left []limiter.Ask) {
	a, ok := n.divide(asks, op)
	if !ok {
		return asks
	}
	for i := range a.others {
		p := &a.others[i]
		p.call = &call{group: a.group(p.asks, op.verb), done: make(chan struct{})}
		n.link(p.to).send(p.call)
	}
	for _, i := range a.own {
		if n.giveBack(asks[i:i+1], op) != done {
			left = append(left, asks[i])
		}
	}
	for i := range a.others {
		p := &a.others[i]
		select {
		case <-p.done:
		case <-ctx.Done():
			return asks
		}
		if p.verdict() != done {
			for _, i := range p.asks {
				left = append(left, asks[i])
			}
		}
	}
	return left
}
