//go:build postgres

package demodb_test

import (
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport-mcp/sallyport/pkg/demodb"
	"github.com/sallyport-mcp/sallyport/pkg/demodb/pgtest"
)

func TestBothDialectsHoldTheSame(t *testing.T) {
	t.Parallel()
	lite := open(t, filepath.Join(t.TempDir(), "x.db"))
	if _, err := lite.ExecContext(t.Context(), demodb.SQL(demodb.SQLite)); err != nil {
		t.Fatal(err)
	}
	want := sumUp(t, lite)

	dsn := pgtest.Start(t)
	pgtest.Exec(t, dsn, demodb.SQL(demodb.Postgres))
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	var got sums
	err = conn.QueryRow(t.Context(), summary).Scan(&got.customers, &got.products, &got.orders, &got.cents, &got.early)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if got != want {
		t.Errorf("PostgreSQL has %+v, SQLite %+v", got, want)
	}
}
