package main

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"os"

	"github.com/sallyport-mcp/sallyport/services/auth"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/mcp"
)

// proofThumbprint returns what a new API key is bound to: the thumbprint that was
// given or that of the public key in a file, "" if there is neither.
func proofThumbprint(file, thumbprint string) (string, error) {
	switch {
	case file != "" && thumbprint != "":
		return "", usage("--proof-key and --proof-thumbprint exclude each other")
	case thumbprint != "":
		if b, err := base64.RawURLEncoding.Strict().DecodeString(thumbprint); err != nil || len(b) != sha256.Size {
			return "", usage("--proof-thumbprint: this is no SHA-256 in base64url, which has 43 characters; --proof-key FILE computes it from a public key")
		}
		return thumbprint, nil
	case file == "":
		return "", nil
	}
	text, err := readProofKey(file)
	if err != nil {
		return "", err
	}
	if thumbprint, err = auth.ProofThumbprint(text); err != nil {
		return "", usage("--proof-key %s: %w", file, err)
	}
	return thumbprint, nil
}

// readPrivateProofKey reads the private key that makes proofs.
func readPrivateProofKey(file string) (*mcp.ProofKey, error) {
	text, err := readProofKey(file)
	if err != nil {
		return nil, err
	}
	key, err := mcp.ReadProofKey(text)
	if err != nil {
		return nil, usage("--proof-key %s: %w", file, err)
	}
	return key, nil
}

// readProofKey reads a file of a key, and of a longer one as much as shows that it is
// too long.
func readProofKey(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, usage("--proof-key: %w", err)
	}
	defer func() { _ = f.Close() }() // it was read
	text, err := io.ReadAll(io.LimitReader(f, mcp.MaxProofKey+1))
	if err != nil {
		return nil, failed(fmt.Errorf("--proof-key: %w", err))
	}
	return text, nil
}
