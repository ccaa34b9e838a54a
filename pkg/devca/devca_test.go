package devca_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/devca"
)

func read(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEnsureKeepsWhatIsGoodAndAddsWhatIsMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := devca.Ensure(dir, "edge"); err != nil {
		t.Fatal(err)
	}
	ca, edge := read(t, dir, "ca.crt"), read(t, dir, "edge.crt")
	if err := devca.Ensure(dir, "edge", "weather"); err != nil {
		t.Fatal(err)
	}
	if read(t, dir, "ca.crt") != ca || read(t, dir, "edge.crt") != edge {
		t.Error("what was good was replaced")
	}
	for _, role := range []string{"edge", "weather"} {
		if _, err := devca.Files(dir).Server(role); err != nil {
			t.Errorf("%s: %v", role, err)
		}
		if info, err := os.Stat(filepath.Join(dir, role+".key")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s.key: %v, %v", role, info, err)
		}
	}
}

func TestANewAuthorityReplacesAllCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := devca.Ensure(dir, "edge"); err != nil {
		t.Fatal(err)
	}
	edge := read(t, dir, "edge.crt")
	if err := os.WriteFile(filepath.Join(dir, "ca.key"), []byte("lost"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := devca.Ensure(dir, "edge"); err != nil {
		t.Fatal(err)
	}
	if read(t, dir, "edge.crt") == edge {
		t.Error("a certificate of the old authority is still there")
	}
}
