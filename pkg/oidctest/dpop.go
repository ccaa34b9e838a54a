package oidctest

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"

	"github.com/go-jose/go-jose/v4"
)

type thumbprintKey struct{}

// bind serves a request for tokens by a client that proves a key (RFC 9449): the
// token is bound to the key, and is said to be. The library does not know of that.
// The proof is read and not judged: what is tested is what others do with a bound
// token.
func bind(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	thumbprint, err := proved(r.Header.Get("DPoP"))
	if err != nil {
		http.Error(w, `{"error":"invalid_dpop_proof"}`, http.StatusBadRequest)
		return
	}
	answer := httptest.NewRecorder()
	serve(answer, r.WithContext(context.WithValue(r.Context(), thumbprintKey{}, thumbprint)))
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.Header().Del("Content-Length")
	w.WriteHeader(answer.Code)
	_, _ = w.Write(bytes.Replace(answer.Body.Bytes(), []byte(`"token_type":"Bearer"`), []byte(`"token_type":"DPoP"`), 1)) // a client that went away gets nothing
}

// proved returns the thumbprint of the key of a proof.
func proved(proof string) (string, error) {
	signed, err := jose.ParseSigned(proof, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA})
	if err != nil {
		return "", err
	}
	key := signed.Signatures[0].Protected.JSONWebKey
	if key == nil || !key.IsPublic() {
		return "", errors.New("a proof has a public key")
	}
	if _, err := signed.Verify(key); err != nil {
		return "", err
	}
	sum, err := key.Thumbprint(crypto.SHA256)
	return base64.RawURLEncoding.EncodeToString(sum), err
}

// confirmation is the claim of a token that is bound, nil for any other.
func confirmation(ctx context.Context) map[string]any {
	thumbprint, ok := ctx.Value(thumbprintKey{}).(string)
	if !ok {
		return nil
	}
	return map[string]any{"jkt": thumbprint}
}
