package oauth

import (
	"encoding/base64"
	"strings"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/jose"
)

// askedAbout returns who is asked about a token, nil if nobody, by the rule that
// [Introspection] states.
func (v *Verifier) askedAbout(token string) *asked {
	for prefix, i := range v.byPrefix {
		if strings.HasPrefix(token, prefix) {
			return i.asked
		}
	}
	if name, ok := signedBy(token); ok {
		if i := v.issuers[name]; i != nil && i.Tokens == tokensOpaque {
			return i.asked
		}
		return nil
	}
	return v.otherwise
}

// signedBy reports whether a token has the form of a signed JWT: three parts, of which
// the first is an object. It returns the issuer that the token names, which anybody
// can have written.
func signedBy(token string) (issuer string, ok bool) {
	header, rest, _ := strings.Cut(token, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") {
		return "", false
	}
	// Not strictly: what is nearly a JWT is no opaque token for that.
	text, err := base64.RawURLEncoding.DecodeString(header)
	if err != nil || !strings.HasPrefix(strings.TrimLeft(string(text), " \t\r\n"), "{") {
		return "", false
	}
	if text, err = jose.Decode(payload); err != nil {
		return "", true
	}
	claims, err := jose.ParseClaims(text)
	if err != nil {
		return "", true
	}
	issuer, _ = claims.Text("iss") // what is no text names nobody
	return issuer, true
}

// bearerForm reports whether a text has the form of a token (RFC 6750, b64token).
func bearerForm(token string) bool {
	if len(token) > jose.MaxToken {
		return false
	}
	body := strings.TrimRight(token, "=")
	return body != "" && !strings.ContainsFunc(body, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._~+/", c)
	})
}
