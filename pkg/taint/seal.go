package taint

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
)

const (
	// version is the first byte of a sealed record.
	version = 1
	// purpose keeps these keys apart from others made of the same secrets.
	purpose = "sallyport-context-v1"
)

// ErrForeign says that a record was not sealed for this place with a key that is
// known, or was changed since. It must be taken for [Suspect].
var ErrForeign = errors.New("taint: the record was not sealed by us for this context")

// Seal returns the stored form of a record: version, length of the key's id, the id,
// ciphertext. Auth and the executors share the key; whoever else writes to the bucket
// can put back an older record, and nothing else.
func Seal(name string, r *Record, id string, key []byte) ([]byte, error) {
	box, err := cipherOf(key)
	if err != nil {
		return nil, err
	}
	plain, err := r.encode()
	if err != nil {
		return nil, err
	}
	sealed := append([]byte{version, byte(len(id))}, id...)
	return box.Seal(sealed, nil, plain, []byte(name)), nil
}

// KeyID returns the id of the key that a record is sealed with, "" if it is none.
func KeyID(sealed []byte) string {
	if len(sealed) < 2 || sealed[0] != version || len(sealed) < 2+int(sealed[1]) {
		return ""
	}
	return string(sealed[2 : 2+int(sealed[1])])
}

// Open reads the stored form of a record as it is now. The key is that of [KeyID]; nil if it is not
// known. It fails with [ErrForeign] for whatever was not sealed with it for this name.
func Open(name string, sealed, key []byte, now time.Time) (*Record, error) {
	id := KeyID(sealed)
	if id == "" || key == nil {
		return nil, ErrForeign
	}
	box, err := cipherOf(key)
	if err != nil {
		return nil, err
	}
	plain, err := box.Open(nil, nil, sealed[2+len(id):], []byte(name))
	if err != nil {
		return nil, ErrForeign
	}
	return decode(plain, now)
}

func cipherOf(key []byte) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, key, nil, purpose, 32)
	if err != nil {
		return nil, fmt.Errorf("derive the key of contexts: %w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("make a cipher: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}
