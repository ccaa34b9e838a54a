// Package pgtest runs a private PostgreSQL server for a test, from the binaries
// of the Debian package "postgresql".
//
// A test that needs it fails where they are missing: a guard that is not tested
// must not look as if it were.
package pgtest

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Start starts an empty server that lives until the test ends and returns its
// DSN, of a superuser. It listens on a Unix socket only.
func Start(t testing.TB) string {
	t.Helper()
	bin := binaries(t)
	// Not t.TempDir: the path of a socket is limited to some 100 bytes, and the
	// server's user must be able to walk there.
	dir, err := os.MkdirTemp("", "sallyport-pg-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the test server's folder: %v", err)
		}
	})
	as := unprivileged(t, dir)
	data := filepath.Join(dir, "data")
	run(t, dir, as, filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
	run(t, dir, as, filepath.Join(bin, "pg_ctl"), "-D", data, "-w", "-l", filepath.Join(dir, "log"),
		"-o", "-c listen_addresses= -c fsync=off -k "+dir, "start")
	t.Cleanup(func() {
		run(t, dir, as, filepath.Join(bin, "pg_ctl"), "-D", data, "-w", "-m", "immediate", "stop")
	})
	return "postgres://postgres@/postgres?host=" + dir
}

// Exec runs a script at dsn.
func Exec(t testing.TB, dsn, script string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // also used in cleanups
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.PgConn().Exec(ctx, script).ReadAll()
	if err != nil {
		t.Errorf("run script: %v", err)
	}
	if err := conn.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// As returns dsn with another user.
func As(t testing.TB, dsn, name string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(name)
	return u.String()
}

// binaries returns the folder of the newest server.
func binaries(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		t.Fatal(err)
	}
	newest, dir := 0, ""
	for _, f := range found {
		bin := filepath.Dir(f)
		if v, err := strconv.Atoi(filepath.Base(filepath.Dir(bin))); err == nil && v > newest {
			newest, dir = v, bin
		}
	}
	if dir == "" {
		t.Fatal("no PostgreSQL server in /usr/lib/postgresql: install the Debian package postgresql")
	}
	return dir
}

// unprivileged returns whom the server runs as, and gives them dir: PostgreSQL
// refuses to run as root.
func unprivileged(t testing.TB, dir string) *syscall.SysProcAttr {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatalf("find a user to run the server as: %v", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		t.Fatal(err)
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

func run(t testing.TB, dir string, as *syscall.SysProcAttr, command string, args ...string) {
	t.Helper()
	cmd := exec.Command(command, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = as
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	// A file, not a pipe: the server inherits it, and a pipe would keep Wait
	// waiting until the server ends.
	out, err := os.CreateTemp(dir, "out")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	text, _ := os.ReadFile(out.Name())
	if closeErr := out.Close(); closeErr != nil {
		t.Errorf("close output: %v", closeErr)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", filepath.Base(command), err, bytes.TrimSpace(text))
	}
}
