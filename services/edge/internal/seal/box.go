package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"fmt"
	"strings"
)

// version is the first byte of what is sealed. A change of the layout changes
// it.
const version = 1

// Box seals and opens for one purpose, by AES-256-GCM with random nonces. It is
// safe for concurrent use.
type Box struct {
	purpose []byte // with the version: what the seal is over besides
	sealers []cipher.AEAD
}

// NewBox returns a box for a purpose.
func (k *Keys) NewBox(purpose string) (*Box, error) {
	b := &Box{purpose: append([]byte{version}, purpose...)}
	for _, key := range k.Derive(purpose) {
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("make a cipher: %w", err)
		}
		sealer, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, fmt.Errorf("make a cipher: %w", err)
		}
		b.sealers = append(b.sealers, sealer)
	}
	return b, nil
}

// Seal returns the bytes sealed, as text of A-Z a-z 0-9 - _: version, nonce,
// ciphertext and tag.
func (b *Box) Seal(plain []byte) string {
	sealed := make([]byte, 1, 1+len(plain)+b.sealers[0].Overhead())
	sealed[0] = version
	return base64.RawURLEncoding.EncodeToString(b.sealers[0].Seal(sealed, nil, plain, b.purpose))
}

// Open returns what was sealed, by any of the keys. It fails closed, and does
// not tell why.
func (b *Box) Open(text string) (plain []byte, ok bool) {
	if strings.ContainsAny(text, "\r\n") { // decoding skips them
		return nil, false
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(sealed) == 0 || sealed[0] != version {
		return nil, false
	}
	for _, s := range b.sealers {
		if plain, err := s.Open(nil, nil, sealed[1:], b.purpose); err == nil {
			return plain, true
		}
	}
	return nil, false
}

// Length returns how long the text is that n bytes are sealed to.
func (b *Box) Length(n int) int {
	return base64.RawURLEncoding.EncodedLen(1 + n + b.sealers[0].Overhead())
}
