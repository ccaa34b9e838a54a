package grant

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

const (
	keySize = 32
	// pause is how often the files are read again at most, whatever ids come.
	pause = time.Second
)

// Files are the keys in some files: 32 bytes as they are, or in hexadecimal.
// The id of a key is the first 8 hexadecimal digits of its SHA-256. Files are
// read when an id is asked for that is not known, so a key may appear or change
// while the process runs. It is safe for concurrent use.
type Files struct {
	paths []string
	log   *slog.Logger

	mu   sync.Mutex
	keys map[string]key // by path
	read time.Time
}

type key struct {
	id     string
	secret []byte
}

// NewFiles returns the keys in the given files, which need not exist yet.
func NewFiles(paths []string, log *slog.Logger) *Files {
	return &Files{paths: paths, log: log, keys: make(map[string]key)}
}

// Key implements [Keys].
func (f *Files) Key(id string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if k := f.find(id); k != nil {
		return k
	}
	if now := time.Now(); f.read.IsZero() || now.Sub(f.read) >= pause {
		f.read = now
		f.load()
	}
	return f.find(id)
}

func (f *Files) find(id string) []byte {
	for _, k := range f.keys {
		if k.id == id {
			return k.secret
		}
	}
	return nil
}

// Loaded returns an error as long as there is no key.
func (f *Files) Loaded() error {
	f.Key("")
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.keys) == 0 {
		return errors.New("no grant key has been read")
	}
	return nil
}

// load reads all files. The key of a file that cannot be read now is kept:
// to take it away, restart.
func (f *Files) load() {
	for _, path := range f.paths {
		secret, err := readKey(path)
		switch {
		case errors.Is(err, fs.ErrNotExist): // auth may not have made it yet
		case err != nil:
			f.log.Error("grant key cannot be read", "err", err)
		default:
			f.keys[path] = key{ID(secret), secret}
		}
	}
}

func readKey(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read grant key: %w", err)
	}
	if len(b) == keySize {
		return b, nil
	}
	key, err := hex.DecodeString(string(bytes.TrimSpace(b)))
	if err != nil || len(key) != keySize {
		return nil, fmt.Errorf("read grant key %s: must be %d bytes, plain or in hexadecimal", path, keySize)
	}
	return key, nil
}

// ID returns the id of a key.
func ID(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:4])
}
