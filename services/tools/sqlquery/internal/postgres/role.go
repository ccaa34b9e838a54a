package postgres

import (
	"context"
	_ "embed" // for reader.sql
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed reader.sql
var readerSQL string

// ReaderSQL returns a script for a superuser, to be run once in the database
// that will be queried: it creates the role sallyport_reader, which may read the
// tables of the demo database and has no way to change anything.
func ReaderSQL() string { return readerSQL }

// risky are the functions with effects that a read-only transaction does not
// hinder or a rollback does not undo. It is the pattern of reader.sql, which a
// test compares.
const risky = `^(pg_notify|lo_.*|loread|lowrite|pg_(try_)?advisory_.*|set_config|pg_logical_emit_message|` +
	`pg_(terminate|cancel)_backend|pg_export_snapshot|pg_(read|ls|stat|write|rename|unlink|rotate|reload)_?.*(file|dir|conf|logfile).*|` +
	`pg_(create|drop|copy|sync)_.*|pg_replication_.*|pg_promote|pg_switch_wal|pg_stat_reset.*|pg_current_xact_id|txid_current|dblink.*)$`

// roleCheck returns one line for each thing that a harmless role may not be or
// do.
const roleCheck = `
SELECT 'is a superuser' FROM pg_roles WHERE rolname = current_user AND rolsuper
UNION ALL SELECT 'may create roles' FROM pg_roles WHERE rolname = current_user AND rolcreaterole
UNION ALL SELECT 'may create databases' FROM pg_roles WHERE rolname = current_user AND rolcreatedb
UNION ALL SELECT 'may replicate' FROM pg_roles WHERE rolname = current_user AND rolreplication
UNION ALL SELECT 'bypasses row security' FROM pg_roles WHERE rolname = current_user AND rolbypassrls
UNION ALL SELECT 'is a member of role ' || rolname FROM pg_roles
  WHERE rolname <> current_user AND pg_has_role(oid, 'MEMBER') AND rolname <> 'pg_read_all_data'
UNION ALL SELECT 'may create in schema ' || nspname FROM pg_namespace WHERE has_schema_privilege(oid, 'CREATE')
UNION ALL SELECT 'may create schemas' WHERE has_database_privilege(current_database(), 'CREATE')
UNION ALL SELECT 'may create temporary tables' WHERE has_database_privilege(current_database(), 'TEMPORARY')
UNION ALL SELECT 'may write table ' || c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'f', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    AND (has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') OR has_any_column_privilege(c.oid, 'INSERT, UPDATE'))
UNION ALL SELECT 'may call function ' || p.oid::regprocedure FROM pg_proc p
  WHERE p.proname ~ $1 AND has_function_privilege(p.oid, 'EXECUTE')`

// checkRole refuses a connection whose role is not harmless. It fails closed.
func checkRole(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, roleCheck, risky)
	if err != nil {
		return fmt.Errorf("check the role: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("check the role: %w", err)
	}
	if len(found) == 0 {
		return nil
	}
	const shown = 5
	text := strings.Join(found[:min(shown, len(found))], ", ")
	if len(found) > shown {
		text += fmt.Sprintf(" and %d more", len(found)-shown)
	}
	return errors.New("the database role is not harmless: it " + text)
}
