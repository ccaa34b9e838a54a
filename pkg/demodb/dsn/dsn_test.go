package dsn_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/demodb/dsn"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := filepath.Join(dir, "dsn")
	if err := os.WriteFile(secret, []byte("postgres://reader:hunter2@db.internal:5433/shop\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken")
	if err := os.WriteFile(broken, []byte("postgres://reader:hunter2@db.internal:port/shop"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, dsn, file string

		wantSQLite string
		wantHost   string
		wantDemo   bool
		wantErr    string
	}{
		{name: "nothing set means the demo database", wantSQLite: filepath.Join(dir, "demo.db"), wantDemo: true},
		{name: "a path means a SQLite file", dsn: "sqlite:/data/shop.db", wantSQLite: "/data/shop.db"},
		{name: "a URL means PostgreSQL", dsn: "postgres://reader@pg/shop", wantHost: "pg"},
		{name: "a file may hold a password", file: secret, wantHost: "db.internal"},
		{name: "the configuration may not", dsn: "postgres://reader:hunter2@pg/shop", wantErr: "dsn_file"},
		{name: "nor in a query", dsn: "postgres://reader@pg/shop?password=hunter2", wantErr: "dsn_file"},
		{name: "both settings are a mistake", dsn: "sqlite:a", file: secret, wantErr: "both"},
		{name: "an unknown scheme is a mistake", dsn: "mysql://hunter2/", wantErr: "want"},
		{name: "a missing path is a mistake", dsn: "sqlite:", wantErr: "no path"},
		{name: "a missing file is a mistake", file: filepath.Join(dir, "none"), wantErr: "dsn_file"},
		{name: "a file with nonsense is a mistake", file: broken, wantErr: "not a PostgreSQL URL"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db, demo, err := dsn.Resolve(tt.dsn, tt.file, dir)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("Resolve: got error %v, want one with %q", err, tt.wantErr)
				}
				if strings.Contains(err.Error(), "hunter2") {
					t.Errorf("Resolve: the error shows the secret: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var host string
			if db.Postgres != nil {
				host = db.Postgres.Host
			}
			if db.SQLite != tt.wantSQLite || host != tt.wantHost || demo != tt.wantDemo {
				t.Errorf("Resolve: got path %q, host %q, demo %v; want %q, %q, %v", db.SQLite, host, demo, tt.wantSQLite, tt.wantHost, tt.wantDemo)
			}
		})
	}
}
