package auth

import "github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/dpop"

// ProofThumbprint reads a public key, in PEM ("PUBLIC KEY") or as a JWK, and returns
// its thumbprint (RFC 7638, SHA-256, base64url), as CreateKeyRequest wants it. Keys
// of which no proof would be taken, and private ones, are refused; the error says
// which and what to do.
func ProofThumbprint(text []byte) (string, error) { return dpop.Thumbprint(text) }
