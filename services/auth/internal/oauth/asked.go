package oauth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/jose"
)

const (
	// maxAsking is how many questions to an issuer can be under way, of either kind.
	maxAsking = 16
	// maxAnswers is how many answers of an issuer are remembered, of either kind.
	maxAnswers = 10_000
	// maxRefusal is for how long it is remembered that a token is not good.
	maxRefusal = 2 * time.Second
)

// asked judges the opaque tokens of one issuer. It remembers answers for a short
// time, asks about a token once at a time, and never asks more than so many questions
// at once.
//
// Tokens that have been good are kept apart from those that never were, with answers
// and questions of their own: whoever sends tokens that he has made up does not make
// the others wait. It holds no token, only an HMAC under a key of its own.
type asked struct {
	verifier *Verifier
	issuer   *issuer
	endpoint *endpoint
	log      *slog.Logger
	key      [sha256.Size]byte
	known    chan struct{} // a place for each question about tokens that have been good
	unknown  chan struct{}
	troubled atomic.Bool // the last question had no answer

	mu        sync.Mutex
	regulars  map[tokenID]answer // of tokens that have been good
	strangers map[tokenID]answer // of all others
	questions map[tokenID]*question
}

type tokenID [sha256.Size]byte

// answer is what is remembered of a token.
type answer struct {
	verdict *Verdict
	until   time.Time
}

// question is one that is under way. Its verdict and error are set when it is done;
// with neither whoever was to ask has turned away, and another may.
type question struct {
	done    chan struct{}
	verdict *Verdict
	err     error
}

func newAsked(v *Verifier, i *issuer, log *slog.Logger) (*asked, error) {
	e, err := newEndpoint(i.Issuer)
	if err != nil {
		return nil, err
	}
	a := &asked{
		verifier: v, issuer: i, endpoint: e, log: log,
		known: make(chan struct{}, maxAsking), unknown: make(chan struct{}, maxAsking),
		regulars: make(map[tokenID]answer), strangers: make(map[tokenID]answer), questions: make(map[tokenID]*question),
	}
	_, _ = rand.Read(a.key[:]) // never fails
	return a, nil
}

// verify judges a token. Nobody is asked about one that has never been good where
// flooded says that its sender has shown too many. The error says that it cannot be
// told.
func (a *asked) verify(ctx context.Context, token string, now time.Time, flooded func() bool) (*Verdict, error) {
	mac := hmac.New(sha256.New, a.key[:])
	mac.Write([]byte(token))
	id := tokenID(mac.Sum(nil))
	for {
		a.mu.Lock()
		found, regular := a.regulars[id]
		if !regular {
			found = a.strangers[id]
		}
		if now.Before(found.until) {
			a.mu.Unlock()
			return found.verdict, nil
		}
		q := a.questions[id]
		ours := q == nil
		if ours {
			q = &question{done: make(chan struct{})}
			a.questions[id] = q
		}
		a.mu.Unlock()
		if ours {
			a.settle(ctx, q, id, token, now, regular, flooded)
		}
		select {
		case <-q.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		switch {
		case q.verdict != nil || q.err != nil:
			return q.verdict, q.err
		case ours:
			return refuse(auditv1.Reason_REASON_TOO_MANY_FAILURES, "not asked about"), nil
		}
	}
}

// settle asks a question and remembers the answer. It does not end with this caller:
// others wait for it too, and it has a time of its own.
func (a *asked) settle(ctx context.Context, q *question, id tokenID, token string, now time.Time, regular bool, flooded func() bool) {
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.questions, id)
		if q.verdict != nil {
			a.remember(id, q.verdict, now, regular)
		}
		close(q.done)
	}()
	if !regular && flooded() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.endpoint.Timeout)
	defer cancel()
	places := a.unknown
	if regular {
		places = a.known
	}
	select {
	case places <- struct{}{}:
		defer func() { <-places }()
	case <-ctx.Done():
		q.err = fmt.Errorf("%d questions to the issuer are under way", maxAsking)
		a.report(q.err)
		return
	}
	if !regular && flooded() { // it may be so since
		return
	}
	claims, err := a.endpoint.ask(ctx, token)
	a.report(err)
	if err != nil {
		q.err = err
		return
	}
	q.verdict = a.verdict(claims, token, now, regular)
}

// verdict judges what the issuer has said of a token.
func (a *asked) verdict(claims jose.Claims, token string, now time.Time, regular bool) *Verdict {
	if claims == nil {
		if regular { // it is not one that somebody has guessed
			return refuse(expired, "over, or revoked")
		}
		return refuse(unknown, "not active")
	}
	if why := a.issuer.vouches(claims); why != "" {
		return refuse(restricted, why)
	}
	v := a.verifier.judge(a.issuer, claims, token, now)
	if v.Identity != nil && v.Identity.Expires.After(now.Add(a.endpoint.Cache)) {
		v.Identity.Expires = now.Add(a.endpoint.Cache)
	}
	return v
}

// remember keeps an answer, with the lock held. It is as old as the question.
func (a *asked) remember(id tokenID, v *Verdict, now time.Time, regular bool) {
	among, one := a.strangers, answer{v, now.Add(min(maxRefusal, a.endpoint.Cache))}
	if v.Identity != nil {
		regular, one.until = true, v.Identity.Expires
		delete(a.strangers, id)
	}
	if regular {
		among = a.regulars
	}
	if _, ok := among[id]; !ok && len(among) >= maxAnswers {
		forgetOne(among)
	}
	among[id] = one
}

// forgetOne makes room: of a few answers it drops the one that is good for the
// shortest time.
func forgetOne(all map[tokenID]answer) {
	const few = 8
	var first tokenID
	looked := 0
	for id, one := range all {
		if looked == 0 || one.until.Before(all[first].until) {
			first = id
		}
		if looked++; looked == few {
			break
		}
	}
	delete(all, first)
}

// report tells operators when an issuer begins not to answer, and when that ends.
func (a *asked) report(err error) {
	switch {
	case err == nil && a.troubled.CompareAndSwap(true, false):
		a.log.Info("an issuer answers about tokens again", "issuer", a.issuer.Issuer.Issuer)
	case err != nil && a.troubled.CompareAndSwap(false, true):
		a.log.Warn("an issuer could not be asked about tokens, which are refused", "issuer", a.issuer.Issuer.Issuer, "err", err)
	}
}
