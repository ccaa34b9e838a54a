package secret_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/secret"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/span"
)

const (
	token = "ghp_" + "x7Kq2mVb9TzR4wLp8NcD3fHj6GsYaE1uQo5B"
	value = "q8Zr2LxV0bNc7KtY4sWd"
)

func TestFind(t *testing.T) {
	t.Parallel()
	g, err := secret.New()
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("QmFzZTY0IGlzIGxvbmc5", 500)
	for _, tt := range []struct {
		about, name, text, want string
	}{
		{"a token alone", "", token, "[removed: secret github-pat]"},
		{"two tokens", "", token + " and " + token, "[removed: secret github-pat] and [removed: secret github-pat]"},
		{"one that is too short", "", token[:20], token[:20]},
		{"one with a name in the text", "", "API_KEY=" + value, "API_KEY=[removed: secret generic-api-key]"},
		{"one with a name in the JSON", "client_secret", value, "[removed: secret generic-api-key]"},
		{"the same without a name", "", value, value},
		{"the same with a name that says nothing", "title", value, value},
		{"a name and a text", "password_hint", "the name of your dog", "the name of your dog"},
		{"an example of Amazon's", "", "AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"},
		{"a placeholder", "", "api_key=${API_KEY}", "api_key=${API_KEY}"},
		{"a key without an end", "", "-----BEGIN PRIVATE KEY-----\nMIIE", "-----BEGIN PRIVATE KEY-----\nMIIE"},
		{
			"a key with one", "", "a -----BEGIN PRIVATE KEY-----\n" + strings.Repeat("MIIEvQIBADAN\n", 30) + "-----END PRIVATE KEY----- b",
			"a [removed: secret private-key] b",
		},
		{"one longer than a rule is tried on", "", "api_key=" + long, "api_key=[removed: secret generic-api-key]"},
		{"within a URL", "", "https://x.example/?a=b&token=" + value + "&c=d", "https://x.example/?a=b&token=[removed: secret generic-api-key]&c=d"},
		{"a git hash", "", "commit 1b4f0e9851971998e732078544c96b36c3d01ced", "commit 1b4f0e9851971998e732078544c96b36c3d01ced"},
		{"a UUID", "key_id", "550e8400-e29b-41d4-a716-446655440000", "550e8400-e29b-41d4-a716-446655440000"},
	} {
		if diff := cmp.Diff(tt.want, span.Replace(tt.text, g.Find(tt.name, tt.text))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.about, diff)
		}
	}
}

// A text that is made to be costly is not passed on, nor looked at for long.
func TestCostlyTextIsCutOff(t *testing.T) {
	t.Parallel()
	g, err := secret.New()
	if err != nil {
		t.Fatal(err)
	}
	found := g.Find("", strings.Repeat("curl ", 100_000)+token)
	if len(found) == 0 || found[0].Rule != "unscanned" || found[0].End != 500_000+len(token) {
		t.Errorf("found %+v", found)
	}
}

func FuzzFind(f *testing.F) {
	for _, list := range samples(f) {
		f.Add("name", list[0])
	}
	f.Add("api_key", "x%41%42=QUtJQQ== 6162636465666768696a6b6c6d6e6f707172737475767778")
	g, err := secret.New()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		at := 0
		for _, one := range g.Find(name, text) {
			if one.Start < at || one.End <= one.Start || one.End > len(text) || one.Rule == "" || len(one.Rule) > 64 {
				t.Fatalf("found %+v in %q", one, text)
			}
			at = one.End
		}
	})
}
