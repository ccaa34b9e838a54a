package guard_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard"
)

// token is a secret of the shape of GitHub's.
const token = "ghp_" + "x7Kq2mVb9TzR4wLp8NcD3fHj6GsYaE1uQo5B"

func chain(t testing.TB, configure ...func(*guard.Config)) *guard.Chain {
	t.Helper()
	cfg := guard.DefaultConfig()
	for _, c := range configure {
		c(&cfg)
	}
	c, err := guard.New(cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// told writes findings as short words.
func told(all []*auditv1.GuardFinding) (out []string) {
	for _, f := range all {
		out = append(out, fmt.Sprintf("%s %s %s %s %s ×%d %s", f.GetSide().String()[11:], f.GetGuard(), f.GetRule(),
			f.GetMode().String()[11:], f.GetAction().String()[13:], f.GetCount(), f.GetPointer()))
	}
	return out
}

func TestArguments(t *testing.T) {
	t.Parallel()
	everywhere := func(m guard.Mode) func(*guard.Config) {
		return func(c *guard.Config) { c.Defaults.Controls.Arguments = m }
	}
	tests := []struct {
		name      string
		configure func(*guard.Config)
		raw       string
		blocked   *guard.Blocked
		findings  []string
	}{
		{name: "honest text", raw: `{"text":"Hé 👩🏽\u200d💻 می\u200cخواهم","n":[1,true,null,"x"]}`},
		{
			name: "tags are blocked", raw: `{"a":{"b":["x","hi\udb40\udc41"]}}`,
			blocked:  &guard.Blocked{Guard: "controls", Rule: "tags", Pointer: "/a/b/1"},
			findings: []string{"ARGUMENTS controls tags BLOCK BLOCKED ×1 /a/b/1"},
		},
		{
			name: "in a name, which is not told", raw: `{"a":{"b\u202ec":1}}`,
			blocked:  &guard.Blocked{Guard: "controls", Rule: "bidi", Pointer: "/a"},
			findings: []string{"ARGUMENTS controls bidi BLOCK BLOCKED ×1 /a"},
		},
		{
			name: "to redact is to block: arguments are not changed", configure: everywhere(guard.Redact), raw: `{"a":"\u001b[31m"}`,
			blocked:  &guard.Blocked{Guard: "controls", Rule: "terminal-sequence", Pointer: "/a"},
			findings: []string{"ARGUMENTS controls terminal-sequence REDACT BLOCKED ×1 /a"},
		},
		{
			name: "to observe is to record, in sum", configure: everywhere(guard.Observe), raw: `{"a":"\u001b[31mx\u001b[0m","b":"\u202e"}`,
			findings: []string{"ARGUMENTS controls terminal-sequence OBSERVE OBSERVED ×2 /a", "ARGUMENTS controls bidi OBSERVE OBSERVED ×1 /b"},
		},
		{name: "off is not to look", configure: everywhere(guard.Off), raw: `{"a":"\u001b[31m"}`},
		{name: "a secret is recorded", raw: `{"q":"` + token + `"}`, findings: []string{"ARGUMENTS secrets github-pat OBSERVE OBSERVED ×1 /q"}},
		{
			name: "what is not JSON is blocked", raw: `{"q":`,
			blocked:  &guard.Blocked{Guard: "controls", Rule: "unreadable"},
			findings: []string{"ARGUMENTS controls unreadable BLOCK BLOCKED ×1 "},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.configure == nil {
				tt.configure = func(*guard.Config) {}
			}
			check := chain(t, tt.configure).For(t.Context(), guard.Call{Tool: "t"})
			if diff := cmp.Diff(tt.blocked, check.Arguments([]byte(tt.raw))); diff != "" {
				t.Errorf("blocked (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.findings, told(check.Findings())); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestJSONIsChangedWhereItMustBe(t *testing.T) {
	t.Parallel()
	check := chain(t).For(t.Context(), guard.Call{Tool: "t"})
	raw := `{ "a" : "x\u200by", "log": ["ok\n", "token=` + token + `"], "api_key":"q8Zr2LxV0bNc7KtY4sWd", "n": 1.50e3 }`
	got, blocked := check.JSON([]byte(raw), "/structuredContent")
	want := `{ "a" : "xy", "log": ["ok\n", "token=[removed: secret github-pat]"], "api_key":"[removed: secret generic-api-key]", "n": 1.50e3 }`
	if blocked != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, blocked, want)
	}
	if !json.Valid(got) {
		t.Error("it is not JSON any more")
	}
	findings := []string{
		"RESULT invisibles zero-width REDACT REDACTED ×1 /structuredContent/a",
		"RESULT secrets github-pat REDACT REDACTED ×1 /structuredContent/log/1",
		"RESULT secrets generic-api-key REDACT REDACTED ×1 /structuredContent/api_key",
	}
	if diff := cmp.Diff(findings, told(check.Findings())); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

// A name cannot be changed, so a result with a secret for a name is not passed on.
func TestSecretNamesAreBlocked(t *testing.T) {
	t.Parallel()
	check := chain(t).For(t.Context(), guard.Call{Tool: "t"})
	_, blocked := check.JSON([]byte(`{"keys":{"`+token+`":1}}`), "")
	if diff := cmp.Diff(&guard.Blocked{Guard: "secrets", Rule: "github-pat", Pointer: "/keys"}, blocked); diff != "" {
		t.Errorf("blocked (-want +got):\n%s", diff)
	}
}

// What is left when something is taken out may be something again.
func TestRedactionLeavesNothingToFind(t *testing.T) {
	t.Parallel()
	check := chain(t).For(t.Context(), guard.Call{Tool: "t"})
	got, blocked := check.Text("a\u009b\u202e31m \x1b\u2066]0;x\x07 gh\u200bp_"+token[4:], "")
	if want := "a31m  [removed: secret github-pat]"; blocked != nil || got != want {
		t.Errorf("got %+q, %v, want %+q", got, blocked, want)
	}
}

func TestResult(t *testing.T) {
	t.Parallel()
	r := &providerv1.ToolResult{
		Content: []*providerv1.Content{
			{Kind: &providerv1.Content_Text{Text: "a " + token}, Meta: []byte(`{"m":"` + token + `"}`)},
			{Kind: &providerv1.Content_Image{Image: &providerv1.Media{Data: []byte(token)}}},
			{Kind: &providerv1.Content_Resource{Resource: &providerv1.ResourceContents{Uri: "x://a", Body: &providerv1.ResourceContents_Text{Text: token}}}},
			{Kind: &providerv1.Content_ResourceLink{ResourceLink: &providerv1.ResourceLink{Uri: "x://a", Name: "n\u200b", Description: token}}},
			{Kind: &providerv1.Content_Other{Other: []byte(`{"type":"x","t":"` + token + `"}`)}},
		},
		Structured: []byte(`{"s":"` + token + `"}`), Meta: []byte(`{"m":"` + token + `"}`),
	}
	const gone = "[removed: secret github-pat]"
	want := &providerv1.ToolResult{
		Content: []*providerv1.Content{
			{Kind: &providerv1.Content_Text{Text: "a " + gone}, Meta: []byte(`{"m":"` + gone + `"}`)},
			{Kind: &providerv1.Content_Image{Image: &providerv1.Media{Data: []byte(token)}}},
			{Kind: &providerv1.Content_Resource{Resource: &providerv1.ResourceContents{Uri: "x://a", Body: &providerv1.ResourceContents_Text{Text: gone}}}},
			{Kind: &providerv1.Content_ResourceLink{ResourceLink: &providerv1.ResourceLink{Uri: "x://a", Name: "n", Description: gone}}},
			{Kind: &providerv1.Content_Other{Other: []byte(`{"type":"x","t":"` + gone + `"}`)}},
		},
		Structured: []byte(`{"s":"` + gone + `"}`), Meta: []byte(`{"m":"` + gone + `"}`),
	}
	check := chain(t).For(t.Context(), guard.Call{Tool: "t"})
	if b := check.Result(r); b != nil {
		t.Fatalf("blocked: %+v", b)
	}
	if diff := cmp.Diff(want, r, protocmp.Transform()); diff != "" {
		t.Errorf("Result (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{
		"RESULT secrets github-pat REDACT REDACTED ×7 /content/0/text",
		"RESULT invisibles zero-width REDACT REDACTED ×1 /content/3/name",
	}, told(check.Findings())); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestModesAreByToolAndRole(t *testing.T) {
	t.Parallel()
	c := chain(t, func(c *guard.Config) {
		c.Defaults.Personal.Results = guard.Redact
		c.Tools = map[string]guard.Set{"crm": {Personal: guard.Modes{Results: guard.Observe}}, "vault": {Personal: guard.Modes{Results: guard.Block}}}
		c.Roles = map[string]guard.Set{"support": {Personal: guard.Modes{Results: guard.Off}}, "guest": {Personal: guard.Modes{Results: guard.Redact}}}
	})
	for _, tt := range []struct {
		name, tool string
		roles      []string
		want       string // action
	}{
		{"the default", "other", nil, "REDACTED"},
		{"the tool is laxer than the default", "crm", nil, "OBSERVED"},
		{"a role is laxer than the default", "other", []string{"support"}, ""},
		{"of tool and role the stricter", "crm", []string{"support"}, "OBSERVED"},
		{"of two roles the stricter", "crm", []string{"support", "guest"}, "REDACTED"},
		{"a role that is not named says nothing", "vault", []string{"x"}, "BLOCKED"},
	} {
		check := c.For(t.Context(), guard.Call{Tool: tt.tool, Roles: tt.roles})
		check.Text("anna@example.org", "")
		got := ""
		if f := check.Findings(); len(f) > 0 {
			got = f[0].GetAction().String()[13:]
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// The record is bounded, and what has blocked is in it whatever else there is.
func TestFindingsAreBounded(t *testing.T) {
	t.Parallel()
	check := chain(t, func(c *guard.Config) {
		c.Defaults.Secrets.Results, c.Defaults.Personal.Results = guard.Observe, guard.Block
	}).For(t.Context(), guard.Call{Tool: "t"})
	for _, s := range []string{
		"glpat-", "ghp_", "gho_", "ghr_", "npm_", "hf_", "shpat_", "shpca_", "shppa_", "shpss_", "gldt-", "glft-", "glrt-", "glptt-",
		"glffct-", "glimt-", "glagent-", "gloas-", "glsoat-", "rubygems_", "rdme_", "pul-", "pplx-", "pnu_", "sntryu_", "doo_v1_", "dop_v1_",
		"dor_v1_", "dapi", "ico-", "tk-us-", "lin_api_", "duffel_test_", "fio-u-", "dp.pt.", "sq0atp-",
	} {
		check.Text(s+"a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90", "")
		check.Text(s+strings.Repeat("kYxQzWvTbnMp", 3)[:34], "")
		check.Text(s+"a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4"[:32], "")
		check.Text(s+"a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4", "")
		check.Text(s+"a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718", "")
	}
	long := "/" + strings.Repeat("é", 300)
	if _, b := check.Text("anna@example.org", long); b == nil || len(b.Pointer) > 256 {
		t.Fatalf("blocked = %+v", b)
	}
	f := check.Findings()
	if len(f) > 32 || f[0].GetAction() != auditv1.GuardAction_GUARD_ACTION_BLOCKED || len(f[0].GetPointer()) > 256 {
		t.Errorf("%d findings, the first is %v", len(f), f[0])
	}
	for _, one := range f {
		if strings.Contains(one.String(), "a1b2c3d4") {
			t.Errorf("a value is in the record: %v", one)
		}
	}
}

func TestConfigMistakesAreToldTogether(t *testing.T) {
	t.Parallel()
	cfg := guard.DefaultConfig()
	cfg.Defaults.Secrets.Results = "on"
	cfg.Defaults.Links.Arguments = ""
	cfg.Tools = map[string]guard.Set{"no tool!": {}, "t": {Injection: guard.Modes{Results: guard.Redact}}}
	cfg.Roles = map[string]guard.Set{"": {}}
	cfg.AllowedHosts = []string{"https://x"}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`defaults.secrets.results: "on" must be off, observe, redact or block`, `defaults.links.arguments: "" must be`,
		`tools: "no tool!"`, "tools.t.injection: a score cannot be redacted", `roles: "" must be`, "allowed_hosts[0]: ",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Validate does not say %q:\n%v", want, err)
		}
	}
}

// FuzzJSON checks that a value stays JSON of the same shape, and that what was
// redacted is not found again.
func FuzzJSON(f *testing.F) {
	f.Add(`{"a":["x\u200b","` + token + `",{"b":"\u001b[1m"}],"c":1e5}`)
	c := chain(f)
	f.Fuzz(func(t *testing.T, raw string) {
		if !json.Valid([]byte(raw)) {
			return
		}
		got, blocked := c.For(t.Context(), guard.Call{Tool: "t"}).JSON([]byte(raw), "")
		if blocked != nil {
			return
		}
		if !json.Valid(got) {
			t.Fatalf("%q became %q", raw, got)
		}
		again, blocked := c.For(t.Context(), guard.Call{Tool: "t"}).JSON(got, "")
		if blocked != nil || string(again) != string(got) {
			t.Fatalf("%q became %q became %q", raw, got, again)
		}
	})
}
