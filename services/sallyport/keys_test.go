package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// wellFormed is a key of nobody.
const wellFormed = "sp_dev_7Xk2abcdef_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg3xdlhJ"

func TestKeyCheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		args  []string
		stdin string
		code  int
		want  string
	}{
		{"a key on standard input", nil, wellFormed + "\n", exitOK, "sp_dev_7Xk2abcdef_… is a well-formed key for the environment dev"},
		{"a key as an argument", []string{wellFormed}, "", exitOK, "well-formed key"},
		{"a key for a program", []string{"--json"}, wellFormed, exitOK, `{"env":"dev","id":"7Xk2abcdef","masked":"sp_dev_7Xk2abcdef_…","well_formed":true}`},
		{"a key with a typing mistake", nil, strings.Replace(wellFormed, "ABCDEF", "ABCDEG", 1), exitNo, "checksum is wrong"},
		{"a key that is cut off", nil, wellFormed[:40], exitNo, "not of the form"},
		{"another secret for a program", []string{"-o", "json"}, "ghp_ABCDEF", exitNo, `{"well_formed":false}`},
		{"nothing", nil, "", exitNo, "not of the form"},
		{"a flood", nil, strings.Repeat(wellFormed, 10000), exitNo, "not of the form"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out, errOut bytes.Buffer
			code := run(t.Context(), append([]string{"key", "check"}, tt.args...), strings.NewReader(tt.stdin), &out, &errOut)
			all := out.String() + errOut.String()
			if code != tt.code || !strings.Contains(all, tt.want) {
				t.Errorf("got exit %d, %q; want %d, %q", code, all, tt.code, tt.want)
			}
			if strings.Contains(all, "ABCDE") {
				t.Errorf("the secret is repeated: %q", all)
			}
		})
	}
}

func TestKeyPattern(t *testing.T) {
	t.Parallel()
	print := func(args ...string) string {
		var out bytes.Buffer
		if code := run(t.Context(), append([]string{"key", "pattern"}, args...), strings.NewReader(""), &out, &out); code != exitOK {
			t.Fatalf("got exit %d: %s", code, out.String())
		}
		return out.String()
	}
	plain := strings.TrimSuffix(print(), "\n")
	rule := regexp.MustCompile(`(?m)^regex = '''(.*)'''$`).FindStringSubmatch(print("--gitleaks"))
	if len(rule) != 2 || rule[1] != plain {
		t.Fatalf("got rule %q, want the pattern %q in it", rule, plain)
	}
	pattern, err := regexp.Compile(plain)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{wellFormed, "KEY=" + wellFormed + "\n", `{"key":"` + wellFormed + `"}`, "Bearer " + wellFormed + ","} {
		if got := pattern.FindString(text); got != wellFormed {
			t.Errorf("in %q: got %q, want the key", text, got)
		}
	}
	for _, text := range []string{wellFormed[1:], wellFormed + "0", "sp_dev_7Xk2abcdef_…"} {
		if got := pattern.FindString(text); got != "" {
			t.Errorf("in %q: got %q, want nothing", text, got)
		}
	}
}

// TestKeyCommands follows keys through their lives as an operator does.
func TestKeyCommands(t *testing.T) {
	t.Parallel()
	i, _ := dev(t, t.TempDir())
	key := func(args ...string) (code int, stdout, stderr string) {
		t.Helper()
		return sallyport(t, i, append([]string{"key"}, args...)...)
	}
	// call calls echo with a key, and returns the exit code.
	call := func(secret string) int {
		t.Helper()
		file := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
		code, _, _ := sallyport(t, i, "call", "echo", "text=x", "--key-file", file)
		return code
	}
	code, first, note := key("create", "ci", "--role", "analyst", "--owner", "anna", "--tool", "echo", "--network", "127.0.0.0/8,::1/128")
	if code != exitOK || !strings.Contains(note, "not shown again") || strings.Contains(note, strings.TrimSpace(first)) {
		t.Fatalf("create: got exit %d, %q on standard error", code, note)
	}
	if code, second, note := key("create", "quiet", "--role", "analyst", "--quiet"); code != exitOK || note != "" || strings.Count(second, "\n") != 1 {
		t.Errorf("create --quiet: got exit %d, %q on standard error, and %d lines", code, note, strings.Count(second, "\n"))
	}
	if got := call(first); got != exitOK {
		t.Errorf("a call with the key: got exit %d", got)
	}

	if code, _, said := key("rotate", "ci"); code != exitUsage || !strings.Contains(said, "overlap") {
		t.Errorf("rotate without an overlap: got exit %d, %q", code, said)
	}
	if code, _, said := key("rotate", "ci", "--overlap", "8d"); code != exitUsage || !strings.Contains(said, "7d") {
		t.Errorf("rotate with too long an overlap: got exit %d, %q", code, said)
	}
	code, second, note := key("rotate", "ci", "--overlap", "1h")
	if code != exitOK || !strings.Contains(note, "lives until") || call(first) != exitOK || call(second) != exitOK {
		t.Errorf("rotate: got exit %d, %q; want both secrets good", code, note)
	}
	code, third, note := key("rotate", "ci", "--overlap", "0", "--json")
	var rotated struct{ Key, State string }
	if err := json.Unmarshal([]byte(third), &rotated); err != nil || code != exitOK || rotated.State != "active" || note != "" {
		t.Errorf("rotate at once: got exit %d, %v, state %q, %q", code, err, rotated.State, note)
	}
	if call(first) != exitForbidden || call(second) != exitForbidden || call(rotated.Key) != exitOK {
		t.Error("after rotation at once: an old secret is good, or the new one is not")
	}

	_, listed, _ := key("list", "--json")
	var keys []map[string]any
	if err := json.Unmarshal([]byte(listed), &keys); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if k["name"] != "ci" {
			continue
		}
		got := map[string]any{"owner": k["owner"], "state": k["state"], "tools": k["tools"], "networks": k["networks"], "last_tool": k["last_tool"], "last_address": k["last_address"], "old_peppers": k["old_peppers"]}
		want := map[string]any{"owner": "anna", "state": "active", "tools": []any{"echo"}, "networks": []any{"127.0.0.0/8", "::1/128"}, "last_tool": "echo", "last_address": "127.0.0.1", "old_peppers": []any{}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("list --json (-want +got):\n%s", diff)
		}
	}
	_, shown, _ := key("list")
	heading, _, _ := strings.Cut(shown, "\n")
	if got, want := strings.Join(strings.Fields(heading), " "), "NAME KEY OWNER ROLES TENANT STATE CREATED LAST USED EXPIRES TOOLS NETWORKS"; got != want {
		t.Errorf("list: got heading %q, want %q", got, want)
	}
	if !strings.Contains(shown, "Z echo 127.0.0.1") {
		t.Errorf("list does not show the last use:\n%s", shown)
	}

	code, said, _ := key("revoke", rotated.Key) // as it was found somewhere
	if code != exitOK || !strings.Contains(said, "(ci) is revoked") || strings.Contains(said, rotated.Key) {
		t.Errorf("revoke by the key itself: got exit %d, %q", code, said)
	}
	if _, shown, _ := key("list", "--live"); strings.Contains(shown, "revoked") || !strings.Contains(shown, "quiet") {
		t.Errorf("list --live: got\n%s", shown)
	}
	if code, _, said := key("rotate", "ci", "--overlap", "1h"); code != exitNo || !strings.Contains(said, "make a new one") {
		t.Errorf("rotate a revoked key: got exit %d, %q", code, said)
	}
	if code, said, errs := key("revoke", wellFormed); code != exitNo || !strings.Contains(errs, "no key has this id or name") || strings.Contains(said+errs, "ABCDE") {
		t.Errorf("revoke a key of nobody: got exit %d, %q", code, said+errs)
	}
	if code, _, errs := key("create", "old", "--role", "analyst", "--expires", "366d"); code != exitNo || !strings.Contains(errs, "at most 365 days") {
		t.Errorf("create with too long a life: got exit %d, %q", code, errs)
	}
}
