package edge

import "strings"

// flaw is what a challenge says is wrong with the credential of a request.
type flaw int

const (
	// flawAbsent: there was none, of which RFC 6750 has nothing to say.
	flawAbsent flaw = iota
	// flawRequest: it was sent in a way that is not allowed.
	flawRequest
	// flawToken: it is not good.
	flawToken
	// flawProof: its proof of DPoP is not good.
	flawProof
	// flawUnproved: it was sent without the proof that it needs.
	flawUnproved
	// flawScope: it is good, and not for this.
	flawScope
)

// maxDescription bounds what a challenge says in words.
const maxDescription = 256

// challenge writes WWW-Authenticate, in one line. All challenges are written
// here.
//
// Bearer is first, and where OAuth tokens are good it has all that a client needs
// to get one: several clients look no further than the first, or take the first
// parameter of a name wherever it stands. What is in words is last for the same
// reason. An API key is sent as Bearer, too, so that one is there also where each
// OAuth token needs DPoP. DPoP is there where tokens can be bound by it, and where
// the credential that was sent, such as an API key, needs a proof or has a bad one.
func challenge(of flaw, about *resource, scopes []string, description string) string {
	bearer, proof := "", ""
	switch of {
	case flawRequest:
		bearer = "invalid_request"
	case flawToken:
		bearer = "invalid_token"
	case flawUnproved:
		bearer, proof = "invalid_token", "invalid_token"
	case flawScope:
		bearer = "insufficient_scope"
	case flawProof:
		proof = "invalid_dpop_proof"
	}
	if of != flawScope && len(scopes) == 0 {
		scopes = about.challengeScopes()
	}
	where := about.metadataURL()
	var b strings.Builder
	b.WriteString(`Bearer realm="sallyport"`)
	appendChallenge(&b, bearer, where, scopes)
	if description = descriptionText(description); description != "" && bearer != "" {
		b.WriteString(`, error_description="` + description + `"`)
	}
	if proof != "" || of != flawScope && about.bindsTokens() {
		b.WriteString(`, DPoP ` + proofParameter(about.proofAlgorithms()))
		appendChallenge(&b, proof, where, scopes)
	}
	return b.String()
}

// proofParameter is the first parameter of a challenge for DPoP: which algorithms a
// proof may have, or another one where that is not known (RFC 9110, 11.6.1, wants
// one).
func proofParameter(algorithms string) string {
	if algorithms == "" {
		return `realm="sallyport"`
	}
	return `algs="` + algorithms + `"`
}

// appendChallenge writes the parameters that challenges of all schemes have.
func appendChallenge(b *strings.Builder, code, where string, scopes []string) {
	if code != "" {
		b.WriteString(`, error="` + code + `"`)
	}
	if where != "" {
		b.WriteString(`, resource_metadata="` + where + `"`)
	}
	if scope := scopeText(scopes); scope != "" {
		b.WriteString(`, scope="` + scope + `"`)
	}
}

// scopeText joins scopes, without those that RFC 6749 does not allow and that
// would break the header.
func scopeText(scopes []string) string {
	var b strings.Builder
	for _, scope := range scopes {
		if !quotable(scope, false) {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(scope)
	}
	return b.String()
}

// quotable reports whether a text can stand between quotes in a challenge as it
// is (RFC 6750, 3), and is there at all.
func quotable(text string, spaces bool) bool {
	for i := range len(text) {
		c := text[i]
		if c < ' ' || c > '~' || c == '"' || c == '\\' || c == ' ' && !spaces {
			return false
		}
	}
	return text != ""
}

// descriptionText makes of a sentence what may stand in error_description.
func descriptionText(text string) string {
	text = strings.Map(func(c rune) rune {
		switch {
		case c == '"':
			return '\''
		case c == '\\':
			return '/'
		case c < ' ' || c > '~':
			return '?'
		}
		return c
	}, text)
	return text[:min(len(text), maxDescription)]
}
