package main

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"go.yaml.in/yaml/v3"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/demodb"
)

var update = flag.Bool("update", false, "write deploy/postgres/10-demo.sql anew")

func TestDeployHoldsTheDemoDatabase(t *testing.T) {
	t.Parallel()
	const file = "../../deploy/postgres/10-demo.sql"
	want := demodb.SQL(demodb.Postgres)
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != want {
		t.Errorf("%s is not what demodb makes (%v); run go test ./services/sallyport -run Deploy -update", file, err)
	}
}

func TestClusterConfigurationIsGood(t *testing.T) {
	t.Parallel()
	if err := validateConfig("../../deploy/config/cluster.yaml"); err != nil {
		t.Error(err)
	}
}

// Compose has a container for every role, each with the binary of its role, and
// the configuration has an address for every role that is called.
func TestComposeHasAContainerPerRole(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var compose struct {
		Services map[string]struct {
			ReadOnly    bool     `yaml:"read_only"`
			CapDrop     []string `yaml:"cap_drop"`
			Healthcheck struct {
				Disable bool `yaml:"disable"`
			} `yaml:"healthcheck"`
			Build struct {
				Dockerfile string            `yaml:"dockerfile"`
				Args       map[string]string `yaml:"args"`
			} `yaml:"build"`
		} `yaml:"services"`
	}
	if err := yaml.Unmarshal(b, &compose); err != nil {
		t.Fatal(err)
	}
	cfg, err := app.Load("../../deploy/config/cluster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range roles() {
		s, ok := compose.Services[r.Name]
		if !ok {
			t.Errorf("no container for %s", r.Name)
			continue
		}
		command := s.Build.Args["COMMAND"]
		if _, err := os.Stat(filepath.Join("../..", command, "main.go")); err != nil || !strings.HasSuffix(command, "/"+r.Name+"d") {
			t.Errorf("%s is built from %q (%v)", r.Name, command, err)
		}
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || s.Healthcheck.Disable || s.Build.Dockerfile != "deploy/Dockerfile" {
			t.Errorf("%s: %+v", r.Name, s)
		}
		if len(r.Allow) > 0 && cfg.Listen[r.Name] == "" {
			t.Errorf("cluster.yaml has no listen.%s", r.Name)
		}
	}
}

func TestBootstrapKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	dir, db := t.TempDir(), t.TempDir()
	for range 2 {
		if err := bootstrap(dir); err != nil {
			t.Fatal(err)
		}
		if err := bootstrapDatabase(db, "postgres:5432"); err != nil {
			t.Fatal(err)
		}
	}
	before := contents(t, dir, db)
	if err := bootstrap(dir); err != nil {
		t.Fatal(err)
	}
	if err := bootstrapDatabase(db, "postgres:5432"); err != nil {
		t.Fatal(err)
	}
	for name, b := range contents(t, dir, db) {
		if before[name] != b {
			t.Errorf("%s has changed", name)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "grant.key"))
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 32 {
		t.Errorf("grant.key: %v, %v", info, err)
	}
}

func contents(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			out[filepath.Join(dir, e.Name())] = string(b)
		}
	}
	return out
}

func TestNATSConfigurationIsGood(t *testing.T) {
	t.Parallel()
	root := t.TempDir() // as the container sees it
	if err := bootstrap(filepath.Join(root, "identity")); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("../../deploy/config/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root, "etc", "nats.conf")
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	password, err := os.ReadFile(filepath.Join(root, "identity", "nats.password"))
	if err != nil {
		t.Fatal(err)
	}
	if !opts.JetStream || !opts.SyncAlways || opts.Username != "sallyport" || opts.Password != string(password) {
		t.Errorf("JetStream %t, synchronous %t, user %q, password as bootstrapped %t", opts.JetStream, opts.SyncAlways, opts.Username, opts.Password == string(password))
	}
}

func TestConfigSchemaKnowsEveryRole(t *testing.T) {
	t.Parallel()
	s := configSchema()
	props, _ := s["properties"].(map[string]any)
	roles, _ := props["roles"].(map[string]any)
	known, _ := roles["properties"].(map[string]any)
	for role := range sections() {
		section, _ := known[role].(map[string]any)
		if fields, _ := section["properties"].(map[string]any); len(fields) == 0 {
			t.Errorf("the schema says nothing of roles.%s", role)
		}
	}
}
