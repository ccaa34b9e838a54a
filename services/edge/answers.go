package edge

import (
	"bytes"
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	edgev1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/edge/v1"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

// Bounds of the questions that clients have open.
const (
	maxAsked        = 10_000 // of all clients of this process
	maxAskedSession = 32     // of one session
)

// asked are the questions that clients of this edge have open. The zero value is
// ready for use.
type asked struct {
	mu      sync.Mutex
	open    map[string]*pending // by id
	session map[string]int      // how many are open
}

// pending is a question without an answer.
type pending struct {
	session, principal, key string
	answered                chan<- reply // has room for one from each question
}

// reply is an answer to the question with this key.
type reply struct {
	key    string
	result jsontext.Value // nil when the client answered with an error
}

// Open makes ids for questions to a client, one for each key. It reports false if
// the client, or all together, have too many. Answers come on the channel; Close
// has to be called.
func (a *asked) Open(node, session, principal string, keys []string) (ids []string, answers <-chan reply, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.open)+len(keys) > maxAsked || a.session[session]+len(keys) > maxAskedSession {
		return nil, nil, false
	}
	if a.open == nil {
		a.open, a.session = make(map[string]*pending), make(map[string]int)
	}
	answered := make(chan reply, len(keys))
	for _, key := range keys {
		id := node + "-" + rand.Text()
		a.open[id] = &pending{session, principal, key, answered}
		a.session[session]++
		ids = append(ids, id)
	}
	return ids, answered, true
}

// Close forgets questions, and returns the ids of those that had no answer.
func (a *asked) Close(ids []string) (unanswered []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range ids {
		if p := a.open[id]; p != nil {
			a.remove(id, p)
			unanswered = append(unanswered, id)
		}
	}
	return unanswered
}

func (a *asked) remove(id string, p *pending) {
	delete(a.open, id)
	if a.session[p.session]--; a.session[p.session] <= 0 {
		delete(a.session, p.session)
	}
}

// Answer takes an answer, and reports whether exactly this client was asked that.
func (a *asked) Answer(answer *edgev1.ClientAnswer) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := answer.GetRequestId()
	p := a.open[id]
	if p == nil || p.session != answer.GetSession() || p.principal != answer.GetPrincipal() {
		return false
	}
	a.remove(id, p)
	p.answered <- reply{p.key, answer.GetResult()}
	return true
}

// parseAnswer checks the form of a message that has a result or an error. Only
// the legacy era has them, and only in sessions has the server asked anything.
func (x *exchange) parseAnswer() *refusal {
	m := &x.msg
	version := headerValue(x.r.Header, "Mcp-Protocol-Version")
	if !legacyVersion(version) {
		return refuse(kindNotRequest, "This server sends no requests, so it takes no responses")
	}
	x.era, x.version = eraLegacy, version
	if m.Result.Present() == m.Error.Present() || m.ID.Kind != jsonrpc.String {
		return refuse(kindNotRequest, "A response has the id of the request, and either a result or an error")
	}
	if _, sent := x.r.Header[sessionHeader]; !sent {
		return refuse(kindNotRequest, "Responses are taken in a session only. Send the Mcp-Session-Id that initialize has returned")
	}
	x.response = true
	x.ensureSpan()
	return nil
}

// relayTime is how long another edge may take to say whether it has waited.
const relayTime = 2 * time.Second

// takeAnswer passes a client's answer to the call that has asked, at whichever
// edge it is. The refusal of one that nobody waits for has the answer's id, though
// it may be left out: there are clients that give up a whole session over an
// error that they cannot assign.
func (x *exchange) takeAnswer() *refusal {
	x.method = "response"
	if refused := x.findContext(); refused != nil {
		return refused
	}
	if refused := x.checkQuota(1); refused != nil {
		return refused
	}
	m := &x.msg
	id := m.Text(m.ID)
	node, number, _ := strings.Cut(id, "-")
	if !nodeName(node) || !nodeName(number) {
		return x.unexpected()
	}
	answer := &edgev1.ClientAnswer{Session: x.session.ID, RequestId: id, Principal: x.principal.GetId()}
	switch {
	case m.Error.Present():
		// What the client says of it is of no use to the tool.
		answer.Answer = &edgev1.ClientAnswer_Error{Error: []byte("{}")}
	case m.Result.Kind != jsonrpc.Object:
		return refuse(kindNotRequest, "The member result has to be an object")
	default:
		answer.Answer = &edgev1.ClientAnswer_Result{Result: bytes.Clone(m.Raw(m.Result))}
	}
	taken := false
	if node == x.s.node {
		taken = x.s.asked.Answer(answer)
	} else if x.s.peers != nil {
		ctx, cancel := context.WithTimeout(x.ctx, relayTime)
		defer cancel()
		var err error
		if taken, err = x.s.peers.Answer(ctx, node, answer); err != nil {
			x.s.told(x.ctx, err)
			refused := refuse(kindPeer, "The answer cannot be passed on just now. Send it again")
			refused.retryAfter, refused.retryable = time.Second, true
			return refused
		}
	}
	if !taken {
		return x.unexpected()
	}
	x.out, x.outcome = x.out[:0], outcomeOK
	x.write(202, nil)
	return nil
}

func (x *exchange) unexpected() *refusal {
	return refuse(kindNotRequest, "Nobody waits for this answer, or no longer")
}
