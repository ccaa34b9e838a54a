//go:build postgres

package customers_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport-mcp/sallyport/pkg/demodb"
	"github.com/sallyport-mcp/sallyport/pkg/demodb/pgtest"
	"github.com/sallyport-mcp/sallyport/services/tools/customers"
)

func onPostgres(t *testing.T) fixture {
	t.Helper()
	admin := pgtest.Start(t)
	pgtest.Exec(t, admin, demodb.SQL(demodb.Postgres))
	pgtest.Exec(t, admin, customers.WriterSQL())
	cfg := customers.DefaultConfig()
	cfg.DSN = pgtest.As(t, admin, "sallyport_customers")
	return fixture{
		client: serve(t, cfg, t.TempDir()),
		exec:   func(t *testing.T, script string) { t.Helper(); pgtest.Exec(t, admin, script) },
		count: func(t *testing.T, query string) (n int) {
			t.Helper()
			conn, err := pgx.Connect(t.Context(), admin)
			if err != nil {
				t.Fatal(err)
			}
			if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
				t.Fatal(err)
			}
			if err := conn.Close(t.Context()); err != nil {
				t.Error(err)
			}
			return n
		},
		fails: `CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
			CREATE TRIGGER fails BEFORE DELETE ON customers FOR EACH ROW EXECUTE FUNCTION no()`,
	}
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	testStore(t, onPostgres)
}
