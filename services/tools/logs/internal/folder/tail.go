package folder

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"
)

// bufferSize is how much is read at once.
const bufferSize = 64 << 10

// File is the last part of a file, as it was when it was opened: what is
// appended later is not seen. Close it.
type File struct {
	Info
	// Cut says that the part is not the whole.
	Cut bool

	file       *os.File
	start, end int64
}

// Tail opens the last limit bytes of a listed file. It returns an error that
// is ErrNotText if they are not text.
func (f *Folder) Tail(info Info, limit int64) (*File, error) {
	file, err := f.open(info)
	if err != nil {
		return nil, err
	}
	t := &File{Info: info, file: file, end: info.Size, start: max(0, info.Size-limit)}
	t.Cut = t.start > 0
	if err := t.check(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return t, nil
}

// Close closes the file.
func (t *File) Close() error { return t.file.Close() }

// check looks at the end of the file and refuses what is not text: with a NUL
// in it, or with a third of bytes that are neither UTF-8 nor white nor visible.
// The end, because a log that was cut to nothing while being written to starts
// with NULs.
func (t *File) check() error {
	sample := make([]byte, min(4096, t.end-t.start))
	n, err := t.file.ReadAt(sample, t.end-int64(len(sample)))
	if err != nil && !isEnd(err) {
		return fmt.Errorf("read file: %w", err)
	}
	sample = sample[:n]
	if bytes.IndexByte(sample, 0) >= 0 {
		return ErrNotText
	}
	odd := 0
	for b := sample; len(b) > 0; {
		r, size := utf8.DecodeRune(b)
		if r == utf8.RuneError && size == 1 || r < ' ' && r != '\n' && r != '\r' && r != '\t' && r != 0x1b {
			odd++
		}
		b = b[size:]
	}
	if odd*3 > len(sample) {
		return ErrNotText
	}
	return nil
}

// Lines calls on with each line, without its end, and with whether it was cut to
// maxLine bytes. A line that was begun before the part is left out. The bytes
// are valid during the call only. It may be called again.
func (t *File) Lines(ctx context.Context, maxLine int, on func(line []byte, cut bool)) error {
	from := t.start
	if t.Cut {
		from-- // the byte before tells whether the first line is whole
	}
	r := bufio.NewReaderSize(io.NewSectionReader(t.file, from, t.end-from), max(bufferSize, maxLine+1))
	skip := t.Cut // the rest of a line of which enough was seen
	for n := 0; ; n++ {
		if n%256 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		line, err := r.ReadSlice('\n')
		whole := err == nil
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !isEnd(err) {
			return fmt.Errorf("read file: %w", err)
		}
		if len(line) > 0 && !skip {
			line = bytes.TrimSuffix(line, []byte("\n"))
			if n == 0 {
				line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
			}
			on(line[:min(len(line), maxLine)], len(line) > maxLine)
		}
		if isEnd(err) {
			return nil
		}
		skip = !whole
	}
}

func isEnd(err error) bool { return errors.Is(err, io.EOF) }
