package sqlquery

import (
	"errors"
	"fmt"
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
	// Tables that may be read; in PostgreSQL as schema.table, or table in the
	// schema public, and the role must have the right to read them. In SQLite a
	// view needs its tables listed too.
	Tables []string `yaml:"tables"`
	// Hidden are columns, as table.column, that nobody gets to see: for a query
	// they do not exist.
	Hidden []string `yaml:"hidden"`
	// Roles say what callers may read of the tables above, by their roles. Where
	// there are any, a caller with none of them may read nothing, and one with
	// several may read what any of them may.
	Roles map[string]Grant `yaml:"roles"`
	// Tenants say which rows there are for a caller.
	Tenants *Tenants `yaml:"tenants"`
	// Functions that may be called. Without any, they are those that compute a
	// value from their arguments.
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
	// MaxCost is what a query may cost by the estimate of PostgreSQL's planner, in
	// its units, of which reading a page of 8 KiB is one. 0 is no limit.
	MaxCost int `yaml:"max_cost"`
	// Timeout ends a query.
	Timeout time.Duration `yaml:"timeout"`
	// Connections is how many queries run at once; others wait.
	Connections int `yaml:"connections"`
}

// Grant is what those who have a role may read.
type Grant struct {
	// Tables are some of those of [Config].
	Tables []string `yaml:"tables"`
	// Hidden are columns, as table.column, besides those of [Config].
	Hidden []string `yaml:"hidden"`
}

// Tenants says of each table whose its rows are. A table that is forgotten is a
// mistake, not one that all may read.
type Tenants struct {
	// Columns, as table.column, hold the tenant that a row is for, as text. In
	// SQLite, views of the file that read such a table cannot be read.
	Columns []string `yaml:"columns"`
	// Shared are tables whose rows are for all tenants.
	Shared []string `yaml:"shared"`
}

// column returns the column of a table that holds the tenant. It fails closed:
// a table that is neither named nor shared was refused by Validate.
func (t *Tenants) column(table string) (string, bool) {
	if t == nil {
		return "", false
	}
	if l := columnsOf(table, t.Columns); len(l) > 0 {
		return l[0], true
	}
	return "", false
}

// DefaultConfig returns what works for the demo database.
func DefaultConfig() Config {
	return Config{
		Tables:      []string{"customers", "orders", "products"},
		MaxRows:     1000,
		MaxBytes:    512 << 10,
		MaxValue:    64 << 10,
		MaxSpill:    256 << 20,
		MaxCost:     5_000_000,
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
	if c.MaxCost < 0 {
		errs = append(errs, fmt.Errorf("max_cost: %d is below 0", c.MaxCost))
	}
	errs = append(errs, c.columns("hidden", c.Hidden, c.Tables)...)
	for name, g := range c.Roles {
		where := "roles: " + name + ": "
		for _, t := range g.Tables {
			if !contains(c.Tables, t) {
				errs = append(errs, fmt.Errorf("%stables: %q is not one of the tables above", where, t))
			}
		}
		errs = append(errs, c.columns(where+"hidden", g.Hidden, g.Tables)...)
	}
	if c.Tenants != nil {
		errs = append(errs, c.columns("tenants: columns", c.Tenants.Columns, c.Tables)...)
		for _, t := range c.Tables {
			if _, own := c.Tenants.column(t); own == contains(c.Tenants.Shared, t) {
				errs = append(errs, fmt.Errorf("tenants: table %q must be in columns or in shared, and not in both", t))
			}
		}
	}
	return errors.Join(errs...)
}

// columns returns what is wrong with a list of columns of some tables.
func (c Config) columns(where string, list, tables []string) []error {
	var errs []error
	for _, l := range list {
		if table, _, ok := splitColumn(l); !ok || !contains(tables, table) {
			errs = append(errs, fmt.Errorf("%s: %q is not a column, as table.column, of a listed table", where, l))
		}
	}
	return errs
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
