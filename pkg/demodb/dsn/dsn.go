// Package dsn tells from two settings, a DSN or the name of a file that holds
// one, which database a tool service works on: a SQLite file or PostgreSQL.
//
// It opens nothing, and none of its errors repeats a DSN, which may hold a
// password.
package dsn

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport-mcp/sallyport/pkg/demodb"
)

// prefix of the DSN of a SQLite file; the rest is its path.
const prefix = "sqlite:"

// Database says where the data is. Exactly one field is set.
type Database struct {
	SQLite   string          // absolute path of the file
	Postgres *pgx.ConnConfig // to be copied before it is changed
}

// Validate checks the two settings as far as that goes without reading a file.
// At most one may be set. A DSN with a password belongs into a file, since the
// configuration is no place for secrets.
func Validate(dsn, file string) error {
	if dsn != "" && file != "" {
		return errors.New("dsn and dsn_file are both set: choose one")
	}
	if dsn == "" {
		return nil
	}
	db, err := parse(dsn)
	if err != nil {
		return fmt.Errorf("dsn: %w", err)
	}
	if db.Postgres != nil && (strings.Contains(dsn, "password") || hasPassword(dsn)) {
		return errors.New("dsn: it holds a password: put it into a file and name that file in dsn_file")
	}
	return nil
}

// Resolve returns the database that the two settings name. With neither set it
// is the demo database in stateDir, and demo is true.
func Resolve(dsn, file, stateDir string) (db Database, demo bool, err error) {
	if err := Validate(dsn, file); err != nil {
		return Database{}, false, err
	}
	switch {
	case file != "":
		text, err := os.ReadFile(file)
		if err != nil {
			return Database{}, false, fmt.Errorf("read dsn_file: %w", err)
		}
		db, err = parse(strings.TrimSpace(string(text)))
		if err != nil {
			return Database{}, false, fmt.Errorf("dsn_file: %w", err)
		}
		return db, false, nil
	case dsn != "":
		db, err = parse(dsn)
		return db, false, err
	}
	path, err := filepath.Abs(demodb.File(stateDir))
	return Database{SQLite: path}, true, err
}

func parse(dsn string) (Database, error) {
	if path, ok := strings.CutPrefix(dsn, prefix); ok {
		if path == "" {
			return Database{}, errors.New(`no path after "sqlite:"`)
		}
		abs, err := filepath.Abs(path)
		return Database{SQLite: abs}, err
	}
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		return Database{}, errors.New(`want "sqlite:PATH" or "postgres://…"`)
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return Database{}, errors.New("not a PostgreSQL URL") // the cause may repeat parts of it
	}
	return Database{Postgres: cfg}, nil
}

// hasPassword reports whether the user part of a URL has a colon. It looks at
// the text, since a parsed configuration may have its password from elsewhere.
func hasPassword(dsn string) bool {
	_, rest, _ := strings.Cut(dsn, "://")
	authority, _, _ := strings.Cut(rest, "/")
	at := strings.LastIndexByte(authority, '@')
	return at >= 0 && strings.Contains(authority[:at], ":")
}
