package once

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"

	"google.golang.org/protobuf/proto"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
)

// Keys are secrets that all executors share.
type Keys interface {
	// Key returns the secret of a name, or nil.
	Key(id string) []byte
	// Newest returns one to encrypt with, or nil.
	Newest() (id string, key []byte)
}

// purpose keeps these keys apart from others made of the same secrets.
const purpose = "sallyport-call-results-v1"

// seal encrypts a result for the entry of its call.
func (b *Book) seal(name string, r *executorv1.OnceRecord, result *executorv1.Result) error {
	id, key := b.keys.Newest()
	if key == nil {
		return nil // it is not kept then
	}
	box, err := cipherOf(key)
	if err != nil {
		return err
	}
	raw, err := proto.Marshal(result)
	if err != nil {
		return err
	}
	r.KeyId, r.Result = id, box.Seal(nil, nil, raw, []byte(name))
	return nil
}

// open returns the result in an entry.
func (b *Book) open(name string, r *executorv1.OnceRecord) (*executorv1.Result, error) {
	key := b.keys.Key(r.GetKeyId())
	if len(r.GetResult()) == 0 || key == nil {
		return nil, ErrForgotten
	}
	box, err := cipherOf(key)
	if err != nil {
		return nil, err
	}
	raw, err := box.Open(nil, nil, r.GetResult(), []byte(name))
	if err != nil {
		return nil, fmt.Errorf("the result of the first call was not written by us: %w", err)
	}
	result := new(executorv1.Result)
	if err := proto.Unmarshal(raw, result); err != nil {
		return nil, fmt.Errorf("read the result of the first call: %w", err)
	}
	result.Repeats = r.GetDecisionId()
	return result, nil
}

func cipherOf(key []byte) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, key, nil, purpose, 32)
	if err != nil {
		return nil, fmt.Errorf("derive the key of results: %w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("make a cipher: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}
