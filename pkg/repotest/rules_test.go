package repotest

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// maxLines is the longest a file may be.
const maxLines = 500

func TestFilesAreShort(t *testing.T) {
	for name := range files(t) {
		if strings.HasPrefix(name, "pkg/gen/") {
			continue
		}
		f, err := os.Open(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for s := bufio.NewScanner(f); s.Scan(); {
			n++
		}
		_ = f.Close()
		if n > maxLines {
			t.Errorf("%s has %d lines, at most %d are wanted; split it by subject", name, n, maxLines)
		}
	}
}

func TestPackagesAreNamedForWhatTheyGive(t *testing.T) {
	banned := []string{"util", "utils", "common", "helpers", "helper", "shared", "types", "models", "misc", "interfaces"}
	for name := range files(t) {
		for part := range strings.SplitSeq(strings.TrimSuffix(name, ".go"), "/") {
			if slices.Contains(banned, part) {
				t.Errorf("%s: %q says nothing", name, part)
			}
		}
	}
}

// Each framework has few importers, so that it can be replaced. Tests may import
// what they like.
func TestFrameworksHaveFewImporters(t *testing.T) {
	allowed := map[string][]string{
		"github.com/nats-io/nats-server/":        {"pkg/bus/embed"},
		"github.com/nats-io/nats.go":             {"pkg/bus", "services/audit", "services/quota/bench"},
		"go.opentelemetry.io/otel/sdk":           {"pkg/telemetry"},
		"go.opentelemetry.io/otel/exporters":     {"pkg/telemetry"},
		"buf.build/go/protovalidate":             {"pkg/rpc", "services/executor"},
		"github.com/cedar-policy/cedar-go":       {"services/auth/internal/policy"},
		"github.com/modelcontextprotocol/go-sdk": {"services/sallyport/bench", "services/sallyport/e2e"},
		"github.com/spf13/cobra":                 {"services/sallyport"},
		"github.com/bufbuild/protocompile":       {"services/sallyport"},
		"modernc.org/sqlite":                     {"pkg/demodb", "services/audit", "services/tools"},
		"github.com/jackc/pgx":                   {"pkg/demodb", "services/tools"},
		"github.com/go-json-experiment/json":     {"pkg/strictjson", "pkg/taint", "services/edge", "services/executor", "services/auth", "services/tools/openapi"},
		"go.yaml.in/yaml":                        {"pkg/app", "services/sallyport", "services/quota", "services/tools/openapi/internal/document"},
		"github.com/getkin/kin-openapi":          {"services/tools/openapi/internal/document"},
		"golang.org/x/oauth2":                    {"services/tools/openapi/internal/credential"},
		"github.com/prometheus/client_golang":    {"pkg/telemetry"},
		"github.com/google/jsonschema-go":        {"services/executor"},
		"github.com/failsafe-go/failsafe-go":     {"services/executor"},
		"github.com/yosida95/uritemplate":        {"services/executor", "services/tools/mcpbridge"},
		"github.com/rogpeppe/go-internal":        {"services/sallyport"},
	}
	for name, f := range files(t) {
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "pkg/gen/") || strings.Contains(name, "test/") {
			continue
		}
		for _, spec := range f.Imports {
			imp, _ := strconv.Unquote(spec.Path.Value)
			for framework, importers := range allowed {
				if strings.HasPrefix(imp, framework) && !slices.ContainsFunc(importers, func(p string) bool { return strings.HasPrefix(name, p+"/") }) {
					t.Errorf("%s imports %s, which is for %v", name, imp, importers)
				}
			}
		}
	}
}

// A binary links no more than it needs: above all the edge, which hostile clients
// talk to.
func TestBinariesLinkOnlyWhatTheyNeed(t *testing.T) {
	imports := make(map[string][]string) // package folder to folders of ours
	for name, f := range files(t) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, spec := range f.Imports {
			imp, _ := strconv.Unquote(spec.Path.Value)
			if ours, ok := strings.CutPrefix(imp, module+"/"); ok {
				imports[path.Dir(name)] = append(imports[path.Dir(name)], ours)
			}
		}
	}
	var reach func(dir string, seen map[string]bool)
	reach = func(dir string, seen map[string]bool) {
		if seen[dir] {
			return
		}
		seen[dir] = true
		for _, next := range imports[dir] {
			reach(next, seen)
		}
	}
	for dir := range imports {
		own := service(dir + "/main.go")
		if !strings.HasSuffix(dir, "d") || !strings.HasPrefix(dir, "services/") || own == "sallyport" {
			continue
		}
		seen := make(map[string]bool)
		reach(dir, seen)
		if seen["pkg/bus/embed"] {
			t.Errorf("%s links the NATS server", dir)
		}
		for p := range seen {
			if s := service(p + "/x.go"); s != "" && s != own {
				t.Errorf("%s links %s", dir, p)
			}
		}
	}
	seen := make(map[string]bool)
	reach("services/sallyport", seen)
	if seen["services/tools/conformance"] {
		t.Error("services/sallyport links the conformance fixtures")
	}
}

func TestExportedNamesAreExplained(t *testing.T) {
	for name := range files(t) {
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "pkg/gen/") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) && d.Doc == nil {
					t.Errorf("%s: %s has no comment", name, d.Name.Name)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if ts, ok := s.(*ast.TypeSpec); ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil {
						t.Errorf("%s: %s has no comment", name, ts.Name.Name)
					}
				}
			}
		}
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if gen, ok := typ.(*ast.IndexExpr); ok {
		typ = gen.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

func TestNoInitAndNoSleepInTests(t *testing.T) {
	for name := range files(t) {
		if strings.HasPrefix(name, "pkg/gen/") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if regexp.MustCompile(`(?m)^func init\(\)`).Match(b) {
			t.Errorf("%s has an init function", name)
		}
		if strings.HasSuffix(name, "_test.go") && regexp.MustCompile(`\btime\.Sleep`+`\(`).Match(b) && !strings.Contains(string(b), "testing/synctest") {
			t.Errorf("%s sleeps", name)
		}
	}
}

func TestTopLevelIsTheGivenOne(t *testing.T) {
	given := []string{
		"go.mod", "go.sum", "proto", "services", "pkg", "deploy", "buf.yaml", "buf.gen.yaml", "buf.lock", "docker-compose.yml",
		"Makefile", "README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "bin",
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(given, e.Name()) {
			t.Errorf("the top level has %s", e.Name())
		}
	}
}
