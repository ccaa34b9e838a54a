// Package demodb makes the demo database: a small shop with customers, products
// and orders, the same to the byte of every value wherever it is made.
//
// The demo tools read and change it. It holds nothing that is real: all names
// are invented and all addresses are in domains reserved for examples. This
// package only creates; what may be done to the data afterwards is the business
// of the tool services.
package demodb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"modernc.org/sqlite"
)

// Version is the version of the schema and of the seed. A SQLite demo database
// carries it as its user_version.
const Version = 1

// Dialect is the SQL of one engine.
type Dialect int

// Dialects that the demo database can be written in.
const (
	SQLite Dialect = iota
	Postgres
)

// File returns the place of the demo database in a state directory.
func File(stateDir string) string { return filepath.Join(stateDir, "demo.db") }

// SQL returns the whole demo database as one script for an empty database.
func SQL(d Dialect) string {
	return "BEGIN;\n" + strings.Join(statements(d), ";\n") + ";\nCOMMIT;\n"
}

// Seed creates the tables and rows in db, all or nothing. It fails if the
// tables exist.
func Seed(ctx context.Context, db *sql.DB, d Dialect) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin seeding: %w", err)
	}
	for _, s := range statements(d) {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			return errors.Join(fmt.Errorf("seed: %w", err), tx.Rollback())
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit the seed: %w", err)
	}
	return nil
}

// Create makes the SQLite demo database at path unless it is there. An existing
// file is never changed; it is an error if it is not a demo database of this
// [Version]. Any number of processes may call Create at once: each sees either
// no file or a whole one.
func Create(ctx context.Context, path string) error {
	if _, err := os.Stat(path); err == nil {
		return checkVersion(ctx, path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for the demo database: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("create the folder of the demo database: %w", err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".demo-*")
	if err != nil {
		return fmt.Errorf("create the demo database: %w", err)
	}
	temp := filepath.Join(dir, "demo.db")
	err = write(ctx, temp)
	if err == nil {
		// A link, unlike a rename, does not replace what another process made
		// in the meantime and may already have changed.
		if err = os.Link(temp, path); errors.Is(err, fs.ErrExist) {
			err = checkVersion(ctx, path)
		}
	}
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		return fmt.Errorf("create the demo database: %w", err)
	}
	return nil
}

// Connector opens connections to a SQLite file. Query is added to the file's
// URI, in the terms of the driver, such as "mode=ro". The connector shares no
// hooks or functions with any other part of the process.
func Connector(path, query string) *FileConnector {
	return &FileConnector{dsn: URI(path, query), driver: &sqlite.Driver{}}
}

// URI names a SQLite file, as [Connector] and ATTACH take it.
func URI(path, query string) string {
	u := url.URL{Path: filepath.ToSlash(path)}
	return "file:" + u.EscapedPath() + "?" + query
}

func write(ctx context.Context, path string) error {
	db := sql.OpenDB(Connector(path, ""))
	err := Seed(ctx, db, SQLite)
	if err == nil {
		_, err = db.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", Version))
	}
	return errors.Join(err, db.Close())
}

func checkVersion(ctx context.Context, path string) error {
	db := sql.OpenDB(Connector(path, "mode=ro&_busy_timeout=5000"))
	var version int
	err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("read the version of the demo database: %w", err)
	}
	if version != Version {
		return fmt.Errorf("demo database has version %d, want %d: remove the file to have it made again", version, Version)
	}
	return nil
}
