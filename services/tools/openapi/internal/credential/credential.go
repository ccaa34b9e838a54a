// Package credential adds to requests what authenticates us to an API: keys, tokens
// and passwords of files, and tokens of OAuth 2.0 client credentials. They go to the
// host that they are for and nowhere else, and what comes back is cleaned of them.
package credential

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/sallyport-mcp/sallyport/pkg/secret"
	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/egress"
	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/wire"
)

// Config is one credential.
type Config struct {
	// Kind is api_key, bearer, basic or oauth2.
	Kind string `yaml:"kind"`
	// File holds the key, the token, the password or the client's secret. It is read
	// for each request, and so can be replaced.
	File string `yaml:"file"`
	// In and Name say where an api_key goes: header, query or cookie, and its name.
	In   string `yaml:"in"`
	Name string `yaml:"name"`
	// User is that of basic.
	User string `yaml:"user"`
	// TokenURL, ClientID, Scopes and Params are for oauth2: where tokens are asked for
	// with the client's credentials, for which client, and with what else.
	TokenURL string            `yaml:"token_url"`
	ClientID string            `yaml:"client_id"`
	Scopes   []string          `yaml:"scopes"`
	Params   map[string]string `yaml:"params"`
}

// Validate reports all mistakes at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !slices.Contains([]string{"api_key", "bearer", "basic", "oauth2"}, c.Kind) {
		bad("kind: %q is not api_key, bearer, basic or oauth2", c.Kind)
	}
	if c.File == "" {
		bad("file: missing; secrets are in files")
	}
	if isKey := c.Kind == "api_key"; !isKey && c.In+c.Name != "" {
		bad("in, name: are for an api_key")
	} else if isKey {
		switch c.In {
		case "header":
			if !wire.Settable(c.Name) && !strings.EqualFold(c.Name, "Authorization") {
				bad("name: %q is no header that can be set", c.Name)
			}
		case "query", "cookie":
			if !wire.Token(c.Name) {
				bad("name: %q is not the name of a parameter", c.Name)
			}
		default:
			bad("in: %q is not header, query or cookie", c.In)
		}
	}
	if (c.Kind == "basic") != (c.User != "") || strings.Contains(c.User, ":") {
		bad("user: is for basic, which needs one, and has no colon")
	}
	if isOAuth := c.Kind == "oauth2"; !isOAuth && (c.TokenURL+c.ClientID != "" || len(c.Scopes)+len(c.Params) > 0) {
		bad("token_url, client_id, scopes, params: are for oauth2")
	} else if isOAuth {
		u, err := url.Parse(c.TokenURL)
		if err == nil {
			_, err = egress.OriginOf(u)
		}
		if err != nil || c.ClientID == "" {
			bad("token_url, client_id: are needed, the first a URL")
		}
	}
	return errors.Join(errs...)
}

// place is what of a request the credential sets.
func (c Config) place() (in, name string) {
	if c.Kind == "api_key" {
		return c.In, c.Name
	}
	return "header", "Authorization"
}

// Set is the credentials of one API. It is safe for concurrent use.
type Set struct {
	origin egress.Origin
	all    []*one
}

type one struct {
	Config

	tokens *tokens // of oauth2
}

// New returns the credentials for one host. The client is for asking for tokens.
func New(all []Config, origin egress.Origin, client *http.Client) (*Set, error) {
	s := &Set{origin: origin}
	var places []string
	for i, c := range all {
		in, name := c.place()
		p := in + " " + strings.ToLower(name)
		if slices.Contains(places, p) {
			return nil, fmt.Errorf("credentials[%d]: another one is in the same place", i)
		}
		places = append(places, p)
		o := &one{Config: c}
		if c.Kind == "oauth2" {
			o.tokens = newTokens(c, client)
		}
		s.all = append(s.all, o)
	}
	return s, nil
}

// Takes reports whether a credential sets a header, a query parameter or a cookie.
func (s *Set) Takes(in, name string) bool {
	return slices.ContainsFunc(s.all, func(o *one) bool {
		oIn, oName := o.place()
		return oIn == in && strings.EqualFold(oName, name)
	})
}

type usedKey struct{}

// Used collects the secrets that were sent in a request.
type Used struct {
	texts  []string
	tokens []*tokens
}

// Follow returns a context of requests whose secrets are collected.
func Follow(ctx context.Context) (context.Context, *Used) {
	u := &Used{}
	return context.WithValue(ctx, usedKey{}, u), u
}

// Prepare adds the credentials to a request to their host. It is for
// [egress.Config].
func (s *Set) Prepare(req *http.Request) error {
	if o, err := egress.OriginOf(req.URL); err != nil || o != s.origin {
		return nil
	}
	used, _ := req.Context().Value(usedKey{}).(*Used)
	if used == nil {
		used = &Used{}
	}
	for _, c := range s.all {
		text, err := c.text(req.Context())
		if err != nil {
			return fmt.Errorf("the credential %s: %w", c.Kind, err)
		}
		used.texts = append(used.texts, text)
		switch in, name := c.place(); {
		case in == "query":
			u := *req.URL
			if u.RawQuery != "" {
				u.RawQuery += "&"
			}
			u.RawQuery += url.QueryEscape(name) + "=" + url.QueryEscape(text)
			req.URL = &u
		case in == "cookie":
			if before := req.Header.Get("Cookie"); before != "" {
				req.Header.Set("Cookie", before+"; "+name+"="+text)
			} else {
				req.Header.Set("Cookie", name+"="+text)
			}
		case c.Kind == "basic":
			pair := base64.StdEncoding.EncodeToString([]byte(c.User + ":" + text))
			used.texts = append(used.texts, pair)
			req.Header.Set(name, "Basic "+pair)
		case c.Kind == "api_key":
			req.Header.Set(name, text)
		default:
			req.Header.Set(name, "Bearer "+text)
		}
		if c.tokens != nil {
			used.tokens = append(used.tokens, c.tokens)
		}
	}
	return nil
}

// text returns the secret as it is sent.
func (o *one) text(ctx context.Context) (string, error) {
	if o.tokens != nil {
		return o.tokens.token(ctx)
	}
	text, err := secret.ReadText(o.File)
	if err == nil && o.Kind != "basic" && strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || o.In == "cookie" && strings.ContainsRune(`";,\`, r) }) {
		return "", fmt.Errorf("%s holds characters that cannot be sent there", o.File)
	}
	return text, err
}

// Refused says that the API did not accept what was sent: tokens are asked for anew.
func (u *Used) Refused() {
	for _, t := range u.tokens {
		t.forget()
	}
}

// shortest is the length from which on a secret is looked for in answers. A shorter
// one is no secret, and would be found where it is not.
const shortest = 6

var removed = []byte("[redacted]")

// Clean returns an answer without the secrets that were sent: there are APIs that
// echo a request.
func (u *Used) Clean(b []byte) []byte {
	for _, text := range u.texts {
		if len(text) < shortest {
			continue
		}
		forms := []string{text, url.QueryEscape(text), base64.StdEncoding.EncodeToString([]byte(text))}
		if quoted, err := json.Marshal(text); err == nil {
			inner := string(quoted[1 : len(quoted)-1])
			forms = append(forms, inner, strings.ReplaceAll(inner, "/", `\/`))
		}
		for _, f := range forms {
			b = bytes.ReplaceAll(b, []byte(f), removed)
		}
	}
	return b
}
