package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

const (
	// frameSize is how many groups one message holds.
	frameSize = 256
	// queueSize is how many may wait for one node.
	queueSize = 16 * frameSize
)

// link carries asks to one node. One message is on its way at a time, and what
// comes meanwhile goes with the next: under load messages grow, without it nobody
// waits.
type link struct {
	n  *Node
	to string

	mu    sync.Mutex
	queue []*call
	spare []*call // room for the next queue
	busy  bool

	// What is used again for each message, by whoever is asking.
	q     quotav1.ClusterRequest
	asks  quotav1.ClusterRequest_Asks
	frame quotav1.AskFrame
}

// call is a group of asks on its way.
type call struct {
	group  group
	answer answer
	err    error
	done   chan struct{} // nil if nobody waits
}

var errQueue = errors.New("too much waits for the node already")

// link returns the one to a node.
func (n *Node) link(to string) *link {
	n.linksMu.Lock()
	defer n.linksMu.Unlock()
	l := n.links[to]
	if l == nil {
		l = &link{n: n, to: to}
		n.links[to] = l
	}
	return l
}

// dropLinks forgets those to nodes that are not in the view; what is on its way
// ends by itself.
func (n *Node) dropLinks(v *view) {
	n.linksMu.Lock()
	defer n.linksMu.Unlock()
	for to := range n.links {
		if !slices.Contains(v.all(), to) {
			delete(n.links, to)
		}
	}
}

// send takes a call on its way.
func (l *link) send(c *call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.add(c) {
		go l.run() // ends when nothing waits; every message has its time
	}
}

// do is send for who waits until ctx is done and has nothing else to do: where no
// message is on its way it takes its own there, so that nobody has to be woken.
func (l *link) do(ctx context.Context, c *call) {
	l.mu.Lock()
	if l.add(c) {
		l.mu.Unlock()
		return
	}
	calls := l.next()
	l.mu.Unlock()
	l.ask(ctx, calls)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reuse(calls)
	if l.busy = len(l.queue) > 0; l.busy {
		go l.run()
	}
}

// add makes a call wait for the message that follows the one on its way, and
// reports false if there is none: then the link is the caller's. l.mu is held.
func (l *link) add(c *call) bool {
	if len(l.queue) >= queueSize {
		c.end(answer{}, errQueue)
		return true
	}
	l.queue = append(l.queue, c)
	busy := l.busy
	l.busy = true
	return busy
}

// next takes what the next message carries out of the queue. l.mu is held.
func (l *link) next() []*call {
	calls := l.queue
	if len(calls) > frameSize {
		l.queue = calls[frameSize:]
		return calls[:frameSize:frameSize]
	}
	l.queue, l.spare = l.spare, nil
	return calls
}

// reuse keeps room for the next queue. l.mu is held.
func (l *link) reuse(calls []*call) {
	clear(calls)
	l.spare = calls[:0]
}

func (l *link) run() {
	var calls []*call
	for {
		l.mu.Lock()
		l.reuse(calls)
		if calls = l.next(); len(calls) == 0 {
			l.busy = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		l.ask(context.Background(), calls)
	}
}

func (l *link) ask(ctx context.Context, calls []*call) {
	l.q.Request, l.asks.Asks = &l.asks, &l.frame
	emptyFrame(&l.frame)
	for _, c := range calls {
		addGroup(&l.frame, &c.group)
	}
	reply, err := l.n.request(ctx, forAsks, l.to, &l.q)
	var answers []answer
	if err == nil {
		answers, err = answersOf(reply.GetAsks())
	}
	if err == nil && len(answers) != len(calls) {
		err = errors.New("the answers do not belong to the asks")
	}
	for i, c := range calls {
		if err != nil {
			c.end(answer{}, err)
		} else {
			c.end(answers[i], nil)
		}
	}
}

func (c *call) end(a answer, err error) {
	c.answer, c.err = a, err
	if c.done != nil {
		close(c.done)
	}
}

// verdict reads what became of a call that is over.
func (c *call) verdict() verdict {
	switch {
	case errors.Is(c.err, bus.ErrNobody), errors.Is(c.err, errQueue):
		return notMine // nobody has taken anything
	case c.err != nil:
		return lost
	}
	switch c.answer.outcome {
	case quotav1.AskOutcome_ASK_OUTCOME_DONE:
		return done
	case quotav1.AskOutcome_ASK_OUTCOME_REFUSED:
		return refused
	case quotav1.AskOutcome_ASK_OUTCOME_NOT_MINE:
		return notMine
	case quotav1.AskOutcome_ASK_OUTCOME_FULL:
		return full
	case quotav1.AskOutcome_ASK_OUTCOME_NO_LIMIT:
		return strange
	case quotav1.AskOutcome_ASK_OUTCOME_UNKNOWN_COUNT:
		return unknown
	}
	return lost
}
