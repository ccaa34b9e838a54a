package secret

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// settled is how old a file has to be for its time to tell whether it changes: a
// file can be written twice within one tick of the clock of its file system.
const settled = 2 * time.Second

// File is a key in a file that may be replaced while the process runs. It is not
// safe for concurrent use.
type File struct {
	path string
	key  Key
	info fs.FileInfo // of what was read; nil: read it again
}

// NewFile returns a file that has not been looked at. It need not exist.
func NewFile(path string) *File { return &File{path: path} }

// Path returns the name of the file.
func (f *File) Path() string { return f.path }

// Key returns the key that was read last, the zero Key if there is none.
func (f *File) Key() Key { return f.key }

// Refresh reads the file if it is not the one that was read last, and reports
// whether the key is another one than before. A file that is gone has no key,
// which is an error that is [fs.ErrNotExist]. With any other error the key
// stays: a file that is just being written must not stop a running service.
func (f *File) Refresh() (changed bool, err error) {
	before := f.key
	info, err := os.Stat(f.path)
	if err == nil && f.info != nil && os.SameFile(info, f.info) &&
		info.ModTime().Equal(f.info.ModTime()) && info.Size() == f.info.Size() {
		return false, nil
	}
	f.info = nil
	var key Key
	if err != nil {
		err = fmt.Errorf("read key: %w", err)
	} else {
		key, err = Load(f.path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.key = Key{}
		return len(before.material) > 0, err
	case err != nil:
		return false, err
	}
	if age := time.Since(info.ModTime()); age > settled {
		f.info = info
	}
	f.key = key
	return string(before.material) != string(key.material), nil
}
