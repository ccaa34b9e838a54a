package demodb_test

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/demodb"
)

// summary says the same of the data in either dialect.
const summary = `SELECT
  (SELECT count(*) FROM customers),
  (SELECT count(*) FROM products),
  (SELECT count(*) FROM orders),
  (SELECT sum(total_cents) FROM orders),
  (SELECT count(*) FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.created < c.created)`

type sums struct{ customers, products, orders, cents, early int64 }

func open(t *testing.T, path string) *sql.DB {
	t.Helper()
	db := sql.OpenDB(demodb.Connector(path, "_busy_timeout=5000"))
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

func sumUp(t *testing.T, db *sql.DB) sums {
	t.Helper()
	var s sums
	if err := db.QueryRowContext(t.Context(), summary).Scan(&s.customers, &s.products, &s.orders, &s.cents, &s.early); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCreateIsDeterministic(t *testing.T) {
	t.Parallel()
	var first []byte
	for range 2 {
		path := filepath.Join(t.TempDir(), "a ?#%", "demo.db")
		if err := demodb.Create(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(first, text) {
			t.Error("two databases differ")
		}
		first = text
		got := sumUp(t, open(t, path))
		if got.customers != 50 || got.products != 30 || got.orders != 400 || got.early != 0 {
			t.Errorf("got %+v, want 50 customers, 30 products, 400 orders, none before its customer", got)
		}
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".demo-*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

func TestCreateByManyAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "demo.db")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := demodb.Create(t.Context(), path); err != nil {
				t.Errorf("Create: %v", err)
			}
		})
	}
	wg.Wait()
	if got := sumUp(t, open(t, path)); got.orders != 400 {
		t.Errorf("got %d orders, want 400", got.orders)
	}
}

func TestCreateKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "demo.db")
	if err := demodb.Create(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	db := open(t, path)
	if _, err := db.ExecContext(t.Context(), "DELETE FROM orders WHERE id <= 100"); err != nil {
		t.Fatal(err)
	}
	if err := demodb.Create(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if got := sumUp(t, db); got.orders != 300 {
		t.Errorf("got %d orders after a second Create, want 300", got.orders)
	}
	if _, err := db.ExecContext(t.Context(), "PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if err := demodb.Create(t.Context(), path); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("Create on another version: got error %v, want one that names it", err)
	}
}

func TestSeedIsAllOrNothing(t *testing.T) {
	t.Parallel()
	db := open(t, filepath.Join(t.TempDir(), "x.db"))
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE orders (id)"); err != nil {
		t.Fatal(err)
	}
	if err := demodb.Seed(t.Context(), db, demodb.SQLite); err == nil {
		t.Fatal("Seed: got no error though a table exists")
	}
	var tables int
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM sqlite_master").Scan(&tables); err != nil {
		t.Fatal(err)
	}
	if tables != 1 {
		t.Errorf("got %d tables and indexes after a failed seed, want the one there was", tables)
	}
}
