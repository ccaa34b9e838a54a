// Package folder reads the text files of one folder, and nothing else.
//
// The folder is opened as an os.Root, so no name and no symbolic link leads out
// of it. Only regular files directly in it count, with plain names; links,
// pipes, devices, compressed and binary files are left aside and reported.
package folder

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"
	"time"
)

// maxEntries bounds how much of a folder is looked at.
const maxEntries = 10_000

// ErrNotText is returned for files that hold something else than lines of text.
var ErrNotText = errors.New("not a text file")

// Info is what a listing says of a file.
type Info struct {
	Name    string
	Size    int64
	Written time.Time

	entry fs.FileInfo
}

// Skipped is an entry of the folder that is not read, and why.
type Skipped struct {
	Name   string // of any form: not to be shown as it is
	Reason string
}

// Listing is what is in a folder.
type Listing struct {
	Files   []Info // by name
	Skipped []Skipped
	// Incomplete says that the folder has more entries than are looked at.
	Incomplete bool
}

// Folder is an open folder. Close it.
type Folder struct {
	root *os.Root
}

// Open opens the folder of that path.
func Open(dir string) (*Folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open folder: %w", err)
	}
	return &Folder{root}, nil
}

// Close closes the folder. Files opened from it stay open.
func (f *Folder) Close() error { return f.root.Close() }

// List looks at what is in the folder.
func (f *Folder) List() (Listing, error) {
	dir, err := f.root.Open(".")
	if err != nil {
		return Listing{}, fmt.Errorf("open folder: %w", err)
	}
	defer func() { _ = dir.Close() }() // it was only read
	entries, err := dir.ReadDir(maxEntries + 1)
	if err != nil && len(entries) == 0 && !isEnd(err) {
		return Listing{}, fmt.Errorf("list folder: %w", err)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	l := Listing{Incomplete: len(entries) > maxEntries}
	for _, e := range entries[:min(len(entries), maxEntries)] {
		info, reason := f.look(e)
		switch {
		case reason != "":
			l.Skipped = append(l.Skipped, Skipped{e.Name(), reason})
		case info.entry != nil:
			l.Files = append(l.Files, info)
		}
	}
	return l, nil
}

// look describes an entry. It returns neither a file nor a reason for what
// nobody would expect to be read: subfolders, hidden files, files just gone.
func (f *Folder) look(e fs.DirEntry) (info Info, reason string) {
	name := e.Name()
	switch {
	case e.IsDir() || name[0] == '.':
		return Info{}, ""
	case !Valid(name):
		return Info{}, "its name is not plain"
	case e.Type()&fs.ModeSymlink != 0:
		return Info{}, "a link"
	case !e.Type().IsRegular():
		return Info{}, "not a regular file"
	case isCompressed(name):
		return Info{}, "compressed"
	}
	entry, err := f.root.Lstat(name)
	if err != nil || !entry.Mode().IsRegular() {
		return Info{}, ""
	}
	return Info{Name: name, Size: entry.Size(), Written: entry.ModTime(), entry: entry}, ""
}

// Valid reports whether name is of the form [A-Za-z0-9][A-Za-z0-9._-]*, at most
// 255 bytes long.
func Valid(name string) bool {
	if name == "" || len(name) > 255 {
		return false
	}
	for i, c := range []byte(name) {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return true
}

func isCompressed(name string) bool {
	switch path.Ext(name) {
	case ".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".Z":
		return true
	}
	return false
}

// open opens a listed file. That it is still the file that was listed is checked
// after opening, when nobody can change it any more, and it is opened so that a
// pipe put in its place does not block.
func (f *Folder) open(info Info) (*os.File, error) {
	file, err := f.root.OpenFile(info.Name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open file: %w", err)
	}
	now, err := file.Stat()
	if err == nil && !os.SameFile(now, info.entry) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("look at file: %w", err), file.Close())
	}
	return file, nil
}
