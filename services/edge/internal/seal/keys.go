// Package seal lets edges give something out and know it again when it comes
// back: all of them hold the same keys, so none has to remember anything.
//
// It keeps the keys, derives one for each purpose, and seals bytes so that
// nobody else can read, change or make them. That a sealed text comes back only
// once it cannot see to.
package seal

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/sallyport-mcp/sallyport/pkg/secret"
)

// KeySize is how long the keys are that Derive returns.
const KeySize = 32

// Keys are what the edges of a cluster share. The first is used for what is made
// now, the others only for what was made with them before. They do not print.
type Keys struct{ all []secret.Key }

// Load reads keys from files. With create, the first file is made if there is
// none, for the owner alone; a misspelt path that was configured should be an
// error instead. A nil log discards.
func Load(files []string, create bool, log *slog.Logger) (*Keys, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if len(files) == 0 {
		return nil, errors.New("no key file")
	}
	k := &Keys{}
	for i, file := range files {
		load := secret.Load
		if create && i == 0 {
			load = func(path string) (secret.Key, error) {
				key, created, err := secret.LoadOrCreate(path)
				if created {
					log.Info("made a key file, keep it: what was made with it is lost without it", "file", path)
				}
				return key, err
			}
		}
		key, err := load(file)
		if err != nil {
			return nil, err
		}
		k.all = append(k.all, key)
	}
	return k, nil
}

// Random returns a key that nobody else has and that ends with the process.
func Random() *Keys {
	material := make([]byte, KeySize)
	_, _ = rand.Read(material) // never fails: crypto/rand ends the process instead
	return &Keys{all: []secret.Key{secret.NewKey(material)}}
}

// Derive returns a key of KeySize bytes for a purpose from each of the keys, the
// current one first. Keys of different purposes have nothing to do with each
// other.
func (k *Keys) Derive(purpose string) [][]byte {
	derived := make([][]byte, 0, len(k.all))
	for _, key := range k.all {
		d, err := hkdf.Key(sha256.New, key.Bytes(), nil, "sallyport edge "+purpose, KeySize)
		if err != nil {
			panic("seal: " + err.Error()) // only of lengths that ours are not; no key must not pass for one
		}
		derived = append(derived, d)
	}
	return derived
}

// Format implements [fmt.Formatter], so that no verb shows a key.
func (k Keys) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[redacted]") }
