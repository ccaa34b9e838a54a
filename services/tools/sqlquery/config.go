package sqlquery

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/demodb/dsn"
)

// Config says which database may be read, what of it, and how much at once.
type Config struct {
	// DSN is "sqlite:PATH" or "postgres://…" without a password. Empty means the
	// demo database in the state directory.
	DSN string `yaml:"dsn"`
	// DSNFile is a file with a DSN, which may hold a password.
	DSNFile string `yaml:"dsn_file"`
	// Tables that may be read, in SQLite. A view needs its tables listed too. On
	// PostgreSQL the grants of the role say that.
	Tables []string `yaml:"tables"`
	// Hidden are columns, as table.column, that read as NULL, in SQLite. With
	// any of them, queries cannot use USING and NATURAL JOIN.
	Hidden []string `yaml:"hidden"`
	// Functions that may be called, in SQLite.
	Functions []string `yaml:"functions"`
	// MaxRows is how many rows an answer has at most.
	MaxRows int `yaml:"max_rows"`
	// MaxBytes is how many bytes the values of an answer have at most.
	MaxBytes int `yaml:"max_bytes"`
	// MaxValue is how many bytes a single value has at most, also while a query
	// computes. It bounds what one step of a query can cost.
	MaxValue int `yaml:"max_value"`
	// MaxSpill is how many bytes the temporary files of all running queries have
	// at most, in SQLite and on Linux. On PostgreSQL the role has such a limit.
	MaxSpill int `yaml:"max_spill"`
	// Timeout ends a query.
	Timeout time.Duration `yaml:"timeout"`
	// Connections is how many queries run at once; others wait.
	Connections int `yaml:"connections"`
}

// DefaultConfig returns what works for the demo database.
func DefaultConfig() Config {
	return Config{
		Tables:      []string{"customers", "orders", "products"},
		Functions:   defaultFunctions(),
		MaxRows:     1000,
		MaxBytes:    512 << 10,
		MaxValue:    64 << 10,
		MaxSpill:    256 << 20,
		Timeout:     5 * time.Second,
		Connections: 4,
	}
}

// Validate returns all mistakes at once.
func (c Config) Validate() error {
	errs := []error{dsn.Validate(c.DSN, c.DSNFile)}
	between := func(name string, got, low, high int) {
		if got < low || got > high {
			errs = append(errs, fmt.Errorf("%s: %d is not between %d and %d", name, got, low, high))
		}
	}
	between("max_rows", c.MaxRows, 1, 10_000)
	between("max_bytes", c.MaxBytes, 1<<10, 2<<20)
	between("max_value", c.MaxValue, 1<<10, 1<<20)
	between("max_spill", c.MaxSpill, 1<<20, 1<<30)
	between("connections", c.Connections, 1, 64)
	if c.Timeout < 10*time.Millisecond || c.Timeout > time.Minute {
		errs = append(errs, fmt.Errorf("timeout: %v is not between 10ms and 1m", c.Timeout))
	}
	if len(c.Tables) == 0 {
		errs = append(errs, errors.New("tables: nothing may be read"))
	}
	for _, h := range c.Hidden {
		table, column, ok := strings.Cut(h, ".")
		listed := slices.ContainsFunc(c.Tables, func(t string) bool { return strings.EqualFold(t, table) })
		if !ok || column == "" || !listed {
			errs = append(errs, fmt.Errorf("hidden: %q is not a column, as table.column, of a listed table", h))
		}
	}
	return errors.Join(errs...)
}

// defaultFunctions are those of SQLite that compute a value from their
// arguments. Left out are those that make large values from small ones
// (printf, zeroblob, randomblob), reach outside the query (load_extension,
// sqlite_log), or tell of the inside (sqlite_offset).
func defaultFunctions() []string {
	return strings.Fields(`
		abs acos acosh asin asinh atan atan2 atanh avg ceil ceiling char coalesce concat concat_ws cos cosh count
		cume_dist current_date current_time current_timestamp date datetime degrees dense_rank exp first_value
		floor glob group_concat hex if ifnull iif instr json json_array json_array_length json_extract
		json_group_array json_group_object json_object json_type json_valid -> ->> julianday lag last_value lead
		length like likelihood likely ln log log10 log2 lower ltrim max min mod nth_value ntile nullif
		octet_length percent_rank pi pow power quote radians random rank replace round row_number rtrim sign sin
		sinh sqrt strftime string_agg substr substring sum tan tanh time timediff total trim trunc typeof unhex
		unicode unixepoch unlikely upper`)
}
