package credential

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/sallyport-mcp/sallyport/pkg/secret"
)

// tokenTimeout bounds asking for a token; tokenPause is how long after a failure
// nobody asks again.
const (
	tokenTimeout = 15 * time.Second
	tokenPause   = 2 * time.Second
)

// tokens are the access tokens of one client. One is asked for at a time, and used
// until shortly before it ends.
type tokens struct {
	cfg    Config
	client *http.Client
	turn   chan struct{} // has room for one: whoever has put something in may use what follows

	last   *oauth2.Token
	failed error
	when   time.Time // of failed
}

func newTokens(c Config, client *http.Client) *tokens {
	return &tokens{cfg: c, client: client, turn: make(chan struct{}, 1)}
}

func (t *tokens) token(ctx context.Context) (string, error) {
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	defer func() { <-t.turn }()
	if t.last.Valid() { // which is false of none
		return t.last.AccessToken, nil
	}
	if t.failed != nil && time.Since(t.when) < tokenPause {
		return "", t.failed
	}
	tok, err := t.ask(ctx)
	if err != nil {
		if ctx.Err() == nil {
			t.failed, t.when = err, time.Now()
		}
		return "", err
	}
	t.last, t.failed = tok, nil
	return tok.AccessToken, nil
}

// maxToken bounds the bytes of an access token.
const maxToken = 16 << 10

var (
	errorCode = regexp.MustCompile(`^[a-z_]{1,40}$`)
	printable = regexp.MustCompile(`^[!-~]+$`)
)

// ask asks for a token. What the server says goes into no error, as it may repeat
// what it was sent.
func (t *tokens) ask(ctx context.Context) (*oauth2.Token, error) {
	clientSecret, err := secret.ReadText(t.cfg.File)
	if err != nil {
		return nil, err
	}
	c := clientcredentials.Config{
		ClientID: t.cfg.ClientID, ClientSecret: clientSecret, TokenURL: t.cfg.TokenURL, Scopes: t.cfg.Scopes, EndpointParams: url.Values{},
	}
	for name, value := range t.cfg.Params {
		c.EndpointParams.Set(name, value)
	}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, oauth2.HTTPClient, t.client), tokenTimeout)
	defer cancel()
	tok, err := c.Token(ctx)
	if refusal, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		code := refusal.ErrorCode
		if !errorCode.MatchString(code) {
			code = "no code"
		}
		return nil, fmt.Errorf("the token server refuses: %s", code)
	}
	if err != nil {
		return nil, errors.New("the token server cannot be asked, or gives no token")
	}
	if len(tok.AccessToken) > maxToken || !printable.MatchString(tok.AccessToken) {
		return nil, errors.New("the token server gives a token that cannot be sent")
	}
	return tok, nil
}

// forget drops the token, unless it is being asked for just now.
func (t *tokens) forget() {
	select {
	case t.turn <- struct{}{}:
		t.last = nil
		<-t.turn
	default:
	}
}
