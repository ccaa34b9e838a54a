package edge

import (
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

const (
	// pace bounds how often a listener's news is looked at, since auth is asked
	// each time; listeners are spread over it at random.
	pace = 250 * time.Millisecond
	// recheck is how often it is looked whether a listener's credential is still
	// good, besides on every notice, and before anything is told later than auth
	// vouched for it. A token may run out without a notice.
	recheck = 15 * time.Second
	// unconfirmed is how long auth may fail to say so before the credential counts
	// as no longer good.
	unconfirmed = 3 * time.Minute
)

// listener is a client that hears of changes on the stream of an exchange, until
// it goes, its credential does, or the server does.
type listener struct {
	x   *exchange
	sub *subscriber
	// meta is a member that each message has, or nothing.
	meta []byte
	// subscriptions are the resources whose changes are wanted now.
	subscriptions func() ([]string, error)

	shown     [sha256.Size]byte // the list of tools as it was last seen
	looked    time.Time         // when news was last looked at
	confirmed time.Time         // when auth last said that the credential is good
	vouched   time.Time         // until when it said so
}

// ending is why a stream ended.
type ending int

const (
	endedByClient ending = iota
	endedByServer
)

// begin remembers how things are. It has to be done before the client knows that
// it hears of every change from now on. Where it cannot be found out, whatever is
// found later counts as a change.
func (l *listener) begin() {
	l.confirmed = time.Now()
	_, _ = l.toolsChanged()
}

// attend tells what there is to tell until the stream ends.
func (l *listener) attend(expires <-chan time.Time) ending {
	x := l.x
	again := time.NewTicker(recheck)
	defer again.Stop()
	for {
		select {
		case <-l.sub.wake:
			if end, over := l.pause(expires); over {
				return end
			}
		case <-again.C:
			l.sub.keep(news{credentials: true})
		case <-x.ctx.Done():
			return endedByClient
		case <-x.s.stopping:
			return endedByServer
		case <-expires:
			return endedByServer
		}
		l.looked = time.Now()
		if end, over := l.tell(l.sub.take()); over {
			return end
		}
	}
}

// pause lets news gather, so that a listener costs auth no more than one question
// of each kind at a time, and all of them do not ask at once.
func (l *listener) pause(expires <-chan time.Time) (ending, bool) {
	wait := time.NewTimer(max(0, pace-time.Since(l.looked)) + rand.N(pace))
	defer wait.Stop()
	select {
	case <-wait.C:
		return 0, false
	case <-l.x.ctx.Done():
		return endedByClient, true
	case <-l.x.s.stopping:
		return endedByServer, true
	case <-expires:
		return endedByServer, true
	}
}

// tell passes on news, as far as this caller may know of it. What cannot be
// judged just now is kept for the next time.
func (l *listener) tell(n news) (ending, bool) {
	if n.credentials || !time.Now().Before(l.vouched) {
		switch changed, now := l.standing(); now {
		case standingGone:
			return endedByServer, true
		case standingUnknown:
			n.credentials = true
			l.sub.keep(n)
			return 0, false
		default:
			n.policies = n.policies || changed
		}
	}
	i := l.sub.interest
	sent := true
	if (n.tools || n.policies) && i.tools {
		switch changed, err := l.toolsChanged(); {
		case err != nil:
			l.sub.keep(news{tools: true})
		case changed:
			sent = sent && l.notify("notifications/tools/list_changed", nil)
		}
	}
	if (n.prompts || n.policies) && i.prompts {
		sent = sent && l.notify("notifications/prompts/list_changed", nil)
	}
	if (n.resources || n.policies) && i.resources {
		sent = sent && l.notify("notifications/resources/list_changed", nil)
	}
	if n.anything || len(n.updated) > 0 {
		uris, err := l.updated(n)
		if err != nil {
			l.sub.keep(news{updated: n.updated, anything: n.anything})
		}
		for _, uri := range uris {
			sent = sent && l.notify("notifications/resources/updated", appendText([]byte(`"uri":`), uri))
		}
	}
	return endedByClient, !sent // it does not read
}

func (l *listener) notify(method string, params []byte) bool {
	if len(l.meta) > 0 && len(params) > 0 {
		params = append(params, ',')
	}
	return l.x.notify(method, append(params, l.meta...))
}

// updated returns which of the resources in the news the caller wants to hear of
// and may read.
func (l *listener) updated(n news) ([]string, error) {
	wanted, err := l.subscriptions()
	if err != nil {
		return nil, err
	}
	if !n.anything {
		wanted = slices.DeleteFunc(slices.Clone(wanted), func(uri string) bool { return !n.updated[uri] })
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	return l.x.mayRead(wanted)
}

// toolsChanged reports whether the list of tools, as the caller sees it, is
// another than when it was last asked.
func (l *listener) toolsChanged() (bool, error) {
	if !l.sub.interest.tools {
		return false, nil
	}
	x := l.x
	ctx, cancel := x.peerContext()
	defer cancel()
	all, err := x.s.tools.Announced(ctx, x.s.executor)
	if err != nil {
		return false, err
	}
	allowed, resp, err := x.filterTools(ctx, all)
	if err != nil {
		return false, err
	}
	if resp.GetPrincipal() == nil {
		return false, errCredentialOver
	}
	digest := sha256.New()
	for i, shown := range all.shown {
		if allowed(i) {
			_, _ = digest.Write(shown)
		}
	}
	before := l.shown
	digest.Sum(l.shown[:0])
	return l.shown != before, nil
}

// errCredentialOver means that auth does not take the credential any longer.
var errCredentialOver = errors.New("the credential is not good any longer")

// standing is what is known of a listener's credential.
type standing int

const (
	standingGood standing = iota
	standingUnknown
	standingGone
)

// standing asks auth whether the credential is good for the same principal, and
// whether there is anything new about him.
func (l *listener) standing() (changed bool, now standing) {
	x := l.x
	if certificateOver(x.r, time.Now()) {
		return false, standingGone
	}
	ctx, cancel := context.WithTimeout(x.ctx, x.s.cfg.PeerTimeout)
	defer cancel()
	asked := time.Now()
	p, vouched, err := x.holder(ctx)
	if err != nil {
		if time.Since(l.confirmed) < unconfirmed {
			return false, standingUnknown
		}
		return false, standingGone
	}
	if p.GetId() != x.principal.GetId() || p == nil {
		return false, standingGone
	}
	l.confirmed, l.vouched = asked, asked.Add(vouched)
	changed = !proto.Equal(p, x.principal)
	x.principal = p
	return changed, standingGood
}

// holder asks auth whose the credential is now, and for how long that holds. A
// proof was used up when the request was authenticated; those who filter lists
// take it once more, with the receipt for it.
func (x *exchange) holder(ctx context.Context) (*authv1.Principal, time.Duration, error) {
	if len(x.credential.GetProofReceipt()) > 0 {
		resp, err := x.s.auth.FilterTools(ctx, &authv1.FilterToolsRequest{Credential: x.credential, Origin: x.origin()})
		return resp.GetPrincipal(), 0, err
	}
	resp, err := x.s.auth.Authenticate(ctx, &authv1.AuthenticateRequest{
		Credential: x.credential, Origin: &authv1.Origin{Address: x.addressText()},
	})
	return resp.GetPrincipal(), resp.GetValidFor().AsDuration(), err
}
