// Package secret keeps key material: it reads it from files, makes it where
// there is none yet, and does not let it be printed by accident.
package secret

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// Size is the number of bytes in a key that [LoadOrCreate] makes, and the least
// that it accepts.
const Size = 32

// maxSize is more than any key needs; a larger file was named by mistake.
const maxSize = 1024

const redacted = "[redacted]"

// Key is key material. It shows itself as "[redacted]" to fmt, slog and
// encoders. The zero Key holds nothing.
type Key struct{ material []byte }

// NewKey returns a key that holds a copy of material.
func NewKey(material []byte) Key {
	return Key{material: append([]byte(nil), material...)}
}

// Bytes returns the material itself. It must not be changed.
func (k Key) Bytes() []byte { return k.material }

// ID returns 8 hexadecimal digits that name the key and tell nothing of it: the
// beginning of its SHA-256.
func (k Key) ID() string {
	sum := sha256.Sum256(k.material)
	return hex.EncodeToString(sum[:4])
}

// String implements [fmt.Stringer].
func (k Key) String() string { return redacted }

// Format implements [fmt.Formatter], so that no verb shows the material.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements [slog.LogValuer].
func (k Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements [encoding.TextMarshaler].
func (k Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Load reads a key from a file, which holds the bytes of the key and nothing
// else.
func Load(path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return Key{}, fmt.Errorf("read key: %w", err)
	}
	material, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return Key{}, fmt.Errorf("read key: %w", err)
	}
	if len(material) < Size || len(material) > maxSize {
		return Key{}, fmt.Errorf("read key: %s holds fewer than %d or more than %d bytes", path, Size, maxSize)
	}
	return Key{material: material}, nil
}

// LoadOrCreate reads a key from a file; where there is none it makes one, for
// the owner alone. Several processes may do so at once and all get the same
// key: a file appears whole or not at all.
func LoadOrCreate(path string) (key Key, created bool, err error) {
	key, err = Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return Key{}, false, fmt.Errorf("create key: %w", err)
	}
	created, err = create(path)
	if err != nil {
		return Key{}, false, fmt.Errorf("create key: %w", err)
	}
	key, err = Load(path)
	return key, created, err
}

// create writes the key under another name and links it: unlike a rename, a
// link never replaces the key of a process that was faster.
func create(path string) (created bool, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()

	material := make([]byte, Size)
	_, _ = rand.Read(material) // never fails: crypto/rand ends the process instead
	_, err = f.Write(material)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return false, err
	}
	if err := os.Link(f.Name(), path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return false, nil
		}
		return false, err
	}
	return true, nil
}
