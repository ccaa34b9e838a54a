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
		{"one that ends with its line", "", "https://1b4f0e98:51971998@gems.contribsys.com\nend", "https://[removed: secret sidekiq-sensitive-url]@gems.contribsys.com\nend"},
		{"a short one in base64", "", "eG94YS00LUxQZWxKR0tmY2M=", "[removed: secret slack-legacy-workspace-token]"},
		{"a git hash", "", "commit 1b4f0e9851971998e732078544c96b36c3d01ced", "commit 1b4f0e9851971998e732078544c96b36c3d01ced"},
		{"a UUID", "key_id", "550e8400-e29b-41d4-a716-446655440000", "550e8400-e29b-41d4-a716-446655440000"},
	} {
		if diff := cmp.Diff(tt.want, span.Replace(tt.text, g.Find(tt.name, tt.text))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.about, diff)
		}
	}
}

// Tokens and keys in the results of usual APIs that are no secrets: who gets one has
// to give it back as it is.
func TestWhatHasToComeBackIsKept(t *testing.T) {
	t.Parallel()
	g, err := secret.New()
	if err != nil {
		t.Fatal(err)
	}
	const token = "eCiAgICJsYXN0IjogMTIzNDU2Nzg5MH0x8Zr2Lx"
	for name, text := range map[string]string{
		"nextToken": token, "next_page_token": token, "NextContinuationToken": token, "pageToken": token, "nextSyncToken": token, "endCursor": token,
		"idempotency_key": "b1946ac92492d2347c6235b4", "Key": "backups-2026-11-28.db8f3a9c.tar.gz", "key": "PROJ-12345678", "partitionKey": "a8f5f167f44f4964",
		"primary_key": "a8f5f167f44f4964e6c998de", "public_key": "a8f5f167f44f4964e6c998de", "node_id": "MDQ6VXNlcjU4MzIzMQ==", "author": "q8Zr2LxV0bNc7KtY4sWd",
		"etag": "686897696a7c876b7e", "sha": "6dcb09b5b57875f334f61aebed695e2e4193db5e", "last_accessed": "2026-11-28T23:40:00.123456Z",
		"arn": "arn:aws:iam::123456789012:role/service-role/x8f3a9c", "url": "https://api.example.com/v1/items?after=" + token, "id": "cus_NffrFeUfNV2Hib",
		"keyboard": "qwertz-2026-12-34", "monkey": "q8Zr2LxV0bNc7KtY4sWd", "uid": "7f3c1b0a-6d5e-4c2b-9a1f-0e8d7c6b5a49", "resourceVersion": "1234567890123",
	} {
		if found := g.Find(name, text); found != nil {
			t.Errorf("%s: %s is taken for %s", name, text, found[0].Rule)
		}
		line := `{"` + name + `": "` + text + `"}`
		if found := g.Find("", line); found != nil {
			t.Errorf("%s is taken for %s", line, found[0].Rule)
		}
	}
	for name, text := range map[string]string{
		"access_token": token, "refresh_token": token, "client_secret": token, "apiKey": token, "x-api-key": token, "private_key": token, "db_password": "Tr0ub4dor-3x9",
		"secret_key": token, "auth_token": token,
	} {
		if g.Find(name, text) == nil || g.Find("", `{"`+name+`": "`+text+`"}`) == nil {
			t.Errorf("%s is not found", name)
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
