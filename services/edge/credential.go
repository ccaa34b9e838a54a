package edge

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// Bounds of what auth takes for a token and for a proof of DPoP.
const (
	maxToken = 16384
	maxProof = 8192
)

// What is wrong with how a credential was presented. The texts go to the caller.
const (
	credentialFine        = ""
	credentialMissing     = "No credential was sent. Send Authorization: Bearer KEY, or X-API-Key: KEY"
	credentialConflict    = "Two different credentials were sent. Send one, as Authorization: Bearer KEY or as X-API-Key: KEY"
	credentialUnusable    = "The credential cannot be read. Send one line, Authorization: Bearer KEY or X-API-Key: KEY"
	credentialInURL       = "A credential was sent in the URL, where it ends up in logs. Revoke it, and send a new one as Authorization: Bearer KEY"
	credentialProof       = "The DPoP proof cannot be read. Send one line, DPoP: PROOF, with a new proof for each request"
	credentialCertificate = "The client certificate cannot be used here. It has to be in force, and to name one SPIFFE id of the trust domain that this server takes"
)

// flawOf is what a challenge says of a problem.
func flawOf(problem string) flaw {
	switch problem {
	case credentialConflict, credentialInURL:
		return flawRequest
	case credentialUnusable:
		return flawToken
	case credentialProof:
		return flawProof
	default:
		return flawAbsent
	}
}

// credentialOf takes the credential from a request. Exactly one counts; the same
// one given both ways is one. The client's certificate goes with whatever it is,
// and stands for it where it names somebody and nothing else was sent. The
// problem is credentialFine if there is a credential.
func (s *Service) credentialOf(r *http.Request, now time.Time) (c *authv1.Credential, problem string) {
	if r.URL.RawQuery != "" && tokenInQuery(r.URL.RawQuery) {
		return nil, credentialInURL
	}
	scheme, token, problem := authorization(r.Header["Authorization"])
	if problem != credentialFine {
		return nil, problem
	}
	key, problem := apiKey(r.Header["X-Api-Key"])
	if problem != credentialFine {
		return nil, problem
	}
	c = &authv1.Credential{Scheme: scheme, Token: token}
	switch {
	case key == "":
	case token == "":
		c.Scheme, c.Token = authv1.Scheme_SCHEME_API_KEY, key
	case key != token || scheme != authv1.Scheme_SCHEME_BEARER:
		return nil, credentialConflict
	}
	proofs := r.Header["Dpop"]
	switch {
	case len(proofs) > 1:
		return nil, credentialProof
	case scheme != authv1.Scheme_SCHEME_DPOP: // a proof without such a token proves nothing
	case len(proofs) == 0 || !proofChars(proofs[0]):
		return nil, credentialProof
	default:
		c.DpopProof, c.HttpMethod, c.HttpUri = proofs[0], r.Method, s.publicURL.of(r)
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		if !s.identities.identify(c, r.TLS, now) {
			return nil, credentialCertificate
		}
	}
	if c.GetToken() == "" {
		if c.GetSpiffeId() == "" {
			return nil, credentialMissing
		}
		c.Scheme = authv1.Scheme_SCHEME_CERTIFICATE
	}
	return c, credentialFine
}

// authorization reads the header of that name. Without one there is no token.
func authorization(lines []string) (scheme authv1.Scheme, token, problem string) {
	switch len(lines) {
	case 0:
		return 0, "", credentialFine
	case 1:
	default:
		return 0, "", credentialUnusable
	}
	name, token, _ := strings.Cut(lines[0], " ")
	switch {
	case strings.EqualFold(name, "Bearer"):
		scheme = authv1.Scheme_SCHEME_BEARER
	case strings.EqualFold(name, "DPoP"):
		scheme = authv1.Scheme_SCHEME_DPOP
	default:
		return 0, "", credentialUnusable
	}
	if token = strings.TrimLeft(token, " "); !tokenChars(token) {
		return 0, "", credentialUnusable
	}
	return scheme, token, credentialFine
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

// proofChars reports whether a proof looks like a JWS in its compact form.
func proofChars(proof string) bool {
	if proof == "" || len(proof) > maxProof {
		return false
	}
	for i := range len(proof) {
		c := proof[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && c != '-' && c != '_' && c != '.' {
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
