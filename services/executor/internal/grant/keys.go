package grant

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/secret"
)

// poll is how often the files are looked at when nobody asks for a key that is
// not known.
const poll = 2 * time.Second

// Files are the keys in some files, named by [secret.Key.ID]. Files may appear,
// change and vanish while the process runs: they are looked at every two seconds,
// and whenever an id is asked for that is not known, so that a key is good here
// from the moment its file is written. A key that is in no file any more is good
// for some time longer, for the grants that are on their way. It is safe for
// concurrent use.
type Files struct {
	overlap time.Duration
	log     *slog.Logger

	mu       sync.Mutex
	files    []*secret.File
	keys     map[string]held // by id
	troubled map[string]bool // paths of files that cannot be read
}

// held is a key that is taken.
type held struct {
	key   secret.Key
	until time.Time // zero while it is in a file
}

// NewFiles returns the keys in the given files, which need not exist yet. A key
// that is taken away is good for overlap longer.
func NewFiles(paths []string, overlap time.Duration, log *slog.Logger) *Files {
	f := &Files{overlap: overlap, log: log, keys: make(map[string]held), troubled: make(map[string]bool)}
	for _, path := range paths {
		f.files = append(f.files, secret.NewFile(path))
	}
	return f
}

// Key implements [Keys].
func (f *Files) Key(id string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if k := f.find(id); k != nil {
		return k
	}
	f.refresh()
	return f.find(id)
}

// Newest returns the key in the last file that has one, or nil.
func (f *Files) Newest() (id string, key []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, file := range slices.Backward(f.files) {
		if k := file.Key(); len(k.Bytes()) > 0 {
			return k.ID(), k.Bytes()
		}
	}
	return "", nil
}

func (f *Files) find(id string) []byte {
	k, ok := f.keys[id]
	if !ok || !k.until.IsZero() && !time.Now().Before(k.until) {
		return nil
	}
	return k.key.Bytes()
}

// Loaded returns an error as long as there is no key.
func (f *Files) Loaded() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refresh()
	if len(f.keys) == 0 {
		return errors.New("no grant key has been read")
	}
	return nil
}

// Follow keeps looking at the files until ctx is done.
func (f *Files) Follow(ctx context.Context) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		f.mu.Lock()
		f.refresh()
		f.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// refresh looks at all files.
func (f *Files) refresh() {
	var current []string
	for _, file := range f.files {
		_, err := file.Refresh()
		// One that is not there may not have been made yet, or is none any more.
		trouble := err != nil && !errors.Is(err, fs.ErrNotExist)
		if trouble && !f.troubled[file.Path()] {
			f.log.Error("grant key cannot be read, the one before stays", "err", err)
		}
		f.troubled[file.Path()] = trouble
		if len(file.Key().Bytes()) == 0 {
			continue
		}
		id := file.Key().ID()
		current = append(current, id)
		if k, ok := f.keys[id]; !ok || !k.until.IsZero() {
			f.keys[id] = held{key: file.Key()}
			f.log.Info("grants by a key are accepted", "key", id, "file", file.Path())
		}
	}
	now := time.Now()
	for id, k := range f.keys {
		switch {
		case slices.Contains(current, id):
		case k.until.IsZero():
			f.keys[id] = held{k.key, now.Add(f.overlap)}
			f.log.Info("grant key is in no file any more", "key", id, "accepted_for", f.overlap)
		case !now.Before(k.until):
			delete(f.keys, id)
			f.log.Info("grants by a key are accepted no longer", "key", id)
		}
	}
}
