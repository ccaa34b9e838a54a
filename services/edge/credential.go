package edge

import (
	"net/http"
	"net/url"
	"strings"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// maxToken is longer than any credential that auth takes for one.
const maxToken = 8192

// What is wrong with how a credential was presented. The texts go to the caller.
const (
	credentialFine     = ""
	credentialMissing  = "No credential was sent. Send Authorization: Bearer KEY, or X-API-Key: KEY"
	credentialConflict = "Two different credentials were sent. Send one, as Authorization: Bearer KEY or as X-API-Key: KEY"
	credentialUnusable = "The credential cannot be read. Send one line, Authorization: Bearer KEY or X-API-Key: KEY"
	credentialInURL    = "A credential was sent in the URL, where it ends up in logs. Revoke it, and send a new one as Authorization: Bearer KEY"
)

// credentialOf takes the credential from a request. Exactly one counts; the same
// one given both ways is one. The problem is credentialFine if there is one.
func credentialOf(r *http.Request) (c *authv1.Credential, problem string) {
	if r.URL.RawQuery != "" && tokenInQuery(r.URL.RawQuery) {
		return nil, credentialInURL
	}
	bearer, problem := bearerToken(r.Header["Authorization"])
	if problem != credentialFine {
		return nil, problem
	}
	key, problem := apiKey(r.Header["X-Api-Key"])
	switch {
	case problem != credentialFine:
		return nil, problem
	case bearer == "" && key == "":
		return nil, credentialMissing
	case bearer == "":
		return &authv1.Credential{Scheme: authv1.Scheme_SCHEME_API_KEY, Token: key}, credentialFine
	case key != "" && key != bearer:
		return nil, credentialConflict
	}
	return &authv1.Credential{Scheme: authv1.Scheme_SCHEME_BEARER, Token: bearer}, credentialFine
}

func bearerToken(lines []string) (token, problem string) {
	switch len(lines) {
	case 0:
		return "", credentialFine
	case 1:
	default:
		return "", credentialUnusable
	}
	scheme, token, _ := strings.Cut(lines[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", credentialUnusable
	}
	if token = strings.TrimLeft(token, " "); !tokenChars(token) {
		return "", credentialUnusable
	}
	return token, credentialFine
}

func apiKey(lines []string) (token, problem string) {
	switch len(lines) {
	case 0:
		return "", credentialFine
	case 1:
		if tokenChars(lines[0]) {
			return lines[0], credentialFine
		}
	}
	return "", credentialUnusable
}

// tokenChars reports whether a token has only characters that RFC 6750 allows.
func tokenChars(token string) bool {
	if token == "" || len(token) > maxToken {
		return false
	}
	for i := range len(token) {
		c := token[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && !strings.ContainsRune("-._~+/=", rune(c)) {
			return false
		}
	}
	return true
}

func tokenInQuery(query string) bool {
	values, _ := url.ParseQuery(query) // what can be read of it
	for name := range values {
		switch strings.ToLower(name) {
		case "access_token", "api_key", "apikey", "token":
			return true
		}
	}
	return false
}

// challenge is the WWW-Authenticate line of a 401 or 403. All challenges are
// written here, so that one place learns of resource metadata.
func challenge(code string, scopes []string) string {
	var b strings.Builder
	b.WriteString(`Bearer realm="sallyport"`)
	if code != "" {
		b.WriteString(`, error="` + code + `"`)
	}
	clean := make([]string, 0, len(scopes))
	for _, s := range scopes {
		if tokenChars(strings.ReplaceAll(s, ":", "")) {
			clean = append(clean, s)
		}
	}
	if len(clean) > 0 {
		b.WriteString(`, scope="` + strings.Join(clean, " ") + `"`)
	}
	return b.String()
}
