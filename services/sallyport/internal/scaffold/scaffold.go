// Package scaffold writes the start of a new tool service: its contract, a server
// in the language of its author, and tests of it.
package scaffold

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"
)

//go:embed templates
var templates embed.FS

// names are what services may be called: as roles are, and as packages can be.
var names = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*$`)

// Language is one that there are templates for.
type Language struct {
	Name string
	// Install is what brings what the server needs, and Run what starts it.
	Install, Run string
}

var languages = map[string]Language{
	"typescript": {"typescript", "npm install", "node NAME.ts"},
	"python":     {"python", "pip install -r requirements.txt", "python3 NAME.py"},
	"go":         {"go", "go mod tidy && go build", "./NAME"},
}

// Languages are the names of all.
func Languages() []string { return []string{"typescript", "python", "go"} }

// words are a name in the forms that languages want.
type words struct {
	Name    string // order-status
	Snake   string // order_status
	Pascal  string // OrderStatus
	Words   string // order status
	Package string // order_status.v1
	Long    string // longer than the rule allows
}

func spell(name string) words {
	parts := strings.Split(name, "-")
	var pascal string
	for _, p := range parts {
		pascal += strings.ToUpper(p[:1]) + p[1:]
	}
	snake := strings.Join(parts, "_")
	return words{
		Name: name, Snake: snake, Pascal: pascal, Words: strings.Join(parts, " "), Package: snake + ".v1", Long: strings.Repeat("x", 65),
	}
}

// Write writes a service into a folder that must not have any of its files, and
// returns their names.
func Write(folder, name, language string) (l Language, files []string, err error) {
	l, ok := languages[language]
	if !ok {
		return l, nil, fmt.Errorf("there is no template for %q; there are %s", language, strings.Join(Languages(), ", "))
	}
	if !names.MatchString(name) || len(name) > 40 {
		return l, nil, fmt.Errorf("%q is no name for a service: up to 40 lower-case letters and digits, with dashes between words", name)
	}
	l.Run = strings.ReplaceAll(l.Run, "NAME", name)
	contents := make(map[string][]byte)
	for _, dir := range []string{"common", language} {
		entries, err := fs.ReadDir(templates, path.Join("templates", dir))
		if err != nil {
			return l, nil, err
		}
		for _, e := range entries {
			t, err := template.ParseFS(templates, path.Join("templates", dir, e.Name()))
			if err != nil {
				return l, nil, err
			}
			var b bytes.Buffer
			if err := t.Execute(&b, spell(name)); err != nil {
				return l, nil, err
			}
			file := strings.ReplaceAll(strings.TrimSuffix(e.Name(), ".tmpl"), "NAME", name)
			contents[file], files = b.Bytes(), append(files, file)
		}
	}
	slices.Sort(files)
	for _, file := range files {
		if _, err := os.Lstat(filepath.Join(folder, file)); !errors.Is(err, fs.ErrNotExist) {
			return l, nil, fmt.Errorf("%s is there already; nothing was written", filepath.Join(folder, file))
		}
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return l, nil, err
	}
	for _, file := range files {
		if err := os.WriteFile(filepath.Join(folder, file), contents[file], 0o644); err != nil {
			return l, nil, err
		}
	}
	return l, files, nil
}
