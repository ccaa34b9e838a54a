package oauth

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/sallyport-mcp/sallyport/pkg/secret"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/jose"
)

// maxAnswer bounds the answer to an introspection request.
const maxAnswer = 64 << 10

// endpoint is the introspection endpoint of an issuer.
type endpoint struct {
	Introspection
	fetcher *fetcher
}

func newEndpoint(i Issuer) (*endpoint, error) {
	n := i.Introspection.withDefaults()
	f, err := newFetcher(i, n.Timeout)
	if err != nil {
		return nil, err
	}
	if _, err := secret.ReadText(n.ClientSecretFile); err != nil {
		return nil, fmt.Errorf("introspection.client_secret_file: %w", err)
	}
	return &endpoint{n, f}, nil
}

// ask returns what the issuer says of a token, nil if only that it is not good. An
// error says that it cannot be told (fails closed).
func (e *endpoint) ask(ctx context.Context, token string) (jose.Claims, error) {
	password, err := secret.ReadText(e.ClientSecretFile)
	if err != nil {
		return nil, fmt.Errorf("introspection.client_secret_file: %w", err)
	}
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	if e.AuthMethod == secretPost {
		form.Set("client_id", e.ClientID)
		form.Set("client_secret", password)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("introspect: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if e.AuthMethod == secretBasic {
		req.SetBasicAuth(url.QueryEscape(e.ClientID), url.QueryEscape(password)) // RFC 6749, 2.3.1
	}
	// To ask twice changes nothing, so a connection that the issuer has just closed is
	// no error. An empty value is not sent; see [http.Transport].
	req.Header["Idempotency-Key"] = nil
	text, kind, err := e.fetcher.do(req, maxAnswer)
	if err != nil {
		return nil, refusedUs(err)
	}
	return readAnswer(kind, text)
}

// refusedUs says what to do where it is this server that the issuer refuses.
func refusedUs(err error) error {
	if status, ok := errors.AsType[*statusError](err); ok && (status.code == http.StatusUnauthorized || status.code == http.StatusForbidden) {
		return fmt.Errorf("the issuer does not take introspection.client_id with its secret: %w", err)
	}
	return err
}

// readAnswer reads the answer to an introspection request (RFC 7662, 2.2). Of a token
// that is not active it returns nil.
func readAnswer(kind string, text []byte) (jose.Claims, error) {
	// A signed answer (RFC 9701) was not asked for.
	if media, _, err := mime.ParseMediaType(kind); err != nil || media != "application/json" {
		return nil, errors.New("introspect: the answer is not application/json")
	}
	claims, err := jose.ParseClaims(text)
	if err != nil {
		return nil, fmt.Errorf("introspect: the answer is %w", err)
	}
	switch claims["active"].Kind() {
	case 't':
		return claims, nil
	case 'f':
		return nil, nil
	}
	return nil, errors.New("introspect: the answer does not say whether the token is active")
}

// accessWords are what issuers call the type of an access token, in small letters.
var accessWords = []string{"", "bearer", "dpop", "at+jwt", "jwt", "access", "access_token", "urn:ietf:params:oauth:token-type:access_token"}

// vouches checks that an answer is of the issuer and about an access token. It
// returns why not, "" if it is.
func (i *issuer) vouches(claims jose.Claims) string {
	if _, ok := claims["iss"]; ok {
		if name, err := claims.Text("iss"); err != nil || name != i.Issuer.Issuer {
			return "of another issuer"
		}
	}
	proved := false
	// Refresh tokens are active, too. Where an issuer tells it is in one of these.
	for _, name := range []string{"token_type", "token_use", "typ"} {
		word, err := claims.Text(name)
		if err != nil || !slices.Contains(accessWords, strings.ToLower(word)) {
			return "not an access token"
		}
		proved = proved || strings.EqualFold(word, "dpop")
	}
	if _, ok := claims["cnf"]; proved && !ok {
		return "bound to a key that is not told"
	}
	// Without a subject it would be taken for the client's own.
	object, name := claims.At(i.claims.Subject)
	_, user := claims["username"]
	if _, ok := object[name]; user && !ok {
		return "of a user whose subject is not told"
	}
	return ""
}
