// Package index keeps audit events where they can be found: a SQLite database
// in a folder. It is derived from the audit stream and can be made again from
// it; it never holds anything else.
package index

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	sqlite "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// ErrUnusable says that the file is damaged, is no index, or is one of another
// version of this program. Set it aside and open a new one.
var ErrUnusable = errors.New("audit index is unusable")

// fileName of the index in its folder.
const fileName = "index.db"

// rowsPerInsert is how many rows one statement inserts. More than a few save
// little, and a statement for each size would be needed to use them.
const rowsPerInsert = 8

// readers is the number of connections for queries.
const readers = 4

// Head says how far the index has followed which stream.
type Head struct {
	// Stream is when the stream was created; zero before the first Apply.
	Stream time.Time
	// Sequence of the last message that is indexed or was skipped as malformed.
	Sequence uint64
	// Sum is the SHA-256 of that message.
	Sum [sha256.Size]byte
}

// Index is an open index. Its methods are safe for concurrent use; those that
// change it wait for each other.
type Index struct {
	write, read *sql.DB
	many, one   *sql.Stmt // insert so many rows
}

// Open opens the index in dir, and creates it if it is not there. The error is
// ErrUnusable if only a new index can help.
func Open(ctx context.Context, dir string) (*Index, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the audit index: %w", err)
	}
	path, err := filepath.Abs(filepath.Join(dir, fileName))
	if err != nil {
		return nil, fmt.Errorf("find the audit index: %w", err)
	}
	// SQLite would create a file that everybody can read.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create the audit index: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("create the audit index: %w", err)
	}
	x := &Index{}
	if err := x.open(ctx, path); err != nil {
		return nil, errors.Join(damaged(fmt.Errorf("open the audit index: %w", err)), x.Close())
	}
	return x, nil
}

func (x *Index) open(ctx context.Context, path string) (err error) {
	if x.write, err = sql.Open("sqlite", dsn(path, writePragmas)); err != nil {
		return err
	}
	x.write.SetMaxOpenConns(1)
	if err := x.migrate(ctx); err != nil {
		return err
	}
	if x.many, err = x.write.PrepareContext(ctx, insert(rowsPerInsert)); err != nil {
		return err
	}
	if x.one, err = x.write.PrepareContext(ctx, insert(1)); err != nil {
		return err
	}
	if x.read, err = sql.Open("sqlite", dsn(path, readPragmas)); err != nil {
		return err
	}
	x.read.SetMaxOpenConns(readers)
	x.read.SetMaxIdleConns(readers)
	_, err = x.Head(ctx)
	return err
}

func dsn(path, query string) string {
	return (&url.URL{Scheme: "file", Path: path, RawQuery: query}).String()
}

// migrate creates the tables in a new file, and refuses a file of another
// version.
func (x *Index) migrate(ctx context.Context) error {
	var have int
	if err := x.write.QueryRowContext(ctx, getVersion).Scan(&have); err != nil {
		return err
	}
	switch have {
	case version:
		return nil
	case 0:
		return x.inTx(ctx, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, schema); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, setVersion)
			return err
		})
	default:
		return fmt.Errorf("%w: it has version %d, not %d", ErrUnusable, have, version)
	}
}

// Close closes the index. Calls that are under way fail.
func (x *Index) Close() error {
	var errs []error
	for _, s := range []*sql.Stmt{x.many, x.one} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	for _, db := range []*sql.DB{x.read, x.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// SetAside renames the index in dir, which must be closed, so that the next
// Open makes a new one. Nothing is deleted: where the stream has lost what the
// index had, the old file is the last evidence. It returns the new name.
func SetAside(dir string, now time.Time) (name string, err error) {
	name = "index." + now.UTC().Format("20060102T150405.000000000Z") + ".db"
	for _, suffix := range []string{"", "-wal", "-shm"} {
		err := os.Rename(filepath.Join(dir, fileName+suffix), filepath.Join(dir, name+suffix))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("set the audit index aside: %w", err)
		}
	}
	return name, nil
}

// Head returns how far the index has come.
func (x *Index) Head(ctx context.Context) (Head, error) {
	var stream, sequence int64
	var sum []byte
	if err := x.read.QueryRowContext(ctx, selectHead).Scan(&stream, &sequence, &sum); err != nil {
		return Head{}, damaged(fmt.Errorf("read the head of the audit index: %w", err))
	}
	h := Head{Sequence: uint64(sequence)}
	copy(h.Sum[:], sum)
	if stream != 0 {
		h.Stream = time.Unix(0, stream)
	}
	return h, nil
}

// Apply adds entries and moves the head, both or neither. An event that is there
// already is left as it was. It returns how many were added.
func (x *Index) Apply(ctx context.Context, entries []Entry, head Head) (added int, err error) {
	err = x.inTx(ctx, func(tx *sql.Tx) error {
		many, one := tx.StmtContext(ctx, x.many), tx.StmtContext(ctx, x.one)
		args := make([]any, 0, rowsPerInsert*insertColumns)
		for len(entries) > 0 {
			stmt, n := one, 1
			if len(entries) >= rowsPerInsert {
				stmt, n = many, rowsPerInsert
			}
			args = args[:0]
			for i := range entries[:n] {
				args = entries[i].args(args)
			}
			entries = entries[n:]
			result, err := stmt.ExecContext(ctx, args...)
			if err != nil {
				return err
			}
			rows, err := result.RowsAffected()
			if err != nil {
				return err
			}
			added += int(rows)
		}
		_, err := tx.ExecContext(ctx, updateHead, head.Stream.UnixNano(), int64(head.Sequence), head.Sum[:])
		return err
	})
	if err != nil {
		return 0, damaged(fmt.Errorf("write the audit index: %w", err))
	}
	return added, nil
}

func (x *Index) inTx(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := x.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// damaged marks errors that mean that the file cannot be used any more.
func damaged(err error) error {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff { // the rest is detail
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return fmt.Errorf("%w: %w", ErrUnusable, err)
		}
	}
	return err
}
