package oauth

import (
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/jose"
)

// Why a token is not good, on record.
const (
	malformed  = auditv1.Reason_REASON_CREDENTIAL_MALFORMED
	unknown    = auditv1.Reason_REASON_CREDENTIAL_UNKNOWN
	expired    = auditv1.Reason_REASON_CREDENTIAL_EXPIRED
	restricted = auditv1.Reason_REASON_CREDENTIAL_RESTRICTED
)

// refuse is the verdict on a token that is not good.
func refuse(reason auditv1.Reason, why string) *Verdict { return &Verdict{Reason: reason, Why: why} }

// judge tells from what an issuer says of a token whether it is good here and now,
// and whose it is. That it is the issuer who says it was checked before.
func (v *Verifier) judge(i *issuer, claims jose.Claims, text string, now time.Time) *Verdict {
	ends, ok, err := claims.Time("exp")
	if err != nil || !ok {
		return refuse(malformed, "exp")
	}
	if !now.Before(ends.Add(v.skew)) {
		return refuse(expired, "expired")
	}
	for _, claim := range []string{"nbf", "iat"} {
		from, ok, err := claims.Time(claim)
		if err != nil {
			return refuse(malformed, claim)
		}
		if ok && now.Add(v.skew).Before(from) {
			return refuse(restricted, "not yet valid")
		}
	}
	audiences, err := claims.Texts("aud")
	if err != nil {
		return refuse(malformed, "aud")
	}
	if !slices.ContainsFunc(audiences, func(a string) bool { return slices.Contains(i.audiences, canonical(a)) }) {
		return refuse(restricted, "for another audience")
	}
	proofKey, certificate, why := bound(claims)
	if proofKey != "" && (i.DPoP == "" || i.DPoP == dpopOff) {
		why = "bound to a key, and proofs are off"
	}
	if why != "" {
		return refuse(restricted, why)
	}
	p, err := i.principal(claims, text)
	if err != nil {
		return refuse(restricted, err.Error())
	}
	scopes, err := v.scopes(claims)
	if err != nil {
		return refuse(malformed, "scope")
	}
	return &Verdict{Identity: &Identity{
		Principal: p, Scopes: scopes, Expires: ends.Add(v.skew), Key: proofKey, NeedsKey: i.DPoP == dpopRequired, Certificate: certificate,
	}}
}

// bound reads what a token is bound to: a key, a certificate or both. Whoever takes
// it has to see the proof. Bound in any other way it is not good.
func bound(c jose.Claims) (key string, certificate []byte, why string) {
	raw, ok := c["cnf"]
	if !ok {
		return "", nil, ""
	}
	const strange = "bound in a way that is not known"
	cnf, err := jose.ParseClaims(raw)
	if err != nil || len(cnf) == 0 {
		return "", nil, strange
	}
	for name := range cnf {
		text, err := cnf.Text(name)
		if err != nil || text == "" {
			return "", nil, strange
		}
		switch name {
		case "jkt":
			key = text
		case "x5t#S256":
			if certificate, err = jose.Decode(text); err != nil || len(certificate) != sha256.Size {
				return "", nil, strange
			}
		default:
			return "", nil, strange
		}
	}
	return key, certificate, ""
}

// maxScopes is how many scopes a token may have.
const maxScopes = 256

// scopes reads scope (RFC 9068), or scp as some issuers call it, and adds what the
// configuration says that they imply.
func (v *Verifier) scopes(c jose.Claims) (map[string]bool, error) {
	list, err := c.Texts("scope")
	if err != nil {
		return nil, err
	}
	more, err := c.Texts("scp")
	if err != nil {
		return nil, err
	}
	all := make(map[string]bool)
	var add func(string)
	add = func(scope string) {
		if scope == "" || all[scope] || len(all) >= maxScopes {
			return
		}
		all[scope] = true
		for _, narrow := range v.implies[scope] {
			add(narrow)
		}
	}
	for _, text := range append(list, more...) {
		for _, scope := range strings.Fields(text) {
			add(scope)
		}
	}
	return all, nil
}
